"""Annotators: from a list of words to the user tasks that it suits and the linguistic level that holds it together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..plain import Json

TASKS = ("writing", "coding", "math", "translation")
"""User tasks that a list may suit; several may hold, none is an answer too."""
USER_TASKS = ("writing", "coding", "math")
"""The tasks whose share arXiv:2310.00492 finds grown: ``any`` is one of them or more."""
LEVELS = ("phonology", "morphology", "syntax", "semantics")
"""Linguistic levels; None where nothing holds a list together."""
EMBEDDING, OPENAI, HF = "embedding", "openai:", "hf:"

Lists = Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Label:
    """What an annotator says of one list: its ``tasks`` (of `TASKS`; empty: none) and ``level`` (None: abstained).

    Raises ValueError for names that are not among them.
    """

    tasks: frozenset[str] = frozenset()
    level: str | None = None

    def __post_init__(self) -> None:
        unknown = sorted(self.tasks - set(TASKS))
        if unknown:
            raise ValueError(f"{unknown[0]!r} is no task; accepted are {', '.join(TASKS)}, or none of them.")
        if self.level is not None and self.level not in LEVELS:
            raise ValueError(f"{self.level!r} is no level; accepted are {', '.join(LEVELS)}, or None.")


class Annotator(Protocol):
    """What labels word lists. ``docs/annotators.md`` shows how to write one.

    ``identity`` is JSON and goes into the evidence's key: whatever changes a label changes it. ``seeds`` are those that
    findings average over: one for an annotator that does not draw.
    """

    @property
    def identity(self) -> Mapping[str, Json]: ...

    @property
    def seeds(self) -> tuple[int, ...]: ...

    def annotate(self, lists: Lists, seed: int) -> list[Label | None]:
        """A label per list, in order; None where the annotator failed on it.

        Raises a TuneshiftError where it cannot work at all: a server that is down, a checkpoint that does not load.
        """

    def notes(self) -> list[str]:
        """What a reader of its labels must know, in full sentences: categories that it can never assign, say."""
