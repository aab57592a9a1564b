"""Matched groups by permutation: against every permutation enumerated, theorems of the inversion, and error rates."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats

from tuneshift.statistics.interval_reader import intervals_of
from tuneshift.statistics.matched import CONTROLS, PermutationIntervals, fewest_sets, matched_difference, matched_sets
from tuneshift.statistics.statistic import Arm


def arm(label, values):
    values = np.asarray(values, dtype=np.float64)
    return Arm(label=label, ids=tuple(f"{label}{k}" for k in range(len(values))), values=values, span=(0.0, 1.0))


def compare(controls, cases, likeness=None, level=0.95, seed=1, permutations=4999):
    sides = arm("control", controls), arm("case", cases)
    given = likeness or {i: 0.0 for side in sides for i in side.ids}
    return matched_difference(*sides, likeness=given, level=level, seed=seed, permutations=permutations)


def test_controls_are_the_nearest_and_none_stands_twice():
    cases, controls = np.array([5.0, 1.0]), np.array([1.1, 4.8, 0.2, 5.1, 9.0])
    assert matched_sets(controls, cases).tolist() == [[0, 3], [1, 0]]
    wide = np.r_[controls, np.full(11, 50.0)]
    assert matched_sets(wide, cases).tolist() == [[0, 3, 1], [1, 0, 2]]
    many = matched_sets(np.arange(100.0), np.array([50.2]))
    assert many.shape == (1, 1 + CONTROLS)
    assert sorted(many[0, 1:].tolist()) == list(range(48, 53))
    # Fewer controls than cases: one each, and the last cases have none.
    assert matched_sets(np.array([3.0]), np.array([1.0, 2.0])).tolist() == [[1, 0]]
    assert len(matched_sets(np.zeros(0), np.array([1.0]))) == 0


@pytest.mark.numerics
def test_the_effect_is_the_difference_of_the_arms_it_shows():
    rng = np.random.default_rng(1)
    likeness = {f"case{k}": float(k) for k in range(5)} | {f"control{k}": k / 12 for k in range(60)}
    values = rng.random(60)
    found = compare(values, rng.random(5), likeness)
    controls, cases = found.arms
    assert found.effect == pytest.approx(cases.mean - controls.mean)
    assert (found.n, found.details["controls_per_case"], len(controls.ids)) == (5, 3, 15)
    assert all(values[int(i.removeprefix("control"))] == x for i, x in zip(controls.ids, controls.values, strict=True))


@pytest.mark.numerics
def test_bounds_and_p_are_those_of_the_test_itself():
    """By every labelling of five pairs: the interval holds the shifts that the naive test does not reject."""
    rng = np.random.default_rng(2)
    values = np.round(rng.random((5, 2)), 3)
    likeness = {f"{kind}{k}": 10.0 * k for k in range(5) for kind in ("case", "control")}
    far = {f"control{k}": 1e6 for k in range(5, 20)}  # to choose from, and nobody's match
    found = compare([*values[:, 1], *rng.random(15)], values[:, 0], likeness | far, level=0.8, permutations=40_000)

    def one_sided(shift, side):
        moved = values - np.array([shift, 0.0])
        seen = float(np.mean(moved[:, 0] - moved[:, 1]))
        labels = [float(np.mean(np.where(choice, -1, 1) * (moved[:, 0] - moved[:, 1])))
                  for choice in itertools.product((False, True), repeat=5)]  # fmt: skip
        return np.mean([side * value >= side * seen - 1e-12 for value in labels])

    low, high = found.interval
    for side, end in ((1, low), (-1, high)):
        assert one_sided(end - side * 0.004, side) <= 0.1 + 0.005
        assert one_sided(end + side * 0.004, side) > 0.1 - 0.005
    assert found.p == pytest.approx(
        min(1.0, 2 * min(one_sided(0.0, 1), one_sided(0.0, -1))), abs=0.01
    )  # 4,999 permutations against all
    assert low < found.effect < high


@pytest.mark.numerics
def test_a_shift_moves_effect_and_interval_by_itself_and_exchanging_signs_mirrors_them():
    rng = np.random.default_rng(3)
    controls, cases = rng.random(80), rng.random(12)
    found, moved = compare(controls, cases), compare(controls, cases + 0.3)
    assert moved.effect == pytest.approx(found.effect + 0.3)
    assert moved.interval == pytest.approx(
        tuple(end + 0.3 for end in found.interval), abs=1e-6
    )  # ends are found to this
    mirrored = compare(-controls, -cases)
    assert mirrored.interval == pytest.approx((-found.interval[1], -found.interval[0]), abs=1e-6)  # as above
    assert found.standard_error == pytest.approx(moved.standard_error)


def test_intervals_grow_with_their_level_and_come_back_from_a_record():
    rng = np.random.default_rng(4)
    found = compare(rng.random(80), rng.random(12))
    ends = [found.intervals.at(level) for level in (0.5, 0.8, 0.9, 0.95, 0.975, 0.99, 0.998)]
    assert all(b[0] <= a[0] < a[1] <= b[1] for a, b in itertools.pairwise(ends))
    assert math.isnan(found.intervals.at(1 - 1e-4)[0])  # no tail of 4,999 permutations is that small
    again = intervals_of(json.loads(json.dumps(found.intervals.plain())))
    assert isinstance(again, PermutationIntervals)
    assert [again.at(level) for level in (0.8, 0.95)] == [found.intervals.at(level) for level in (0.8, 0.95)]
    assert compare(rng.random(80), rng.random(12)).interval != found.interval


def test_few_labellings_and_equal_values_decide_nothing():
    rng = np.random.default_rng(5)
    # Five pairs have 32 labellings: the one seen is never rarer than one in 32.
    assert math.isnan(compare(rng.random(20), 0.5 + 0.1 * rng.random(5)).interval[0])
    assert math.isfinite(compare(rng.random(24), 0.5 + 0.1 * rng.random(6)).interval[0])
    for equal in (compare(np.ones(40), np.ones(8)), compare(np.zeros(40), np.zeros(8))):
        assert (equal.effect, equal.n) == (0, 8)
        assert math.isnan(equal.interval[0])
        assert equal.details["no_interval"] == "no value differs within its set"
    nothing = compare([], [0.5])
    assert nothing.n == 0
    assert math.isnan(nothing.p)


def test_the_share_of_false_alarms_is_the_stated_one_where_verbs_depend_on_their_frequency():
    """Win rates fall with frequency, and the cases are frequent: Welch takes that for an effect, sets do not."""
    rng, runs, alpha = np.random.default_rng(6), 100, 0.05
    wrong, welch = 0, 0
    for run in range(runs):
        places = rng.permutation(400)
        likeness = -np.log1p(places)
        values = np.clip(0.5 - 0.08 * (likeness + 5) + 0.15 * rng.normal(size=400), 0, 1)
        # The more frequent a verb, the likelier it is an instruction verb; within a frequency nobody is preferred.
        cases = rng.choice(400, size=20, replace=False, p=np.exp(likeness / 2) / np.exp(likeness / 2).sum())
        is_case = np.isin(np.arange(400), cases)
        given = {f"case{k}": x for k, x in enumerate(likeness[is_case])}
        given |= {f"control{k}": x for k, x in enumerate(likeness[~is_case])}
        found = compare(values[~is_case], values[is_case], given, level=1 - alpha, seed=run, permutations=199)
        wrong += not found.interval[0] <= 0 <= found.interval[1]
        welch += stats.ttest_ind(values[is_case], values[~is_case], equal_var=False).pvalue < alpha
    assert welch > stats.binom.ppf(0.999, runs, 0.2)
    assert wrong <= stats.binom.ppf(0.999, runs, alpha)


def test_with_fewer_than_four_controls_a_case_nothing_is_decided_and_the_number_that_it_takes_is_said():
    rng = np.random.default_rng(8)
    controls, cases = rng.random(48), rng.random(12)
    few = compare(controls[:47], cases)
    assert np.isnan(few.interval).all()
    assert math.isnan(few.p)
    assert few.details["no_interval"] == "12 case choose their matches among 47 control; it takes 48"
    assert few.effect == compare(controls[:47], cases, level=0.5).effect  # the effect is said all the same
    assert np.isfinite(compare(controls, cases).interval).all()


@pytest.mark.numerics
def test_a_planted_effect_is_found():
    rng = np.random.default_rng(7)
    found = compare(0.2 * rng.random(120), 0.3 + 0.2 * rng.random(12), level=0.975)
    assert 0.2 < found.interval[0] < found.effect < found.interval[1] < 0.4
    assert found.p == pytest.approx(2 / 5000)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.975, 0.99, 0.999])
def test_below_the_fewest_sets_there_is_never_an_interval_and_from_them_on_there_may_be(level):
    """Values as far apart as they go: what is missing is ways to label them."""
    fewest = fewest_sets(level)
    for sets in (fewest - 1, fewest):
        found = compare(np.zeros(200), np.ones(sets), level=level)
        assert found.details["controls_per_case"] == CONTROLS
        assert math.isfinite(found.interval[0]) is (sets == fewest)
