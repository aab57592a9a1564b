"""Changes of claims: which items are lost, and what the worst of them would say."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from gate_records import FINDING, claim, ids, pair_of, paired, record
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneshift.gate.claim_change import claim_change
from tuneshift.gate.compare import compare
from tuneshift.gate.matching import match_prompts
from tuneshift.statistics.differences import two_sample_difference
from tuneshift.statistics.statistic import Arm

N = 400
RNG = np.random.default_rng(4)
OLD = (RNG.random(N) < 0.7).astype(float)


def gate(old, new, *, old_names=None, new_names=None, span=(0.0, 1.0), n=N, direction="greater"):
    """The comparison of two runs on the same n prompts, some of which have no value in one of them."""
    sides = []
    for values, names in ((old, old_names), (new, new_names)):
        claim = paired(values, names=names or ids(len(values)), span=span)
        sides.append(record([{**claim, "direction": direction}], [pair_of(ids(n))]))
    baseline, run = sides
    return compare(run.claims, run.pairs, baseline, name="good", margins={}, alpha=0.05)[0]["comparison"]


def test_lost_is_not_held_where_the_lost_could_hide_a_loss():
    whole = gate(OLD, OLD)
    assert whole["outcome"] == "held"
    # Forty prompts, a tenth, that were followed and have no response any more: a loss of up to 0.1, the margin.
    keep = [k for k in range(N) if not (OLD[k] == 1 and OLD[:k].sum() < 40)]
    held = gate(OLD, OLD[keep], new_names=[ids(N)[k] for k in keep])
    assert (held["effect"], held["n"], held["unpaired_items"]) == (0.0, N - 40, 40)
    assert held["outcome"] == "inconclusive"
    assert "with the worst values, not" in held["reason"]
    # Of two, the worst is a hundredth of a loss.
    held = gate(OLD, OLD[2:], new_names=ids(N)[2:])
    assert (held["outcome"], held["unpaired_items"]) == ("held", 2)


def test_prompts_that_were_not_followed_before_hide_no_loss_when_they_are_lost():
    lost = [k for k in range(N) if OLD[k] == 0][:40]
    keep = [k for k in range(N) if k not in lost]
    assert gate(OLD, OLD[keep], new_names=[ids(N)[k] for k in keep])["outcome"] == "held"
    # Of an equivalent claim a rise is a change as well.
    held = gate(OLD, OLD[keep], new_names=[ids(N)[k] for k in keep], direction="equivalent")
    assert held["outcome"] == "inconclusive"


def test_items_without_a_value_on_both_sides_are_not_lost():
    names = ids(N)[40:]
    held = gate(OLD[40:], OLD[40:], old_names=names, new_names=names)
    assert (held["outcome"], held["unpaired_items"]) == ("held", 0)


@pytest.mark.parametrize(("lost", "outcome"), [(8, "held"), (9, "inconclusive")])
def test_of_values_without_a_range_two_in_a_hundred_may_be_lost(lost, outcome):
    old = RNG.normal(0.5, 0.1, size=N)
    held = gate(old, old[lost:] + RNG.normal(0, 0.01, N - lost), new_names=ids(N)[lost:], span=None)
    assert held["outcome"] == outcome
    if outcome == "inconclusive":
        assert held["reason"].startswith(f"9 of {N} prompts, more than 2 %, have a value in one run only")


def test_a_regression_is_one_whatever_was_lost():
    keep = list(range(60, N))
    held = gate(OLD, np.zeros(len(keep)), new_names=[ids(N)[k] for k in keep])
    assert held["outcome"] == "regressed"


@pytest.mark.numerics
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_worst_is_below_every_way_to_fill_in_what_was_lost(data):
    n = 8
    share = st.floats(0, 1).map(lambda x: round(x, 3))
    old, new = (np.array(data.draw(st.lists(share, min_size=n, max_size=n))) for _ in range(2))
    lost = data.draw(st.sets(st.integers(0, n - 1), min_size=1, max_size=3))
    keep = [k for k in range(n) if k not in lost]
    names = ids(n)
    baseline = record([paired(old, span=(0.0, 1.0))], [pair_of(names)])
    part = record([paired(new[keep], names=[names[k] for k in keep], span=(0.0, 1.0))], [pair_of(names)])
    items = match_prompts(part.pairs[0]["prompts"][0], baseline.pairs[0], "good")
    change = claim_change(part.claims[0], baseline.claims[0], items)
    assert change.lost == len(lost)
    (worst,) = change.worst
    filled = new.copy()
    filled[list(lost)] = data.draw(st.lists(share, min_size=len(lost), max_size=len(lost)))
    assert worst.effect <= np.mean(filled - old) + 1e-9
    filled[list(lost)] = 0
    assert worst.effect == pytest.approx(np.mean(filled - old), abs=1e-9)  # means of doubles in 0..1


@pytest.mark.numerics
def test_the_design_effect_of_clusters_counts_independent_items():
    rng = np.random.default_rng(0)
    moves = np.repeat(rng.normal(size=100), 4)
    found = []
    for size in (1, 4):
        clusters = [f"c{k // size}" for k in range(N)]
        sides = [record([paired(x)], [pair_of(ids(N), clusters=clusters)]) for x in (np.zeros(N), moves)]
        items = match_prompts(sides[1].pairs[0]["prompts"][0], sides[0].pairs[0], "good")
        found.append(claim_change(sides[1].claims[0], sides[0].claims[0], items).independent)
    assert found == pytest.approx([N, N / 4], rel=0.02)  # the sample of 100 is what it is, and seeded
    assert all(a > b for a, b in pairwise(found))


def test_a_group_whose_items_have_all_lost_their_values_is_inconclusive():
    names, span = ids(60), (0.0, 1.0)
    values = dict(zip(names, RNG.random(60), strict=True))

    def of_groups(low, high):
        arms = [Arm(label=k, ids=g, values=np.array([values[i] for i in g]), span=span)
                for k, g in (("not followed", low), ("followed", high))]  # fmt: skip
        return record([claim(FINDING, two_sample_difference(*arms, clusters=None, level=0.95))], [pair_of(names)])

    baseline = of_groups(names[20:40], names[:20])
    run = of_groups(names[30:40], names[40:])  # none of the new group's had a value then
    found = compare(run.claims, run.pairs, baseline, name="good", margins={}, alpha=0.05)[0]["comparison"]
    assert (found["outcome"], found["n"]) == ("inconclusive", 0)
    assert found["reason"] == "One of the groups has no item that has a value in both runs."


@pytest.mark.parametrize("how", ["deleted", "edited"])
def test_a_gate_does_not_pass_by_taking_out_the_prompts_that_fail(how):
    n, failing, span = 100, 20, (0.0, 1.0)
    names, new = ids(n), np.r_[np.zeros(failing), np.ones(n - failing)]
    texts = [f"{i} " if k < failing and how == "edited" else i for k, i in enumerate(names)]
    first = failing if how == "deleted" else 0
    tasks = [f"task {k // 10}" for k in range(n)]
    found = []
    for start, asked in ((0, names), (first, texts)):
        sides = [pair_of(names), pair_of(names[start:], texts=asked[start:], tuned="next")]
        for pair, at in zip(sides, (0, start), strict=True):
            pair["prompts"][0]["items"]["clusters"] = tasks[at:]
        baseline = record([paired(np.ones(n), span=span)], [sides[0]])
        run = record([paired(new[start:], names=names[start:], span=span)], [sides[1]])
        found.append(compare(run.claims, run.pairs, baseline, name="good", margins={}, alpha=0.05)[0]["comparison"])
    assert [held["outcome"] for held in found] == ["regressed", "inconclusive"]
    assert found[1]["effect"] == 0
    assert "with the worst values, not" in found[1]["reason"]
    assert found[1]["unpaired_items"] == 0
