"""Annotators by the name that ``--shift-annotator`` takes."""

from __future__ import annotations

from pathlib import Path

from ..chat.answers import Progress
from ..errors import UsageError, did_you_mean
from .base import EMBEDDING, HF, OPENAI, Annotator


def make_annotator(
    spec: str, word_vectors: str = "minilm", *, cache: Path | None = None, progress: Progress | None = None
) -> Annotator:
    """The annotator that ``spec`` names.

    ``embedding`` (offline; ``word_vectors`` is the word space that it measures in), ``openai:MODEL@URL`` (any
    OpenAI-compatible endpoint; answers are kept below ``cache``, by default the user's cache folder) or
    ``hf:CHECKPOINT`` (a local folder, ``embedded:NAME`` or hub id of an instruction-tuned checkpoint). ``progress``
    follows the endpoint. Raises UsageError for anything else, and what the named thing raises when it is not there.
    """
    if spec == EMBEDDING:
        from .embedding import EmbeddingAnnotator

        return EmbeddingAnnotator(word_vectors)
    if spec.startswith(OPENAI):
        from .prompted import endpoint_annotator

        return endpoint_annotator(spec, cache=cache, progress=progress)
    if spec.startswith(HF):
        from .prompted import checkpoint_annotator

        return checkpoint_annotator(spec, cache=cache)
    known = (EMBEDDING, "openai:MODEL@URL", "hf:CHECKPOINT")
    raise UsageError(f"no annotator is called {spec!r}; {did_you_mean(spec, known)}.")
