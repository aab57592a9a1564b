"""Which intervals a mean gets, from its values, its clusters and the range that the values cannot leave."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .bounded import BoundedDifference, BoundedMean, BoundedT
from .clustered import cluster_codes, mean_influence, satterthwaite
from .intervals import Intervals, NoIntervals
from .tail_error import SkewedT, estimate_skewness

Floats = npt.NDArray[np.float64]
Span = tuple[float, float]


def mean_intervals(values: Floats, clusters: Sequence[str], *, span: Span | None, rounding: float) -> Intervals:
    """Intervals of the mean over items of ``values``, [item], with a cluster label for each.

    With a ``span`` that the values cannot leave: t's corrected for skewness where they can be trusted, else Gaffke's
    (`BoundedT`); where no two clusters differ, and for a single cluster, Gaffke's alone, which is then Clopper and
    Pearson's bound on the clusters that would differ, times the range. Without one: t's corrected for skewness, and
    none where they cannot be trusted (`SkewedT`) or the clusters' spread is at most ``rounding``.
    """
    if len(values) == 0:
        return NoIntervals()
    codes = cluster_codes(clusters)
    bounded = None if span is None else BoundedMean.of(values, clusters, low=span[0], high=span[1])
    influences = mean_influence(values, codes, _count(codes)) if _count(codes) > 1 else np.zeros(1)
    t = _skewed(float(np.mean(values)), influences, _units(codes) - 1, _units(codes))
    if not t.error > rounding:
        return NoIntervals() if bounded is None else bounded
    return t if bounded is None else BoundedT(t=t, bounded=bounded)


def difference_intervals(
    first: Floats, second: Floats, clusters: Sequence[str], *, span: Span | None, rounding: float
) -> Intervals:
    """Intervals of the mean of ``second`` less that of ``first``, two groups, with the labels of both in that order.

    As `mean_intervals`: Welch's t with cluster-robust variances and Satterthwaite's degrees of freedom, at most the
    effective clusters of all items less one; its bounded counterpart is `BoundedDifference`.
    """
    if len(first) == 0 or len(second) == 0:
        return NoIntervals()
    codes = cluster_codes(clusters)
    sides = [
        (first, codes[: len(first)], clusters[: len(first)]),
        (second, codes[len(first) :], clusters[len(first) :]),
    ]
    bounded = None
    if span is not None:
        means = [BoundedMean.of(v, labels, low=span[0], high=span[1]) for v, _, labels in sides]
        bounded = BoundedDifference(first=means[0], second=means[1])
    if min(_count(side) for _, side, _ in sides) < 2:
        return NoIntervals() if bounded is None else bounded
    moves = [mean_influence(values, side, _count(codes)) for values, side, _ in sides]
    units = [_units(side) for _, side, _ in sides]
    freedom = satterthwaite([float(move @ move) for move in moves], [n - 1 for n in units])
    freedom = min(freedom, _units(codes) - 1)
    t = _skewed(float(np.mean(second) - np.mean(first)), moves[1] - moves[0], freedom, min(units))
    if not t.error > rounding or math.isnan(freedom):
        return NoIntervals() if bounded is None else bounded
    return t if bounded is None else BoundedT(t=t, bounded=bounded)


def _skewed(effect: float, influences: Floats, freedom: float, units: float) -> SkewedT:
    error = float(np.sqrt(np.sum(influences**2)))
    return SkewedT(effect=effect, error=error, freedom=freedom, units=units,
                   skewness=estimate_skewness(influences, units))  # fmt: skip


def _count(codes: npt.NDArray[np.int64]) -> int:
    return len(np.unique(codes))


def _units(codes: npt.NDArray[np.int64]) -> float:
    """Effective clusters (Kish 1965); codes need not start at 0."""
    sizes = np.unique(codes, return_counts=True)[1].astype(np.float64)
    return float(sizes.sum() ** 2 / np.sum(sizes**2))
