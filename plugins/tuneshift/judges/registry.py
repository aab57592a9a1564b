"""Judges by the name that a user gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError, options
from ..words.texts import TextSpace
from .base import HF, IFEVAL, OPENAI, SIMILARITY, VERIFIER
from .similarity import SimilarityJudge
from .verifier import VerifierJudge

if TYPE_CHECKING:
    from .base import Judge, Tell
DEFAULT = VERIFIER


def make_judge(
    spec: str, word_vectors: str = "minilm", *, cache: Path | None = None, tell: Tell = lambda done, total: None
) -> Judge:
    """The judge that ``spec`` names.

    ``verifier`` (each prompt's own rule), ``ifeval`` (lm-eval's rules for prompts in IFEval's form), ``similarity``
    (offline: nearer to the reference; ``word_vectors`` is the space that it measures in), ``openai:MODEL@URL`` (any
    OpenAI-compatible endpoint; answers are kept below ``cache``, by default the user's cache folder) or
    ``hf:CHECKPOINT`` (a local folder, ``embedded:NAME`` or hub id of an instruction-tuned checkpoint). ``tell`` follows
    the endpoint. Raises UsageError for anything else.
    """
    if spec == VERIFIER:
        return VerifierJudge()
    if spec == SIMILARITY:
        return SimilarityJudge(TextSpace(word_vectors))
    if spec == IFEVAL:
        from .ifeval import IfevalJudge

        return IfevalJudge()
    if spec.startswith(OPENAI):
        from .prompted import endpoint_judge

        return endpoint_judge(spec, cache=cache, tell=tell)
    if spec.startswith(HF) and spec != HF:
        from .prompted import CheckpointJudge

        return CheckpointJudge(spec.removeprefix(HF))
    known = (VERIFIER, IFEVAL, SIMILARITY, "openai:MODEL@URL", "hf:CHECKPOINT")
    raise UsageError(f"no judge is called {spec!r}; {options(spec, known)}.")
