"""Statistics on per-item values, thin over scipy: paired, two-sample and bootstrap, with clusters. Effect before p.

Every function returns an effect with an interval at a level that the caller names. Items that share a cluster count
together: resampling or variance is by cluster. ``docs/statistics.md`` has the formulas and their simulated error rates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .records import Arm, Statistic

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FEWEST_CLUSTERS = 6
"""Under six independent units no test of signs can reach 5 % two-sided (2 / 2**5 = 0.0625), and a variance from so few
is hardly one: the interval is not given."""
RESAMPLES = 2000
"""Bootstrap resamples. The Monte-Carlo error of a 95 % bound's coverage is then half a point."""


def paired_difference(base: Arm, tuned: Arm, *, clusters: Sequence[str] | None, level: float) -> Statistic:
    """Mean paired difference, tuned minus base, with a cluster-robust t interval.

    The mean is over items, its variance over clusters: with G clusters, residuals summed within each, the linearised
    variance of a ratio with the factor G / (G - 1) and G - 1 degrees of freedom. With every item its own cluster this
    is
    the one-sample t test (Liang and Zeger 1986; Cameron and Miller 2015, section II). Details: ``d_z`` and ``sd`` of
    the
    differences. Interval, p and standard error are NaN under six clusters, and where all differences are one number
    other than 0: a variance that was not seen is not a variance of zero.

    Raises ValueError where the arms differ in ids or hold values that are not finite.
    """
    if base.ids != tuned.ids:
        raise ValueError(
            f"paired arms need the same ids in the same order; they differ at {_first_difference(base, tuned)}"
        )
    _check_finite(base, tuned)
    difference = tuned.values - base.values
    groups = _groups(base.ids if clusters is None else clusters, len(difference))
    estimate = _cluster_mean(difference, groups, level)
    sd = float(np.std(difference, ddof=1)) if len(difference) > 1 else math.nan
    return replace(
        estimate,
        arms=(base, tuned),
        method="paired difference of means, cluster-robust t interval",
        details={"d_z": _ratio(estimate.effect, sd), "sd_of_differences": sd},
    )


def equivalence(base: Arm, tuned: Arm, *, clusters: Sequence[str] | None, level: float, margin: float) -> Statistic:
    """Paired difference for two one-sided tests: its interval has coverage 2 * level - 1, so that lying wholly within
    +-``margin`` rejects both at 1 - level. ``p`` is the larger of the two one-sided p values (Schuirmann 1987)."""
    if margin <= 0:
        raise ValueError(f"an equivalence margin is above 0; got {margin}")
    found = paired_difference(base, tuned, clusters=clusters, level=2 * level - 1)
    return replace(
        found,
        p=_tost_p(found, margin),
        method="paired difference of means, two one-sided cluster-robust t tests",
        details={**found.details, "margin": margin},
    )


def two_sample_difference(
    low: Arm, high: Arm, *, clusters: Mapping[str, str] | None, level: float, seed: int
) -> Statistic:
    """Difference of two groups' means, ``high`` minus ``low``, by Welch; beside it the area under the ROC curve.

    With clusters (id -> cluster) the variance of each mean is cluster-robust and the degrees of freedom are
    Satterthwaite's over clusters; without, or with every item its own, this is scipy's ``ttest_ind(equal_var=False)``.
    A
    cluster with items in both groups counts in both, which is conservative where its items agree. Details: ``auc``
    (Mann-Whitney, ties half) with a cluster-bootstrap interval at the same level, and Welch's ``p_one_sided`` as
    published tables give it. Raises ValueError for values that are not finite.
    """
    _check_finite(low, high)
    sides = [_cluster_mean(a.values, _groups(_named(a, clusters), len(a.values)), level) for a in (low, high)]
    effect = high.mean - low.mean
    variances = [s.standard_error**2 for s in sides]
    error = math.sqrt(sum(variances))
    counts = [s.clusters for s in sides]
    freedom = _satterthwaite(variances, counts)
    interval, p = _t_interval(effect, error, freedom, level)
    return Statistic(
        effect=effect,
        interval=interval,
        level=level,
        p=p,
        n=min(len(low.values), len(high.values)),
        clusters=min(counts),
        standard_error=error,
        method="difference of means, Welch with cluster-robust variances",
        seed=seed,
        arms=(low, high),
        details={**_auc_details(low, high, clusters, level, seed), "p_one_sided": _one_sided(effect, error, freedom)},
    )


def bootstrap_interval(
    statistic: Callable[[Integers], float],
    clusters: Sequence[str],
    *,
    level: float,
    seed: int,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """Percentile interval of ``statistic(indices)`` where items are resampled by cluster, with replacement.

    ``statistic`` takes item indices, repeats included. Resamples on which it is NaN are passed over; NaN bounds where
    there are under six clusters.
    """
    groups = _groups(clusters, len(clusters))
    members = [np.flatnonzero(groups == g) for g in range(int(groups.max(initial=-1)) + 1)]
    if len(members) < FEWEST_CLUSTERS:
        return (math.nan, math.nan)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(members), size=(resamples, len(members)))
    values = np.array([statistic(np.concatenate([members[g] for g in row])) for row in drawn])
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return (math.nan, math.nan)
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return (float(low), float(high))


def area_under_curve(low: Floats, high: Floats) -> float:
    """Probability that a value of ``high`` exceeds one of ``low``, ties half, in 0..1; NaN for an empty group."""
    if len(low) == 0 or len(high) == 0:
        return math.nan
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([low, high]))
    above = ranks[len(low) :].sum() - len(high) * (len(high) + 1) / 2
    return float(above / (len(low) * len(high)))


def n_needed(
    statistic: Statistic, *, sesoi: float, direction: Literal["greater", "less", "equivalent"], power: float = 0.8
) -> int | None:
    """Items at which an inconclusive result would be decided, if the observed effect were the true one.

    The interval excludes the nearest bound of the sesoi with probability ``power`` when the standard error is the
    distance to that bound over z(level) + z(power); the error is taken to fall with the square root of the items. None
    where the effect lies on the bound, and where there is no standard error to go by.
    """
    error, effect = statistic.standard_error, statistic.effect
    if not (math.isfinite(error) and math.isfinite(effect)) or error == 0 or statistic.n == 0:
        return None
    bounds = {"greater": (sesoi,), "less": (-sesoi,), "equivalent": (-sesoi, sesoi)}[direction]
    distance = min(abs(effect - bound) for bound in bounds)
    if distance == 0:
        return None
    from scipy.stats import norm

    reach = float(norm.ppf((1 + statistic.level) / 2) + norm.ppf(power))
    wanted = statistic.n * (error * reach / distance) ** 2
    return math.ceil(wanted) if wanted < 1e9 else None


def _cluster_mean(values: Floats, groups: Integers, level: float) -> Statistic:
    """Mean of the values with its cluster-robust error and t interval."""
    n, count = len(values), int(groups.max(initial=-1)) + 1
    mean = float(np.mean(values)) if n else math.nan
    error = math.nan
    if count >= FEWEST_CLUSTERS:
        sums = np.bincount(groups, weights=values - mean, minlength=count)
        error = math.sqrt(count / (count - 1) * float(np.sum(sums**2))) / n
        # Equal values give rounding errors of this size instead of zero.
        if error <= 1e-12 * max(1.0, abs(mean)):
            error = 0.0 if mean == 0 else math.nan
    interval, p = _t_interval(mean, error, count - 1, level)
    return Statistic(
        effect=mean, interval=interval, level=level, p=p, n=n, clusters=count, standard_error=error, method="mean",
        seed=None, arms=(),
    )  # fmt: skip


def _t_interval(effect: float, error: float, freedom: float, level: float) -> tuple[tuple[float, float], float]:
    if not (math.isfinite(effect) and math.isfinite(error)) or not freedom > 0:
        return (math.nan, math.nan), math.nan
    if error == 0:
        return (effect, effect), 1.0 if effect == 0 else math.nan
    from scipy.stats import t

    half = float(t.ppf((1 + level) / 2, freedom)) * error
    return (effect - half, effect + half), float(2 * t.sf(abs(effect) / error, freedom))


def _one_sided(effect: float, error: float, freedom: float) -> float:
    if not (math.isfinite(effect) and error > 0 and freedom > 0):
        return math.nan
    from scipy.stats import t

    return float(t.sf(effect / error, freedom))


def _tost_p(found: Statistic, margin: float) -> float:
    if not math.isfinite(found.standard_error):
        return math.nan
    if found.standard_error == 0:
        return 0.0 if abs(found.effect) < margin else 1.0
    freedom = found.clusters - 1
    return max(
        _one_sided(found.effect + margin, found.standard_error, freedom),
        _one_sided(margin - found.effect, found.standard_error, freedom),
    )


def _satterthwaite(variances: Sequence[float], counts: Sequence[int]) -> float:
    below = sum(v**2 / (n - 1) for v, n in zip(variances, counts, strict=True) if n > 1)
    return sum(variances) ** 2 / below if below > 0 else math.nan


def _auc_details(
    low: Arm, high: Arm, clusters: Mapping[str, str] | None, level: float, seed: int
) -> dict[str, float | list[float]]:
    values = np.concatenate([low.values, high.values])
    is_high = np.arange(len(values)) >= len(low.values)
    named = [*_named(low, clusters), *_named(high, clusters)]

    def auc(indices: Integers) -> float:
        chosen = is_high[indices]
        return area_under_curve(values[indices][~chosen], values[indices][chosen])

    bounds = bootstrap_interval(auc, named, level=level, seed=seed)
    return {"auc": auc(np.arange(len(values))), "auc_interval": list(bounds)}


def _named(arm: Arm, clusters: Mapping[str, str] | None) -> Sequence[str]:
    return arm.ids if clusters is None else [clusters[i] for i in arm.ids]


def _groups(labels: Sequence[str], n: int) -> Integers:
    """Cluster labels as numbers from 0, one per item."""
    if len(labels) != n:
        raise ValueError(f"clusters name {len(labels)} items, but there are {n}")
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    return np.asarray(np.unique(np.asarray(labels, dtype=np.str_), return_inverse=True)[1], dtype=np.int64)


def _check_finite(*arms: Arm) -> None:
    for arm in arms:
        bad = [i for i, x in zip(arm.ids, arm.values, strict=True) if not math.isfinite(x)]
        if bad:
            raise ValueError(f"{arm.label} holds values that are not finite, first for {', '.join(bad[:5])}")


def _first_difference(a: Arm, b: Arm) -> Any:
    for left, right in zip(a.ids, b.ids, strict=False):
        if left != right:
            return f"{left!r} against {right!r}"
    return f"{len(a.ids)} against {len(b.ids)} items"


def _ratio(above: float, below: float) -> float:
    return above / below if below and math.isfinite(below) else math.nan
