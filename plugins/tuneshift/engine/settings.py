"""How measures are taken, for the whole run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..backends.spec import NONE
from ..checkpoints.refs import LMBackend, ModelRef

ResponseMode = Literal["own", "reference", "tuned"]

YesOrNo = Literal["yes", "no"]

BaseFormat = Literal["generation", "both", "none"]
"""For which evidence the base is asked in another format too, for readings: responses, attributions as well, none."""

LONGEST_RESPONSE = 300
"""Tokens, as in the paper's release (arXiv:2310.00492)."""

VOCABULARY = "10000"
WORD_VECTORS = "minilm"
"""Words and word space where neither the run nor the pair names others."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How measures are taken, for the whole run.

    ``max_new_tokens`` None leaves the longest response to the pair, or else to ``LONGEST_RESPONSE``; ``vocabulary`` and
    ``word_vectors`` likewise. ``rules``: those of the rule adapter, as `load_rules` takes them. ``judges``:
    who says whether a response follows, the first decides; empty leaves it to the prompts. ``backend``: what scores and
    generates where a checkpoint names none, None for our own passes. ``response``: whose response importance is
    attributed to; ``attribute_tokens``: to how many evenly spaced tokens of it, None leaves it to the pair, or else
    takes all; ``attribute_template``: whether importance is taken of tokens beside the user's text where that costs
    anything. ``base_format``: what the base is asked in a plain format for, as a reading; ``plain_format``: that
    format, None leaves it to the pair, or else to `PLAIN_FORMAT`. ``dtype`` and ``device`` hold where a checkpoint
    names none.
    """

    response: ResponseMode = "own"
    attribute_tokens: int | None = None
    attribute_template: YesOrNo = "no"
    max_new_tokens: int | None = None
    vocabulary: str | None = None
    word_vectors: str | None = None
    annotator: str = "embedding"
    rules: str = "hewitt2024"
    base_format: BaseFormat = "generation"
    plain_format: str | None = None
    judges: tuple[str, ...] = ()
    backend: LMBackend | None = None
    dtype: str = "float32"
    device: str = "auto"
    memo: Path | None = None


def backend_of(ref: ModelRef, settings: Settings) -> LMBackend | None:
    """What scores and generates for a checkpoint: its own backend, else the run's; None for our own passes."""
    chosen = ref.backend or settings.backend
    return None if chosen is None or chosen.name == NONE else chosen
