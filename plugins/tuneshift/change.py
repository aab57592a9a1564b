"""By how much an effect changed between two runs: statistics whose effect is the new run's less the baseline's.

Both runs asked the same items, so what can be compared item by item is. Intervals are cluster-robust as in
``statistics``; ``docs/gate.md`` says which form is taken when.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from .intervals import AtBound, Intervals, NoIntervals, StudentT
from .records import Arm, Statistic
from .statistics import effective_clusters, paired_difference

Floats = npt.NDArray[np.float64]


def paired_change(
    old: tuple[Arm, Arm], new: tuple[Arm, Arm], *, clusters: Mapping[str, str], level: float
) -> Statistic:
    """Mean over items of (second - first) in the new run less (second - first) in the old one, as `paired_difference`.

    All four arms have the same ids in the same order. Where every item moved by the same amount, t sees no variance:
    the interval is then Clopper and Pearson's bound on the share of items that would move otherwise, each by no more
    than the values range. Raises ValueError for arms of other ids and values that are not finite.
    """
    differences = [Arm(label=label, ids=low.ids, values=high.values - low.values)
                   for label, (low, high) in (("baseline", old), ("now", new))]  # fmt: skip
    labels = [clusters.get(i, i) for i in differences[0].ids]
    found = paired_difference(differences[0], differences[1], clusters=labels, level=level)
    found = replace(found, method="paired difference of per-item differences, cluster-robust t interval")
    moves = differences[1].values - differences[0].values
    if not isinstance(found.intervals, NoIntervals) or len(moves) < 2 or float(np.ptp(moves)) > 1e-9:
        return found
    spread = float(np.ptp(np.concatenate([arm.values for arm in (*old, *new)])))
    first_moved = bool(np.any(new[0].values != old[0].values))
    units = math.floor(effective_clusters(_codes(labels)))
    reach = abs(found.effect) + spread * (2 if first_moved else 1)
    bound = AtBound(end=found.effect, scale=reach, units=units)
    return replace(found, intervals=bound, interval=bound.at(level), method="every item moved alike, exact bound")


def two_sample_change(
    old: tuple[Arm, Arm], new: tuple[Arm, Arm], *, clusters: Mapping[str, str], level: float
) -> Statistic:
    """Change of a difference of two groups' means, second less first, where the groups may hold other items each time.

    The variance is over clusters by leaving out one at a time in all four means at once, so that an item that is in
    both runs brings in its covariance. Degrees of freedom: one less than the smallest group's effective clusters, which
    is no more than Welch's. ``n`` is the smallest group's.
    """
    groups = [*zip((1.0, -1.0, -1.0, 1.0), (*old, *new), strict=True)]
    labels = [[clusters.get(i, i) for i in arm.ids] for _, arm in groups]
    known = {label: k for k, label in enumerate(dict.fromkeys(label for side in labels for label in side))}
    codes = [np.array([known[label] for label in side], dtype=np.int64) for side in labels]
    units = [effective_clusters(code) for code in codes]
    effect = sum(sign * arm.mean for sign, arm in groups)
    intervals: Intervals = NoIntervals()
    if min(len(np.unique(code)) for code in codes) > 1:
        moves = sum(
            sign * _moves(arm.values, code, len(known)) for (sign, arm), code in zip(groups, codes, strict=True)
        )
        intervals = _student(effect, float(np.linalg.norm(moves)), min(units))
    return _statistic(
        effect,
        intervals,
        level=level,
        n=min(len(arm.ids) for _, arm in groups),
        clusters=min(len(np.unique(code)) for code in codes),
        method="difference of two-sample differences, cluster-robust t interval",
    )


def estimate_change(
    old: tuple[float, float | None], new: tuple[float, float | None], *, n: int, clusters: int, level: float
) -> Statistic:
    """Change of an estimate that has no per-item form: (effect, standard error) of each run, the errors added in
    quadrature as if the runs were independent.

    The runs share their items, so where their estimates go up and down together this interval is too wide.
    """
    effect = new[0] - old[0]
    errors = [side[1] for side in (old, new)]
    intervals: Intervals = NoIntervals()
    if all(error is not None and error > 0 for error in errors):
        intervals = _student(effect, math.hypot(*(float(error or 0) for error in errors)), clusters)
    return _statistic(
        effect,
        intervals,
        level=level,
        n=n,
        clusters=clusters,
        method="difference of two estimates, standard errors added in quadrature (wide where the runs go together)",
    )


def _student(effect: float, error: float, units: float) -> Intervals:
    return StudentT(effect=effect, error=error, freedom=units - 1, units=units) if error > 0 else NoIntervals()


def _statistic(effect: float, intervals: Intervals, *, level: float, n: int, clusters: int, method: str) -> Statistic:
    p = error = math.nan
    interval = intervals.at(level)
    if isinstance(intervals, StudentT) and math.isfinite(interval[0]):
        from scipy.special import stdtr

        error = intervals.error
        p = float(2 * stdtr(intervals.freedom, -abs(effect) / error))
    return Statistic(
        effect=effect, interval=interval, level=level, p=p, n=n, clusters=clusters, standard_error=error,
        method=method, seed=None, arms=(), intervals=intervals,
    )  # fmt: skip


def _moves(values: Floats, codes: npt.NDArray[np.int64], count: int) -> Floats:
    """How leaving out each cluster moves the mean, [cluster]; the squares sum to the squared standard error."""
    sizes = np.bincount(codes, minlength=count)
    present = int(np.count_nonzero(sizes))
    sums = np.bincount(codes, weights=values - np.mean(values), minlength=count)
    return np.asarray(math.sqrt((present - 1) / present) * sums / (len(values) - sizes), dtype=np.float64)


def _codes(labels: list[str]) -> npt.NDArray[np.int64]:
    known = {label: k for k, label in enumerate(dict.fromkeys(labels))}
    return np.array([known[label] for label in labels], dtype=np.int64)
