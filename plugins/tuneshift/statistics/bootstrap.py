"""Bootstrap of any statistic over clusters (BCa), and what estimates share: clusters, rounding, fields."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .clustered import cluster_codes
from .intervals import Bca, Intervals, NoIntervals, fewest_clusters, p_value
from .statistic import Arm, Statistic

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Estimate = Callable[[Floats], Floats]
"""Weights [resample, item] -> the statistic of each weighted sample, [resample]; NaN where it is not defined."""

ROUNDING = 4 * float(np.finfo(np.float64).eps)
"""Relative to the largest value: a spread below this is the rounding error of equal numbers."""
WEIGHTS_AT_ONCE = 1_000_000
"""Cells of a block of bootstrap weights: 8 MB."""


def bootstrap_statistic(
    estimate: Estimate, *, arms: tuple[Arm, ...], clusters: Sequence[str], level: float, seed: int, resamples: int
) -> Statistic:
    """Any statistic of weighted items with its bias-corrected and accelerated interval (BCa; Efron 1987), by cluster.

    ``estimate`` takes weights [resample, item]: how often each item was drawn, always with its whole ``clusters`` mates
    (a label per item). ``standard_error`` is the resamples' standard deviation, ``p`` the two-sided level at which the
    interval would end at zero, at least 2 / (resamples + 1). Interval, p and error are NaN under ``fewest_clusters``
    effective clusters, where more than one resample in a hundred has no value, and where all have the same value.

    Over few clusters it is too narrow (15 clusters of five: up to seven times the stated error); for a correlation, an
    area or a slope take `estimates.jackknife_statistic`.
    """
    groups = groups_of(clusters, len(clusters))
    found = Statistic(
        effect=float(estimate(np.ones((1, len(groups))))[0]) if len(groups) else math.nan,
        **fields_at(NoIntervals(), level),
        standard_error=math.nan,
        n=len(groups),
        clusters=cluster_count(groups),
        method=f"BCa cluster bootstrap, {resamples} resamples",
        seed=seed,
        arms=arms,
    )
    units = effective_clusters(groups)
    if units < fewest_clusters(level) or not math.isfinite(found.effect):
        return found
    drawn = _resampled(estimate, groups, seed=seed, resamples=resamples)
    if len(drawn) < 0.99 * resamples:
        return found
    if float(np.ptp(drawn)) <= ROUNDING * max(1.0, abs(found.effect)):
        return found
    bias, acceleration = _bias(drawn, found.effect), _acceleration(estimate, groups)
    intervals = Bca.of(drawn, bias=bias, acceleration=acceleration, units=units)
    return replace(
        found,
        intervals=intervals,
        interval=intervals.at(level),
        p=_bca_p(drawn, bias, acceleration),
        standard_error=float(np.std(drawn, ddof=1)),
    )


def rounded_off(effect: float, size: float) -> float:
    """An effect, 0 where it is no more than what rounding leaves of numbers as large as ``size``: 0.3 - 0.2 - 0.1 is
    -2.8e-17 in float64."""
    return 0.0 if abs(effect) <= ROUNDING * size else effect


def effective_clusters(groups: Integers) -> float:
    """Number of equal clusters that carry as much as these: (sum n_g)**2 / sum n_g**2 (Kish 1965), for codes [item]."""
    sizes = np.bincount(groups)
    return float(sizes.sum() ** 2 / np.sum(sizes**2)) if len(groups) else 0.0


def root_sum_of_squares(influence: Floats) -> float:
    return float(np.sqrt(np.sum(influence**2)))


def fields_at(intervals: Intervals, level: float) -> dict[str, Any]:
    """Fields of a statistic with these intervals: ``intervals``, ``interval``, ``level`` and ``p`` against zero effect,
    NaN where there is no interval at this level."""
    interval = intervals.at(level)
    p = math.nan if math.isnan(interval[0]) else p_value(intervals)
    return {"intervals": intervals, "interval": interval, "level": level, "p": p}


def _resampled(estimate: Estimate, groups: Integers, *, seed: int, resamples: int) -> Floats:
    """The statistic of each resample that has one."""
    rng, count = np.random.default_rng(seed), cluster_count(groups)
    at_once = max(1, WEIGHTS_AT_ONCE // len(groups))
    found = []
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        found.append(estimate(times[:, groups].astype(np.float64)))
    values = np.concatenate(found)
    return np.asarray(values[np.isfinite(values)])


def _acceleration(estimate: Estimate, groups: Integers) -> float:
    """BCa's acceleration: a sixth of the skewness of the statistic over leaving out one cluster at a time."""
    at_once = max(1, WEIGHTS_AT_ONCE // len(groups))
    left_out = np.array_split(np.arange(cluster_count(groups)), math.ceil(cluster_count(groups) / at_once))
    values = np.concatenate([estimate((groups[None, :] != g[:, None]).astype(np.float64)) for g in left_out])
    moves = values.mean() - values
    spread = float(np.sum(moves**2)) ** 1.5
    return float(np.sum(moves**3)) / (6 * spread) if math.isfinite(spread) and spread > 0 else 0.0


def _below(drawn: Floats, value: float) -> float:
    """Share of the resamples below a value, ties half; never 0 or 1."""
    share = float(np.mean(drawn < value) + np.mean(drawn == value) / 2)
    return min(max(share, 1 / (len(drawn) + 1)), len(drawn) / (len(drawn) + 1))


def _bias(drawn: Floats, effect: float) -> float:
    """BCa's bias correction: the normal deviate of the share of resamples below the effect."""
    from scipy.special import ndtri

    return float(ndtri(_below(drawn, effect)))


def _bca_p(drawn: Floats, bias: float, acceleration: float) -> float:
    """The two-sided level at which the interval ends at zero: its map from shares to bounds read backwards."""
    from scipy.special import ndtr, ndtri

    zero = float(ndtri(_below(drawn, 0.0))) - bias
    p = float(2 * ndtr(-abs(zero / (1 + acceleration * zero) - bias)))
    return max(p, 2 / (len(drawn) + 1))


def groups_of(labels: Sequence[str], n: int) -> Integers:
    """Cluster labels as codes from 0, one per item."""
    if len(labels) != n:
        raise ValueError(f"clusters name {len(labels)} items, but there are {n}")
    return cluster_codes(labels)


def cluster_count(groups: Integers) -> int:
    return len(np.unique(groups))
