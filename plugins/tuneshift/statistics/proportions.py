"""Shares of items: Wilson's score interval, an interval of a difference of two shares that holds for few items, and
McNemar's exact test of what changed between two runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MELDED_TO, MELDED_STEP = 32.0, 0.1
"""Of the logit of a probability: how far, and how finely, a melded distribution is integrated; ends come out to five
decimals."""


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


@lru_cache(maxsize=4096)
def melded_difference(first: tuple[float, float], second: tuple[float, float], level: float) -> tuple[float, float]:
    """Interval of the share of ``first`` less that of ``second``, each (count, n) of independent trials, within -1..1.

    Fay, Proschan and Brittain's (2015, Biometrics 71:146) melding of Clopper and Pearson's (1934) exact bounds: the
    lower end is the (1 - level) / 2 quantile of a difference of two independent draws, one of the distribution whose
    quantiles are the exact lower bounds of the first share, Beta(x, n - x + 1), the other of that of the upper bounds
    of the second, Beta(y + 1, m - y); the upper end likewise. With one share known it is Clopper and Pearson's. That
    both tails hold is a conjecture without known counterexample. Counts may be means that are not whole.

    Raises ValueError for a count outside 0..n, for n not above 0 and for a level outside (0, 1).
    """
    for count, n in (first, second):
        if not (0 < n < math.inf and 0 <= count <= n):
            raise ValueError(f"a share is a count within 0..n of a number of trials above 0; got {count} of {n}")
    if not 0 < level < 1:
        raise ValueError(f"a level is the coverage of an interval, between 0 and 1, as 0.95; got {level}")
    return _melded_low(first, second, level), -_melded_low(second, first, level)


def _melded_low(first: tuple[float, float], second: tuple[float, float], level: float) -> float:
    from scipy.optimize import brentq
    from scipy.special import betainc, betaincinv

    (x, n), (y, m) = first, second
    if x == 0:  # no lower bound above 0 to draw from
        return -1.0 if y == m else -float(betaincinv(y + 1, m - y, (1 + level) / 2))
    upper, weights = _upper_bounds(y, m)
    nominal = math.log((1 - level) / 2)

    def excess(end: float) -> float:
        below = float(weights @ betainc(x, n - x + 1, np.clip(upper + end, 0, 1)))
        return math.log(max(below, 1e-300)) - nominal

    return float(brentq(excess, -1.0, 1.0, xtol=1e-12)) if excess(1.0) > 0 else 1.0


@lru_cache(maxsize=256)
def _upper_bounds(count: float, n: float) -> tuple[Floats, Floats]:
    """Exact upper bounds of a share at every level, and the weight of each in an integral over levels."""
    from scipy.special import betaincinv, expit

    if count == n:
        return np.ones(1), np.ones(1)
    # By the trapezoid rule over the logit of the probability, which reaches far into both tails.
    steps = np.arange(-MELDED_TO, MELDED_TO + MELDED_STEP / 2, MELDED_STEP)
    chance = expit(steps)
    weights = chance * (1 - chance)
    return betaincinv(count + 1, n - count, chance), weights / weights.sum()


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
