"""Which claims of a baseline can move: they alone share the error rate, the others are held for nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gate_records import FINDING, ids, items, pair_of, paired, record

from tuneshift.gate.compare import compare
from tuneshift.gate.missing import absent
from tuneshift.gate.rates import can_move, sharing
from tuneshift.gate.sight import planned_losses
from tuneshift.session.gating import without_effects

N = 40
VALUES = np.random.default_rng(0).normal(0.3, 0.2, size=N)
BASE = {"base likelihood": "a" * 64}
TUNED = {"base generation": "b" * 64, "tuned generation": "c" * 64}


def claims(**evidence):
    return [paired(VALUES, finding=replace(FINDING, id=f"a.{name}"), evidence=read) for name, read in evidence.items()]


@pytest.mark.parametrize(
    ("read", "response", "moves"),
    [
        (BASE, "own", False),
        (TUNED, "own", True),
        ({}, "own", True),  # nobody knows what it was read from
        ({"base attribution": "a" * 64}, "own", False),
        ({"base attribution": "a" * 64}, "tuned", True),  # the base's importance, of the tuned one's response
    ],
)
def test_a_claim_moves_with_what_it_was_read_from(read, response, moves):
    claim = {"evidence": read, "measures": ["attribution"]}
    pair = pair_of(ids(2))
    assert can_move(claim, pair, pair_of(ids(2), tuned="next"), response) is moves


def test_a_sibling_that_was_replaced_or_is_gone_moves_its_claims():
    claim = {"evidence": {"base generation": "a", "single_task_tuned generation": "b"}, "measures": ["generation"]}
    sibling = {"name": "S", "fingerprint": "s" * 64}
    there = {**pair_of(ids(2)), "single_task_tuned": sibling}
    assert not can_move(claim, there, {**pair_of(ids(2)), "single_task_tuned": dict(sibling)})
    assert can_move(claim, there, {**pair_of(ids(2)), "single_task_tuned": {**sibling, "fingerprint": "t" * 64}})
    assert can_move(claim, there, pair_of(ids(2)))


def test_the_rate_is_shared_by_the_claims_that_can_move_and_the_others_are_held_without_a_share():
    baseline = record(claims(base=BASE, other=BASE, one=TUNED, two=TUNED), [pair_of(ids(N))])
    assert sharing(baseline) == sharing(baseline, [pair_of(ids(N), tuned="next")], "good") == 2
    changed = {**TUNED, "tuned generation": "d" * 64}
    new = record(claims(base=BASE, other=BASE, one=changed, two=changed), [pair_of(ids(N), tuned="next")])
    found = compare(new.claims, new.pairs, baseline, name="good", margins={}, alpha=0.05)
    held = {claim["finding"]: claim["comparison"] for claim in found}
    for name in ("a.base", "a.other"):
        assert (held[name]["outcome"], held[name]["same_evidence"], held[name]["sees"]) == ("held", True, None)
        assert held[name]["reason"].startswith("Nothing that it rests on was replaced")
    # Equal values of another checkpoint are evidence of nothing by themselves.
    assert (held["a.one"]["outcome"], held["a.one"]["same_evidence"]) == ("inconclusive", False)


def test_a_claim_that_cannot_move_and_did_is_not_decided():
    baseline = record(claims(base=BASE, one=TUNED), [pair_of(ids(N))])
    drifted = paired(VALUES - 0.5, finding=replace(FINDING, id="a.base"), evidence={"base likelihood": "f" * 64})
    new = record([drifted], [pair_of(ids(N), tuned="next")])
    held = compare(new.claims, new.pairs, baseline, name="good", margins={}, alpha=0.05)[0]["comparison"]
    assert held["outcome"] == "inconclusive"
    assert "Nothing that it rests on was replaced, but its values are others" in held["reason"]


def test_two_checkpoints_against_one_baseline_share_its_rate():
    """Each claim of the baseline is then decided twice: at alpha / K both together would err twice as often."""
    baseline = record(claims(base=BASE, one=TUNED, two=TUNED), [pair_of(ids(N))])
    pairs = [pair_of(ids(N), pair=name, tuned=name) for name in ("monday", "tuesday")]
    assert sharing(baseline, pairs, "good") == 4
    assert sharing(baseline, pairs[:1], "good") == 2
    # Two prompt sets of one pair that fall on the baseline's one, likewise.
    halves = pair_of(ids(N), tuned="next")
    halves["prompts"] = [{**halves["prompts"][0], "name": name, "items": items(part)}
                         for name, part in (("a", ids(N)[:20]), ("b", ids(N)[20:]))]  # fmt: skip
    assert sharing(baseline, [halves], "good") == 4
    # A set that the run has not asks for its share still, once.
    assert sharing(baseline, [{**pairs[0], "prompts": []}], "good") == 2


def test_claims_without_an_effect_have_no_share_and_a_rate_is_one_claims_at_least():
    none = {**claims(tuned=TUNED)[0], "effect": None}
    baseline = record([*claims(moves=TUNED), {**none, "finding": "a.none"}], [pair_of(ids(N))])
    assert sharing(baseline) == 1
    assert sharing(record(claims(base=BASE), [pair_of(ids(N))])) == 1


def test_claims_of_two_checkpoints_that_are_one_are_nothing_to_compare_with():
    """Their effect is exactly 0 and they do not apply: no share, nothing seen, nothing missing where they are gone."""
    moves, other = claims(moves=TUNED, other=TUNED)
    equal = {**other, "verdict": "not_applicable", "effect": 0.0, "reason": "identical weights"}
    pairs = [pair_of(ids(N))]
    baseline = record([moves, equal], pairs)
    assert sharing(baseline) == 1
    assert [row["finding"] for row in planned_losses(baseline, {}, claims=1, alpha=0.05, shown=0.05)] == ["a.moves"]
    assert absent([moves], (), pairs, None, (), baseline, "good") == ([], [])
    assert without_effects(baseline) is None
    assert "nothing can be compared with it (identical weights)" in str(without_effects(record([equal], pairs)))
