"""Which intervals a mean gets, from its values, its clusters and the range that the values cannot leave."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .bounded import BoundedDifference, BoundedMean, BoundedT
from .clustered import cluster_codes, mean_influence, satterthwaite
from .intervals import Intervals, NoIntervals
from .tail_error import SkewedT, estimate_skewness

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Span = tuple[float, float]


def mean_intervals(
    values: Floats, clusters: Sequence[str], *, span: Span | None, rounding: float, strata: Sequence[str] | None = None
) -> Intervals:
    """Intervals of the mean over items of ``values``, [item], with a cluster label for each.

    With a ``span`` that the values cannot leave: t's corrected for skewness where they can be trusted, else Gaffke's
    (`BoundedT`); where no two clusters differ, and for a single cluster, Gaffke's alone, which is then Clopper and
    Pearson's bound on the clusters that would differ, times the range. Without one: t's corrected for skewness, and
    none where they cannot be trusted (`SkewedT`) or the clusters' spread is at most ``rounding``.

    With ``strata``, t's are of clusters that vary within their stratum; Gaffke's take clusters as if drawn from all
    strata alike, which is wider.
    """
    if len(values) == 0:
        return NoIntervals()
    codes = cluster_codes(clusters)
    bounded = None if span is None else BoundedMean.of(values, clusters, low=span[0], high=span[1])
    moves = move_of_mean(values, clusters, strata) if _count(codes) > 1 else Moves(influences=np.zeros(1), freedom=0.0)
    t = _skewed(float(np.mean(values)), moves.influences, moves.freedom, moves.freedom + 1)
    if not t.error > rounding:
        return NoIntervals() if bounded is None else bounded
    return t if bounded is None else BoundedT(t=t, bounded=bounded)


@dataclass(frozen=True, kw_only=True)
class Moves:
    """How leaving out each cluster moves a mean, [cluster], and the degrees of freedom of their sum of squares."""

    influences: Floats
    freedom: float


def move_of_mean(values: Floats, clusters: Sequence[str], strata: Sequence[str] | None) -> Moves:
    """Influences of at least two clusters on the mean of ``values``, [item]; their squares sum to its variance.

    Without strata those of `clustered.mean_influence` and the effective clusters less one. With them, a label an item,
    a cluster moves the mean of its stratum alone, which has the stratum's share of the items as its fixed weight; what
    one cluster does in several strata adds up. Degrees of freedom are Satterthwaite's over strata, each with its
    effective clusters less one. Strata of a single cluster show no variance and are taken together as one, and where
    that is still of one cluster, with the stratum before it.
    """
    codes = cluster_codes(clusters)
    if strata is None:
        return Moves(influences=mean_influence(values, codes, _count(codes)), freedom=_units(codes) - 1)
    influences, variances, freedoms = np.zeros(_count(codes)), [], []
    for rows in _strata_rows(codes, cluster_codes(strata)):
        moves = mean_influence(values[rows], codes[rows], len(influences)) * len(rows) / len(values)
        influences += moves
        variances.append(float(moves @ moves))
        freedoms.append(_units(codes[rows]) - 1)
    freedom = satterthwaite(variances, freedoms)
    return Moves(influences=influences, freedom=sum(freedoms) if math.isnan(freedom) else freedom)


def _strata_rows(codes: Integers, strata: Integers) -> list[Integers]:
    """Rows of each stratum that has at least two clusters, those of a single one put together."""
    rows = [np.flatnonzero(strata == stratum) for stratum in range(_count(strata))]
    found = [part for part in rows if _count(codes[part]) > 1]
    single = [part for part in rows if _count(codes[part]) == 1]
    if single:
        together = np.concatenate(single)
        if _count(codes[together]) < 2:
            together = np.concatenate([found.pop(), together])
        found.append(together)
    return found


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
