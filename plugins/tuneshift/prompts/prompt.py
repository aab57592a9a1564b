"""Prompts and prompt sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..plain import NOTHING, digest

Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class PromptSource:
    """Where a pair's prompts lie: a JSONL path or the name of a shipped set, and how its ids fall into groups.

    ``groups`` maps a group's name to a shell pattern on prompt ids; it overrides the prompts' own ``group``.
    """

    path: str
    groups: Mapping[str, str] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One prompt with the character spans of its instruction, [start, end) in ``prompt``.

    Prompts of one ``cluster`` count together in verdicts: wordings of one text, or a task where tasks stand for what
    users ask. Prompts of one ``topic`` are about one thing: never is one's response an alternative to the other's, and
    where a gate holds clusters fixed they count together.
    """

    id: str
    prompt: str
    instruction_spans: tuple[Span, ...]
    reference: str | None = None
    cluster: str | None = None
    topic: str | None = None
    group: str = "all"
    verify: Mapping[str, Any] | None = None
    fields: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    """Every other field of the JSONL line, ratings among them."""

    @property
    def unit(self) -> str:
        """What verdicts count as one independent draw: the cluster, else the prompt."""
        return self.cluster or self.id

    @property
    def subject(self) -> str:
        """What the prompt is about, finer than its unit: the topic, else the cluster, else the prompt."""
        return self.topic or self.unit

    @property
    def sha256(self) -> str:
        """Hash of all that its per-item values rest on but its id: text, reference, instruction spans and rules."""
        verify = None if self.verify is None else dict(self.verify)
        return digest([self.prompt, self.reference, [list(span) for span in self.instruction_spans], verify])


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """Prompts in file order. ``name`` is the file's stem, ``source`` where it was read."""

    name: str
    source: str
    prompts: tuple[Prompt, ...]

    @cached_property
    def sha256(self) -> str:
        """Hash of what a measure sees: ids, prompts, references. Spans and ratings act later and are left out."""
        return digest([[p.id, p.prompt, p.reference] for p in self.prompts])

    @property
    def groups(self) -> tuple[str, ...]:
        """Group names in order of first appearance."""
        return tuple(dict.fromkeys(p.group for p in self.prompts))
