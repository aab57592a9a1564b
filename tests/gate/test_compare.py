"""The gate: outcomes by where the interval lies, items matched by content, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from gate_records import FINDING, claim, ids, items, pair_of, paired, record

from tuneshift.errors import UsageError
from tuneshift.gate.compare import check_comparable, compare
from tuneshift.gate.matching import match_items, other_versions
from tuneshift.gate.text import _summary
from tuneshift.statistics.change import independent_change, two_sample_change
from tuneshift.statistics.differences import paired_difference
from tuneshift.statistics.gate_rule import gate_outcome
from tuneshift.statistics.statistic import Arm

N = 80
RNG = np.random.default_rng(3)
OLD = RNG.normal(0.5, 0.3, size=N)
NOISE = RNG.normal(0, 0.05, size=N) - 0


def outcome(change, *, finding=FINDING, n=N, margins=None, alpha=0.05):
    baseline = record([paired(OLD[:n], finding=finding)], [pair_of(ids(n))])
    new = record([paired(OLD[:n] + change, finding=finding)], [pair_of(ids(n), tuned="next")])
    found = compare(new.claims, new.pairs, baseline, name="good", margins=margins or {}, alpha=alpha)
    return found[0]["comparison"]


@pytest.mark.numerics
@pytest.mark.parametrize(
    ("direction", "shift", "expected"),
    [
        ("greater", -0.3, "regressed"), ("greater", 0.0, "held"), ("greater", -0.05, "held"),
        ("greater", 0.3, "improved"), ("greater", -0.1, "worse"),
        ("less", 0.3, "regressed"), ("less", 0.0, "held"), ("less", -0.3, "improved"), ("less", 0.1, "worse"),
        ("equivalent", 0.3, "regressed"), ("equivalent", -0.3, "regressed"), ("equivalent", 0.0, "held"),
        ("equivalent", 0.1, "inconclusive"),
    ],
)  # fmt: skip
def test_the_outcome_is_where_the_interval_lies(direction, shift, expected):
    noise = NOISE - NOISE.mean()
    held = outcome(noise + shift, finding=replace(FINDING, direction=direction))
    assert held["outcome"] == expected
    assert held["effect"] == pytest.approx(shift, abs=1e-6)  # a record rounds its values
    assert held["n"] == N


@pytest.mark.numerics
def test_the_change_is_the_paired_difference_of_the_per_item_differences():
    held = outcome(NOISE)
    zero = Arm(label="", ids=ids(N), values=np.zeros(N))
    naive = paired_difference(zero, replace(zero, values=NOISE), clusters=None, level=0.95)
    assert held["interval"] == pytest.approx(naive.interval, abs=1e-6)  # as above
    assert held["standard_error"] == pytest.approx(naive.standard_error, abs=1e-6)  # as above


def against_itself(**sides):
    """A claim on two prompts compared with itself."""
    one = record([paired(OLD[:2], **sides)], [pair_of(ids(2))])
    return compare(one.claims, one.pairs, one, name="good", margins={}, alpha=0.05)[0]["comparison"]


def test_identical_values_are_held_where_they_are_one_piece_of_evidence():
    same = against_itself(evidence={"tuned generation": "a" * 64})
    assert (same["outcome"], same["interval"]) == ("held", [0.0, 0.0])
    # Else two prompts that agree say little of others: nothing without a range, a bound with one.
    apart = against_itself()
    assert (apart["outcome"], apart["interval"]) == ("inconclusive", [None, None])
    unknown = against_itself(evidence={"tuned generation": None})
    assert unknown["outcome"] == "inconclusive"
    bounded = against_itself(span=(-9.0, 9.0))
    assert bounded["outcome"] == "inconclusive"
    assert bounded["interval"][1] > 9


@pytest.mark.numerics
def test_equal_values_of_many_prompts_are_held_by_their_range():
    ones = record([paired(np.ones(400), span=(0.0, 1.0))], [pair_of(ids(400))])
    held = compare(ones.claims, ones.pairs, ones, name="good", margins={}, alpha=0.05)[0]["comparison"]
    assert held["outcome"] == "held"
    # The bound of one cluster a prompt, whose search ends there; the base, which nobody replaced, could not move.
    assert held["interval"][1] == pytest.approx(1 - 0.025 ** (1 / 400), rel=1e-4)


@pytest.mark.numerics
def test_inconclusive_says_how_many_prompts_would_decide_and_that_many_do():
    rng = np.random.default_rng(0)
    spread = 0.4
    few = spread * rng.standard_normal(20)
    held = outcome(few - few.mean() + 0.02, n=20)
    assert held["outcome"] == "inconclusive"
    needed = held["n_needed"]
    error = np.std(few, ddof=1)
    # More than power at the change that was seen asks for: the true one may be nearer to the margin.
    assert needed > (1.645 + 0.8416) ** 2 * error**2 / 0.12**2
    assert held["n_at_least"] < needed
    decided = 0
    for _ in range(400):
        truth = 0.02 + error / math.sqrt(20) * rng.standard_t(19)
        moves = truth + error * rng.standard_normal(needed)
        zero = Arm(label="", ids=ids(needed), values=np.zeros(needed))
        fresh = paired_difference(zero, replace(zero, values=moves), clusters=None, level=0.95).intervals
        told = {"direction": "greater", "margin": 0.1, "claims": 1, "alpha": 0.05}
        decided += gate_outcome(fresh, **told) != "inconclusive"
    assert decided / 400 == pytest.approx(0.8, abs=0.06)  # three Monte-Carlo errors of 0.02


def test_a_base_against_a_level_of_chance_is_compared_with_itself():
    """The base was kept and chance is a constant: what is left has no range of its own."""
    chance = Arm(label="chance", ids=ids(40), values=np.full(40, 0.5), span=(0.5, 0.5))
    base = Arm(label="base", ids=ids(40), values=np.ones(40), span=(0.0, 1.0))
    found = paired_difference(chance, base, clusters=None, level=0.95)
    made = claim(FINDING, found, evidence={"base likelihood": "a" * 64})
    one = record([made], [pair_of(ids(40))])
    held = compare(one.claims, one.pairs, one, name="good", margins={}, alpha=0.05)[0]["comparison"]
    assert (held["outcome"], held["same_evidence"]) == ("held", True)


def test_a_collapse_of_every_item_alike_is_regressed_though_t_sees_no_variance():
    baseline = record([paired(np.ones(20), span=(0.0, 1.0))], [pair_of(ids(20))])
    new = record([paired(np.zeros(20), span=(0.0, 1.0))], [pair_of(ids(20))])
    held = compare(new.claims, new.pairs, baseline, name="good", margins={}, alpha=0.05)[0]["comparison"]
    assert held["outcome"] == "regressed"
    low, high = held["interval"]
    assert low == -1
    assert -1 < high < -0.5


@pytest.mark.numerics
def test_clusters_are_kept():
    n = 80
    clusters = [f"c{k // 5}" for k in range(n)]
    moves = np.repeat(np.random.default_rng(1).normal(0, 0.2, size=n // 5), 5)
    sides = [record([paired(OLD[:n] + x)], [pair_of(ids(n), clusters=clusters)]) for x in (0, moves)]
    held = compare(sides[1].claims, sides[1].pairs, sides[0], name="good", margins={}, alpha=0.05)[0]["comparison"]
    zero = Arm(label="", ids=ids(n), values=np.zeros(n))
    naive = paired_difference(zero, replace(zero, values=moves), clusters=clusters, level=0.95)
    assert naive.interval[0] < naive.interval[1]
    assert held["clusters"] == 16
    assert held["interval"] == pytest.approx(naive.interval, abs=1e-6)  # as above


def test_the_margin_of_a_finding_can_be_set_and_an_unknown_finding_is_refused():
    assert outcome(NOISE - 0.3, margins={"a.first": 0.5})["outcome"] == "held"
    with pytest.raises(UsageError, match=r"'a\.frist'.*did you mean 'a\.first'"):
        outcome(NOISE, margins={"a.frist": 0.5})
    with pytest.raises(UsageError, match="above 0"):
        outcome(NOISE, margins={"a.first": -1.0})


def test_new_gone_and_changed_items_are_counted_named_and_left_out():
    before = list(ids(N))
    after = [*before[:-1], "fresh"]
    texts = ["rewritten" if i == "p003" else i for i in after]
    baseline = record([paired(OLD)], [pair_of(before)])
    moved = OLD + NOISE
    moved[3], moved[-1] = -50, -50  # would regress if they counted
    new = record([paired(moved, names=after)], [pair_of(after, texts=texts)])
    held = compare(new.claims, new.pairs, baseline, name="good", margins={}, alpha=0.05)[0]["comparison"]
    assert (held["new_items"], held["gone_items"], held["changed_items"], held["n"]) == (1, 1, 1, N - 2)
    assert held["outcome"] == "inconclusive"  # two of eighty may hide a loss
    assert "1 new (fresh); 1 gone (p079); 1 changed (p003)" in held["reason"]
    assert held["unpaired_items"] == 0


@pytest.mark.numerics
def test_tasks_are_held_fixed_and_the_topics_within_them_are_the_draws():
    """What a checkpoint lost in each of six tasks it has lost: nothing is left to chance between them."""
    rng, tasks = np.random.default_rng(4), np.repeat([f"task {k}" for k in range(6)], 8)
    change = np.repeat([-0.9, -0.5, -0.3, -0.1, 0.1, 0.3], 8) + 0.02 * rng.normal(size=48)
    old = OLD[:48]
    fixed = pair_of(ids(48))
    fixed["prompts"][0]["items"]["clusters"] = tasks.tolist()
    drawn = pair_of(ids(48), clusters=tasks.tolist())
    found = []
    for pair in (fixed, drawn):
        baseline = record([paired(old)], [pair])
        found.append(compare([paired(old + change)], [pair], baseline, name="good", margins={}, alpha=0.05)[0])
    within, between = (claim["comparison"] for claim in found)
    assert within["effect"] == between["effect"] == pytest.approx(float(np.mean(change)))
    assert (within["outcome"], between["outcome"]) == ("regressed", "inconclusive")
    assert within["clusters"] == 48
    assert within["standard_error"] == pytest.approx(
        0.02 / math.sqrt(48), rel=0.3
    )  # one sample of 48: 10 % a standard error


def test_an_item_under_another_id_is_the_same_item():
    here, there = (
        {"name": "set", "items": {**items(names), "sha256": ["1", "2"]}} for names in (["x", "b"], ["a", "b"])
    )
    found = match_items(here, there, "good")
    assert found.baseline_id == {"x": "a", "b": "b"}
    assert found.complete


def test_comparisons_share_the_level_by_the_baselines_claims_whatever_the_run_compares():
    findings = [replace(FINDING, id=f"a.{k}") for k in range(4)]
    shifts = (-0.3, -0.11, -0.12, 0.0)
    baseline = record([paired(OLD, finding=f) for f in findings], [pair_of(ids(N))])
    claims = [paired(OLD + 1.5 * NOISE + s, finding=f) for f, s in zip(findings, shifts, strict=True)]
    new = record(claims, [pair_of(ids(N))])
    found = compare(new.claims, new.pairs, baseline, name="g", margins={}, alpha=0.05)
    back = compare(new.claims[::-1], new.pairs, baseline, name="g", margins={}, alpha=0.05)[::-1]
    assert found == back
    alone = [compare([c], new.pairs, baseline, name="g", margins={}, alpha=0.05)[0] for c in new.claims]
    assert found == alone
    held = [c["comparison"] for c in found]
    assert {c["level"] for c in held} == {1 - 0.05 / 4}
    for c in held:
        assert c["adjusted_p"] == min(1.0, 4 * c["p"])
        low, high = c["interval"]
        assert (c["adjusted_p"] > 0.05) == (low < 0 < high)
    assert len({c["outcome"] for c in held}) > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["base"].update(fingerprint="other" * 8), "the base checkpoint"),
        (lambda p: p["tuned"].update(chat_template=None), r"the chat format of the tuned checkpoint \(plain prompts"),
        (
            lambda p: p["base"].update(backend={"name": "vllm", "args": {"max_model_len": "96"}}),
            r"the backend of the base checkpoint \(vllm:max_model_len=96 here, our own passes there\)",
        ),
        (
            lambda p: p.update(response_tuned={**p["tuned"], "name": "R", "fingerprint": "r" * 64}),
            r"the response_tuned checkpoint \(R rrrrrrrrrrrr here, S ssssssssssss there\)",
        ),
        (lambda p: p["base"].update(chat_date="2024-07-26"), r"the date in the chat format .* \(2024-07-26 here, none"),
        (
            lambda p: p["tuned"].update(chat_template_kwargs={"enable_thinking": False}),
            r"the variables of the chat format of the tuned .* \(\{'enable_thinking': False\} here, none there\)",
        ),
        (lambda p: p["settings"].update(max_new_tokens=7), r"the longest response \(7 tokens here, 100 there"),
        (lambda p: p["prompts"][0]["items"].update(sha256=["0" * 16] * 4), "the prompts: no item is the same"),
    ],
)
def test_a_pair_that_differs_is_refused_and_the_difference_named(change, message):
    sibling = {"name": "S", "fingerprint": "s" * 64, "dtype": "float32", "chat_template": "{{ m }}"}
    baseline = record([paired(OLD[:4])], [{**pair_of(ids(4)), "response_tuned": sibling}])
    other = pair_of(ids(4), tuned="newer")
    check_comparable(baseline.run, [other], baseline, "good")  # the tuned one may differ, a sibling may be missing
    change(other)
    with pytest.raises(UsageError, match=message):
        check_comparable(baseline.run, [other], baseline, "good")
    check_comparable(baseline.run, [pair_of(ids(4))], baseline, "good")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"measures": {"generation": 2}}, r"the measure generation \(version 2 here, 1 there\)"),
        ({"settings": {"response": "tuned"}}, r"response \(tuned here, own there; --shift-response\)"),
        ({"measures": {}}, "an older tuneshift wrote it"),
    ],
)
def test_a_run_that_measured_otherwise_is_refused(changed, message):
    baseline = record([paired(OLD[:4])], [pair_of(ids(4))])
    run = {**baseline.run, **{k: {**baseline.run[k], **v} if v else v for k, v in changed.items()}}
    with pytest.raises(UsageError, match=message):
        check_comparable(run, baseline.pairs, baseline, "good")


def test_other_versions_of_packages_are_named_and_no_reason_to_refuse():
    differ = other_versions({"torch": "2.9", "numpy": "2.1", "jinja2": "3.1"}, {"torch": "2.8", "numpy": "2.1"})
    assert differ == {"torch": ["2.9", "2.8"], "jinja2": ["3.1", None]}
    against = {"name": "g", "saved": "s", "tuned": "t", "alpha": 0.05, "shown": 0.05, "claims": 2, "look": None}
    said = _summary([], {**against, "other_versions": differ})
    assert said.endswith("; measured with other versions: jinja2 3.1 here, none there, torch 2.9 here, 2.8 there")


def test_another_version_of_a_measure_that_no_claim_rests_on_is_no_reason():
    baseline = record([paired(OLD[:4])], [pair_of(ids(4))])
    check_comparable({**baseline.run, "measures": {"generation": 1, "attribution": 9}}, baseline.pairs, baseline, "g")


def test_of_effects_that_were_decided_otherwise_nothing_is_known():
    old, new = paired(OLD), paired(OLD + NOISE)
    old["details"]["decided_by"], new["details"]["decided_by"] = "sound", "meaning"
    baseline, now = (record([c], [pair_of(ids(N))]) for c in (old, new))
    held = compare(now.claims, now.pairs, baseline, name="good", margins={}, alpha=0.05)[0]["comparison"]
    assert (held["outcome"], held["effect"]) == ("inconclusive", None)
    assert "decided by is 'meaning' here and 'sound' there" in held["reason"]


def test_a_reworded_unit_does_not_hide_a_loss():
    baseline = record([paired(OLD)], [pair_of(ids(N))])
    new = record([paired(OLD - 0.5, finding=replace(FINDING, unit="in other words"))], [pair_of(ids(N))])
    held = compare(new.claims, new.pairs, baseline, name="good", margins={}, alpha=0.05)[0]["comparison"]
    assert held["outcome"] == "inconclusive"
    assert held["reason"] == "The finding's unit is 'in other words' here and 'u' in the baseline."


@pytest.mark.numerics
def test_relabelling_all_items_to_one_topic_hides_no_loss():
    topics = [f"t{k // 2}" for k in range(N)]
    one = pair_of(ids(N), clusters=["t"] * N)
    there = pair_of(ids(N), clusters=topics)
    baseline = record([paired(OLD)], [there])
    claims = [paired(OLD + NOISE - 0.3)]
    told = {"name": "good", "margins": {}, "alpha": 0.05}
    honest, relabelled = (compare(claims, [pair], baseline, **told)[0]["comparison"] for pair in (there, one))
    assert honest["outcome"] == relabelled["outcome"] == "regressed"
    assert (honest["interval"], honest["sees"]) == (relabelled["interval"], relabelled["sees"])
    assert "whose labels count: 80 (p000, p001" in relabelled["reason"]


def test_of_other_estimates_items_with_a_value_in_one_run_are_lost():
    sides = []
    for names in (ids(40), ids(30)):
        claim = paired(OLD[: len(names)], names=names)
        claim["details"]["estimate"] = "made up"
        sides.append(record([claim], [pair_of(ids(40))]))
    held = compare(sides[1].claims, sides[1].pairs, sides[0], name="good", margins={"a.first": 9.0}, alpha=0.05)
    assert held[0]["comparison"]["outcome"] == "inconclusive"
    assert "10 of 40 prompts, more than 2 %, have a value in one run only" in held[0]["comparison"]["reason"]


def test_a_claim_that_the_baseline_lacks_is_not_compared():
    baseline = record([paired(OLD)], [pair_of(ids(N))])
    new = record([paired(OLD, finding=replace(FINDING, id="a.new"))], [pair_of(ids(N))])
    held = compare(new.claims, new.pairs, baseline, name="good", margins={}, alpha=0.05)[0]["comparison"]
    assert (held["outcome"], held["reason"]) == ("not_compared", "The baseline does not make this claim.")


@pytest.mark.numerics
def test_two_sample_change_on_the_same_groups_is_welch_of_the_changes():
    from scipy import stats

    rng = np.random.default_rng(5)
    low, high = rng.normal(size=30), rng.normal(1, 2, size=50)
    moved = rng.normal(0, 0.3, size=30), rng.normal(0.2, 0.5, size=50)
    names = tuple(f"l{k}" for k in range(30)), tuple(f"h{k}" for k in range(50))

    def arms(a, b):
        return (Arm(label="l", ids=names[0], values=a), Arm(label="h", ids=names[1], values=b))

    old, new = arms(low, high), arms(low + moved[0], high + moved[1])
    found = two_sample_change(old, new, clusters=None, level=0.95)
    naive = stats.ttest_ind(moved[1], moved[0], equal_var=False)
    assert found.effect == pytest.approx(moved[1].mean() - moved[0].mean())
    assert found.effect / found.standard_error == pytest.approx(naive.statistic)
    assert found.interval[0] <= naive.confidence_interval(0.95).low  # fewer degrees of freedom than Welch's


@pytest.mark.numerics
def test_the_change_of_estimates_adds_their_errors_in_quadrature():
    found = independent_change((0.5, 0.3), (0.1, 0.4), n=50, clusters=50, level=0.95)
    assert found.effect == pytest.approx(-0.4)
    assert found.standard_error == pytest.approx(0.5)
    assert np.isnan(independent_change((0.5, None), (0.1, 0.4), n=50, clusters=50, level=0.95).interval[0])


def test_the_margin_is_the_baselines_smallest_effect_of_interest():
    wide = replace(FINDING, sesoi=0.5)
    baseline = record([paired(OLD)], [pair_of(ids(N))])
    new = record([paired(OLD + NOISE - 0.3, finding=wide)], [pair_of(ids(N), tuned="next")])
    held = compare(new.claims, new.pairs, baseline, name="good", margins={}, alpha=0.05)[0]["comparison"]
    assert (held["margin"], held["outcome"]) == (FINDING.sesoi, "regressed")
