"""All task types with their phrasings: a worded exercise, its instruction spans and its rule."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from ..prompts.prompt import Span
from .exercise import Draw, TaskType
from .facts import FACTS
from .texts import TEXTS
from .world import World, held_out
from .writing import WRITING

TASKS: Mapping[str, TaskType] = {**FACTS, **WRITING, **TEXTS}


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """A worded exercise. ``instruction_spans`` are [start, end) in ``prompt`` and leave out only the context."""

    task: str
    key: str
    prompt: str
    instruction_spans: tuple[Span, ...]
    answer: str
    verify: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Wording:
    """The phrasings of one task type; siblings are tuned on ``phrasings`` only. ``weight``: share of pre-training."""

    phrasings: tuple[str, ...]
    held_out: tuple[str, ...]
    weight: int = 1


@dataclass(frozen=True, kw_only=True)
class Workbook:
    """A world with the wordings of its tasks: what exercises are drawn from."""

    world: World
    wordings: Mapping[str, Wording]

    @cached_property
    def keys(self) -> Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """Per task the keys that tuning may use, and those held out."""
        found = {}
        for name, task in TASKS.items():
            keys = tuple(dict.fromkeys(task.keys(self.world)))
            found[name] = (
                tuple(key for key in keys if not held_out(name, key)),
                tuple(key for key in keys if held_out(name, key)),
            )
        return found

    def pick(self, rng: Random, tasks: Sequence[str]) -> str:
        """A task among ``tasks``, by weight."""
        return rng.choices(tasks, [self.wordings[task].weight for task in tasks])[0]

    def draw(self, task: str, key: str, rng: Random) -> Draw:
        """An exercise of a task for a key, not yet worded."""
        return TASKS[task].draw(self.world, key, rng)

    def exercise(self, task: str, key: str, rng: Random, phrasings: Sequence[str]) -> Exercise:
        """An exercise in one of ``phrasings``."""
        draw = self.draw(task, key, rng)
        prompt, spans = word(rng.choice(phrasings), draw)
        return Exercise(
            task=task, key=key, prompt=prompt, instruction_spans=spans, answer=draw.answer, verify=draw.verify
        )


def word(phrasing: str, draw: Draw) -> tuple[str, tuple[Span, ...]]:
    """Prompt and instruction spans of an exercise in a phrasing: all of it but context and white space."""
    before, found, after = phrasing.partition("{context}")
    before, after = before.format(**draw.slots), after.format(**draw.slots)
    context = draw.context if found and draw.context is not None else ""
    prompt = before + context + after
    pieces = ((0, before), (len(before) + len(context), after))
    spans = []
    for start, piece in pieces:
        if text := piece.strip():
            at = start + piece.index(text)
            spans.append((at, at + len(text)))
    return prompt, tuple(spans)


def load_wordings(path: Path) -> Mapping[str, Wording]:
    """Phrasings by task from a TOML file."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        name: Wording(phrasings=tuple(row["phrasings"]), held_out=tuple(row["held_out"]), weight=row.get("weight", 1))
        for name, row in data.items()
    }
