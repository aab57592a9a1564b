"""Statistics on per-item values, thin over scipy: paired, two-sample and bootstrap, with clusters. Effect before p.

Every function returns an effect with an interval at a level that the caller names. Items that share a cluster count
together: variances and resampling are by cluster. ``docs/statistics.md`` has the formulas and simulated error rates.
scipy.special has all the distributions and imports in a fraction of scipy.stats' time; tests compare with the latter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..plain import Json
from .bootstrap import (
    RESAMPLES,
    ROUNDING,
    bootstrap_statistic,
    cluster_count,
    effective_clusters,
    fields_at,
    groups_of,
    root_sum_of_squares,
    student_intervals,
    weighted_auc,
)
from .clustered import mean_influence, satterthwaite
from .intervals import TwoOneSided
from .statistic import Arm, Statistic

if TYPE_CHECKING:
    from .bootstrap import Integers


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
    groups = groups_of(base.ids if clusters is None else clusters, len(difference))
    mean = float(np.mean(difference)) if len(difference) else math.nan
    units = effective_clusters(groups)
    error = (
        root_sum_of_squares(mean_influence(difference, groups, cluster_count(groups)))
        if cluster_count(groups) > 1
        else math.nan
    )
    sd = float(np.std(difference, ddof=1)) if len(difference) > 1 else math.nan
    intervals = student_intervals(mean, error, units - 1, units, rounding, same=not difference.any())
    return Statistic(
        effect=mean,
        n=len(difference),
        clusters=cluster_count(groups),
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
        freedom = effective_clusters(groups_of(base.ids if clusters is None else clusters, found.n)) - 1
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
    groups = groups_of([*_named(low, clusters), *_named(high, clusters)], len(low.ids) + len(high.ids))
    sides = [(low, groups[: len(low.ids)]), (high, groups[len(low.ids) :])]
    units = [effective_clusters(g) for _, g in sides]
    rounding = _rounding(low, high)
    error, freedom = math.nan, math.nan
    if min(cluster_count(g) for _, g in sides) > 1:
        moves = [mean_influence(a.values, g, cluster_count(groups)) for a, g in sides]
        error = root_sum_of_squares(moves[1] - moves[0])
        freedom = min(
            satterthwaite([root_sum_of_squares(m) ** 2 for m in moves], [n - 1 for n in units]),
            effective_clusters(groups) - 1,
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
        clusters=min(cluster_count(g) for _, g in sides),
        **found,
        method="difference of means, Welch with cluster-robust variances",
        seed=seed,
        arms=(low, high),
        details={
            **_auc_details(low, high, groups, level=level, seed=seed, resamples=resamples),
            "p_one_sided": float(stdtr(freedom, -effect / error)) if error > 0 else math.nan,
        },
    )


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
