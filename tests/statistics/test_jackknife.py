"""The delete-a-group jackknife: equal to t on means, Fisher's z on correlations, and refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tuneshift.statistics.estimates import weighted_auc
from tuneshift.statistics.interval_reader import intervals_of
from tuneshift.statistics.intervals import StudentT
from tuneshift.statistics.jackknife import LogitT, LogitTChange, jackknife, jackknife_change


def mean_of(x: np.ndarray):
    return lambda w: (w @ x) / w.sum(axis=1)


@pytest.mark.numerics
def test_a_mean_has_the_one_sample_t_interval() -> None:
    x = np.random.default_rng(0).normal(size=12)
    found = jackknife(mean_of(x), [str(i) for i in range(12)], span=None)
    assert found.intervals is not None
    expected = stats.t.interval(0.95, 11, x.mean(), stats.sem(x))
    assert found.intervals.at(0.95) == pytest.approx(expected)


@pytest.mark.numerics
def test_clusters_leave_together() -> None:
    x = np.random.default_rng(1).normal(size=(8, 3))
    found = jackknife(mean_of(x.ravel()), [str(g) for g in range(8) for _ in range(3)], span=None)
    assert found.standard_error == pytest.approx(float(stats.sem(x.mean(axis=1))))
    assert found.clusters == 8


@pytest.mark.numerics
def test_on_the_logit_a_share_is_read_back_inside_its_range() -> None:
    x = np.random.default_rng(2).random(10) * 0.2 + 0.8
    found = jackknife(mean_of(x), [str(i) for i in range(10)], span=(0.0, 1.0))
    assert isinstance(found.intervals, LogitT)
    low, high = found.intervals.at(0.99)
    assert 0 < low < x.mean() < high < 1
    left_out = np.array([np.delete(x, i).mean() for i in range(10)])
    z = np.log(left_out / (1 - left_out))
    error = math.sqrt(9 / 10 * np.sum((z - z.mean()) ** 2))
    centre = math.log(x.mean() / (1 - x.mean()))
    reach = stats.t.ppf(0.995, 9) * error
    assert (low, high) == pytest.approx(tuple(1 / (1 + math.exp(-e)) for e in (centre - reach, centre + reach)))


@pytest.mark.numerics
def test_p_is_the_error_rate_at_which_the_interval_ends() -> None:
    found = jackknife(mean_of(np.linspace(-0.5, 0.9, 9)), [str(i) for i in range(9)], span=(-1.0, 1.0)).intervals
    assert isinstance(found, LogitT)
    assert found.at(1 - found.p(0.0))[0] == pytest.approx(0.0)


def test_complete_separation_has_no_interval() -> None:
    values, high = np.arange(12.0), np.arange(12) >= 6
    found = jackknife(weighted_auc(values, high), [str(i) for i in range(12)], span=(0.0, 1.0))
    assert (found.effect, found.intervals) == (1.0, None)
    assert "at an end of its range" in str(found.reason)


def test_a_statistic_that_needs_each_cluster_has_no_interval() -> None:
    found = jackknife(weighted_auc(np.arange(6.0), np.arange(6) == 2), [str(i) for i in range(6)], span=(0.0, 1.0))
    assert found.intervals is None
    assert "no value" in str(found.reason)


def test_one_cluster_has_no_interval() -> None:
    assert jackknife(mean_of(np.arange(3.0)), ["a"] * 3, span=None).intervals is None


def test_a_statistic_that_does_not_move_has_no_interval() -> None:
    assert jackknife(mean_of(np.ones(9)), [str(i) for i in range(9)], span=None).intervals is None


def test_records_give_the_same_intervals_again() -> None:
    inner = StudentT(effect=0.3, error=0.2, freedom=14, units=15)
    found = LogitT(inner=inner, low=-1.0, high=1.0)
    assert intervals_of(found.plain()) == found


def correlations(seed: int, n: int, r: float, shared: float):
    """Estimates of two correlations that share part of their noise."""
    from tuneshift.statistics.estimates import weighted_spearman

    rng = np.random.default_rng(seed)
    x, e, f = rng.normal(size=(3, n))
    mixed = math.sqrt(shared) * e + math.sqrt(1 - shared) * f
    return weighted_spearman(x, 0.5 * x + e), weighted_spearman(x, r * x + mixed)


def test_no_change_of_the_same_statistic_has_no_interval_and_a_small_one_a_small_one() -> None:
    before, after = correlations(0, 40, 0.5, 0.99)
    labels = [str(i) for i in range(40)]
    close = jackknife_change(before, after, labels, span=(-1.0, 1.0))
    apart = jackknife_change(before, correlations(1, 40, 0.5, 0.0)[1], labels, span=(-1.0, 1.0))
    assert close.intervals is not None
    assert apart.intervals is not None
    widths = [high - low for low, high in (side.intervals.at(0.95) for side in (close, apart))]
    assert widths[0] < widths[1] / 3
    # Two intervals that cancel are no certainty: no variance of the change was seen.
    for span in (None, (-1.0, 1.0)):
        same = jackknife_change(before, before, labels, span=span)
        assert (same.effect, same.intervals) == (0.0, None)
        assert same.reason == "leaving out a cluster does not move the statistic"


@pytest.mark.numerics
def test_change_of_independent_statistics_joins_their_ends() -> None:
    inner = StudentT(effect=0.3, error=0.2, freedom=30, units=31)
    before, after = LogitT(inner=inner, low=-1.0, high=1.0), LogitT(inner=inner, low=-1.0, high=1.0)
    low, high = after.at(0.95)
    found = LogitTChange(before=before, after=after, correlation=0.0).at(0.95)
    reach = math.hypot(after.effect - low, high - after.effect)
    assert found == pytest.approx((-reach, reach))
    same = LogitTChange(before=before, after=after, correlation=1.0).at(0.95)
    assert same[1] - same[0] < 0.1 * (found[1] - found[0])
    assert intervals_of(LogitTChange(before=before, after=after, correlation=0.4).plain()) == LogitTChange(
        before=before, after=after, correlation=0.4
    )


@pytest.mark.numerics
def test_change_without_a_range_is_the_jackknife_of_the_difference() -> None:
    x, y = np.random.default_rng(3).normal(size=(2, 15))
    found = jackknife_change(mean_of(x), mean_of(y), [str(i) for i in range(15)], span=None)
    assert found.effect == pytest.approx(float(np.mean(y - x)))
    assert found.standard_error == pytest.approx(float(stats.sem(y - x)))


def test_change_has_no_interval_where_one_statistic_is_at_its_end() -> None:
    values, high = np.arange(12.0), np.arange(12) >= 6
    mixed = weighted_auc(np.random.default_rng(4).normal(size=12), high)
    found = jackknife_change(weighted_auc(values, high), mixed, [str(i) for i in range(12)], span=(0.0, 1.0))
    assert found.intervals is None
    assert "at an end of its range" in str(found.reason)
