"""Findings by pairs: the matrix of verdicts and the small multiples of effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .values import finite

View = dict[str, Any]

NAMED_ROWS = 12
"""Rows of a small panel up to which each has its name; more are drawn closer and named on pointing at them."""


def pair_names(claims: Sequence[View]) -> list[str]:
    """The pairs of the claims, each once, in order of appearance."""
    return list(dict.fromkeys(str(claim.get("pair")) for claim in claims))


def matrix_rows(findings: Sequence[View]) -> list[tuple[View, list[list[View]]]]:
    """For each finding its claims on each pair, in the order of ``pair_names`` over all claims."""
    pairs = pair_names([claim for finding in findings for claim in finding["claims"]])
    rows = []
    for finding in findings:
        held: dict[str, list[View]] = {pair: [] for pair in pairs}
        for claim in finding["claims"]:
            held[str(claim.get("pair"))].append(claim)
        rows.append((finding, list(held.values())))
    return rows


def small_multiples(findings: Sequence[View]) -> list[View]:
    """One panel a finding: a row a claim at ``y`` pixels, with positions in percent of the width."""
    panels = []
    for finding in findings:
        claims = finding["claims"]
        step = 20 if len(claims) <= NAMED_ROWS else 9
        rows = [_row(claim, finding, step * (k + 0.5)) for k, claim in enumerate(claims)]
        names = [row["name"] for row in rows] if len(claims) <= NAMED_ROWS else []
        panels.append({"finding": finding, "rows": rows, "names": names, "step": step, "height": step * len(claims)})
    return panels


def _row(claim: View, finding: View, y: float) -> View:
    scale = finding["axis"]
    low, high = (finite(bound) for bound in claim.get("interval") or (None, None))
    effect = finite(claim.get("effect"))
    several = sum(other.get("pair") == claim.get("pair") for other in finding["claims"]) > 1
    return {
        "claim": claim,
        "name": f"{claim.get('pair')} · {claim['where']}" if several else str(claim.get("pair")),
        "y": f"{y:g}",
        "at": None if effect is None else scale.at(effect),
        "whisker": None if low is None or high is None else (scale.at(low), scale.at(high)),
    }
