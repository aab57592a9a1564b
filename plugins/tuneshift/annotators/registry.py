"""Annotators by the name that a user gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError, options
from .base import EMBEDDING, HF, OPENAI

if TYPE_CHECKING:
    from .base import Annotator, Tell
DEFAULT = EMBEDDING


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
        from .embedding import EmbeddingAnnotator

        return EmbeddingAnnotator(word_vectors)
    if spec.startswith(OPENAI):
        from .prompted import endpoint_annotator

        return endpoint_annotator(spec, cache=cache, tell=tell)
    if spec.startswith(HF):
        from .prompted import CheckpointAnnotator

        return CheckpointAnnotator(spec.removeprefix(HF))
    known = (EMBEDDING, "openai:MODEL@URL", "hf:CHECKPOINT")
    raise UsageError(f"no annotator is called {spec!r}; {options(spec, known)}.")
