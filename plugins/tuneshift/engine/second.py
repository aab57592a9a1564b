"""The second measurement behind a noise floor: other batches, or another dtype."""

from __future__ import annotations

from dataclasses import replace

from ..checkpoints.refs import ModelRef
from ..claims.finding import Finding
from ..pairs import ModelPair

BATCH_SHARE = 0.5
"""Batches of the second measurement against those of the first."""


def second_dtype(dtype: str) -> str:
    """The other precision: float32 for half and for double, bfloat16 for float32."""
    return "bfloat16" if dtype == "float32" else "float32"


def second_pair(pair: ModelPair, dtype: str) -> ModelPair:
    """The same checkpoints in their other precision. ``dtype`` is the run's, for those that name none of their own."""

    def again(ref: ModelRef) -> ModelRef:
        return ref if ref.evidence is not None else replace(ref, dtype=second_dtype(ref.dtype or dtype))

    siblings = {role: again(ref) for role, ref in pair.siblings.items()}
    return replace(pair, base=again(pair.base), tuned=again(pair.tuned), siblings=siblings)


def can_be_measured_again(finding: Finding, pair: ModelPair) -> bool:
    """Whether all evidence that a finding needs comes from weights at hand, and none was recorded elsewhere."""
    refs = [pair.checkpoint(role) for role, _ in finding.needs]
    return all(ref is not None and ref.evidence is None for ref in refs)


def second_settings(finding: Finding, pair: ModelPair, dtype: str, *, batches: bool) -> str:
    """What is other in the second measurement, in words."""
    roles = dict.fromkeys(role for role, _ in finding.needs)
    firsts = {role: ref.dtype or dtype for role in roles if (ref := pair.checkpoint(role)) is not None}
    texts = {role: f"{second_dtype(first)} instead of {first}" for role, first in firsts.items()}
    same = len(set(texts.values())) == 1
    precision = next(iter(texts.values())) if same else ", ".join(f"{role} in {text}" for role, text in texts.items())
    return precision + (", batches of half the size" if batches else "")
