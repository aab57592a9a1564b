"""Change of an effect between two runs: statistics whose effect is the new run's less the baseline's.

Both runs asked the same items, so what can be compared item by item is: means over paired items, and the difference of
two groups' means, whose items may move from one group to the other. Correlations and slopes are compared by
`estimates.estimate_change`; what is left, as if the runs were independent, where only standard errors are at hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..plain import NOTHING
from .bootstrap import ROUNDING, effective_clusters, fields_at, rounded_off
from .bounded import BoundedDifference, BoundedMean, BoundedT
from .clustered import cluster_codes, mean_influence, satterthwaite
from .differences import method_of, paired_difference, span_of_difference
from .intervals import Intervals, NoIntervals, StudentT
from .statistic import Arm, Statistic
from .tail_error import SkewedT, estimate_skewness

Arms = tuple[Arm, Arm]
"""The low and the high arm of a run, as ``two_sample_difference`` takes them."""


def paired_change(
    old: tuple[Arm, Arm], new: tuple[Arm, Arm], *, clusters: Mapping[str, str], level: float,
    strata: Mapping[str, str] = NOTHING, same_evidence: bool = False, kept: tuple[bool, bool] = (False, False),
) -> Statistic:  # fmt: skip
    """Mean over items of (second - first) in the new run less (second - first) in the old one, as `paired_difference`.

    All four arms have the same ids in the same order. Where the arms have a span, the change of an item cannot leave
    their ranges' sum; a side that is the same in both runs counts for nothing where the other moved, or where it was
    ``kept``, the first or the second: not replaced, so that it could not move. Where every item moved alike the
    interval is then the exact bound on how many would not. ``strata`` are held fixed
    (`paired_difference`). Raises ValueError for arms of other ids and values that are not finite.
    """
    before, after = (_moving(side, other, kept) for side, other in ((old, new), (new, old)))
    labels = [clusters.get(i, i) for i in before.ids]
    fixed = [strata[i] for i in before.ids] if strata else None
    found = paired_difference(before, after, clusters=labels, strata=fixed, level=level, same_evidence=same_evidence)
    return replace(found, method=found.method.replace("difference of means", "difference of per-item differences"))


def _moving(side: tuple[Arm, Arm], other: tuple[Arm, Arm], kept: tuple[bool, bool]) -> Arm:
    """What of a run's per-item differences can move against another run: all but an arm that is the same in both."""
    (low, high), same = side, [np.array_equal(a.values, b.values) for a, b in zip(side, other, strict=True)]
    # Beside a side that was kept the other one may be no measurement but a constant, as a chance level: then neither
    # could move, and the ranges of both stand.
    kept = (kept[0] and _can_move(high), kept[1] and _can_move(low))
    if same[0] and (kept[0] or not same[1]):
        return replace(high, label="")
    if same[1] and (kept[1] or not same[0]):
        span = None if low.span is None else (-low.span[1], -low.span[0])
        return Arm(label="", ids=low.ids, values=-low.values, span=span)
    return Arm(label="", ids=low.ids, values=high.values - low.values, span=span_of_difference(low, high))


def _can_move(arm: Arm) -> bool:
    return arm.span is None or arm.span[0] < arm.span[1]


def two_sample_change(
    baseline: Arms, new: Arms, *, clusters: Mapping[str, str] | None, level: float, same_evidence: bool = False
) -> Statistic:
    """Change of a difference of means: (new high - new low) - (baseline high - baseline low), cluster-robust.

    Each arm's mean moves by leaving out a cluster in both runs at once, so that the variance holds the covariance of
    runs and of arms; an item may lie in another arm than in the baseline. Degrees of freedom are Satterthwaite's over
    the two arms' changes, at most the effective clusters of all items less one. Where the low arms agree this is
    ``paired_difference`` of the high ones; where no item changes arm, Welch's test of the per-item changes. ``n`` and
    ``clusters`` are those of the smallest arm. Details: ``changed_arm`` (items), ``baseline`` and ``new`` (the
    effects).

    The interval is t's corrected for skewness; where no item changed arm and the arms have a span, Gaffke's of the two
    mean moves where t cannot be trusted. Of items that change arm no bounded form is known: where t is refused there is
    no interval. Runs that agree in every item give (0, 0) only where they are of the ``same_evidence``. Raises
    ValueError where the runs do not hold the same items, an item lies in both arms of a run or lacks a cluster, and for
    values that are not finite.
    """
    _check(baseline, new)
    arms = (*baseline, *new)
    labels = [_cluster(i, clusters) for arm in arms for i in arm.ids]
    codes = cluster_codes(labels)
    ends = np.cumsum([len(arm.ids) for arm in arms])
    groups = np.split(codes, ends[:-1])
    count = len(set(labels))
    size = max(float(np.max(np.abs(arm.values), initial=0.0)) for arm in arms)
    before, after = (rounded_off(side[1].mean - side[0].mean, size) for side in (baseline, new))
    error, freedom = math.nan, math.nan
    intervals: Intervals = NoIntervals()
    if min(len(np.unique(g)) for g in groups) > 1:
        moves = [mean_influence(arm.values, g, count) for arm, g in zip(arms, groups, strict=True)]
        sides = [moves[2] - moves[0], moves[3] - moves[1]]  # low, high: [cluster]
        influences = sides[1] - sides[0]
        error = float(np.linalg.norm(influences))
        units = [effective_clusters(np.concatenate([groups[k], groups[k + 2]])) - 1 for k in (0, 1)]
        freedom = satterthwaite([float(side @ side) for side in sides], units)
        freedom = min(freedom, effective_clusters(codes) - 1)
        fewest = min(effective_clusters(g) for g in groups)
        if error > ROUNDING * size:
            intervals = SkewedT(effect=after - before, error=error, freedom=freedom, units=fewest,
                                skewness=estimate_skewness(influences, fewest))  # fmt: skip
    changed = set(baseline[0].ids) ^ set(new[0].ids)
    same = all(dict(zip(a.ids, a.values, strict=True)) == dict(zip(b.ids, b.values, strict=True))
               for a, b in zip(baseline, new, strict=True))  # fmt: skip
    if not changed and (bounded := _bounded(baseline, new, clusters)) is not None:
        intervals = BoundedT(t=intervals, bounded=bounded) if isinstance(intervals, SkewedT) else bounded
    effect = 0.0 if same else rounded_off(after - before, size)
    if same and same_evidence:
        intervals = StudentT(
            effect=0.0, error=0.0, freedom=effective_clusters(codes) - 1, units=effective_clusters(codes)
        )
    return Statistic(
        effect=effect,
        **fields_at(intervals, level),
        standard_error=error,
        freedom=freedom,
        n=min(len(arm.ids) for arm in arms),
        asked=len({i for arm in arms for i in arm.ids}),
        clusters=min(len(np.unique(g)) for g in groups),
        method=f"change of a difference of means, {method_of(intervals)}",
        seed=None,
        arms=arms,
        details={"changed_arm": len(changed), "baseline": before, "new": after},
    )


def _bounded(baseline: Arms, new: Arms, clusters: Mapping[str, str] | None) -> BoundedDifference | None:
    """Gaffke's intervals of both arms' mean moves, where no item changed arm and the values have a range."""
    means = []
    for old, now in zip(baseline, new, strict=True):
        if old.span is None or old.span != now.span:
            return None
        width, then = old.span[1] - old.span[0], dict(zip(old.ids, old.values, strict=True))
        moves = np.array([x - then[i] for i, x in zip(now.ids, now.values, strict=True)])
        labels = [_cluster(i, clusters) for i in now.ids]
        means.append(BoundedMean.of(moves, labels, low=-width, high=width))
    return BoundedDifference(first=means[0], second=means[1])


def independent_change(
    old: tuple[float, float | None], new: tuple[float, float | None], *, n: int, clusters: int, level: float
) -> Statistic:
    """Change of an estimate that has no per-item form: (effect, standard error) of each run, the errors added in
    quadrature as if the runs were independent.

    The runs share their items, so where their estimates go up and down together this interval is too wide.
    """
    effect = rounded_off(new[0] - old[0], max(abs(new[0]), abs(old[0])))
    errors = [side[1] for side in (old, new)]
    known = [error for error in errors if error is not None and error > 0]
    error = math.hypot(*known) if len(known) == len(errors) else math.nan
    intervals: Intervals = NoIntervals()
    if math.isfinite(error):
        intervals = StudentT(effect=effect, error=error, freedom=clusters - 1, units=clusters)
    return Statistic(
        effect=effect,
        **fields_at(intervals, level),
        standard_error=error,
        freedom=clusters - 1,
        n=n,
        clusters=clusters,
        method="difference of two estimates, standard errors added in quadrature (wide where the runs go together)",
        seed=None,
        arms=(),
    )


def _cluster(item: str, clusters: Mapping[str, str] | None) -> str:
    if clusters is None:
        return item
    if item not in clusters:
        raise ValueError(f"no cluster is given for {item}; every item needs one")
    return clusters[item]


def _check(baseline: Arms, new: Arms) -> None:
    for arm in (*baseline, *new):
        if len(arm.ids) != len(arm.values):
            raise ValueError(f"{arm.label} has {len(arm.ids)} ids, but {len(arm.values)} values")
        if not np.all(np.isfinite(arm.values)):
            bad = arm.ids[int(np.argmin(np.isfinite(arm.values)))]
            raise ValueError(f"{arm.label} holds values that are not finite, first for {bad}")
    for low, high in (baseline, new):
        ids = (*low.ids, *high.ids)
        if len(set(ids)) != len(ids):
            raise ValueError(
                f"an item lies in one of the arms {low.label} and {high.label}, once; some lie in them twice"
            )
    odd = {i for arm in baseline for i in arm.ids} ^ {i for arm in new for i in arm.ids}
    if odd:
        raise ValueError(
            f"both runs need the same items; only one has {', '.join(sorted(odd)[:5])}. Join them first, and count "
            "what is left out"
        )
