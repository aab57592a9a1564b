"""A run against a baseline: did each claim's effect hold, improve or regress? Pure, on run records. ``docs/gate.md``.

The new tuned checkpoint is compared with the baseline's on the same items. Losses and gains are shown at an equal share
of the error rate, which the baseline's claims alone determine, so that a comparison comes out the same whatever else a
run compares (`statistics.gate_rule`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..claims.claim_record import needed_fields
from ..errors import UsageError, counted, did_you_mean
from ..plain import Json, plain
from ..run_record import RunRecord
from ..statistics.assurance import NeededItems, needed_for
from ..statistics.gate_rule import gate_outcome, settled_at
from ..statistics.statistic import Statistic
from .claim_change import ClaimChange, claim_change, same_evidence
from .direct import compared_directly
from .fallen import fallen
from .matching import MatchedItems, check_pair, check_settings, match_pair, match_prompts, named
from .rates import Rates, can_move, has_effect, sharing
from .sight import Draws, draws_of, loss_seen

Claim = Mapping[str, Json]

SAME_DETAILS = ("decided_by", "judge", "annotator", "vocabulary", "word_vectors")
"""Details that say how an effect was got: two effects got otherwise are not compared."""
IDENTICAL = "identical"
KEPT = 20
"""Names of new, gone and changed items that a record keeps; the counts are of all."""
LOST_SHARE = 0.02
"""Of items that can be lost before a claim no longer holds, where their worst values are not known."""


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
    shown: float | None = None,
    shared_by: int | None = None,
) -> list[dict[str, Json]]:
    """The claims, in the order given, each with its ``comparison`` with the baseline called ``name``.

    ``margins``: finding id -> how much worse is still held, in the effect's unit; a finding without one has the sesoi
    that the baseline's claim was decided by.
    ``alpha`` is the error rate at which no loss beyond a margin is claimed, ``shown`` (by default the same) the one
    that all losses and gains share which are shown, ``shared_by`` of them (by default `sharing` of ``pairs``: give it
    where the claims are a part of a run). Raises UsageError for margins that are none, for records that cannot be
    compared and for values that are no numbers.
    """
    check_margins(margins, [str(claim["finding"]) for claim in claims])
    if not 0 < alpha < 0.5:
        raise UsageError(f"The error rate of the comparisons is {alpha}; a gate takes one between 0 and 0.5, as 0.05.")
    there: dict[tuple[str, ...], Claim] = {
        (c["pair"], c["finding"], c["prompts"], c["group"]): c for c in baseline.claims
    }
    matched = {str(pair["name"]): (pair, match_pair(pair, baseline, name)) for pair in pairs}
    count = sharing(baseline, pairs, name) if shared_by is None else shared_by
    response = (baseline.run.get("settings") or {}).get("response")
    result = []
    for claim in claims:
        pair, other = matched[claim["pair"]]
        old, items = _counterpart(claim, pair, other, there, name)
        # The baseline's: a smallest effect that was changed since, in a suite, is no way to a wider margin.
        margin = float(margins.get(claim["finding"], (claim if isinstance(old, str) else old)["sesoi"]))
        rates = Rates(margin=margin, claims=count, alpha=alpha, shown=alpha if shown is None else shown)
        found = {**_empty(name, margin), **_differing(items), "family_was": _other_family_size(claim, old)}
        if (missing := _without_effect(claim, old)) is not None:
            found |= {"outcome": missing[0], "reason": missing[1]}
        elif isinstance(old, str) or (reason := _got_otherwise(claim, old)):
            found |= {"reason": old} if isinstance(old, str) else {"outcome": "inconclusive", "reason": reason}
        else:
            moves = can_move(old, other, pair, response)
            draws = draws_of(other, old["prompts"])
            found |= _comparison(claim, old, items, found, rates, draws, moves=moves)
            if found["outcome"] in ("regressed", "worse"):
                found |= {"fallen": fallen(claim, old)}
        result.append({**claim, "comparison": plain(found)})
    return result


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


def _other_family_size(claim: Claim, old: Claim | str) -> int | None:
    """The size of the claim's family in the baseline where that is known and another: verdicts are at other levels."""
    was = None if isinstance(old, str) else old.get("family_size")
    return None if was is None or was == claim.get("family_size") else int(was)


def _empty(name: str, margin: float) -> dict[str, Json]:
    absent = ("effect", "interval", "level", "held_interval", "p", "adjusted_p", "clusters", "standard_error",
              "freedom", "asked", "n_needed", "n_at_least", "needed", "intervals", "method", "sees")  # fmt: skip
    return {"baseline": name, "outcome": "not_compared", **dict.fromkeys(absent), "interval": [None, None],
            "held_interval": [None, None], "margin": margin, "n": 0, "unpaired_items": 0, "same_evidence": False,
            "planned": False, "reason": ""}  # fmt: skip


def _differing(items: MatchedItems | None) -> dict[str, Json]:
    sides = {side: getattr(items, side) if items else () for side in ("new", "gone", "changed", "relabelled")}
    return {
        **{f"{side}_items": len(ids) for side, ids in sides.items()},
        "differing": {side: list(ids[:KEPT]) for side, ids in sides.items() if ids},
    }


def _without_effect(claim: Claim, old: Claim | str) -> tuple[str, str] | None:
    """Outcome and reason of a claim that has no effect on one side; None where both have one."""
    none_here = not has_effect(claim)
    if isinstance(old, str):
        return None
    none_there = not has_effect(old)
    if none_here and not none_there:
        return "missing", f"The baseline has an effect of {old['effect']:+.3g}, this run has none: {claim['reason']}"
    for side, none, made in (("this run", none_here, claim), ("the baseline", none_there, old)):
        if none:
            return "not_compared", f"In {side} the claim has no effect: {made['reason']}"
    return None


def _got_otherwise(claim: Claim, old: Claim) -> str | None:
    """Why the effects of a claim and the baseline's are not of one kind: nothing is known of the change then, which is
    not the same as no loss."""
    for field in ("direction", "unit", "items"):
        if claim[field] != old[field]:
            return f"The finding's {field} is {claim[field]!r} here and {old[field]!r} in the baseline."
    for detail in SAME_DETAILS:
        here, there = (made["details"].get(detail) for made in (claim, old))
        if here != there:
            return f"The effect was got otherwise: {detail.replace('_', ' ')} is {here!r} here and {there!r} there."
    return None


def _comparison(
    claim: Claim, old: Claim, items: MatchedItems | None, found: Mapping[str, Json], rates: Rates,
    draws: Draws, *, moves: bool,
) -> dict[str, Json]:  # fmt: skip
    """The change of a claim against the baseline's, decided."""
    new, before = compared_directly(claim, old, items)
    change = claim_change(new, before, items)
    if isinstance(change, str):  # nothing that was lost is held
        return {"outcome": "inconclusive", "reason": change}
    statistic = change.statistic
    numbers = ("effect", "p", "n", "clusters", "standard_error", "freedom", "asked", "method")
    made: dict[str, Any] = {field: getattr(statistic, field) for field in numbers}
    made |= {"unpaired_items": change.lost - change.removed}
    if moves:
        made["sees"], made["planned"] = loss_seen(change, before, draws, rates)
    if change.equal and (not moves or same_evidence(claim, old)):
        same = f"The {statistic.n} values are the same item by item, read from the same evidence."
        if not moves:
            same = f"Nothing that it rests on was replaced, and its {statistic.n} values are the same."
        return {**made, "outcome": "held", "same_evidence": True, "effect": 0.0, "interval": [0.0, 0.0], "level": 1.0,
                "held_interval": [0.0, 0.0], "p": 1.0, "standard_error": 0.0, "method": IDENTICAL,
                "reason": _noted(same, {**found, **made})}  # fmt: skip
    made |= {"intervals": statistic.intervals.plain(), "adjusted_p": _adjusted(statistic.p, rates.claims)}
    made |= _decided(claim, change, {**found, **made}, rates)
    if not moves:
        drift = (
            "Nothing that it rests on was replaced, but its values are others: another machine, or another version "
            "of a package? It has no share of the error rate, so that nothing is shown of it."
        )
        made |= {"outcome": "inconclusive", "reason": _noted(drift, {**found, **made}), **needed_fields(None, "")}
    return made


def _adjusted(p: float, claims: int) -> float | None:
    return min(1.0, p * claims) if math.isfinite(p) else None


def _decided(claim: Claim, change: ClaimChange, found: Mapping[str, Json], rates: Rates) -> dict[str, Any]:
    """Intervals, level, outcome, reason and n of a comparison at its share of the error rate."""
    statistic, direction = change.statistic, claim["direction"]
    level = 1 - rates.shown / rates.claims
    low, high = statistic.intervals.at(level)
    ends = statistic.intervals.at(1 - 2 * rates.alpha)
    made: dict[str, Any] = {"level": level, "interval": [low, high], "held_interval": list(ends),
                            **needed_fields(None, claim["items"])}  # fmt: skip
    outcome: str = gate_outcome(statistic.intervals, **rates.told(direction))
    if outcome == "inconclusive" and not (math.isfinite(low) and math.isfinite(ends[0])):
        items = counted(found["n"], claim["items"].removesuffix("s"))
        few = f"No interval can be given for {items} in {counted(found['clusters'], 'cluster')}."
        return {**made, "outcome": outcome, "reason": _noted(few, found)}
    if outcome in ("held", "improved") and (lost := _hidden_by_lost(change, rates, direction, claim["items"])):
        return {**made, "outcome": "inconclusive", "reason": _noted(lost, found)}
    text = _reason(outcome, direction, (low, high), ends, rates)
    needed = _needed(claim, statistic, rates) if outcome == "inconclusive" else None
    return {**made, "outcome": outcome, "reason": _noted(text, found), **needed_fields(needed, claim["items"])}


def _hidden_by_lost(change: ClaimChange, rates: Rates, direction: str, items: str) -> str | None:
    """Why a claim that holds on the items with a value in both runs may not hold on all: lost is not held."""
    if not change.lost:
        return None
    if change.worst is not None:
        outcomes = [gate_outcome(worst.intervals, **rates.told(direction)) for worst in change.worst]
        if all(outcome in ("held", "improved") for outcome in outcomes):
            return None
        return f"It would hold without the {items} that have a value in one run only; with the worst values, not."
    of = change.lost + change.statistic.n
    if change.lost <= LOST_SHARE * of:
        return None
    return (
        f"{change.lost} of {of} {items}, more than {100 * LOST_SHARE:.0f} %, have a value in one run only, and "
        "nothing says how they changed."
    )


def _reason(
    outcome: str, direction: str, shown: tuple[float, float], held: tuple[float, float], rates: Rates
) -> str:  # fmt: skip
    margin = rates.margin
    bound = {"greater": f"{-margin:+.3g}", "less": f"{margin:+.3g}", "equivalent": f"±{margin:.3g}"}[direction]
    interval = f"The interval of the change, [{shown[0]:+.3g}, {shown[1]:+.3g}],"
    at = f"at the one-sided rate {rates.alpha:g}"
    ends = {"greater": f"{held[0]:+.3g}", "less": f"{held[1]:+.3g}", "equivalent": f"[{held[0]:+.3g}, {held[1]:+.3g}]"}
    reached = "lies within" if direction == "equivalent" else "does not reach"
    return {
        "regressed": f"{interval} lies wholly past the margin {bound}.",
        "worse": f"{interval} lies wholly on the worse side of 0; whether past the margin {bound} is open.",
        "improved": f"{interval} lies wholly on the better side of 0.",
        "held": f"The end of the change, {ends[direction]} {at}, {reached} the margin {bound}.",
        "inconclusive": (
            f"{interval} shows no loss{'' if direction != 'equivalent' else f' past the margin {bound}'}, and its "
            f"end, {ends[direction]} {at}, does not rule out one past the margin {bound}."
        ),
    }[outcome]


def _needed(claim: Claim, statistic: Statistic, rates: Rates) -> NeededItems | None:
    """Prompts of a fresh set that would settle the claim; of layers, heads and verbs nobody can take more."""
    if claim["items"] != "prompts" or not (statistic.standard_error > 0 and statistic.freedom > 0):
        return None
    level = 1 - 2 * rates.alpha
    decided = settled_at(**rates.told(claim["direction"]))
    return needed_for(statistic, decided, interval=statistic.intervals.at(level), level=level)


def _noted(text: str, found: Mapping[str, Json]) -> str:
    """The reason, and which items were not compared."""
    notes = [
        f"{found[f'{side}_items']} {word} ({named(found['differing'][side])})"
        for side, word in (("new", "new"), ("gone", "gone"), ("changed", "changed"))
        if found[f"{side}_items"]
    ]
    if found["unpaired_items"]:
        notes.append(f"{found['unpaired_items']} with a value in one run only")
    text += f" Items not compared: {'; '.join(notes)}." if notes else ""
    if found["relabelled_items"]:
        text += (
            f" Another topic or cluster than in the baseline, whose labels count: {found['relabelled_items']} "
            f"({named(found['differing']['relabelled'])})."
        )
    return text
