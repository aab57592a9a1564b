"""Beside every paired verdict: what a permutation of signs says, which assumes no distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..plain import Json, plain
from ..statistics.permutation import SignFlip, sign_flip
from ..statistics.statistic import Statistic
from .finding import Finding, Outcome

NAME = "by flipping signs"
FLIPS = 9999
"""Random sign patterns where there are too many for all of them: p from 1e-4 on."""


def is_paired(statistic: Statistic) -> bool:
    """Whether the effect is a mean of paired differences of its two arms."""
    return (
        len(statistic.arms) == 2
        and statistic.n > 0
        and statistic.arms[0].ids == statistic.arms[1].ids
        and "sd_of_differences" in statistic.details
    )


def sign_flip_row(finding: Finding, statistic: Statistic, clusters: Sequence[str], *, seed: int) -> dict[str, Json]:
    """A row of the sensitivity: the verdict by permutation, at the error rate of the interval that decided.

    A bound of the finding is rejected where flipping the signs of the differences from it, whole ``clusters`` at a
    time, seldom gives a mean as far from it (`permutation.sign_flip`): assumes that differences are symmetric about
    their mean. ``p`` is against no effect.
    """
    base, tuned = statistic.arms

    def flipped(bound: float) -> SignFlip:
        return sign_flip(replace(base, values=base.values + bound), tuned, clusters=clusters, seed=seed, flips=FLIPS)

    error = 1 - statistic.level
    bounds = (-finding.sesoi, finding.sesoi) if finding.direction == "equivalent" else (finding.bound,)
    rejected = all(flipped(bound).p <= error for bound in bounds)
    plain_flip = flipped(0.0)
    patterns = f"all {plain_flip.flips:,}" if plain_flip.exact else f"{plain_flip.flips:,} random"
    row: dict[str, Json] = plain({
        "name": NAME, "effect": statistic.effect, "interval": [None, None], "p": plain_flip.p, "n": statistic.n,
        "clusters": statistic.clusters, "standard_error": None, "intervals": None,
        "verdict": _outcome(finding, statistic.effect) if rejected else Outcome.INCONCLUSIVE,
        "note": f"{patterns} patterns of signs",
    })  # fmt: skip
    return row


def _outcome(finding: Finding, effect: float) -> Outcome:
    """Where every bound is rejected, the side on which the effect lies."""
    claimed = {
        "greater": effect > finding.bound,
        "less": effect < finding.bound,
        "equivalent": abs(effect) < finding.sesoi,
    }[finding.direction]
    return Outcome.REPRODUCED if claimed else Outcome.CONTRADICTED
