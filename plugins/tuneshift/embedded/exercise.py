"""An exercise drawn from the world: key, slots, context, answer and rule, before any wording is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from .world import World

Rule = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One exercise without its wording. ``slots`` fill a phrasing; ``context`` is the text worked on, if any."""

    answer: str
    verify: Rule
    slots: Mapping[str, str] = field(default_factory=dict)
    context: str | None = None


@dataclass(frozen=True, kw_only=True)
class TaskType:
    """A type of task: its keys in the world, and how an exercise is drawn for one of them."""

    keys: Callable[[World], Sequence[str]]
    draw: Callable[[World, str, Random], Draw]


def same(reference: str, *others: str, on_task: Sequence[str] = ()) -> Rule:
    """Rule that wants the reference itself, or one of the others, word for word."""
    made: Rule = {"kind": "exact", "answers": [reference, *others]}
    if on_task:
        made["on_task"] = {"kind": "contains_any", "answers": list(on_task)}
    return made
