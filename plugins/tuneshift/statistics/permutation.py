"""The sign-flip permutation test: is a mean paired difference more than chance, without assuming a distribution?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .clustered import cluster_codes
from .statistic import Arm

Floats = npt.NDArray[np.float64]

EXACT_FLIPS = 2**16
"""Patterns of signs that are all tried; with more, random ones are drawn. Sixteen clusters: a millisecond."""
CELLS_AT_ONCE = 1_000_000
"""Of a block of random signs: 8 MB."""


@dataclass(frozen=True, kw_only=True)
class SignFlip:
    """Mean paired difference, its two-sided permutation p, the sign patterns tried and whether those were all."""

    effect: float
    p: float
    flips: int
    exact: bool


def sign_flip(base: Arm, tuned: Arm, *, clusters: Sequence[str] | None, seed: int, flips: int) -> SignFlip:
    """Mean paired difference, tuned minus base, with the p of flipping the signs of whole clusters.

    Without an effect a cluster's differences are as likely with either sign. p is the share of sign patterns whose mean
    is at least as far from 0 as the observed one: of all 2**G patterns of G clusters where these are no more than
    ``EXACT_FLIPS``, else of ``flips`` random ones and the observed one, (b + 1) / (flips + 1) (Phipson and Smyth 2010).
    It assumes symmetry and independent clusters, nothing of tails; ``paired_difference`` gives the interval.

    Raises ValueError where the arms differ in ids or hold values that are not finite, where clusters do not name each
    item, for no items, and for fewer than one flip.
    """
    difference = _differences(base, tuned)
    labels = base.ids if clusters is None else clusters
    if len(labels) != len(difference):
        raise ValueError(f"clusters name {len(labels)} items, but there are {len(difference)}")
    if flips < 1:
        raise ValueError(f"flips is the number of random sign patterns, at least 1; got {flips}")
    sums: Floats = np.bincount(cluster_codes(labels), weights=difference).astype(np.float64)
    # Patterns that tie with the observed one must count, though their sums are rounded in another order.
    slack = 1e-12 * float(np.sum(np.abs(difference)))
    needed = abs(float(sums.sum())) - slack
    effect = float(np.mean(difference))
    if len(sums) <= EXACT_FLIPS.bit_length() - 1:
        totals = _all_totals(sums)
        p = float(np.mean(np.abs(totals) >= needed))
        return SignFlip(effect=effect, p=p, flips=len(totals), exact=True)
    reached = _random_reached(sums, needed, seed=seed, flips=flips)
    return SignFlip(effect=effect, p=(reached + 1) / (flips + 1), flips=flips, exact=False)


def _differences(base: Arm, tuned: Arm) -> Floats:
    if base.ids != tuned.ids or not base.ids:
        raise ValueError(f"paired arms need the same ids in the same order, at least one; {base.label}, {tuned.label}")
    difference = np.asarray(tuned.values - base.values, dtype=np.float64)
    bad = [i for i, finite in zip(base.ids, np.isfinite(difference), strict=True) if not finite]
    if bad:
        raise ValueError(f"{base.label} or {tuned.label} holds values that are not finite, first for {bad[0]}")
    return difference


def _all_totals(sums: Floats) -> Floats:
    """The sum over clusters under every pattern of signs, [2**cluster]."""
    totals = np.zeros(1)
    for value in sums:
        totals = np.concatenate([totals + value, totals - value])
    return totals


def _random_reached(sums: Floats, needed: float, *, seed: int, flips: int) -> int:
    """How many of the random sign patterns have a sum as far from 0 as is needed."""
    rng, reached = np.random.default_rng(seed), 0
    at_once = max(1, CELLS_AT_ONCE // len(sums))
    for start in range(0, flips, at_once):
        signs = 2.0 * rng.integers(2, size=(min(at_once, flips - start), len(sums))) - 1  # [flip, cluster]
        reached += int(np.sum(np.abs(signs @ sums) >= needed))
    return reached
