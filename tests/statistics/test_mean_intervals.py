"""Which interval a mean gets, and that on plain data it is the textbook's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tuneshift.statistics.bounded import BoundedDifference, BoundedMean, BoundedT
from tuneshift.statistics.intervals import NoIntervals
from tuneshift.statistics.mean_intervals import difference_intervals, mean_intervals, move_of_mean
from tuneshift.statistics.tail_error import SkewedT

pytestmark = pytest.mark.numerics


def own(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def test_symmetric_values_have_the_one_sample_t_interval() -> None:
    x = np.r_[np.linspace(-1, 1, 31), 0.2 - np.linspace(-1, 1, 31)]
    expected = stats.t.interval(0.95, 61, x.mean(), stats.sem(x))
    assert mean_intervals(x, own(62), span=None, rounding=0.0).at(0.95) == pytest.approx(expected)


def test_welchs_interval_of_two_groups() -> None:
    rng = np.random.default_rng(0)
    half_a, half_b = rng.normal(size=20), rng.normal(size=31)
    a, b = np.r_[half_a, -half_a], 2 + np.r_[half_b, -half_b]  # symmetric, so without skewness
    found = difference_intervals(a, b, own(102), span=None, rounding=0.0)
    expected = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    assert found.at(0.95) == pytest.approx((expected.low, expected.high))


def test_without_variance_only_a_range_gives_an_interval() -> None:
    x = np.full(8, 0.25)
    assert isinstance(mean_intervals(x, own(8), span=None, rounding=1e-15), NoIntervals)
    bounded = mean_intervals(x, own(8), span=(-1, 1), rounding=1e-15)
    assert isinstance(bounded, BoundedMean)
    assert bounded.at(0.95)[0] < 0.25 < bounded.at(0.95)[1]


def test_six_prompts_that_agree_decide_nothing_small() -> None:
    low, high = mean_intervals(np.zeros(6), own(6), span=(-1, 1), rounding=0.0).at(0.95)
    assert high == pytest.approx(0.459, abs=0.001)  # six prompts, by hand to three digits
    assert low == pytest.approx(-high)


def test_kinds() -> None:
    x = np.random.default_rng(1).random(30)
    assert isinstance(mean_intervals(x, own(30), span=None, rounding=0.0), SkewedT)
    assert isinstance(mean_intervals(x, own(30), span=(0, 1), rounding=0.0), BoundedT)
    two = difference_intervals(x[:12], x[12:], own(30), span=(0, 1), rounding=0.0)
    assert isinstance(two, BoundedT)
    assert isinstance(two.bounded, BoundedDifference)
    same = difference_intervals(np.ones(6), np.ones(7), own(13), span=(0, 1), rounding=1e-15)
    assert isinstance(same, BoundedDifference)
    assert isinstance(mean_intervals(x[:0], [], span=(0, 1), rounding=0.0), NoIntervals)


def test_one_cluster_has_the_widest_interval() -> None:
    found = mean_intervals(np.array([0.1, 0.4]), ["a", "a"], span=(0, 1), rounding=0.0)
    assert isinstance(found, BoundedMean)
    assert found.at(0.95) == pytest.approx(
        (0.25 * 0.025, 1 - 0.75 * 0.025), abs=1e-9
    )  # what Gaffke's bounds are solved to


def test_in_strata_the_variance_is_that_of_the_textbooks_stratified_mean() -> None:
    """sum of (n_s / N)^2 s_s^2 / n_s, with the strata's own variances (Cochran 1977, section 5.4)."""
    rng = np.random.default_rng(2)
    strata = np.repeat(["a", "b", "c"], [6, 10, 4])
    x = np.repeat([5.0, -3.0, 0.0], [6, 10, 4]) + rng.normal(size=20)
    parts = [x[strata == s] for s in "abc"]
    expected = sum((len(p) / 20) ** 2 * p.var(ddof=1) / len(p) for p in parts)
    found = move_of_mean(x, own(20), strata.tolist())
    assert float(found.influences @ found.influences) == pytest.approx(expected)
    shares = [(len(p) / 20) ** 2 * p.var(ddof=1) / len(p) for p in parts]
    below = sum(v**2 / (len(p) - 1) for v, p in zip(shares, parts, strict=True))
    assert found.freedom == pytest.approx(expected**2 / below)
    alike = move_of_mean(x, own(20), ["one"] * 20)
    plain = move_of_mean(x, own(20), None)
    np.testing.assert_allclose(alike.influences, plain.influences)
    assert alike.freedom == pytest.approx(plain.freedom) == pytest.approx(19)


def test_strata_of_one_cluster_are_taken_together() -> None:
    x = np.random.default_rng(3).normal(size=12)
    single, plain = (move_of_mean(x, own(12), strata) for strata in (own(12), None))
    np.testing.assert_allclose(single.influences, plain.influences)
    left = move_of_mean(x, own(12), [*["a"] * 11, "b"])
    np.testing.assert_allclose(left.influences, plain.influences)
    mixed = move_of_mean(x, own(12), [*["a"] * 6, *own(6)])
    np.testing.assert_allclose(mixed.influences, move_of_mean(x, own(12), [*["a"] * 6, *["b"] * 6]).influences)


def test_a_cluster_in_several_strata_moves_them_together() -> None:
    """Topics that two tasks share: the same values with both tasks' moves added."""
    x, strata = np.random.default_rng(4).normal(size=16), [*["a"] * 8, *["b"] * 8]
    apart = move_of_mean(x, own(16), strata)
    shared = move_of_mean(x, own(8) * 2, strata)
    np.testing.assert_allclose(shared.influences, apart.influences[:8] + apart.influences[8:])


def test_stratified_intervals_cover_what_fixed_tasks_lose() -> None:
    rng, hits, runs = np.random.default_rng(5), 0, 400
    effects = rng.normal(size=58)
    strata = [str(k // 6) for k in range(348)]
    for _ in range(runs):
        x = np.repeat(effects, 6) + rng.normal(size=348)
        low, high = mean_intervals(x, own(348), span=None, rounding=0.0, strata=strata).at(0.95)
        hits += low <= effects.mean() <= high
    assert stats.binom.ppf(0.001, runs, 0.95) <= hits <= stats.binom.ppf(0.999, runs, 0.95)
