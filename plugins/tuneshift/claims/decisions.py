"""Verdicts of all claims of a run, which share one error rate by Holm's procedure. Pure, on claims as plain JSON.

A claim carries the intervals of its effect at every level, so that the same claims give the same verdicts wherever they
were made: in one process, in several, or in shards that are merged later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..plain import Json, plain
from ..statistics.interval_reader import intervals_of
from ..statistics.intervals import Intervals
from ..statistics.multiplicity import benjamini_hochberg, holm, holm_shares
from ..statistics.statistic import Statistic
from .finding import Finding, Outcome, Verdict
from .verdict import deciding_error, judge

FINDING_FIELDS = (
    "title", "claim", "source", "direction", "unit", "sesoi", "sesoi_reason", "how", "deviations", "items",
)  # fmt: skip


def decide(claims: Sequence[Mapping[str, Json]], alpha: float) -> list[dict[str, Json]]:
    """The claims with their verdicts at an error rate ``alpha`` for all of them together, in the order given.

    ``p_decides``, the smallest error rate at which a claim alone would be reproduced or contradicted, plays the part of
    its p. Holm (1979) tests the smallest at alpha / m, the next at alpha / (m - 1) and so on, and those after the first
    that fails at the share of that one. Each claim gets the interval at its share, the verdict that follows from it,
    ``adjusted_p`` (Holm's) and ``q`` (Benjamini and Hochberg 1995); its sensitivity rows are judged at the same share.
    Claims that do not apply stay as they are and take no share.
    """
    family = [k for k, claim in enumerate(claims) if claim["verdict"] != Outcome.NOT_APPLICABLE]
    errors = [deciding_error(finding_of(claims[k]), intervals_of(claims[k]["intervals"])) for k in family]
    shares, adjusted, q = holm_shares(errors, alpha), holm(errors), benjamini_hochberg(errors)
    result = [dict(claim) for claim in claims]
    for place, k in enumerate(family):
        numbers = {"p_decides": errors[place], "adjusted_p": adjusted[place], "q": q[place]}
        result[k] |= plain({**_judged(claims[k], shares[place]), **numbers})
    return result


def finding_of(claim: Mapping[str, Json]) -> Finding:
    """The finding that a claim of the record describes, without the evidence it needs."""
    return Finding(id=claim["finding"], needs=(), **{name: claim[name] for name in FINDING_FIELDS})


def _judged(claim: Mapping[str, Json], share: float) -> dict[str, Any]:
    """Interval, level, verdict and rows of a claim at its share of the error rate."""
    finding, intervals = finding_of(claim), intervals_of(claim["intervals"])
    statistic = _statistic(claim, intervals, 1 - share)
    verdict = _above_noise(claim, statistic, judge(finding, statistic))
    return {
        "level": statistic.level,
        "interval": statistic.interval,
        "verdict": verdict.outcome,
        "reason": verdict.reason,
        "n_needed": verdict.n_needed,
        "sensitivity": [_row(finding, row, 1 - share) for row in claim["sensitivity"]],
        "secondary": [_row(None, row, 1 - share) for row in claim["secondary"]],
    }


def _statistic(numbers: Mapping[str, Json], intervals: Intervals, level: float) -> Statistic:
    def known(name: str) -> float:
        value = numbers.get(name)
        return math.nan if value is None else float(value)

    return Statistic(
        effect=known("effect"),
        interval=intervals.at(level),
        level=intervals.coverage(level),
        p=known("p"),
        n=numbers["n"],
        clusters=numbers.get("clusters", numbers["n"]),
        standard_error=known("standard_error"),
        method="",
        seed=None,
        arms=(),
        intervals=intervals,
    )


def _row(finding: Finding | None, row: Mapping[str, Json], level: float) -> dict[str, Any]:
    """A row beside the verdict with its interval at the claim's level, and its verdict where it has one."""
    if row.get("intervals") is None:
        return dict(row)
    statistic = _statistic(row, intervals_of(row["intervals"]), level)
    changed: dict[str, Any] = {"interval": statistic.interval}
    if finding is not None:
        changed["verdict"] = judge(finding, statistic).outcome
    return {**row, **changed}


def _above_noise(claim: Mapping[str, Json], statistic: Statistic, verdict: Verdict) -> Verdict:
    """The verdict, or inconclusive where an effect is no larger than what measuring again moves it by."""
    noise = claim.get("noise_floor")
    if noise is None or verdict.outcome is not Outcome.REPRODUCED or claim["direction"] == "equivalent":
        return verdict
    if abs(statistic.effect) > noise["floor"]:
        return verdict
    return Verdict(
        outcome=Outcome.INCONCLUSIVE,
        reason=f"The effect {statistic.effect:+.3g} is no larger than the noise floor {noise['floor']:.3g}: measured "
        f"again ({noise['settings']}) it is {noise['effect']:+.3g}.",
    )
