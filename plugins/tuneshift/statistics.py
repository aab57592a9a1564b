"""Statistics on per-item values, thin over scipy: paired, two-sample and bootstrap, with clusters. Effect before p.

Every function returns an effect with an interval at a level that the caller names. Items that share a cluster count
together: variances and resampling are by cluster. ``docs/statistics.md`` has the formulas and simulated error rates.
scipy.special has all the distributions and imports in a fraction of scipy.stats' time; tests compare with the latter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .clustered import cluster_codes, mean_influence, satterthwaite
from .intervals import Bca, Intervals, NoIntervals, StudentT, TwoOneSided, fewest_clusters
from .power import interval_power, smallest_n
from .records import Arm, Json, Statistic

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Estimate = Callable[[Floats], Floats]
"""Weights [resample, item] -> the statistic of each weighted sample, [resample]; NaN where it is not defined."""

RESAMPLES = 9999
"""Bootstrap resamples. A tail of 0.3 %, as when eight claims share 5 %, then still holds about thirty of them."""
ROUNDING = 4 * float(np.finfo(np.float64).eps)
"""Relative to the largest value: a spread below this is the rounding error of equal numbers."""
WEIGHTS_AT_ONCE = 1_000_000
"""Cells of a block of bootstrap weights: 8 MB."""


def paired_difference(base: Arm, tuned: Arm, *, clusters: Sequence[str] | None, level: float) -> Statistic:
    """Mean paired difference, tuned minus base, with a cluster-robust t interval.

    The mean is over items, its variance over clusters by leaving out one at a time (CV3 in MacKinnon, Nielsen and Webb
    2023), with one degree of freedom less than ``effective_clusters``. With clusters of one size both are the
    textbook's (Cameron and Miller 2015); with every item its own cluster this is the one-sample t test.

    Details: ``d_z`` and ``sd_of_differences`` (both over items, ddof 1). Interval, p and standard error are NaN under
    ``fewest_clusters`` effective clusters, and where clusters vary no more than rounding does although the arms differ:
    a variance that was not seen is not a variance of zero. Arms that agree in every item give the interval (0, 0).

    Raises ValueError where the arms differ in ids or hold values that are not finite.
    """
    _check(base, tuned)
    if base.ids != tuned.ids:
        raise ValueError(
            f"paired arms need the same ids in the same order; they differ at {_first_difference(base, tuned)}"
        )
    difference = tuned.values - base.values
    rounding = _rounding(base, tuned)
    if bool(np.all(np.abs(difference) <= rounding)):
        difference = np.zeros_like(difference)
    groups = _groups(base.ids if clusters is None else clusters, len(difference))
    mean = float(np.mean(difference)) if len(difference) else math.nan
    units = effective_clusters(groups)
    error = _norm(mean_influence(difference, groups, _count(groups))) if _count(groups) > 1 else math.nan
    sd = float(np.std(difference, ddof=1)) if len(difference) > 1 else math.nan
    intervals = student_intervals(mean, error, units - 1, units, rounding, same=not difference.any())
    return Statistic(
        effect=mean,
        n=len(difference),
        clusters=_count(groups),
        **fields_at(intervals, level),
        method="paired difference of means, cluster-robust t interval",
        seed=None,
        arms=(base, tuned),
        details={"d_z": mean / sd if sd > rounding else math.nan, "sd_of_differences": sd},
    )


def equivalence(base: Arm, tuned: Arm, *, clusters: Sequence[str] | None, level: float, margin: float) -> Statistic:
    """Paired difference for two one-sided tests (Schuirmann 1987) at error rate 1 - level.

    Its interval has coverage 2 * level - 1, so that lying wholly within +-``margin`` is rejecting both. ``p`` stays the
    two-sided one against zero effect; details: ``p_equivalence``, the larger of the two one-sided p, and ``margin``.
    Raises ValueError for a margin not above 0 and a level not above one half.
    """
    if not margin > 0:
        raise ValueError(f"an equivalence margin is above 0, in the effect's unit; got {margin}")
    if not 0.5 < level < 1:
        raise ValueError(f"two one-sided tests need a level between 0.5 and 1, as 0.95; got {level}")
    from scipy.special import stdtr

    found = paired_difference(base, tuned, clusters=clusters, level=2 * level - 1)
    effect, error = found.effect, found.standard_error
    if error == 0:
        p = 0.0
    else:
        freedom = effective_clusters(_groups(base.ids if clusters is None else clusters, found.n)) - 1
        p = float(stdtr(freedom, (abs(effect) - margin) / error)) if math.isfinite(error) else math.nan
    return replace(
        found,
        intervals=TwoOneSided(inner=found.intervals),
        method="paired difference of means, two one-sided cluster-robust t tests",
        details={**found.details, "margin": margin, "p_equivalence": p},
    )


def two_sample_difference(
    low: Arm, high: Arm, *, clusters: Mapping[str, str] | None, level: float, seed: int, resamples: int = RESAMPLES
) -> Statistic:
    """Difference of two groups' means, ``high`` minus ``low``, by Welch; beside it the area under the ROC curve.

    With clusters (id -> cluster) each mean's variance is cluster-robust as in ``paired_difference``; a cluster with
    items in both arms brings in their covariance, so that two arms on the same ids give the paired test. Degrees of
    freedom are Satterthwaite's over effective clusters. With every item its own cluster this is scipy's
    ``ttest_ind(equal_var=False)``. Details: ``auc`` (Mann-Whitney, ties half) with its cluster-bootstrap interval at
    the same level, and ``p_one_sided`` for high > low, as published tables give it.

    NaN as in ``paired_difference``, each arm for itself. Raises ValueError for values that are not finite and for an
    item without a cluster.
    """
    from scipy.special import stdtr

    _check(low, high)
    groups = _groups([*_named(low, clusters), *_named(high, clusters)], len(low.ids) + len(high.ids))
    sides = [(low, groups[: len(low.ids)]), (high, groups[len(low.ids) :])]
    units = [effective_clusters(g) for _, g in sides]
    rounding = _rounding(low, high)
    error, freedom = math.nan, math.nan
    if min(_count(g) for _, g in sides) > 1:
        moves = [mean_influence(a.values, g, _count(groups)) for a, g in sides]
        error = _norm(moves[1] - moves[0])
        freedom = min(
            satterthwaite([_norm(m) ** 2 for m in moves], [n - 1 for n in units]), effective_clusters(groups) - 1
        )
    effect = high.mean - low.mean
    values = np.concatenate([low.values, high.values])
    same = len(values) > 0 and float(np.ptp(values)) <= rounding
    intervals = student_intervals(0.0 if same else effect, error, freedom, min(units), rounding, same=same)
    found = fields_at(intervals, level)
    error = found["standard_error"]
    return Statistic(
        effect=effect,
        n=min(len(low.ids), len(high.ids)),
        clusters=min(_count(g) for _, g in sides),
        **found,
        method="difference of means, Welch with cluster-robust variances",
        seed=seed,
        arms=(low, high),
        details={
            **_auc_details(low, high, groups, level=level, seed=seed, resamples=resamples),
            "p_one_sided": float(stdtr(freedom, -effect / error)) if error > 0 else math.nan,
        },
    )


def bootstrap_statistic(
    estimate: Estimate, *, arms: tuple[Arm, ...], clusters: Sequence[str], level: float, seed: int, resamples: int
) -> Statistic:
    """Any statistic of weighted items with its bias-corrected and accelerated interval (BCa; Efron 1987), by cluster.

    ``estimate`` takes weights [resample, item]: how often each item was drawn, always with its whole ``clusters`` mates
    (a label per item). ``standard_error`` is the resamples' standard deviation, ``p`` the two-sided level at which the
    interval would end at zero, at least 2 / (resamples + 1). Interval, p and error are NaN under ``fewest_clusters``
    effective clusters, where more than one resample in a hundred has no value, and where all have the same value
    other than 0.
    """
    groups = _groups(clusters, len(clusters))
    found = Statistic(
        effect=float(estimate(np.ones((1, len(groups))))[0]) if len(groups) else math.nan,
        **fields_at(NoIntervals(), level),
        n=len(groups),
        clusters=_count(groups),
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
        same = StudentT(effect=0.0, error=0.0, freedom=units - 1, units=units)
        return replace(found, **fields_at(same, level)) if found.effect == 0 else found
    bias, acceleration = _bias(drawn, found.effect), _acceleration(estimate, groups)
    intervals = Bca.of(drawn, bias=bias, acceleration=acceleration, units=units)
    return replace(
        found,
        intervals=intervals,
        interval=intervals.at(level),
        p=_bca_p(drawn, bias, acceleration),
        standard_error=float(np.std(drawn, ddof=1)),
    )


def weighted_auc(values: Floats, is_high: npt.NDArray[np.bool_]) -> Estimate:
    """Probability that a high item's value exceeds a low item's, ties half, in 0..1, for any weights of the items.

    NaN where the high or the low items have no weight. ``values`` and ``is_high`` are [item].
    """
    order = np.argsort(values, kind="stable")
    high_side = is_high[order]
    starts = np.flatnonzero(np.r_[True, np.diff(values[order]) != 0])

    def estimate(weights: Floats) -> Floats:
        ordered = weights[:, order]
        high = np.add.reduceat(np.where(high_side, ordered, 0.0), starts, axis=1)  # [resample, distinct value]
        low = np.add.reduceat(np.where(high_side, 0.0, ordered), starts, axis=1)
        below = np.cumsum(low, axis=1) - low / 2
        pairs = high.sum(axis=1) * low.sum(axis=1)
        return np.asarray(
            np.divide((high * below).sum(axis=1), pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
        )

    return estimate


def n_needed(
    statistic: Statistic, *, sesoi: float, direction: Literal["greater", "less", "equivalent"], power: float = 0.8
) -> int | None:
    """Items at which the interval would clear the sesoi with probability ``power``, if the observed effect were true.

    That is, lie wholly on the side of the bound (for ``equivalent``: of both bounds) on which the effect is. Clusters
    keep their size and the standard error falls with the square root of the items; power is the noncentral t's. None
    where no number up to ``power.LARGEST_N`` does it, and where there is no standard error to go by.
    """
    if not statistic.standard_error > 0 or not math.isfinite(statistic.effect) or statistic.n == 0:
        return None
    bounds = {"greater": (sesoi,), "less": (-sesoi,), "equivalent": (-sesoi, sesoi)}[direction]
    distances = [abs(statistic.effect - bound) for bound in bounds]
    if direction == "equivalent" and abs(statistic.effect) > sesoi:
        distances = [min(distances)]
    clusters_per_item = statistic.clusters / statistic.n

    def power_at(n: int) -> float:
        error = statistic.standard_error * math.sqrt(statistic.n / n)
        return interval_power(distances, error=error, freedom=clusters_per_item * n - 1, level=statistic.level)

    fewest = max(2, math.ceil(fewest_clusters(statistic.level) / clusters_per_item))
    return smallest_n(power_at, power=power, fewest=fewest)


def effective_clusters(groups: Integers) -> float:
    """Number of equal clusters that carry as much as these: (sum n_g)**2 / sum n_g**2 (Kish 1965), for codes [item]."""
    sizes = np.bincount(groups)
    return float(sizes.sum() ** 2 / np.sum(sizes**2)) if len(groups) else 0.0


def _norm(influence: Floats) -> float:
    return float(np.sqrt(np.sum(influence**2)))


def student_intervals(
    effect: float, error: float, freedom: float, units: float, rounding: float, *, same: bool
) -> Intervals:
    """t intervals of an effect; none where the error is NaN or, unless all values are the same, only ``rounding``."""
    if math.isfinite(error) and same:
        return StudentT(effect=0.0, error=0.0, freedom=freedom, units=units)
    if not error > rounding:
        return NoIntervals()
    return StudentT(effect=effect, error=error, freedom=freedom, units=units)


def fields_at(intervals: Intervals, level: float) -> dict[str, Any]:
    """Fields of a statistic with these intervals, none or t's: ``intervals``, ``interval``, ``level``, ``p`` against
    zero effect and ``standard_error``, NaN where there is no interval at this level."""
    interval = intervals.at(level)
    found: dict[str, Any] = {"intervals": intervals, "interval": interval, "level": level}
    if not isinstance(intervals, StudentT) or math.isnan(interval[0]):
        return {**found, "p": math.nan, "standard_error": math.nan}
    if intervals.error == 0:
        return {**found, "p": 1.0, "standard_error": 0.0}
    from scipy.special import stdtr

    p = float(2 * stdtr(intervals.freedom, -abs(intervals.effect) / intervals.error))
    return {**found, "p": p, "standard_error": intervals.error}


def _resampled(estimate: Estimate, groups: Integers, *, seed: int, resamples: int) -> Floats:
    """The statistic of each resample that has one."""
    rng, count = np.random.default_rng(seed), _count(groups)
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
    left_out = np.array_split(np.arange(_count(groups)), math.ceil(_count(groups) / at_once))
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


def _auc_details(low: Arm, high: Arm, groups: Integers, *, level: float, seed: int, resamples: int) -> dict[str, Json]:
    if len(low.ids) == 0 or len(high.ids) == 0:
        return {"auc": math.nan, "auc_interval": [math.nan, math.nan]}
    auc = weighted_auc(np.concatenate([low.values, high.values]), np.arange(len(groups)) >= len(low.ids))
    found = bootstrap_statistic(
        lambda weights: auc(weights) - 0.5,
        arms=(low, high),
        clusters=[str(g) for g in groups],
        level=level,
        seed=seed,
        resamples=resamples,
    )
    return {"auc": found.effect + 0.5, "auc_interval": [bound + 0.5 for bound in found.interval]}


def _named(arm: Arm, clusters: Mapping[str, str] | None) -> Sequence[str]:
    if clusters is None:
        return arm.ids
    missing = [i for i in arm.ids if i not in clusters]
    if missing:
        raise ValueError(f"{arm.label}: no cluster is given for {', '.join(missing[:5])}; every item needs one")
    return [clusters[i] for i in arm.ids]


def _groups(labels: Sequence[str], n: int) -> Integers:
    """Cluster labels as codes from 0, one per item."""
    if len(labels) != n:
        raise ValueError(f"clusters name {len(labels)} items, but there are {n}")
    return cluster_codes(labels)


def _count(groups: Integers) -> int:
    return len(np.unique(groups))


def _rounding(a: Arm, b: Arm) -> float:
    return ROUNDING * max(float(np.max(np.abs(arm.values), initial=0.0)) for arm in (a, b))


def _check(*arms: Arm) -> None:
    for arm in arms:
        if len(arm.ids) != len(arm.values):
            raise ValueError(f"{arm.label} has {len(arm.ids)} ids, but {len(arm.values)} values")
        bad = [i for i, finite in zip(arm.ids, np.isfinite(arm.values), strict=True) if not finite]
        if bad:
            raise ValueError(f"{arm.label} holds values that are not finite, first for {', '.join(bad[:5])}")


def _first_difference(a: Arm, b: Arm) -> str:
    for left, right in zip(a.ids, b.ids, strict=False):
        if left != right:
            return f"{left!r} against {right!r}"
    return f"{len(a.ids)} against {len(b.ids)} items"
