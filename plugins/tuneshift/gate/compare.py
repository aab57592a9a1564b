"""A run against a baseline: did each claim's effect hold, improve or regress? Pure, on run records. ``docs/gate.md``.

The new tuned checkpoint is compared with the baseline's on the same items. Each comparison has an equal share of the
error rate, which the baseline's claims alone determine, so that it comes out the same whatever else a run compares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..claims.claim_record import needed_fields
from ..claims.verdict import would_decide
from ..errors import UsageError, did_you_mean
from ..plain import Json, plain
from ..run_record import RunRecord
from ..statistics.assurance import NeededItems
from ..statistics.change import independent_change, paired_change, two_sample_change
from ..statistics.estimates import ESTIMATES, Points, estimate_change
from ..statistics.interval_reader import intervals_of
from ..statistics.intervals import Intervals, smallest_error
from ..statistics.statistic import Arm, Span, Statistic
from .direct import compared_directly
from .matching import MatchedItems, check_pair, check_settings, match_pair, match_prompts, named

Claim = Mapping[str, Json]

ROUNDED = 2e-6
"""Twice what the record's six decimals can move a difference of means by."""
SAME_DETAILS = ("decided_by", "judge", "annotator", "vocabulary", "word_vectors")
"""Details that say how an effect was got: two effects got otherwise are not compared."""
IDENTICAL = "identical"
KEPT = 20
"""Names of new, gone and changed items that a record keeps; the counts are of all."""


def check_comparable(
    run: Mapping[str, Json], pairs: Sequence[Mapping[str, Json]], baseline: RunRecord, name: str
) -> None:
    """Raise UsageError for a run that a baseline cannot be compared with; what differs is named. Needs no claims, so
    that it can be asked before anything is measured."""
    check_settings(run, baseline, name)
    for pair in pairs:
        check_pair(pair, match_pair(pair, baseline, name), name)


def compare(
    claims: Sequence[Claim],
    pairs: Sequence[Mapping[str, Json]],
    baseline: RunRecord,
    *,
    name: str,
    margins: Mapping[str, float],
    alpha: float,
) -> list[dict[str, Json]]:
    """The claims, in the order given, each with its ``comparison`` with the baseline called ``name``.

    ``margins``: finding id -> how much worse is still held, in the effect's unit; a finding without one has its sesoi.
    ``alpha`` is the error rate that all comparisons with the baseline share, `sharing` of them. Raises UsageError for
    margins that are none, for records that cannot be compared and for values that are no numbers.
    """
    check_margins(margins, [str(claim["finding"]) for claim in claims])
    there: dict[tuple[str, ...], Claim] = {
        (c["pair"], c["finding"], c["prompts"], c["group"]): c for c in baseline.claims
    }
    matched = {str(pair["name"]): (pair, match_pair(pair, baseline, name)) for pair in pairs}
    claims_there = sharing(baseline)
    result = []
    for claim in claims:
        pair, other = matched[claim["pair"]]
        old, items = _counterpart(claim, pair, other, there, name)
        margin = float(margins.get(claim["finding"], claim["sesoi"]))
        found = _comparison(claim, old, items, margin=margin, name=name)
        compared = {**claim, "comparison": found}
        if found["intervals"] is not None:
            error = _deciding_error(compared)
            adjusted = None if error is None else min(1.0, error * claims_there)
            found |= {**_decided(compared, alpha / claims_there), "p_decides": error, "adjusted_p": adjusted}
        result.append({**claim, "comparison": plain(found)})
    return result


def sharing(baseline: RunRecord) -> int:
    """How many claims of a baseline can be compared, those with an effect: the error rate's equal shares."""
    return max(1, sum(claim["effect"] is not None for claim in baseline.claims))


def check_margins(margins: Mapping[str, float], findings: Sequence[str]) -> None:
    """Raise UsageError for a margin of no finding, and for one that is not a size of an effect."""
    for finding, margin in margins.items():
        if finding not in findings:
            raise UsageError(
                f"A margin is given for {finding!r}, which this run does not claim; {did_you_mean(finding, findings)}."
            )
        if not 0 < margin < math.inf:
            raise UsageError(f"The margin of {finding} is {margin}; it is a size of an effect, above 0, as 0.05.")


def require_numbers(record: RunRecord, where: str) -> None:
    """Raise UsageError for a record whose per-item values are not all numbers: null, NaN, infinite or text."""
    for claim in record.claims:
        for label, arm in claim["values"].items():
            for i, x in zip(arm["ids"], arm["x"], strict=True):
                if isinstance(x, bool) or not isinstance(x, (int, float)) or not math.isfinite(x):
                    raise UsageError(
                        f"{where} holds a value that is no number: {x!r} for item {i} ({label}) of {claim['finding']} "
                        f"on {claim['pair']}. Measure it again; a comparison with it would mean nothing."
                    )


def _counterpart(
    claim: Claim, pair: Mapping[str, Json], other: Mapping[str, Json], there: Mapping[tuple[str, ...], Claim], name: str
) -> tuple[Claim | str, MatchedItems | None]:
    """The baseline's claim, or why there is none, and how the items fall on one another (None: by their ids)."""
    prompts = {p["name"]: p for p in pair["prompts"]}.get(claim["prompts"])
    set_name, items = claim["prompts"], None
    if prompts is not None:
        items = match_prompts(prompts, other, name)
        if items is None:
            return "The baseline has none of the items of this prompt set.", None
        set_name = items.of
    old = there.get((other["name"], claim["finding"], set_name, claim["group"]))
    return (old, items) if old is not None else ("The baseline does not make this claim.", items)


def _comparison(
    claim: Claim, old: Claim | str, items: MatchedItems | None, *, margin: float, name: str
) -> dict[str, Json]:
    """A claim against the baseline's, undecided: without interval and outcome."""
    found = {**_empty(name, margin), **_differing(items), "family_was": _other_family_size(claim, old)}
    if reason := _incomparable(claim, old):
        return {**found, "reason": reason}
    assert not isinstance(old, str)
    made = _change(*compared_directly(claim, old, items), items)
    if isinstance(made, str):
        return {**found, "reason": made}
    statistic, unpaired = made
    numbers = ("effect", "p", "n", "clusters", "standard_error", "freedom", "asked", "method")
    found |= {field: getattr(statistic, field) for field in numbers}
    found |= {"unpaired_items": unpaired, "intervals": statistic.intervals.plain(), "outcome": "inconclusive"}
    if statistic.method == IDENTICAL:
        same = f"The {statistic.n} values are the same item by item."
        found |= {"outcome": "held", "interval": [0.0, 0.0], "intervals": None, "reason": _noted(same, found)}
    return found


def _other_family_size(claim: Claim, old: Claim | str) -> int | None:
    """The size of the claim's family in the baseline where that is known and another: verdicts are at other levels."""
    was = None if isinstance(old, str) else old.get("family_size")
    return None if was is None or was == claim.get("family_size") else int(was)


def _empty(name: str, margin: float) -> dict[str, Json]:
    absent = ("effect", "interval", "level", "p", "clusters", "standard_error", "freedom", "asked", "n_needed",
              "n_at_least", "needed", "intervals", "p_decides", "adjusted_p", "method")  # fmt: skip
    return {"baseline": name, "outcome": "not_compared", **dict.fromkeys(absent), "interval": [None, None],
            "margin": margin, "n": 0, "unpaired_items": 0, "reason": ""}  # fmt: skip


def _differing(items: MatchedItems | None) -> dict[str, Json]:
    sides = {side: getattr(items, side) if items else () for side in ("new", "gone", "changed")}
    return {
        **{f"{side}_items": len(ids) for side, ids in sides.items()},
        "differing": {side: list(ids[:KEPT]) for side, ids in sides.items() if ids},
    }


def _incomparable(claim: Claim, old: Claim | str) -> str | None:
    """Why a claim and the baseline's cannot be compared."""
    if isinstance(old, str):
        return old
    for side, made in (("this run", claim), ("the baseline", old)):
        if made["verdict"] == "not_applicable" or made["effect"] is None:
            return f"In {side} the claim has no effect: {made['reason']}"
    for field in ("direction", "unit", "items"):
        if claim[field] != old[field]:
            return f"The finding's {field} is {claim[field]!r} here and {old[field]!r} in the baseline."
    for detail in SAME_DETAILS:
        here, there = (made["details"].get(detail) for made in (claim, old))
        if here != there:
            return f"The effect was got otherwise: {detail.replace('_', ' ')} is {here!r} here and {there!r} there."
    return None


def _change(claim: Claim, old: Claim, items: MatchedItems | None) -> tuple[Statistic, int] | str:
    """By how much the effect changed, and how many items have a value in one run only; or why it cannot be said."""
    here, there = _arms(claim), _arms(old)
    kinds = {"estimate"} if "estimate" in claim["details"] else {
        _kind(here, claim["effect"]), _kind(there, old["effect"])
    }  # fmt: skip
    kind = kinds.pop() if len(kinds) == 1 else "estimate"
    level = 1 - 0.05  # any: `compare` asks the intervals for the level of the comparison's share
    clusters = items.clusters if items else {}
    if kind == "estimate" and (items is None or items.complete) and here == there and same_evidence(claim, old):
        return _identical(claim["n"], claim["clusters"]), 0
    if kind == "estimate":
        return _of_estimates(claim, old, items, level)
    baseline_id = items.baseline_id if items else {i: i for arm in here.values() for i in arm}
    old_arms, new_arms = list(there.values()), list(here.values())
    if kind == "paired":
        old_by_new = {new: old_id for new, old_id in baseline_id.items() if old_id in old_arms[0]}
        common = [i for i in new_arms[0] if i in old_by_new]
        if not common:
            return "No item has a value in both runs."
        unpaired = len(set(new_arms[0]) & set(baseline_id)) + len(old_by_new) - 2 * len(common)
        low, high = _spans(claim, old)
        old_side = (_arm(old_arms[0], common, low, old_by_new), _arm(old_arms[1], common, high, old_by_new))
        new_side = (_arm(new_arms[0], common, low), _arm(new_arms[1], common, high))
        statistic = paired_change(old_side, new_side, clusters=clusters, level=level)
        same = same_evidence(claim, old) and all(
            np.array_equal(a.values, b.values) for a, b in zip(old_side, new_side, strict=True)
        )
        return (_identical(len(common), statistic.clusters) if same else statistic), unpaired
    back = {old_id: new for new, old_id in baseline_id.items()}
    renamed = [{back[i]: x for i, x in arm.items() if i in back} for arm in old_arms]
    shared = set().union(*renamed) & set().union(*new_arms)
    unpaired = len(set().union(*renamed) ^ {i for arm in new_arms for i in arm if i in baseline_id})
    renamed, kept = ([{i: x for i, x in arm.items() if i in shared} for arm in arms] for arms in (renamed, new_arms))
    if not all([*renamed, *kept]):
        return "One of the groups has no item that has a value in both runs."
    if renamed == kept and same_evidence(claim, old):
        return _identical(min(map(len, kept)), claim["clusters"]), unpaired
    low, high = _spans(claim, old)
    old_side, new_side = [(_arm(a, list(a), low), _arm(b, list(b), high)) for a, b in (renamed, kept)]
    labels = {i: clusters.get(i, i) for i in shared}
    return two_sample_change(old_side, new_side, clusters=labels, level=level), unpaired


def same_evidence(claim: Claim, old: Claim) -> bool:
    """Whether both claims read one and the same evidence, so that they agree by necessity. Records that do not say
    were read from nobody knows what."""
    here, there = (made.get("evidence") or {} for made in (claim, old))
    return bool(here) and here == there and None not in here.values()


def _spans(claim: Claim, old: Claim) -> list[Span | None]:
    """The range that the values of each arm cannot leave, where both records name the same."""
    sides = [[arm.get("span") for arm in made["values"].values()] for made in (claim, old)]
    return [None if a is None or a != b else _as_recorded(a) for a, b in zip(*sides, strict=True)]


def _as_recorded(span: Sequence[float]) -> Span:
    """A range that holds what the record's six decimals make of its values."""
    return math.floor(span[0] * 1e6) / 1e6, math.ceil(span[1] * 1e6) / 1e6


def _points(claim: Claim, name: str, renamed: Mapping[str, str] | None) -> Points:
    """The points (x, y) by item id that an estimate of `ESTIMATES` was made of. Of a slope an arm's label ends in its
    x; of a correlation the arms are x and y."""
    arms = _arms(claim)
    points: dict[str, tuple[float, float]]
    if name == "slope":
        points = {i: (float(label.rpartition(" ")[2]), y) for label, arm in arms.items() for i, y in arm.items()}
    else:
        first, second = arms.values()
        points = {i: (x, second[i]) for i, x in first.items() if i in second}
    return points if renamed is None else {renamed[i]: point for i, point in points.items() if i in renamed}


def _of_estimates(claim: Claim, old: Claim, items: MatchedItems | None, level: float) -> tuple[Statistic, int] | str:
    name = claim["details"].get("estimate")
    if name in ESTIMATES and old["details"].get("estimate") == name:
        back = None if items is None else {there: here for here, there in items.baseline_id.items()}
        new, before = _points(claim, name, None), _points(old, name, back)
        common = new.keys() & before.keys()
        if name != "slope":  # of prompts, those with a point in both runs; a head without a changed verb has none
            new, before = ({i: side[i] for i in side if i in common} for side in (new, before))
        if not new or not before:
            return "No item has a value in both runs."
        clusters = items.clusters if items else {}
        return estimate_change(name, before, new, clusters=clusters, level=level), 0
    if items is not None and not items.complete:
        return "The effect is not a mean over items, and the items are not the same, so that it cannot be compared."
    sides = [(float(made["effect"]), made["standard_error"]) for made in (old, claim)]
    n, clusters = (min(claim[field], old[field]) for field in ("n", "clusters"))
    return independent_change(sides[0], sides[1], n=n, clusters=clusters, level=level), 0


def _kind(arms: Mapping[str, Mapping[str, float]], effect: float) -> str:
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


def _arms(claim: Claim) -> dict[str, dict[str, float]]:
    """Label -> item id -> value."""
    return {label: dict(zip(arm["ids"], arm["x"], strict=True)) for label, arm in claim["values"].items()}


def _arm(
    values: Mapping[str, float], ids: Sequence[str], span: Span | None, named_here: Mapping[str, str] | None = None
) -> Arm:
    taken = [values[named_here[i] if named_here else i] for i in ids]
    return Arm(label="", ids=tuple(ids), values=np.array(taken, dtype=np.float64), span=span)


def _identical(n: int, clusters: int) -> Statistic:
    from ..statistics.intervals import NoIntervals

    return Statistic(effect=0.0, interval=(0.0, 0.0), level=1.0, p=1.0, n=n, clusters=clusters, standard_error=0.0,
                     method=IDENTICAL, seed=None, arms=(), intervals=NoIntervals())  # fmt: skip


def change_outcome(direction: str, low: float, high: float, margin: float) -> str:
    """Where the interval [low, high] of a change lies against the ``margin``, in the effect's unit: ``regressed``,
    ``improved``, ``held`` or ``inconclusive``.

    Of ``direction`` ``less`` a fall is good; of ``equivalent`` no change is wanted, and none is an improvement.
    """
    if direction == "less":
        low, high = -high, -low
    if direction == "equivalent":
        if low > margin or high < -margin:
            return "regressed"
        return "held" if -margin < low and high < margin else "inconclusive"
    if high < -margin:
        return "regressed"
    if low > 0:
        return "improved"
    return "held" if low > -margin else "inconclusive"


def _deciding_error(claim: Claim) -> float | None:
    held = claim["comparison"]

    def decides(low: float, high: float) -> bool:
        return change_outcome(claim["direction"], low, high, held["margin"]) != "inconclusive"

    return smallest_error(intervals_of(held["intervals"]), decides)


def _decided(claim: Claim, error: float) -> dict[str, Any]:
    """Interval, level, outcome, reason and n of a comparison at its share of the error rate."""
    held = claim["comparison"]
    intervals: Intervals = intervals_of(held["intervals"])
    low, high = intervals.at(1 - error)
    found: dict[str, Any] = {"level": 1 - error, "interval": [low, high], **needed_fields(None, claim["items"])}
    if not (math.isfinite(low) and math.isfinite(high)):
        few = f"No interval can be given for {held['n']} {claim['items']} in {held['clusters']} clusters."
        return {**found, "outcome": "inconclusive", "reason": _noted(few, held)}
    outcome, margin = change_outcome(claim["direction"], low, high, held["margin"]), held["margin"]
    bound = {"greater": f"{-margin:+.3g}", "less": f"{margin:+.3g}", "equivalent": f"±{margin:.3g}"}[claim["direction"]]
    where = {
        "regressed": f"lies wholly past the margin {bound}",
        "improved": "lies wholly on the better side of 0",
        "held": f"stays within the margin {bound}",
        "inconclusive": f"holds the margin {bound}",
    }[outcome]
    text = f"The interval of the change, [{low:+.3g}, {high:+.3g}], {where}."
    needed = _n_needed(claim, intervals, error) if outcome == "inconclusive" else None
    return {**found, "outcome": outcome, "reason": _noted(text, held), **needed_fields(needed, claim["items"])}


def _n_needed(claim: Claim, intervals: Intervals, error: float) -> NeededItems | None:
    """Prompts at which the interval would clear the margin; of layers, heads and verbs nobody can take more."""
    held = claim["comparison"]
    if claim["items"] != "prompts":
        return None
    statistic = Statistic(
        effect=held["effect"], interval=intervals.at(1 - error), level=1 - error, p=math.nan, n=held["n"],
        clusters=held["clusters"], standard_error=_known(held["standard_error"]), freedom=_known(held["freedom"]),
        asked=held["asked"], method="", seed=None, arms=(), intervals=intervals,
    )  # fmt: skip
    direction = claim["direction"]
    bound = held["margin"] if direction == "equivalent" else -held["margin"]
    return would_decide(statistic, sesoi=bound, direction=direction)


def _known(value: Json) -> float:
    return math.nan if value is None else float(value)


def _noted(text: str, held: Mapping[str, Json]) -> str:
    """The reason, and which items were not compared."""
    notes = [
        f"{held[f'{side}_items']} {word} ({named(held['differing'][side])})"
        for side, word in (("new", "new"), ("gone", "gone"), ("changed", "changed"))
        if held[f"{side}_items"]
    ]
    if held["unpaired_items"]:
        notes.append(f"{held['unpaired_items']} with a value in one run only")
    return text + (f" Items not compared: {'; '.join(notes)}." if notes else "")
