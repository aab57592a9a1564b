"""What skewness does to a t interval's tails: the estimated error, a corrected interval, and where none is given.

The Edgeworth expansion of the t statistic (Hall 1992, *The Bootstrap and Edgeworth Expansion*, sections 2.6 and 3.10)
has the chance of lying beyond the deviate -x on the side where a skewed mean errs more often,

    P = Phi(-x) + phi(x) |g| (2 x^2 + 1) / 6 + phi(x) x (g^2 (x^4 + 2 x^2 - 3) / 18 - ...) + ...,

with g the skewness of the estimate: that of the values over sqrt(n), or of the influences of whole clusters. The first
term can be corrected, by Hall's (1992, J. R. Stat. Soc. B 54:221) monotone transformation; the second says how far the
correction can be trusted. Both come from the sample, which shows less skewness than there is just where the mean is
most in error, so that no such rule protects a small sample of a very skewed quantity: see the tables of
``benchmarks/interval_levels.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .intervals import UNKNOWN, Interval, fewest_clusters

Floats = npt.NDArray[np.float64]

TOLERATED = 0.5
"""Share of the nominal tail that the estimated error may be."""
LARGEST_ERROR = 0.1
"""Levels under 90 % are judged as 90 %: the second term passes through 0 at one standard error, and says nothing."""


def estimate_skewness(influences: Floats, units: float) -> float:
    """Skewness of an estimate that is a sum of independent ``influences``, [cluster], as ``clustered.mean_influence``
    gives them: sum d^3 / (sum d^2)^1.5, with the usual small-sample factor. NaN under three units and for no spread.

    For n single items it is the sample skewness G1 over sqrt(n).
    """
    spread = float(np.sum(influences**2))
    if not spread > 0 or units <= 2:
        return math.nan
    factor = math.sqrt(units * (units - 1)) / (units - 2)
    return float(np.sum(influences**3)) / math.pow(spread, 1.5) * factor


def first_order_error(skewness: float, level: float) -> float:
    """Estimated excess of the worse tail of a t interval over (1 - level) / 2, from the skewness of the estimate."""
    x, density = _deviate(level)
    return float(abs(skewness) * (2 * x**2 + 1) / 6 * density)


def second_order_error(skewness: float, level: float) -> float:
    """Estimated excess of either tail by the next term in the skewness, which Hall's transformation leaves."""
    x, density = _deviate(level)
    return float(skewness**2 * x * (x**4 + 2 * x**2 - 3) / 18 * density)


def smallest_trusted_error(skewness: float) -> float:
    """The error rate down to which a `SkewedT` of this skewness has an interval; 0.5 where it has none at any."""
    from scipy.optimize import brentq

    def excess(log_error: float) -> float:
        error = math.exp(log_error)
        return second_order_error(skewness, 1 - error) - TOLERATED * error / 2

    most, least = math.log(LARGEST_ERROR), math.log(1e-15)
    if not math.isfinite(skewness) or excess(most) > 0:
        return 0.5
    return math.exp(least if excess(least) <= 0 else float(brentq(excess, least, most)))


def _deviate(level: float) -> tuple[float, float]:
    """The normal deviate of the tail (1 - level) / 2, above 0, and the density there."""
    from scipy.special import ndtri

    x = -float(ndtri((1 - level) / 2))
    return x, math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


@dataclass(frozen=True, kw_only=True)
class SkewedT:
    """t intervals whose ends reach as far as Hall's (1992) transformed t asks, and never less far than plain t.

    None at a level at which `second_order_error` exceeds half of the nominal tail (`LARGEST_ERROR`), under
    ``fewest_clusters`` units and without a standard error. ``skewness`` is that of the estimate (`estimate_skewness`).
    """

    effect: float
    error: float
    freedom: float
    units: float
    skewness: float

    def at(self, level: float) -> Interval:
        if self.units < fewest_clusters(level) or not self.error > 0 or not math.isfinite(self.skewness):
            return UNKNOWN
        judged = max(level, 1 - LARGEST_ERROR)
        if second_order_error(self.skewness, judged) > TOLERATED * (1 - judged) / 2:
            return UNKNOWN
        return self.unguarded(level)

    def unguarded(self, level: float) -> Interval:
        """The interval whether it can be trusted or not."""
        from scipy.special import stdtrit

        t = -float(stdtrit(self.freedom, (1 - level) / 2))
        below, above = max(t, _untransformed(t, self.skewness)), max(t, -_untransformed(-t, self.skewness))
        return (self.effect - below * self.error, self.effect + above * self.error)

    @property
    def smallest_error(self) -> float:
        """The error rate down to which there is an interval, for its units and skewness; 0.5 where there is none."""
        if not self.error > 0:
            return 0.5
        return min(0.5, max(smallest_trusted_error(self.skewness) * (1 + 1e-9), 2.0 ** (1 - math.floor(self.units))))

    def coverage(self, level: float) -> float:
        return level

    def p(self, value: float = 0.0) -> float:
        """Two-sided p of a true ``value``: the error rate at which the unguarded interval ends there."""
        from scipy.special import stdtr

        t = (self.effect - value) / self.error
        tails = [float(stdtr(self.freedom, -abs(d))) for d in (t, _transformed(t, self.skewness)) if d * t >= 0]
        return min(1.0, 2 * max(tails)) if len(tails) == 2 else 1.0

    def plain(self) -> dict[str, Any]:
        numbers = ("effect", "error", "freedom", "units", "skewness")
        found = {name: getattr(self, name) for name in numbers}
        return {"kind": "skewed t", **{k: v if math.isfinite(v) else None for k, v in found.items()}}

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> SkewedT:
        """From the fields of `plain` without the kind; for `intervals_of`."""
        return cls(**{k: math.nan if v is None else float(v) for k, v in fields.items()})


def _transformed(t: float, skewness: float) -> float:
    """Hall's (1992) cubic of a t statistic, which takes its skewness away."""
    return t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6


def _untransformed(deviate: float, skewness: float) -> float:
    """The t statistic that `_transformed` takes to ``deviate``."""
    if abs(skewness) < 1e-9:
        return deviate
    return 3 / skewness * (float(np.cbrt(1 + skewness * (deviate - skewness / 6))) - 1)
