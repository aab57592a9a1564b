"""Annotators: from a list of words to the user tasks that it suits and the linguistic level that holds it together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .errors import UsageError
from .prompts import options
from .records import Json

TASKS = ("writing", "coding", "math", "translation")
"""User tasks that a list may suit; several may hold, none is an answer too."""
LEVELS = ("phonology", "morphology", "syntax", "semantics")
"""Linguistic levels; None where nothing holds a list together."""
EMBEDDING, OPENAI, HF = "embedding", "openai:", "hf:"
DEFAULT = EMBEDDING

Lists = Sequence[Sequence[str]]
Tell = Callable[[int, int], None]
"""Called with the number of lists done and of all."""


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


def make_annotator(
    spec: str, word_vectors: str = "minilm", *, cache: Path | None = None, tell: Tell = lambda done, total: None
) -> Annotator:
    """The annotator that ``spec`` names.

    ``embedding`` (offline; ``word_vectors`` is the word space that it measures in), ``openai:MODEL@URL`` (any
    OpenAI-compatible endpoint; answers are kept below ``cache``, by default the user's cache folder) or
    ``hf:CHECKPOINT`` (a local folder, ``embedded:NAME`` or hub id of an instruction-tuned checkpoint). ``tell`` follows
    the slow ones. Raises UsageError for anything else, and what the named thing raises when it is not there.
    """
    if spec == EMBEDDING:
        from .annotators_embedding import EmbeddingAnnotator

        return EmbeddingAnnotator(word_vectors)
    if spec.startswith(OPENAI):
        from .annotators_prompted import endpoint_annotator

        return endpoint_annotator(spec, cache=cache, tell=tell)
    if spec.startswith(HF):
        from .annotators_prompted import CheckpointAnnotator

        return CheckpointAnnotator(spec.removeprefix(HF))
    known = (EMBEDDING, "openai:MODEL@URL", "hf:CHECKPOINT")
    raise UsageError(f"no annotator is called {spec!r}; {options(spec, known)}.")
