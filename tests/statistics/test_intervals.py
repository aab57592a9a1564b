"""Intervals at every level: equal to what statistics give at that level, nested, and the same when read back."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest

from tuneshift.errors import RecordError
from tuneshift.quantities.following import share_of
from tuneshift.statistics.bootstrap import bootstrap_statistic
from tuneshift.statistics.differences import equivalence, paired_difference, two_sample_difference
from tuneshift.statistics.estimates import jackknife_statistic, weighted_spearman
from tuneshift.statistics.interval_reader import intervals_of
from tuneshift.statistics.intervals import (
    AllWithin,
    AtBound,
    Bca,
    Expanded,
    Intervals,
    NoIntervals,
    StudentT,
    TwoOneSided,
    Wilson,
    fewest_clusters,
    p_value,
    smallest_error,
)
from tuneshift.statistics.statistic import Arm

LEVELS = (0.8, 0.9, 0.95, 0.99, 0.997)
RNG = np.random.default_rng(3)
T = StudentT(effect=0.2, error=0.1, freedom=24.0, units=25.0)
KINDS: dict[str, Intervals] = {
    "none": NoIntervals(),
    "t": T,
    "t, all agree": StudentT(effect=0.0, error=0.0, freedom=9.0, units=10.0),
    "bound": AtBound(end=0.5, scale=1.0, units=20),
    "wilson": Wilson(share=0.7, n=31.5, chance=0.5, units=40.0),
    "bca": Bca.of(RNG.normal(0.3, 0.1, size=9999), bias=0.05, acceleration=0.01, units=30.0),
    "two one-sided": TwoOneSided(inner=T),
    "expanded": Expanded(
        inner=Bca.of(RNG.normal(0.3, 0.1, size=9999), bias=0.0, acceleration=0.0, units=30.0), units=30.0
    ),
    "all within": AllWithin(of=(TwoOneSided(inner=T), TwoOneSided(inner=T)), margin=0.1),
}


def arms(n: int) -> tuple[Arm, Arm, list[str]]:
    ids = tuple(f"p{i}" for i in range(n))
    base = RNG.normal(size=n)
    tuned = base + RNG.normal(0.3, 1.0, size=n)
    return (
        Arm(label="base", ids=ids, values=base),
        Arm(label="tuned", ids=ids, values=tuned),
        [f"c{i // 2}" for i in range(n)],
    )


def mean_of(values):
    return lambda weights: (weights * values).sum(axis=1) / weights.sum(axis=1)


STATISTICS = {
    "paired": lambda a, b, c, level: paired_difference(a, b, clusters=c, level=level),
    "equivalence": lambda a, b, c, level: equivalence(a, b, clusters=c, level=level, margin=0.5),
    "two samples": lambda a, b, c, level: two_sample_difference(
        a, b, clusters=dict(zip(a.ids, c, strict=True)), level=level
    ),
    "bootstrap": lambda a, b, c, level: bootstrap_statistic(
        mean_of(b.values - a.values), arms=(a, b), clusters=c, level=level, seed=1, resamples=999
    ),
    "correlation": lambda a, b, c, level: jackknife_statistic(
        weighted_spearman(a.values, b.values), arms=(a, b), clusters=c, level=level, span=(-1.0, 1.0)
    ),
    "share": lambda a, b, c, level: share_of(
        Arm(label="won", ids=a.ids, values=(b.values > a.values).astype(float)), c, level
    ),
}


@pytest.mark.numerics
@pytest.mark.parametrize("name", STATISTICS)
def test_a_statistic_at_one_level_knows_its_interval_at_another(name):
    base, tuned, clusters = arms(60)
    first = STATISTICS[name](base, tuned, clusters, 0.95)
    for level in LEVELS:
        there = STATISTICS[name](base, tuned, clusters, level)
        assert first.intervals.at(level) == pytest.approx(there.interval, nan_ok=True)
        assert first.intervals.coverage(level) == pytest.approx(there.level)


@pytest.mark.parametrize("name", KINDS)
def test_plain_form_survives_json_and_gives_the_same_intervals(name):
    again = intervals_of(json.loads(json.dumps(KINDS[name].plain(), allow_nan=False)))
    for level in LEVELS:
        assert np.array_equal(again.at(level), KINDS[name].at(level), equal_nan=True)
        assert again.coverage(level) == KINDS[name].coverage(level)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "none"])
def test_higher_levels_hold_lower_ones(name):
    found = [KINDS[name].at(level) for level in LEVELS]
    for (low, high), (lower, higher) in pairwise(found):
        assert math.isnan(lower) or (lower <= low <= high <= higher)


@pytest.mark.parametrize("level", LEVELS)
def test_too_few_units_have_no_interval(level):
    few = fewest_clusters(level) - 0.5
    assert math.isnan(StudentT(effect=0.1, error=0.1, freedom=5.0, units=few).at(level)[0])
    assert math.isfinite(StudentT(effect=0.1, error=0.1, freedom=5.0, units=few + 1).at(level)[0])


@pytest.mark.numerics
def test_bca_equals_the_quantiles_of_all_resamples():
    drawn = np.random.default_rng(5).normal(size=9999)
    plain = Bca.of(drawn, bias=0.0, acceleration=0.0, units=50.0)
    for level in LEVELS:
        ends = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        assert plain.at(level) == pytest.approx(ends)


def test_a_bound_between_the_tails_takes_the_wider_end():
    drawn = np.random.default_rng(5).normal(size=999)
    low, high = Bca.of(drawn, bias=0.0, acceleration=0.0, units=50.0).at(0.5)
    ends = np.quantile(drawn, [0.25, 0.75])
    assert low < ends[0] < ends[1] < high


def equivalence_of(effect: float, error: float) -> TwoOneSided:
    return TwoOneSided(inner=StudentT(effect=effect, error=error, freedom=30.0, units=31.0))


def test_of_several_within_the_margin_the_farthest_decides_without_a_correction():
    near, far = equivalence_of(0.1, 0.1), equivalence_of(-0.4, 0.1)
    for level in LEVELS:
        assert AllWithin(of=(near, far), margin=2.0).at(level) == far.at(level)
        assert AllWithin(of=(near, far), margin=2.0).coverage(level) == far.coverage(level)


def test_of_several_one_that_lies_outside_decides_though_another_reaches_farther():
    outside, wide = equivalence_of(0.5, 0.05), equivalence_of(0.0, 1.0)
    both = AllWithin(of=(wide, outside), margin=0.1)
    assert both.deciding(0.95)[0] == 1
    assert both.at(0.95) == outside.at(0.975)  # two chances to err
    assert both.coverage(0.95) == outside.coverage(0.975)
    below = AllWithin(of=(wide, equivalence_of(-0.5, 0.05), outside, TwoOneSided(inner=NoIntervals())), margin=0.1)
    assert below.at(0.95)[1] < -0.1


def test_one_that_lies_outside_before_the_correction_alone_decides_nothing():
    nearly = equivalence_of(0.1 + 0.1 * 1.8, 0.1)  # t(30) is 1.70 at 5 % and 2.04 at 2.5 %
    assert nearly.at(0.95)[0] > 0.1
    both = AllWithin(of=(equivalence_of(0.0, 0.05), nearly), margin=0.1)
    assert both.at(0.95)[0] < 0.1 < both.at(0.95)[1]


def test_one_without_an_interval_keeps_the_others_from_deciding_that_all_are_within():
    both = AllWithin(of=(equivalence_of(0.0, 0.01), TwoOneSided(inner=NoIntervals())), margin=0.1)
    assert math.isnan(both.at(0.95)[0])


def test_several_at_the_margin_are_said_to_lie_outside_no_more_often_than_one_error_in_twenty():
    rng, runs, outside = np.random.default_rng(11), 2000, 0
    for _ in range(runs):
        parts = []
        for _ in range(4):
            sample = rng.normal(0.1, 0.2, size=31)
            error = float(sample.std(ddof=1) / math.sqrt(31))
            parts.append(equivalence_of(float(sample.mean()), error))
        outside += AllWithin(of=tuple(parts), margin=0.1).at(0.95)[0] > 0.1
    assert outside / runs < 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    assert outside / runs > 0.03  # it is no shy rule either


@pytest.mark.parametrize("plain", [{"kind": "t"}, {"kind": "normal"}, {}, {"kind": "bca", "low": 3, "high": ""}])
def test_a_form_that_is_not_ours_is_an_error_that_says_so(plain):
    with pytest.raises(RecordError, match="cannot be read"):
        intervals_of(plain)


@pytest.mark.numerics
@pytest.mark.parametrize("value", [0.0, 0.15, -0.4])
def test_a_closed_p_is_the_rate_at_which_the_interval_ends_there(value):
    wide = StudentT(effect=0.2, error=0.1, freedom=99.0, units=100.0)
    found = smallest_error(wide, lambda low, high: not low <= value <= high)
    assert p_value(wide, value) == pytest.approx(found) if found is not None else p_value(wide, value) > 0.49
    # A kind without a closed form: the search is the p.
    assert p_value(TwoOneSided(inner=wide), value) == (found and pytest.approx(found / 2)) or found is None
