"""Shares of user tasks and linguistic levels on made-up annotations; annotator seeds as a random effect, simulated."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tuneshift.annotators.agreement import agreement, labelled_lists, level_errors, task_errors
from tuneshift.annotators.base import LEVELS, Label
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.claims.finding import Finding, Outcome
from tuneshift.claims.verdict import judge
from tuneshift.claims.view import NotApplicable, View
from tuneshift.pairs import ModelPair
from tuneshift.plain import plain
from tuneshift.quantities.concept_figures import level_shares_figure, task_shares_figure
from tuneshift.quantities.concept_shares import TASKS, category_shift, levels_shift, with_annotator_seeds
from tuneshift.statistics.differences import equivalence, paired_difference
from tuneshift.statistics.statistic import Arm
from tuneshift.store.evidence import EvidenceItem

PAIR = ModelPair(name="pair", base=ModelRef(name="b", model="b"), tuned=ModelRef(name="t", model="t"))
LAYERS, CONCEPTS = 12, 300
EVEN = (0.25, 0.25, 0.25, 0.25)


def annotated(*, tasks=None, levels=EVEN, seeds=1, wobble=0.0, seed=0, layers=LAYERS, abstained=0):
    """Annotations whose shares are the given ones in every layer, give or take a random ``wobble`` per layer."""
    rng = np.random.default_rng(seed)
    found = {}
    for i in range(layers):
        marks = np.zeros((seeds, CONCEPTS, 5), dtype=np.uint8)
        codes = np.full((seeds, CONCEPTS), -1, dtype=np.int8)
        for s in range(seeds):
            for name, share in (tasks or {}).items():
                count = round(CONCEPTS * (share + wobble * rng.standard_normal()))
                marks[s, rng.permutation(CONCEPTS)[:count], TASKS.index(name)] = 1
            marks[s, :, 4] = ~marks[s, :, :4].any(axis=1)
            edges = np.round(np.cumsum(levels) * (CONCEPTS - abstained)).astype(int)
            codes[s, : CONCEPTS - abstained] = np.searchsorted(edges, np.arange(CONCEPTS - abstained), side="right")
        found[f"layer.{i}"] = EvidenceItem(
            id=f"layer.{i}", arrays={"tasks": marks, "levels": codes}, values={"annotator": "test", "failed": 0}
        )
    return found


def view(base, tuned, level=0.95):
    sides = {("base", "annotation"): base, ("tuned", "annotation"): tuned}
    return View(pair=PAIR, prompts=(), items=lambda role, need: sides[role, need], level=level, seed=0,
                evidence_name=lambda role, need: str(id(sides[role, need])))  # fmt: skip


def finding(direction, sesoi):
    return Finding(
        id="who2024.what", title="t", claim="c", source="s", direction=direction, unit="share", sesoi=sesoi,
        sesoi_reason="r", how="h", needs=(("base", "annotation"), ("tuned", "annotation")), items="layers",
    )  # fmt: skip


@pytest.mark.numerics
def test_a_planted_gain_is_found_in_its_category_and_in_any():
    base = annotated(tasks={"writing": 0.2, "coding": 0.1}, wobble=0.01, seed=1)
    tuned = annotated(tasks={"writing": 0.4, "coding": 0.1}, wobble=0.01, seed=2)
    gains = {name: category_shift(name)(view(base, tuned)) for name in (*TASKS, "any")}
    assert gains["writing"].effect == pytest.approx(0.2, abs=0.01)  # wobbles of 0.01 over the layers
    assert gains["writing"].interval[0] > 0.15
    assert gains["coding"].effect == pytest.approx(0, abs=0.01)  # wobbles of 0.01 over the layers
    assert gains["math"].effect == 0
    assert gains["any"].interval[0] > 0.1
    assert gains["none"].effect == pytest.approx(-gains["any"].effect)
    assert [arm.label for arm in gains["any"].arms] == ["base", "tuned"]


def test_any_counts_a_concept_once_and_leaves_out_translation():
    marks = np.zeros((1, 4, 5), dtype=np.uint8)
    marks[0, 0, :3] = 1  # writing, coding and math
    marks[0, 1, 3] = 1  # translation
    marks[0, 2, 4] = 1  # none
    marks[0, 3, 1] = 1  # coding
    item = {f"layer.{i}": EvidenceItem(id=f"layer.{i}", arrays={"tasks": marks}) for i in range(LAYERS)}
    assert category_shift("any")(view(item, item)).arms[0].mean == 0.5
    assert category_shift("coding")(view(item, item)).arms[0].mean == 0.5
    assert category_shift("math")(view(item, item)).arms[0].mean == 0.25


def test_a_concept_that_the_annotator_failed_on_is_missing_and_not_none():
    marks = np.zeros((1, 4, 5), dtype=np.uint8)
    marks[0, 0, 0] = marks[0, 1, 4] = 1  # writing, none, and two without an answer
    item = {f"layer.{i}": EvidenceItem(id=f"layer.{i}", arrays={"tasks": marks}) for i in range(LAYERS)}
    assert category_shift("writing")(view(item, item)).arms[0].mean == 0.5
    item["layer.4"] = EvidenceItem(id="layer.4", arrays={"tasks": np.zeros_like(marks)})
    seen = view(item, item)
    assert category_shift("writing")(seen).n == LAYERS - 1
    assert seen.excluded == Counter({"layer without annotated concepts": 1})


def test_an_unknown_category_is_an_error_that_names_the_known():
    with pytest.raises(ValueError, match="writing, coding, math, translation, none, any; got 'poetry'"):
        category_shift("poetry")


def test_the_same_annotation_changes_nothing():
    base = annotated(tasks={"writing": 0.3}, wobble=0.05)
    found = category_shift("any")(view(base, base))
    assert found.effect == 0
    assert found.interval == (0, 0)
    assert judge(finding("greater", 0.02), found).outcome is Outcome.CONTRADICTED
    levels = levels_shift()(view(base, base))
    assert judge(finding("equivalent", 0.02), levels).outcome is Outcome.REPRODUCED


@pytest.mark.numerics
def test_the_level_that_changed_most_decides():
    base = annotated(levels=EVEN)
    # Phonology and morphology waver by less: a level that does not vary over layers would have the range's bound alone.
    rows = {
        i: annotated(levels=(0.25 + d, 0.25 - d, 0.15 + 0.002 * i, 0.35 - 0.002 * i), layers=LAYERS)
        for i in range(LAYERS)
        for d in [0.01 * (-1) ** i]
    }
    tuned = {f"layer.{i}": rows[i][f"layer.{i}"] for i in range(LAYERS)}
    found = levels_shift()(view(base, tuned))
    assert found.details["decided_by"] in ("syntax", "semantics")
    assert abs(found.effect) == pytest.approx(0.1 - 0.011, abs=0.005)  # half of the wobble
    assert list(found.details["levels"]) == list(LEVELS)
    assert found.details["levels"]["phonology"]["effect"] == pytest.approx(0, abs=0.005)  # half of the wobble
    assert found.details["p_equivalence"] == max(x["p_equivalence"] for x in found.details["levels"].values())
    assert judge(finding("equivalent", 0.02), found).outcome is not Outcome.REPRODUCED
    plain(found.details)


def swapped(*, lost: float, wobble: float, swap: float, layers: int = 40):
    """Annotations before and after: phonology loses to morphology, layers wavering, and syntax and semantics swap."""
    rng, tuned = np.random.default_rng(3), {}
    for i in range(layers):
        loss, shift = lost + wobble * rng.standard_normal(), np.clip(swap * rng.standard_normal(), -0.24, 0.24)
        shares = (0.25 - loss, 0.25 + loss, 0.25 + shift, 0.25 - shift)
        tuned[f"layer.{i}"] = replace(annotated(levels=shares, layers=1)["layer.0"], id=f"layer.{i}")
    return annotated(levels=EVEN, layers=layers), tuned


@pytest.mark.numerics
def test_a_level_wholly_outside_contradicts_though_another_reaches_farther():
    """Phonology loses three points; semantics and syntax swap a fifth to and fro, and reach farther."""
    found = levels_shift()(view(*swapped(lost=0.03, wobble=0.005, swap=0.2)))
    reach = {name: max(map(abs, row["interval"])) for name, row in found.details["levels"].items()}
    assert max(reach, key=reach.get) in ("syntax", "semantics")
    assert found.details["decided_by"] in ("phonology", "morphology")
    assert judge(finding("equivalent", 0.02), found).outcome is Outcome.CONTRADICTED
    # What is shown is one level: its effect, its arms, and at the claim's level its interval.
    low, high = found.intervals.at(0.95)
    assert low < found.effect < high
    assert found.arms[1].mean - found.arms[0].mean == pytest.approx(found.effect)


def test_the_level_that_decides_is_the_one_at_the_claims_level():
    base, tuned = swapped(lost=0.03, wobble=0.02, swap=0.2)
    alone = levels_shift()(replace(view(base, tuned), level=0.8))
    shared = levels_shift()(replace(view(base, tuned), level=0.8, family_size=50))
    assert alone.details["decided_by"] in ("phonology", "morphology")
    assert shared.details["decided_by"] in ("syntax", "semantics")
    for found, level in ((alone, 0.8), (shared, 1 - 0.2 / 50)):
        low, high = found.intervals.at(level)
        assert low < found.effect < high


@pytest.mark.numerics
def test_levels_are_shares_of_all_concepts_so_that_abstaining_is_seen():
    # A tuned checkpoint on which the annotator abstains more, with the same mix of what is left.
    base, tuned = annotated(levels=(0.5, 0.5, 0, 0)), annotated(levels=(0.5, 0.5, 0, 0), abstained=100)
    assert levels_shift()(view(base, tuned)).effect == pytest.approx(-0.5 * 100 / CONCEPTS)


def test_a_layer_on_which_the_annotator_always_failed_is_left_out_once():
    base = annotated()
    base["layer.2"].arrays["tasks"][:] = 0
    seen = view(base, annotated())
    assert levels_shift()(seen).n == LAYERS - 1
    assert seen.excluded == Counter({"layer without annotated concepts": 1})
    # Where it abstained, every list is on no level: that is a share of 0, and no gap.
    silent = annotated(abstained=CONCEPTS)
    assert levels_shift()(view(silent, silent)).n == LAYERS


class Rates:
    """An annotator of the labelled lists that keeps of each hand label what ``keep`` lets it."""

    identity = {"annotator": "rates"}  # noqa: RUF012
    seeds = (0,)

    def __init__(self, keep):
        self.keep = keep

    def annotate(self, lists, seed):
        known = {item.words: item.label for item in labelled_lists()}
        return [self.keep(known[tuple(words)], k) for k, words in enumerate(lists)]

    def notes(self):
        return []


def agreed(keep):
    return agreement(Rates(keep)).plain()


@pytest.mark.numerics
def test_a_shift_is_divided_by_what_the_annotator_sees():
    half = agreed(lambda label, k: label if k % 2 else Label(level=label.level))
    errors = task_errors(half, "writing")
    assert 0.3 < errors.index < 0.7
    base = annotated(tasks={"writing": 0.2}, wobble=0.01, seed=1)
    tuned = annotated(tasks={"writing": 0.3}, wobble=0.01, seed=2)
    counts = category_shift("writing")(view(base, tuned))
    found = category_shift("writing", agreement=half)(view(base, tuned))
    assert found.effect == pytest.approx(counts.effect / errors.index)
    assert found.interval[1] - found.interval[0] > (counts.interval[1] - counts.interval[0]) / errors.index
    assert found.details["annotator_errors"]["index"] == errors.index
    plain(found.details)


def test_any_has_rates_of_its_own():
    found = agreed(lambda label, k: Label(tasks=label.tasks - {"writing"}, level=label.level))
    writing, coding, either = (task_errors(found, name) for name in ("writing", "coding", "any"))
    assert (writing.index, coding.index) == (0, 1)
    suits = [item.label.tasks for item in labelled_lists() if item.half == "held-out"]
    asked = [tasks for tasks in suits if tasks & {"writing", "coding", "math"}]
    assert either.positives == len(asked)
    assert either.hits == sum(bool(tasks & {"coding", "math"}) for tasks in asked)
    assert either.false_alarms == 0


def test_seeds_do_not_multiply_the_lists():
    several = Rates(lambda label, k: label)
    several.seeds = (0, 1, 2)
    found, once = agreement(several).plain(), agreed(lambda label, k: label)
    assert task_errors(found, "math") == task_errors(once, "math")
    assert level_errors(found, "syntax") == level_errors(once, "syntax")


def test_a_category_that_the_annotator_may_be_blind_to_is_not_applicable():
    blind = agreed(lambda label, k: Label(tasks=label.tasks - {"coding"}, level=label.level))
    seen = view(annotated(tasks={"coding": 0.2}), annotated(tasks={"coding": 0.4}, seed=1))
    with pytest.raises(NotApplicable, match=r"the annotator cannot see this category: for coding, .* holds 0"):
        category_shift("coding", agreement=blind)(seen)
    assert category_shift("writing", agreement=blind)(seen).n == LAYERS


def test_equivalence_is_refused_under_kappa_06():
    """The levels of every second list are missed: kappa under 0.6, though no level is one that it cannot see."""
    poor = agreed(lambda label, k: label if k % 2 else Label(tasks=label.tasks))
    assert poor["levels"]["kappa"] < 0.6
    assert all(level_errors(poor, level).sees(0.95) for level in LEVELS)
    same = view(annotated(), annotated())
    with pytest.raises(NotApplicable, match=r"equivalence is not claimed by an annotator that agrees by kappa 0\.\d\d"):
        levels_shift(agreement=poor)(same)
    fair = agreed(lambda label, k: label if k % 6 else Label(tasks=label.tasks))
    assert fair["levels"]["kappa"] > 0.6
    assert levels_shift(agreement=fair)(same).effect == 0
    level_blind = agreed(lambda label, k: replace(label, level=None) if label.level == "syntax" else label)
    assert level_blind["levels"]["kappa"] > 0.6
    with pytest.raises(NotApplicable, match="cannot see this category: for syntax"):
        levels_shift(agreement=level_blind)(same)


@pytest.mark.parametrize("quantity", [category_shift("any"), levels_shift()])
def test_five_layers_have_the_interval_of_their_range_alone(quantity):
    base = annotated(tasks={"writing": 0.2}, layers=5)
    tuned = annotated(tasks={"writing": 0.4}, levels=(0.4, 0.2, 0.2, 0.2), layers=5)
    found = quantity(view(base, tuned))
    assert found.n == 5
    assert found.effect != 0
    assert found.standard_error == 0  # the layers agree
    low, high = found.interval
    assert low < 0 < high  # and could be five that happen to


def test_recorded_evidence_without_annotation_and_unequal_seeds_are_not_applicable():
    quantity = category_shift("any")
    with pytest.raises(NotApplicable, match="base checkpoint has no annotation"):
        quantity(view(None, annotated()))
    with pytest.raises(NotApplicable, match="different numbers of seeds"):
        quantity(view(annotated(seeds=2), annotated(seeds=3)))
    assert task_shares_figure(view(None, annotated())) is None


def paired_by_seed(rng, layers, seeds, *, layer_sd, seed_sd, noise_sd):
    """Differences [layer, seed] with true mean 0."""
    return (
        layer_sd * rng.standard_normal((layers, 1))
        + seed_sd * rng.standard_normal((1, seeds))
        + noise_sd * rng.standard_normal((layers, seeds))
    )


def statistic_of(differences, level=0.95):
    ids = tuple(f"layer.{i}" for i in range(len(differences)))
    zero = Arm(label="base", ids=ids, values=np.zeros(len(ids)))
    means = Arm(label="tuned", ids=ids, values=differences.mean(axis=1))
    return paired_difference(zero, means, clusters=ids, level=level)


@pytest.mark.parametrize(("layer_sd", "seed_sd", "noise_sd"), [(1, 1, 0), (1, 0.3, 0.5), (0.2, 1, 0.2), (1, 0, 1)])
def test_widened_intervals_hold_the_truth_as_often_as_they_say(layer_sd, seed_sd, noise_sd):
    rng = np.random.default_rng(4)
    runs, held = 1000, 0
    for _ in range(runs):
        y = paired_by_seed(rng, 16, 5, layer_sd=layer_sd, seed_sd=seed_sd, noise_sd=noise_sd)
        low, high = with_annotator_seeds(statistic_of(y), y.mean(axis=0)).interval
        held += low <= 0 <= high
    # Never less than stated (three Monte-Carlo errors), whichever source of variance is the larger.
    assert held / runs > 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs)


def test_without_the_widening_seeds_make_false_alarms():
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(500):
        low, high = statistic_of(paired_by_seed(rng, 16, 5, layer_sd=0.2, seed_sd=1, noise_sd=0.2)).interval
        held += low <= 0 <= high
    assert held / 500 < 0.6


@pytest.mark.numerics
def test_the_widened_error_is_the_root_of_both_variances():
    y = paired_by_seed(np.random.default_rng(6), 60, 5, layer_sd=1, seed_sd=1, noise_sd=0.5)
    plain_error = statistic_of(y).standard_error
    found = with_annotator_seeds(statistic_of(y), y.mean(axis=0))
    between = np.var(y.mean(axis=0), ddof=1) / 5
    assert found.standard_error == pytest.approx(math.sqrt(plain_error**2 + between))
    assert found.details["sd_between_seeds"] == pytest.approx(np.std(y.mean(axis=0), ddof=1))
    assert found.interval[0] < statistic_of(y).interval[0] < statistic_of(y).interval[1] < found.interval[1]
    assert found.p > statistic_of(y).p
    assert "5 annotator seeds" in found.method


def test_one_seed_and_seeds_that_agree_change_nothing():
    y = paired_by_seed(np.random.default_rng(7), 12, 1, layer_sd=1, seed_sd=0, noise_sd=0)
    found = statistic_of(y)
    assert with_annotator_seeds(found, y.mean(axis=0)) is found
    assert with_annotator_seeds(found, np.array([0.5, 0.5])) is found


def test_without_an_interval_there_is_no_p():
    y = np.abs(paired_by_seed(np.random.default_rng(7), 5, 3, layer_sd=1, seed_sd=1, noise_sd=0.1)) + 1
    ids = tuple(f"layer.{i}" for i in range(5))
    arms = [Arm(label=x, ids=ids, values=v) for x, v in (("base", np.zeros(5)), ("tuned", y.mean(axis=1)))]
    found = with_annotator_seeds(equivalence(*arms, clusters=ids, level=0.99, margin=0.02), y.mean(axis=0))
    assert found.details["annotator_seeds"] == 3
    assert math.isnan(found.interval[0])  # five layers are too few for 98 %
    assert math.isnan(found.p)
    assert math.isnan(found.details["p_equivalence"])


def test_the_equivalence_p_is_widened_with_its_interval():
    y = 0.01 * paired_by_seed(np.random.default_rng(8), 12, 5, layer_sd=1, seed_sd=1, noise_sd=0)
    ids = tuple(f"layer.{i}" for i in range(12))
    arms = [Arm(label=x, ids=ids, values=v) for x, v in (("base", np.zeros(12)), ("tuned", y.mean(axis=1)))]
    for margin in (0.001, 0.01, 0.02, 0.05):
        tested = equivalence(*arms, clusters=ids, level=0.95, margin=margin)
        found = with_annotator_seeds(tested, y.mean(axis=0))
        inside = -margin < found.interval[0] and found.interval[1] < margin
        assert inside == (found.details["p_equivalence"] < 0.05)
        assert found.details["p_equivalence"] > tested.details["p_equivalence"] or not inside


@pytest.mark.numerics
def test_a_quantity_uses_the_seeds():
    base = annotated(tasks={"writing": 0.3}, seeds=5, wobble=0.02, seed=1)
    tuned = annotated(tasks={"writing": 0.35}, seeds=5, wobble=0.02, seed=2)
    found = category_shift("writing")(view(base, tuned))
    assert found.details["annotator_seeds"] == 5
    assert found.effect == pytest.approx(0.05, abs=0.02)  # wobbles of 0.02 over the layers


@pytest.mark.numerics
def test_the_figures_give_both_sides_with_intervals():
    base, tuned = (annotated(tasks={"math": share}, wobble=0.02, seed=s) for s, share in ((1, 0.2), (2, 0.4)))
    tasks, levels = task_shares_figure(view(base, tuned)), level_shares_figure(view(base, tuned))
    assert [row["label"] for row in tasks["rows"]] == ["any", *TASKS]
    assert [row["label"] for row in levels["rows"]] == list(LEVELS)
    low, high = tasks["rows"][3]["points"]
    assert (low["label"], high["label"]) == ("base", "tuned")
    assert low["value"] == pytest.approx(0.2, abs=0.02)  # wobbles of 0.02 over the layers
    assert low["low"] < low["value"] < low["high"] < high["low"] < high["value"]
    assert low["n"] == LAYERS
    # Three layers: the bound of the range.
    few = task_shares_figure(view(annotated(layers=3), annotated(layers=3)))
    point = few["rows"][0]["points"][0]
    assert point["high"] - point["low"] > 0.5
    plain([tasks, levels, few])
