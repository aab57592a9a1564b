"""By how much a claim's effect changed against a baseline's claim, from the values of both. Pure, on run records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..plain import NOTHING, Json
from ..statistics.autocorrelated import SLOPE
from ..statistics.change import independent_change, paired_change, two_sample_change
from ..statistics.estimates import CHANGES, Points, estimate_change
from ..statistics.statistic import Arm, Span, Statistic
from .matching import MatchedItems

Claim = Mapping[str, Json]
Values = Mapping[str, float]

ROUNDED = 2e-6
"""Twice what the record's six decimals can move a difference of means by."""
LEVEL = 0.95
"""Any: what is decided is decided by the intervals, at the level of the comparison."""
REMOVED = "\0removed "
"""Before the ids, of the baseline, of prompts that this run does not ask."""
NO_COMMON = "No item has a value in both runs."


@dataclass(frozen=True, kw_only=True)
class ClaimChange:
    """The change of a claim: its ``statistic``, and what decides beside it.

    ``equal``: whether the values of both runs are the same item by item. ``lost`` items have a value in one run only,
    of which ``removed`` are of prompts that the baseline asked and this run does not, or as another text; ``worst`` are
    the changes with each lost item at the end of its range that is worst for the claim, of an ``equivalent`` one at
    either; None where values have no range or are not paired. An item can fall by ``step`` at most, 0 where that is not
    known, and the items count as ``independent`` ones.
    """

    statistic: Statistic
    equal: bool
    lost: int = 0
    removed: int = 0
    worst: tuple[Statistic, ...] | None = None
    step: float = 0.0
    independent: float = 1.0


def claim_change(claim: Claim, old: Claim, items: MatchedItems | None) -> ClaimChange | str:
    """The change from the baseline's claim ``old``, or why it cannot be said. ``items``: how the prompts fall on the
    baseline's; None for a claim on weights, whose items are matched by their ids."""
    here, there = _arms(claim), _arms(old)
    kinds = {"estimate"} if "estimate" in claim["details"] else {
        kind_of(here, claim["effect"]), kind_of(there, old["effect"])
    }  # fmt: skip
    kind = kinds.pop() if len(kinds) == 1 else "estimate"
    if kind == "estimate":
        return _of_estimates(claim, old, items)
    every = {i: i for arm in (*here.values(), *there.values()) for i in arm}
    baseline_id = items.baseline_id if items else every
    clusters = items.clusters if items else NOTHING
    strata = items.strata if items else NOTHING
    spans = _spans(claim, old)
    new = [{i: x for i, x in arm.items() if i in baseline_id} for arm in here.values()]
    before = [{i: arm[was] for i, was in baseline_id.items() if was in arm} for arm in there.values()]
    # A prompt that was taken out or edited is as lost as one without a value: else taking out what fails would pass.
    asked, gone = set(baseline_id.values()), set[str]()
    for values, arm in zip(before, there.values(), strict=True):
        removed = {REMOVED + was: x for was, x in arm.items() if was not in asked}
        values |= removed
        gone |= removed.keys()
    if kind == "paired":
        fixed = {**strata, **dict.fromkeys(gone, REMOVED)} if strata else strata
        change = _paired(new, before, list(here), spans, clusters, fixed, claim["direction"])
    else:
        change = _two_sample(new, before, spans, clusters)
    return change if isinstance(change, str) else replace(change, removed=len(gone))


def _paired(
    new: list[dict[str, float]], old: list[dict[str, float]], labels: Sequence[str], spans: Sequence[Span | None],
    clusters: Mapping[str, str], strata: Mapping[str, str], direction: str,
) -> ClaimChange | str:  # fmt: skip
    """Both runs' values of the arms by this run's ids, of items that are the same in both."""
    common = [i for i in new[0] if i in old[0]]
    if not common:
        return NO_COMMON
    sides = [[_arm(arm, common, span) for arm, span in zip(arms, spans, strict=True)] for arms in (old, new)]
    statistic = paired_change(
        (sides[0][0], sides[0][1]), (sides[1][0], sides[1][1]), clusters=clusters, strata=strata, level=LEVEL,
        kept=(labels[0] == "base", labels[1] == "base"),
    )  # fmt: skip
    same = [np.array_equal(a.values, b.values) for a, b in zip(*sides, strict=True)]
    lost = len(new[0].keys() ^ old[0].keys())
    # What the run did not replace cannot have fallen: the base, or the one arm that stayed as it was.
    fixed = [(label == "base" and equal) or (equal and not same[1 - k])
             for k, (label, equal) in enumerate(zip(labels, same, strict=True))]  # fmt: skip
    widths = [0.0 if span is None or still else span[1] - span[0] for span, still in zip(spans, fixed, strict=True)]
    bounded = all(still or span is not None for still, span in zip(fixed, spans, strict=True))
    worst = None
    if lost and bounded:
        ends = {"greater": (0,), "less": (1,), "equivalent": (0, 1)}[direction]
        worst = tuple(_at_worst(new, old, spans, fixed, end, clusters, strata) for end in ends)
    n = len(common)
    design = design_effect(statistic)
    return ClaimChange(statistic=statistic, equal=all(same), lost=lost, worst=worst,
                       step=sum(widths) if bounded else 0.0, independent=n / design)  # fmt: skip


def design_effect(statistic: Statistic) -> float:
    """By how much clusters enlarge the variance of a paired mean (Kish's design effect), at least 1; 1 where nothing
    varies."""
    sd = statistic.details["sd_of_differences"]
    if not (sd > 0 and statistic.standard_error > 0):
        return 1.0
    return max(1.0, statistic.standard_error**2 * statistic.n / float(sd) ** 2)


def _at_worst(
    new: Sequence[Values], old: Sequence[Values], spans: Sequence[Span | None], fixed: Sequence[bool], end: int,
    clusters: Mapping[str, str], strata: Mapping[str, str],
) -> Statistic:  # fmt: skip
    """The change with every lost item at an end of its range: ``end`` 0 the largest fall, 1 the largest rise."""
    ids = list(dict.fromkeys([*new[0], *old[0]]))
    sides = []
    for run, (known, other) in enumerate(((old, new), (new, old))):
        arms = []
        for k, (arm, span) in enumerate(zip(known, spans, strict=True)):
            filled = dict(arm)
            for i in (i for i in ids if i not in arm):
                # A fall is the largest where the new second arm is lowest, the new first and the old second highest.
                at = (end + run + k) % 2
                filled[i] = other[k][i] if fixed[k] or span is None else span[at]
            arms.append(_arm(filled, ids, span))
        sides.append((arms[0], arms[1]))
    return paired_change(sides[0], sides[1], clusters=clusters, strata=strata, level=LEVEL)


def _two_sample(
    new: list[dict[str, float]], old: list[dict[str, float]], spans: Sequence[Span | None], clusters: Mapping[str, str]
) -> ClaimChange | str:
    asked = [set().union(*side) for side in (old, new)]
    shared, lost = asked[0] & asked[1], len(asked[0] ^ asked[1])
    old, new = ([{i: x for i, x in arm.items() if i in shared} for arm in arms] for arms in (old, new))
    if not all([*old, *new]):
        return "One of the groups has no item that has a value in both runs."
    sides = [[_arm(arm, list(arm), span) for arm, span in zip(arms, spans, strict=True)] for arms in (old, new)]
    labels = {i: clusters.get(i, i) for i in shared}
    statistic = two_sample_change((sides[0][0], sides[0][1]), (sides[1][0], sides[1][1]), clusters=labels, level=LEVEL)
    widths = [math.inf if span is None else span[1] - span[0] for span in spans]
    step = max(widths) if all(map(math.isfinite, widths)) else 0.0
    units = statistic.freedom + 1 if statistic.freedom > 0 else 1.0
    return ClaimChange(statistic=statistic, equal=old == new, lost=lost, step=step, independent=units)


def _of_estimates(claim: Claim, old: Claim, items: MatchedItems | None) -> ClaimChange | str:
    whole = items is None or items.complete
    equal = whole and _arms(claim) == _arms(old)
    name = claim["details"].get("estimate")
    if name in CHANGES and old["details"].get("estimate") == name:
        back = None if items is None else {there: here for here, there in items.baseline_id.items()}
        new, before = _points(claim, name, None), _points(old, name, back)
        if items is not None:
            new = {i: point for i, point in new.items() if i in items.baseline_id}
        removed = 0 if back is None else len(_points(old, name, None).keys() - back.keys())
        lost = len(new.keys() ^ before.keys()) + removed
        common = new.keys() & before.keys()
        new, before = ({i: side[i] for i in side if i in common} for side in (new, before))
        if not new or not before:
            return NO_COMMON
        clusters = items.clusters if items else NOTHING
        statistic = estimate_change(name, before, new, clusters=clusters, level=LEVEL)
        return ClaimChange(statistic=statistic, equal=equal or new == before, lost=lost, removed=removed)
    if not whole:
        return "The effect is not a mean over items, and the items are not the same, so that it cannot be compared."
    sides = [(float(made["effect"]), made["standard_error"]) for made in (old, claim)]
    n, units = (min(claim[field], old[field]) for field in ("n", "clusters"))
    here, there = (set().union(*_arms(made).values()) for made in (claim, old))
    if items is not None:
        here = {items.baseline_id.get(i, i) for i in here}
    return ClaimChange(
        statistic=independent_change(sides[0], sides[1], n=n, clusters=units, level=LEVEL),
        equal=equal,
        lost=len(here ^ there),
    )


def same_evidence(claim: Claim, old: Claim) -> bool:
    """Whether both claims read one and the same evidence, so that they agree by necessity. Records that do not say
    were read from nobody knows what."""
    here, there = (made.get("evidence") or {} for made in (claim, old))
    return bool(here) and here == there and None not in here.values()


def kind_of(arms: Mapping[str, Values], effect: float) -> str:
    """What the effect is of the arms, by arithmetic: ``paired``, ``two_sample`` or anything else, ``estimate``."""
    if len(arms) != 2:
        return "estimate"
    first, second = arms.values()
    if not first or not second:
        return "estimate"
    gap = float(np.mean(list(second.values())) - np.mean(list(first.values())))
    if abs(gap - effect) > ROUNDED:
        return "estimate"
    if first.keys() == second.keys():
        return "paired"
    return "estimate" if first.keys() & second.keys() else "two_sample"


def _spans(claim: Claim, old: Claim) -> list[Span | None]:
    """The range that the values of each arm cannot leave, where both records name the same."""
    sides = [[arm.get("span") for arm in made["values"].values()] for made in (claim, old)]
    return [None if a is None or a != b else as_recorded(a) for a, b in zip(*sides, strict=True)]


def as_recorded(span: Sequence[float]) -> Span:
    """A range that holds what the record's six decimals make of its values."""
    return math.floor(span[0] * 1e6) / 1e6, math.ceil(span[1] * 1e6) / 1e6


def _points(claim: Claim, name: str, renamed: Mapping[str, str] | None) -> Points:
    """The points (x, y) by item id that an estimate of `CHANGES` was made of. Of a slope an arm's label ends in its
    x; of a correlation the arms are x and y."""
    arms = _arms(claim)
    points: dict[str, tuple[float, float]]
    if name == SLOPE:
        points = {i: (float(label.rpartition(" ")[2]), y) for label, arm in arms.items() for i, y in arm.items()}
    else:
        first, second = arms.values()
        points = {i: (x, second[i]) for i, x in first.items() if i in second}
    return points if renamed is None else {renamed[i]: point for i, point in points.items() if i in renamed}


def _arms(claim: Claim) -> dict[str, dict[str, float]]:
    """Label -> item id -> value."""
    return {label: dict(zip(arm["ids"], arm["x"], strict=True)) for label, arm in claim["values"].items()}


def _arm(values: Values, ids: Sequence[str], span: Span | None) -> Arm:
    return Arm(label="", ids=tuple(ids), values=np.array([values[i] for i in ids], dtype=np.float64), span=span)
