"""Intervals of a mean of bounded values, which need no normal distribution and no variance: Gaffke's bounds.

The upper bound of a mean of n independent values in [low, high] at error rate a is the 1 - a quantile of

    (sum over i of E_i x_i + E_0 high) / (sum over i of E_i + E_0),    E independent standard exponentials

(Gaffke 2005; equation 14 and section 4 of Phan, Thomas and Learned-Miller 2021, arXiv:2106.03163), the lower bound its
mirror image: the Bayesian bootstrap (Rubin 1981) of the sample and one more value, at the bound. For values at both
ends of the range it is Clopper and Pearson's (1934) exact bound, and so it is where all values are equal:
1 - a**(1 / n) is the most that may differ. That it holds for every bounded distribution is a conjecture without known
counterexample, not a theorem; ``benchmarks/interval_levels.py`` has its error rates, beside those of two intervals with
a proof, empirical Bernstein (Maurer and Pontil 2009, arXiv:0907.3740) and betting (Waudby-Smith and Ramdas 2024,
arXiv:2010.09686), which are up to several times as long.

Clusters are the units: each stands with its mean for x_i and with E_i times its items, and the value at the bound with
the items of a typical cluster, the size-weighted mean N / G*, G* the effective clusters (Kish 1965). With clusters of
one size this is the bound of the cluster means, with its guarantee; with uneven ones it is the same bootstrap by
cluster, and holds as far as simulated.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .clustered import cluster_codes
from .intervals import UNKNOWN, Interval, p_value
from .tail_error import SkewedT

Floats = npt.NDArray[np.float64]

CONTOURS = ((1.0, 0.1), (0.25, 0.1), (0.0, 0.02), (0.0, 0.004))
"""Share of the bend and spacing of the nodes, in asinh of the distance from the saddle, of the contour integral: the
first whose halved nodes agree."""
FARTHEST, AGREEMENT = 8.0, 1e-8


def exponential_tail(weights: Floats, counts: Floats) -> float:
    """Natural logarithm of P(sum of w E >= 0) for independent standard exponentials E; each of ``weights``, [distinct],
    stands ``counts`` times. -inf where no weight is positive.

    By the inverse Laplace transform of the moment generating function prod (1 - w s)**-count, along a path through the
    saddle of prod(...) / s that follows steepest descent to third order and then runs out at 45 degrees: small relative
    error in any tail. Clopper and Pearson's bounds come out to eight digits, from 2 to 10,000 units and for tails from
    0.2 to 1e-12.
    """
    weights, counts = weights[counts > 0], counts[counts > 0]
    if np.max(weights, initial=0.0) <= 0:
        return -math.inf
    if np.min(weights) >= 0:
        return 0.0
    if float(weights @ counts) > 0:
        return math.log1p(-min(1.0, math.exp(_log_tail(-weights, counts))))
    return _log_tail(weights, counts)


def _log_tail(weights: Floats, counts: Floats) -> float:
    """`exponential_tail` of a sum whose mean is not above 0, with weights of both signs."""
    scaled = weights / np.max(weights)
    saddle = _saddle(scaled, counts)
    rest = 1 - scaled * saddle
    slopes = scaled / rest
    second = float(np.sum(counts * slopes**2))
    step = 1 / math.sqrt(second + 1 / saddle**2)
    bend = float(np.sum(counts * slopes**3)) / (3 * second)
    total = 0.0
    for share, spacing in CONTOURS:
        nodes = np.arange(0.0, FARTHEST, spacing)
        y, turn = step * np.sinh(nodes), bend * share
        away = 1 + abs(turn) * y
        path = turn * y**2 / away + 1j * y  # from the saddle; its mirror image is the other half
        slope = turn * y * (1 + away) / away**2 + 1j
        integrand = np.exp(-_log_product(1 - path[:, None] * slopes, counts)) / (1 + path / saddle)
        terms = (integrand * slope).imag * np.cosh(nodes) * step * spacing
        terms[0] /= 2
        total, coarser = float(np.sum(terms)), 2 * float(np.sum(terms[::2]))
        # A path that comes near a pole of high order rises on its way; straight up, the integrand falls everywhere.
        if np.max(np.abs(integrand)) <= 1.01 and abs(total - coarser) <= AGREEMENT * abs(total):
            break
    return float(-np.sum(counts * np.log(rest))) + math.log(max(total / (math.pi * saddle), 5e-324))


def _log_product(factors: npt.NDArray[np.complex128], counts: Floats) -> npt.NDArray[np.complex128]:
    """log of the product of factors [node, distinct], each taken ``counts`` times; the phase is free by turns."""
    single = counts == 1
    total = np.log(factors[:, ~single]) @ counts[~single]
    if single.any():
        # Products of 32 stay far from overflow and save most of the logarithms.
        alone = factors[:, single]
        total = total + np.log(np.multiply.reduceat(alone, np.arange(0, alone.shape[1], 32), axis=1)).sum(axis=1)
    return np.asarray(total)


def _saddle(weights: Floats, counts: Floats) -> float:
    """Where -sum log(1 - w s) - log s is smallest, for weights of which the largest is 1: between 0 and 1."""
    low, high, s = 0.0, 1.0, 0.5
    for _ in range(100):
        ratio = weights / (1 - weights * s)
        slope = float(np.sum(counts * ratio)) - 1 / s
        low, high = (s, high) if slope < 0 else (low, s)
        proposal = s - slope / (float(np.sum(counts * ratio**2)) + 1 / s**2)
        previous, s = s, proposal if low < proposal < high else (low + high) / 2
        if abs(s - previous) <= 1e-10 * s:
            break
    return s


@dataclass(frozen=True, kw_only=True)
class BoundedMean:
    """Gaffke's intervals of a mean of values in [low, high]; each end has half of the error rate.

    ``values`` are the distinct cluster means, ``sizes`` the items of such a cluster, ``counts`` how many clusters have
    both: little-endian float64. ``typical`` is the size of a typical cluster. There is an interval
    from one unit on.
    """

    values: bytes
    sizes: bytes
    counts: bytes
    low: float
    high: float
    typical: float

    @classmethod
    def of(cls, values: Floats, clusters: Sequence[str], *, low: float, high: float) -> BoundedMean:
        """From values [item] and a cluster label for each.

        Raises ValueError for no values, values outside [low, high] or not finite, and labels of another number.
        """
        if len(values) == 0 or len(clusters) != len(values):
            raise ValueError(f"it takes a cluster for each of one value or more; got {len(clusters)}, {len(values)}")
        if not low < high:
            raise ValueError(f"a range goes from a lower to a higher number; got {low} to {high}")
        slack = 1e-9 * (high - low)
        if not bool(np.all((values >= low - slack) & (values <= high + slack))):
            worst = values[int(np.argmax(~((values >= low - slack) & (values <= high + slack))))]
            raise ValueError(f"values lie within [{low}, {high}]; got {worst}. Give the range of the values")
        codes = cluster_codes(clusters)
        sizes = np.bincount(codes).astype(np.float64)
        means = np.clip(np.bincount(codes, weights=values) / sizes, low, high)
        # Cluster means that differ by rounding only are one value: the exact bound then sees that nothing varies.
        means = np.round(means, 12)
        rows, counts = np.unique(np.stack([means, sizes]), axis=1, return_counts=True)
        return cls(values=_bytes(rows[0]), sizes=_bytes(rows[1]), counts=_bytes(counts), low=float(low),
                   high=float(high), typical=float(np.sum(sizes**2) / np.sum(sizes)))  # fmt: skip

    @cached_property
    def _arrays(self) -> tuple[Floats, Floats, Floats]:
        values, sizes, counts = (np.frombuffer(b, dtype="<f8") for b in (self.values, self.sizes, self.counts))
        return values, sizes, counts

    @property
    def range(self) -> Interval:
        """What the mean cannot leave."""
        return self.low, self.high

    @property
    def mean(self) -> float:
        """Over items."""
        values, sizes, counts = self._arrays
        return float(np.sum(values * sizes * counts) / np.sum(sizes * counts))

    @property
    def mostly_equal(self) -> bool:
        """Whether more than half of the clusters have one mean."""
        values, _, counts = self._arrays
        return bool(max(np.sum(counts[values == value]) for value in values) > np.sum(counts) / 2)

    @property
    def without_spread(self) -> BoundedMean:
        """That of as many clusters which all have the mean of these."""
        return replace(self, values=_bytes(np.full(len(self._arrays[0]), self.mean)))

    def at(self, level: float) -> Interval:
        if not 0 < level < 1:
            return UNKNOWN
        tail = (1 - level) / 2
        return (-self._upper(tail, sign=-1.0), self._upper(tail, sign=1.0))

    def coverage(self, level: float) -> float:
        return level

    def p(self, value: float = 0.0) -> float:
        """Two-sided p of a mean of ``value``: the error rate at which the interval ends there."""
        if not self.low <= value <= self.high:
            return 0.0
        return min(1.0, 2 * math.exp(min(self._log_tail(value, 1.0), self._log_tail(-value, -1.0))))

    def _log_tail(self, end: float, sign: float) -> float:
        """log P(bootstrapped mean >= end), of the values times ``sign``."""
        values, sizes, counts = self._arrays
        bound = self.high if sign > 0 else -self.low
        weights = np.append(sizes * (sign * values - end), self.typical * (bound - end))
        return exponential_tail(weights, np.append(counts, 1.0))

    def _upper(self, tail: float, *, sign: float) -> float:
        """The upper end of the values times ``sign`` at error rate ``tail``."""
        from scipy.optimize import brentq

        bound, start = (self.high, self.mean) if sign > 0 else (-self.low, -self.mean)
        span = self.high - self.low
        near = bound - 1e-12 * span
        wanted = math.sqrt(-2 * math.log(tail))

        def excess(end: float) -> float:
            # In deviates, which are nearly straight in the end, so that few steps do.
            return math.sqrt(-2 * min(0.0, self._log_tail(end, sign))) - wanted

        if start >= near or excess(near) <= 0:
            return bound
        return float(brentq(excess, start, near, xtol=1e-12 * span, rtol=1e-13))

    def plain(self) -> dict[str, Any]:
        encoded = {name: base64.b64encode(getattr(self, name)).decode() for name in ("values", "sizes", "counts")}
        return {"kind": "bounded mean", **encoded, "low": self.low, "high": self.high, "typical": self.typical}

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> BoundedMean:
        """From the fields of `plain` without the kind; for `intervals_of`."""
        encoded = {name: base64.b64decode(fields[name]) for name in ("values", "sizes", "counts")}
        return cls(values=encoded["values"], sizes=encoded["sizes"], counts=encoded["counts"],
                   low=float(fields["low"]), high=float(fields["high"]), typical=float(fields["typical"]))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class BoundedDifference:
    """``second`` less ``first``, means of bounded values of two groups: each at half of the error rate (Bonferroni), so
    that it holds however the groups depend on each other."""

    first: BoundedMean
    second: BoundedMean

    @property
    def range(self) -> Interval:
        """What the difference cannot leave."""
        return self.second.low - self.first.high, self.second.high - self.first.low

    @property
    def mostly_equal(self) -> bool:
        """Whether that is so of both groups."""
        return self.first.mostly_equal and self.second.mostly_equal

    @property
    def without_spread(self) -> BoundedDifference:
        """That of two groups without any."""
        return BoundedDifference(first=self.first.without_spread, second=self.second.without_spread)

    def at(self, level: float) -> Interval:
        each = 1 - (1 - level) / 2
        (low_of_first, high_of_first), (low_of_second, high_of_second) = self.first.at(each), self.second.at(each)
        return (low_of_second - high_of_first, high_of_second - low_of_first)

    def coverage(self, level: float) -> float:
        return level

    def plain(self) -> dict[str, Any]:
        return {"kind": "bounded difference", "first": self.first.plain(), "second": self.second.plain()}


@dataclass(frozen=True, kw_only=True)
class BoundedT:
    """Intervals of a mean of bounded values, or of a difference of two: t's, corrected for skewness, where these can be
    trusted, else those of ``bounded``.

    Past the level to which t is trusted, an interval still holds t's at that level, so that intervals grow with their
    level, as the p of a decision asks. Where most clusters have one mean, as of prompts whose answers did not change,
    t's also hold the exact interval of as many clusters of the same mean that all agree: a few that differ say no more
    than none, and t, which takes their spread for known, would be surer of one change each way than of no change. What
    lies beyond the range is cut off: t knows nothing of it, and no mean is there to be missed.
    """

    t: SkewedT
    bounded: BoundedMean | BoundedDifference

    def at(self, level: float) -> Interval:
        low, high = self._uncut(level)
        lowest, highest = self.bounded.range
        return max(low, lowest), min(high, highest)

    def _uncut(self, level: float) -> Interval:
        trusted = self.t.at(level)
        if not math.isnan(trusted[0]):
            return self._not_surer(trusted, level)
        low, high = self.bounded.at(level)
        t_low, t_high = self.t.at(1 - max(self.t.smallest_error, 1 - level))
        return (low, high) if math.isnan(t_low) else (min(low, t_low), max(high, t_high))

    @cached_property
    def _agreeing(self) -> BoundedMean | BoundedDifference | None:
        return self.bounded.without_spread if self.bounded.mostly_equal else None

    def _not_surer(self, interval: Interval, level: float) -> Interval:
        if self._agreeing is None:
            return interval
        low, high = self._agreeing.at(level)
        return min(interval[0], low), max(interval[1], high)

    def coverage(self, level: float) -> float:
        return level

    def p(self, value: float = 0.0) -> float:
        """Two-sided p of a true ``value``: t's down to the error rate to which it is trusted, then ``bounded``'s."""
        least = self.t.smallest_error
        if math.isnan(self.t.at(1 - least)[0]):
            return p_value(self.bounded, value)
        of_t = max(self.t.p(value), 0.0 if self._agreeing is None else p_value(self._agreeing, value))
        return of_t if of_t >= least else min(least, p_value(self.bounded, value))

    def plain(self) -> dict[str, Any]:
        return {"kind": "bounded t", "t": self.t.plain(), "bounded": self.bounded.plain()}


def _bytes(values: npt.NDArray[np.generic]) -> bytes:
    return np.ascontiguousarray(values, dtype="<f8").tobytes()
