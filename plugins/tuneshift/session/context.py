"""What a claim rests on beside its evidence, for its details: words, the limits of tokens, quantised weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..claims.finding import Finding
from ..measures.catalogue import ATTRIBUTION, GENERATION
from ..measures.params import measure_of
from ..plain import Json
from .replay import pair_words
from .requests import Target

if TYPE_CHECKING:
    from .run import RunSession


def context_of(run: RunSession, finding: Finding, target: Target) -> Mapping[str, Json]:
    """Words and word space behind a claim on weights; the limit of tokens behind one on responses, which is not known
    of recorded evidence; of quantised checkpoints, which of their weights the claim rests on."""
    found: dict[str, Json] = {}
    if target.prompts is None:
        found.update(pair_words(run.planner, target.pair))
    else:
        refs = [target.pair.checkpoint(role) for role, _ in finding.needs]
        whole = target.pair.recorded
        known = (
            all(ref is None or ref.evidence is None for ref in refs)
            if whole is None
            else whole.declared["max_new_tokens"] is not None
        )
        reads = {need.partition(".")[0] for _, need in finding.needs}
        if known and reads & {GENERATION.name, ATTRIBUTION.name}:
            found["max_new_tokens"] = run.planner.longest(target.pair)
        if ATTRIBUTION.name in reads and (tokens := run.planner.attributed_tokens(target.pair)):
            found["attribute_tokens"] = tokens
    if quantised := _quantised(run, finding, target):
        found["quantised"] = quantised
    return found


def _quantised(run: RunSession, finding: Finding, target: Target) -> dict[str, Json]:
    """Role -> quantisation, and on which weights what the finding needs of it is measured; quantised ones only."""
    found: dict[str, Json] = {}
    for role, need in finding.needs:
        ref = target.pair.checkpoint(role)
        how = None if ref is None or ref.evidence is not None else run.inspected(ref).quantization
        if how is None:
            continue
        measured = found.setdefault(role, {"method": how.name, "weights": "as stored"})
        if how.dequantised == "on loading" or measure_of(need).plain:
            measured["weights"] = "dequantised"
    return found
