"""Statistics on per-item values, thin over scipy: paired, two-sample and bootstrap, with clusters. Effect before p.

Every function returns an effect with an interval at a level that the caller names. Items that share a cluster count
together: variances and resampling are by cluster. ``docs/statistics.md`` has the formulas and simulated error rates.
scipy.special has all the distributions and imports in a fraction of scipy.stats' time; tests compare with the latter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..plain import Json
from .bootstrap import (
    ROUNDING,
    cluster_count,
    effective_clusters,
    fields_at,
    groups_of,
    root_sum_of_squares,
    rounded_off,
)
from .clustered import mean_influence, satterthwaite
from .estimates import weighted_auc
from .intervals import Intervals, StudentT, TwoOneSided, p_value
from .jackknife import jackknife
from .mean_intervals import difference_intervals, mean_intervals, move_of_mean
from .statistic import Arm, Span, Statistic


def paired_difference(
    base: Arm, tuned: Arm, *, clusters: Sequence[str] | None, level: float, strata: Sequence[str] | None = None,
    same_evidence: bool = False,
) -> Statistic:  # fmt: skip
    """Mean paired difference, tuned minus base, with an interval that holds its level (`mean_intervals`).

    The mean is over items, its variance over clusters by leaving out one at a time (CV3 in MacKinnon, Nielsen and Webb
    2023), with one degree of freedom less than ``effective_clusters``; t's interval is corrected for skewness (Hall
    1992). Where the arms have a ``span``, Gaffke's bounds take over where t cannot be trusted or the differences do not
    vary; else there is no interval then: a variance that was not seen is not a variance of zero. With every item its
    own cluster and values without skewness this is the one-sample t test.

    With ``strata``, a label an item, these are held fixed: clusters vary within their stratum only
    (`mean_intervals.move_of_mean`).

    ``same_evidence``: whether both arms were read from one piece of evidence, so that they agree by necessity: then,
    and only then, arms that agree in every item give the interval (0, 0).

    Details: ``d_z`` and ``sd_of_differences`` (both over items, ddof 1). Raises ValueError where the arms differ in
    ids, hold values that are not finite or leave their span.
    """
    _check(base, tuned)
    if base.ids != tuned.ids:
        raise ValueError(
            f"paired arms need the same ids in the same order; they differ at {_first_difference(base, tuned)}"
        )
    difference = tuned.values - base.values
    rounding = ROUNDING * _size(base, tuned)
    if bool(np.all(np.abs(difference) <= rounding)):
        difference = np.zeros_like(difference)
    labels = base.ids if clusters is None else clusters
    groups = groups_of(labels, len(difference))
    mean = rounded_off(float(np.mean(difference)), _size(base, tuned)) if len(difference) else math.nan
    units, error = effective_clusters(groups), math.nan
    if cluster_count(groups) > 1:
        moves = move_of_mean(difference, labels, strata)
        units, error = moves.freedom + 1, root_sum_of_squares(moves.influences)
    sd = float(np.std(difference, ddof=1)) if len(difference) > 1 else math.nan
    intervals: Intervals = mean_intervals(difference, labels, span=span_of_difference(base, tuned), rounding=rounding,
                                          strata=strata)  # fmt: skip
    if same_evidence and len(difference) and not difference.any():
        intervals = StudentT(effect=0.0, error=0.0, freedom=units - 1, units=units)
    return Statistic(
        effect=mean,
        n=len(difference),
        clusters=cluster_count(groups),
        **fields_at(intervals, level),
        standard_error=error,
        freedom=units - 1,
        method=f"paired difference of means, {method_of(intervals)}",
        seed=None,
        arms=(base, tuned),
        details={"d_z": mean / sd if sd > rounding else math.nan, "sd_of_differences": sd},
    )


def span_of_difference(base: Arm, tuned: Arm) -> Span | None:
    """The range of the per-item differences, tuned minus base; None where a side has no range."""
    if base.span is None or tuned.span is None:
        return None
    return (tuned.span[0] - base.span[1], tuned.span[1] - base.span[0])


def method_of(intervals: Intervals) -> str:
    """How an interval came about, in words."""
    return {
        "none": "no interval",
        "t": "both sides from one piece of evidence",
        "skewed t": "cluster-robust t interval corrected for skewness",
        "bounded t": "cluster-robust t interval corrected for skewness, or Gaffke's of a bounded mean",
        "bounded mean": "Gaffke's interval of a bounded mean",
        "bounded difference": "Gaffke's intervals of two bounded means",
    }[intervals.plain()["kind"]]


def equivalence(
    base: Arm, tuned: Arm, *, clusters: Sequence[str] | None, level: float, margin: float, same_evidence: bool = False
) -> Statistic:
    """Paired difference for two one-sided tests (Schuirmann 1987) at error rate 1 - level.

    Its interval has coverage 2 * level - 1, so that lying wholly within +-``margin`` is rejecting both. ``p`` stays the
    two-sided one against zero effect; details: ``p_equivalence``, the larger of the two one-sided p, and ``margin``.
    Raises ValueError for a margin not above 0 and a level not above one half.
    """
    if not margin > 0:
        raise ValueError(f"an equivalence margin is above 0, in the effect's unit; got {margin}")
    if not 0.5 < level < 1:
        raise ValueError(f"two one-sided tests need a level between 0.5 and 1, as 0.95; got {level}")
    found = paired_difference(base, tuned, clusters=clusters, level=2 * level - 1, same_evidence=same_evidence)
    p = equivalence_p(found.intervals, found.effect, margin) if math.isfinite(found.interval[0]) else math.nan
    return replace(
        found,
        intervals=TwoOneSided(inner=found.intervals),
        method=f"{found.method}, two one-sided tests",
        details={**found.details, "margin": margin, "p_equivalence": p},
    )


def equivalence_p(intervals: Intervals, effect: float, margin: float) -> float:
    """The larger p of the one-sided tests against +-``margin``: half the two-sided p of the nearer end, or one less
    half of it where the effect lies beyond."""
    nearer = max(p_value(intervals, bound) for bound in (-margin, margin)) / 2
    return nearer if abs(effect) < margin else 1 - nearer


def two_sample_difference(low: Arm, high: Arm, *, clusters: Mapping[str, str] | None, level: float) -> Statistic:
    """Difference of two groups' means, ``high`` minus ``low``, by Welch; beside it the area under the ROC curve.

    With clusters (id -> cluster) each mean's variance is cluster-robust as in ``paired_difference``; a cluster with
    items in both arms brings in their covariance. Degrees of freedom are Satterthwaite's over effective clusters. The
    interval is `difference_intervals`': t's corrected for skewness, and where both arms have the same ``span`` Gaffke's
    of the two means where t cannot be trusted. ``asked`` counts the items of both arms. Details: ``auc`` (Mann-Whitney,
    ties half) with its jackknife interval at the same level, and ``p_one_sided`` for high > low, as published tables
    give it, by Welch's t.

    NaN as in ``paired_difference``, each arm for itself. Raises ValueError for values that are not finite or leave
    their span, and for an item without a cluster.
    """
    from scipy.special import stdtr

    _check(low, high)
    labels = [*_named(low, clusters), *_named(high, clusters)]
    groups = groups_of(labels, len(low.ids) + len(high.ids))
    sides = [(low, groups[: len(low.ids)]), (high, groups[len(low.ids) :])]
    error, freedom = math.nan, math.nan
    if min(cluster_count(g) for _, g in sides) > 1:
        moves = [mean_influence(a.values, g, cluster_count(groups)) for a, g in sides]
        error = root_sum_of_squares(moves[1] - moves[0])
        freedom = min(
            satterthwaite([root_sum_of_squares(m) ** 2 for m in moves], [effective_clusters(g) - 1 for _, g in sides]),
            effective_clusters(groups) - 1,
        )
    effect = rounded_off(high.mean - low.mean, _size(low, high))
    span = low.span if low.span == high.span else None
    intervals = difference_intervals(low.values, high.values, labels, span=span, rounding=ROUNDING * _size(low, high))
    return Statistic(
        effect=effect,
        n=min(len(low.ids), len(high.ids)),
        asked=len(groups),
        clusters=min(cluster_count(g) for _, g in sides),
        **fields_at(intervals, level),
        standard_error=error,
        freedom=freedom,
        method=f"difference of means of two groups, {method_of(intervals)}",
        seed=None,
        arms=(low, high),
        details={
            **_auc_details(low, high, labels, level=level),
            "p_one_sided": float(stdtr(freedom, -effect / error)) if error > 0 else math.nan,
        },
    )


def _auc_details(low: Arm, high: Arm, labels: Sequence[str], *, level: float) -> dict[str, Json]:
    unknown = [math.nan, math.nan]
    if len(low.ids) == 0 or len(high.ids) == 0:
        return {"auc": math.nan, "auc_interval": unknown}
    values = np.concatenate([low.values, high.values])
    found = jackknife(weighted_auc(values, np.arange(len(labels)) >= len(low.ids)), labels, span=(0.0, 1.0))
    interval = unknown if found.intervals is None else list(found.intervals.at(level))
    return {"auc": found.effect, "auc_interval": interval}


def _named(arm: Arm, clusters: Mapping[str, str] | None) -> Sequence[str]:
    if clusters is None:
        return arm.ids
    missing = [i for i in arm.ids if i not in clusters]
    if missing:
        raise ValueError(f"{arm.label}: no cluster is given for {', '.join(missing[:5])}; every item needs one")
    return [clusters[i] for i in arm.ids]


def _size(a: Arm, b: Arm) -> float:
    """The size of values, and of their range where that is known, so that what is 0 but for rounding is."""
    return max(float(np.max(np.abs([*arm.values, *(arm.span or ())]), initial=0.0)) for arm in (a, b))


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
