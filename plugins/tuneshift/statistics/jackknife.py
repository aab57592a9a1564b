"""Any smooth statistic of weighted items, with a t interval by leaving out one cluster at a time.

For correlations, areas under the ROC curve and slopes over few clusters the bootstrap is too narrow (BCa over 15
clusters of five errs two to eight times as often as stated, expanded by t up to five times; measured in
``benchmarks/interval_levels.py``). The delete-a-group jackknife (Efron and Stein 1981; Busing, Meijer and van der
Leeden 1999 for groups) with t on effective clusters less one has no resampling error; on the logit of the statistic's
place in its range, which for a correlation is twice Fisher's z, its ends stay inside the range and its tails hold.

It needs a statistic that moves smoothly as a cluster leaves; a median or another quantile does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .bootstrap import ROUNDING
from .clustered import cluster_codes
from .intervals import SMALLEST_ERROR, UNKNOWN, Interval, StudentT

Floats = npt.NDArray[np.float64]
Estimate = Callable[[Floats], Floats]
"""Weights [resample, item] -> the statistic of each weighted sample, [resample]; NaN where it is not defined."""

WEIGHTS_AT_ONCE = 1_000_000
"""Cells of a block of weights: 8 MB."""
STEP = 0.05
"""Of asinh of the deviate, in the search for where a `LogitTChange` would get shorter."""
LEAST_SPREAD = 1e-9
"""On the scale of the interval: a spread below this is rounding."""


@dataclass(frozen=True, kw_only=True)
class LogitT:
    """t intervals on the logit of an effect's place in its range ``low`` to ``high``, read back; none where ``inner``
    has none. With (-1, 1) this is twice Fisher's z."""

    inner: StudentT
    low: float
    high: float

    def at(self, level: float) -> Interval:
        ends = self.inner.at(level)
        if math.isnan(ends[0]):
            return UNKNOWN
        return (_from_logit(ends[0], self.low, self.high), _from_logit(ends[1], self.low, self.high))

    @property
    def effect(self) -> float:
        """The statistic itself."""
        return _from_logit(self.inner.effect, self.low, self.high)

    def coverage(self, level: float) -> float:
        return level

    def p(self, value: float = 0.0) -> float:
        """Two-sided p of a true ``value`` inside the range; 0 for one outside."""
        from scipy.special import stdtr

        if not self.low < value < self.high:
            return 0.0
        distance = self.inner.effect - float(_logit(np.array(value), self.low, self.high))
        return float(2 * stdtr(self.inner.freedom, -abs(distance) / self.inner.error))

    def plain(self) -> dict[str, Any]:
        return {"kind": "logit t", "inner": self.inner.plain(), "low": self.low, "high": self.high}


@dataclass(frozen=True, kw_only=True)
class LogitTChange:
    """Intervals of ``after`` less ``before``, two statistics of the same clusters, from the intervals of both.

    Zou's (2007, Psychological Methods 12:399) recovery of variances: with both effects and their ends at the level,
    the lower end is the change less sqrt(a^2 + b^2 - 2 r a b), a from the effect after down to its lower end, b from
    the effect before up to its upper one, and ``correlation`` r that of the two over leaving out clusters; the upper
    end likewise. A t interval of the change itself errs up to four times as often as stated on the side of the
    statistic nearer to the end of its range.

    Where one of them is near its end, the other reaches on alone as the level grows, at first against the correlation:
    sqrt(a^2 + b^2 - 2 r a b) falls. So that no interval is shorter than one of a lower level, each end is the farthest
    up to its level.
    """

    before: LogitT
    after: LogitT
    correlation: float

    def at(self, level: float) -> Interval:
        if any(math.isnan(side.at(level)[0]) for side in (self.before, self.after)):
            return UNKNOWN
        from scipy.special import stdtrit

        deviate = -float(stdtrit(self.before.inner.freedom, (1 - level) / 2))
        change = self.after.effect - self.before.effect
        below, above = (
            max([self._reach(deviate, sign), *(reach for at, reach in self._peaks[sign] if at <= deviate)])
            for sign in (-1, 1)
        )
        return (change - below, change + above)

    def _reach(self, deviate: float, sign: int) -> float:
        """How far the interval of one t ``deviate`` reaches from the change, downward for ``sign`` -1."""
        a, b = (
            abs(_from_logit(side.inner.effect + way * deviate * side.inner.error, side.low, side.high) - side.effect)
            for side, way in ((self.after, sign), (self.before, -sign))
        )
        return math.sqrt(max(0.0, a**2 + b**2 - 2 * self.correlation * a * b))

    @cached_property
    def _peaks(self) -> dict[int, list[tuple[float, float]]]:
        """By sign, the deviates from which on `_reach` falls, and what it is there."""
        from scipy.optimize import minimize_scalar
        from scipy.special import stdtrit

        farthest = -float(stdtrit(self.before.inner.freedom, SMALLEST_ERROR / 2))
        steps = np.arange(0.0, math.asinh(farthest) + STEP, STEP)
        found: dict[int, list[tuple[float, float]]] = {-1: [], 1: []}
        for sign, peaks in found.items():
            reaches = np.array([self._reach(math.sinh(step), sign) for step in steps])
            for k in np.flatnonzero((reaches[1:-1] >= reaches[:-2]) & (reaches[1:-1] > reaches[2:])) + 1:
                peak = minimize_scalar(lambda step, sign=sign: -self._reach(math.sinh(step), sign),
                                       bounds=(steps[k - 1], steps[k + 1]), method="bounded",
                                       options={"xatol": 1e-9})  # fmt: skip
                peaks.append((math.sinh(float(peak.x)), -float(peak.fun)))
        return found

    def coverage(self, level: float) -> float:
        return level

    def plain(self) -> dict[str, Any]:
        return {"kind": "logit t change", "before": self.before.plain(), "after": self.after.plain(),
                "correlation": self.correlation}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Jackknife:
    """A statistic's ``effect``, its ``standard_error`` on its own scale (NaN without one) and its intervals, None where
    there are none and for the ``reason``."""

    effect: float
    standard_error: float
    clusters: int
    intervals: LogitT | StudentT | LogitTChange | None
    reason: str | None = None


def jackknife(estimate: Estimate, clusters: Sequence[str], *, span: tuple[float, float] | None) -> Jackknife:
    """The statistic that ``estimate`` takes of weighted items, with a label in ``clusters`` for each item.

    The squared standard error is (G - 1) / G times the squares of how far the statistic with each of G clusters left
    out lies from their mean; degrees of freedom are the effective clusters (Kish 1965) less one. ``span`` is the range
    that the statistic cannot leave, as (-1, 1) for a correlation, and puts the interval on the logit's scale; None for
    a statistic without ends, as a slope. There is none where the statistic is at an end of its range, with or without
    some cluster, or has no value without it, and where leaving out clusters does not move it.
    """
    codes = cluster_codes(clusters)
    sizes = np.bincount(codes) if len(codes) else np.zeros(0, dtype=np.int64)
    count = len(sizes)
    if count < 2:
        effect = float(estimate(np.ones((1, len(codes))))[0]) if len(codes) else math.nan
        return Jackknife(effect=effect, standard_error=math.nan, clusters=count, intervals=None,
                         reason="it takes two clusters to leave one out")  # fmt: skip
    effect, left_out = float(estimate(np.ones((1, len(codes))))[0]), _left_out(estimate, codes, count)
    units = float(sizes.sum() ** 2 / np.sum(sizes.astype(np.float64) ** 2))
    standard_error = _error(left_out)
    none = Jackknife(effect=effect, standard_error=standard_error, clusters=count, intervals=None)
    if not (math.isfinite(effect) and np.all(np.isfinite(left_out))):
        return _because(none, "the statistic has no value, or has none without one of the clusters")
    if span is None:
        if not standard_error > LEAST_SPREAD * max(1.0, abs(effect)):
            return _because(none, "leaving out a cluster does not move the statistic")
        return _with(none, StudentT(effect=effect, error=standard_error, freedom=units - 1, units=units))
    low, high = span
    if min(effect, float(left_out.min())) <= low or max(effect, float(left_out.max())) >= high:
        return _because(none, "the statistic is at an end of its range, or is there without one of the clusters")
    error = _error(_logit(left_out, low, high))
    if not error > LEAST_SPREAD:
        return _because(none, "leaving out a cluster does not move the statistic")
    centre = float(_logit(np.array(effect), low, high))
    inner = StudentT(effect=centre, error=error, freedom=units - 1, units=units)
    return _with(none, LogitT(inner=inner, low=low, high=high))


def jackknife_change(
    before: Estimate, after: Estimate, clusters: Sequence[str], *, span: tuple[float, float] | None
) -> Jackknife:
    """The change of a statistic between two runs, ``after`` less ``before``, on the same items in the same order.

    ``span`` is the range of the statistic, not of its change: both get their intervals by `jackknife` on the logit, and
    the change the one that follows from them (`LogitTChange`); where one has none, the change has none, for the same
    reason. Without a span, as for slopes, it is the jackknife of the difference. ``standard_error`` is that of the
    difference.
    """

    def change(weights: Floats) -> Floats:
        sides = after(weights), before(weights)
        moved = sides[0] - sides[1]
        return np.where(np.abs(moved) <= ROUNDING * np.abs(sides[0]), 0.0, moved)

    together = jackknife(change, clusters, span=None)
    # Runs that agree whichever cluster is left out: their two intervals would cancel, and no variance seen is none.
    if span is None or not together.standard_error > LEAST_SPREAD:
        return together
    sides = [jackknife(estimate, clusters, span=span) for estimate in (before, after)]
    for side in sides:
        if side.intervals is None:
            return _because(together, str(side.reason))
    first, second = sides[0].intervals, sides[1].intervals
    assert isinstance(first, LogitT)
    assert isinstance(second, LogitT)
    codes = cluster_codes(clusters)
    left = [_logit(_left_out(estimate, codes, together.clusters), *span) for estimate in (before, after)]
    moves = [values - values.mean() for values in left]
    correlation = float(moves[0] @ moves[1] / math.sqrt(float(moves[0] @ moves[0]) * float(moves[1] @ moves[1])))
    return _with(together, LogitTChange(before=first, after=second, correlation=min(1.0, max(-1.0, correlation))))


def _left_out(estimate: Estimate, codes: npt.NDArray[np.int64], count: int) -> Floats:
    """The statistic without each cluster, [cluster]."""
    blocks = np.array_split(np.arange(count), math.ceil(count * len(codes) / WEIGHTS_AT_ONCE))
    return np.concatenate([estimate((codes[None, :] != block[:, None]).astype(np.float64)) for block in blocks])


def _error(left_out: Floats) -> float:
    count = len(left_out)
    return float(np.sqrt((count - 1) / count * np.sum((left_out - left_out.mean()) ** 2)))


def _logit(values: Floats, low: float, high: float) -> Floats:
    return np.asarray(np.log((values - low) / (high - values)))


def _from_logit(value: float, low: float, high: float) -> float:
    from scipy.special import expit

    return low + (high - low) * float(expit(value))


def _because(found: Jackknife, reason: str) -> Jackknife:
    return Jackknife(effect=found.effect, standard_error=found.standard_error, clusters=found.clusters, intervals=None,
                     reason=reason)  # fmt: skip


def _with(found: Jackknife, intervals: LogitT | StudentT | LogitTChange) -> Jackknife:
    return Jackknife(effect=found.effect, standard_error=found.standard_error, clusters=found.clusters,
                     intervals=intervals)  # fmt: skip
