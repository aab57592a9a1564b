"""Shares of items: Wilson's score interval, and McNemar's exact test of what changed between two runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


def wilson_interval(share: float, n: float, level: float) -> tuple[float, float]:
    """Wilson's (1927) score interval of a share observed over ``n`` trials, within 0..1.

    ``n`` may be an effective number that is not whole. Raises ValueError for a share outside 0..1, for n not above 0
    and for a level outside (0, 1).
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share lies within 0..1; got {share}")
    if not 0 < n < math.inf:
        raise ValueError(f"a share is of a number of trials above 0; got {n}")
    if not 0 < level < 1:
        raise ValueError(f"a level is the coverage of an interval, between 0 and 1, as 0.95; got {level}")
    from scipy.special import ndtri

    z = float(ndtri((1 + level) / 2))
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Binary outcomes of two runs on the same items: change of the share, items gained and lost, exact two-sided p."""

    effect: float
    gained: int
    lost: int
    p: float


def mcnemar(base: npt.NDArray[np.bool_], tuned: npt.NDArray[np.bool_]) -> Changes:
    """Change of a share of independent items, tuned minus base, with the exact test of McNemar (1947).

    Only items that changed count: without an effect each was as likely gained as lost, so p is twice the binomial tail
    of the smaller number, at most 1. Items that share a cluster need ``permutation.sign_flip``, which is this test
    where every item is its own cluster. Raises ValueError for outcomes, both [item], that are not boolean or differ in
    number, and for no items.
    """
    if base.dtype != np.bool_ or tuned.dtype != np.bool_:
        raise ValueError(f"outcomes are boolean; got {base.dtype} and {tuned.dtype}")
    if base.shape != tuned.shape or base.ndim != 1 or len(base) == 0:
        raise ValueError(f"outcomes are [item] of the same items, at least one; got {base.shape} and {tuned.shape}")
    from scipy.special import bdtr

    gained, lost = int(np.sum(tuned & ~base)), int(np.sum(base & ~tuned))
    p = min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))
    return Changes(effect=(gained - lost) / len(base), gained=gained, lost=lost, p=p)
