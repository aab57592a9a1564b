"""Judges by the name that ``--shift-judge`` takes."""

from __future__ import annotations

from pathlib import Path

from ..chat.answers import Progress
from ..errors import UsageError, did_you_mean
from .base import HF, IFEVAL, OPENAI, SIMILARITY, VERIFIER, Judge


def make_judge(
    spec: str, word_vectors: str = "minilm", *, cache: Path | None = None, progress: Progress | None = None
) -> Judge:
    """The judge that ``spec`` names.

    ``verifier`` (each prompt's own rule), ``ifeval`` (lm-eval's rules for prompts in IFEval's form), ``similarity``
    (offline: nearer to the reference; ``word_vectors`` is the space that it measures in), ``openai:MODEL@URL`` (any
    OpenAI-compatible endpoint; answers are kept below ``cache``, by default the user's cache folder) or
    ``hf:CHECKPOINT`` (a local folder, ``embedded:NAME`` or hub id of an instruction-tuned checkpoint). ``progress``
    follows the endpoint. Raises UsageError for anything else.
    """
    if spec == VERIFIER:
        from .verifier import VerifierJudge

        return VerifierJudge()
    if spec == SIMILARITY:
        from ..words.texts import TextSpace
        from .similarity import SimilarityJudge

        return SimilarityJudge(TextSpace(word_vectors))
    if spec == IFEVAL:
        from .ifeval import IfevalJudge

        return IfevalJudge()
    if spec.startswith(OPENAI):
        from .prompted import endpoint_judge

        return endpoint_judge(spec, cache=cache, progress=progress)
    if spec.startswith(HF) and spec != HF:
        from .prompted import checkpoint_judge

        return checkpoint_judge(spec, cache=cache)
    known = (VERIFIER, IFEVAL, SIMILARITY, "openai:MODEL@URL", "hf:CHECKPOINT")
    raise UsageError(f"no judge is called {spec!r}; {did_you_mean(spec, known)}.")
