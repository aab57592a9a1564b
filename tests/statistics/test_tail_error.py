"""Skewness of an estimate, the Edgeworth terms against simulation, and the interval that follows from them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tuneshift.statistics.clustered import mean_influence
from tuneshift.statistics.interval_reader import intervals_of
from tuneshift.statistics.tail_error import (
    SkewedT,
    estimate_skewness,
    first_order_error,
    second_order_error,
    smallest_trusted_error,
)

pytestmark = pytest.mark.numerics


def test_skewness_of_single_items_is_g1_over_root_n() -> None:
    x = np.random.default_rng(0).exponential(size=50)
    found = estimate_skewness(mean_influence(x, np.arange(50), 50), 50)
    assert found == pytest.approx(stats.skew(x, bias=False) / math.sqrt(50))


def test_first_term_is_the_excess_of_a_large_sample() -> None:
    # Exponential values have skewness 2. At n = 400 the t interval's upper tail at 95 % errs by the first term, within
    # a fifth of it and the Monte-Carlo error.
    rng, n, runs = np.random.default_rng(1), 400, 20_000
    x = rng.exponential(size=(runs, n))
    t = (x.mean(axis=1) - 1) / x.std(axis=1, ddof=1) * math.sqrt(n)
    excess = float(np.mean(t < -stats.t.ppf(0.975, n - 1))) - 0.025
    said = first_order_error(2 / math.sqrt(n), 0.95)
    assert excess == pytest.approx(said, abs=0.2 * said + 3 * math.sqrt(0.033 / runs))


def test_errors_grow_with_the_level_against_the_tail() -> None:
    for error in (first_order_error, second_order_error):
        shares = [error(0.2, 1 - e) / e for e in (0.2, 0.05, 0.0125, 0.005, 1e-4)]
        assert shares == sorted(shares)


def test_trust_ends_where_the_second_term_is_half_of_the_tail() -> None:
    error = smallest_trusted_error(0.35)
    assert second_order_error(0.35, 1 - error) == pytest.approx(error / 4)
    assert smallest_trusted_error(50.0) == 0.5
    assert smallest_trusted_error(0.0) < 1e-12
    assert smallest_trusted_error(math.nan) == 0.5


def symmetric(skewness: float = 0.0, units: float = 40.0) -> SkewedT:
    return SkewedT(effect=0.3, error=0.1, freedom=units - 1, units=units, skewness=skewness)


def test_without_skewness_it_is_t() -> None:
    reach = 0.1 * stats.t.ppf(0.995, 39)
    assert symmetric().at(0.99) == pytest.approx((0.3 - reach, 0.3 + reach))


def test_a_long_upper_tail_moves_the_upper_end_out_and_never_the_lower_end_in() -> None:
    low, high = symmetric().at(0.95)
    skewed_low, skewed_high = symmetric(0.2).at(0.95)
    assert skewed_high > high + 0.01
    assert skewed_low == pytest.approx(low)
    assert symmetric(-0.2).at(0.95) == pytest.approx((0.6 - skewed_high, 0.6 - skewed_low))


def test_the_transformation_undoes_its_inverse() -> None:
    found = symmetric(0.25)
    _, high = found.at(0.95)
    t = (0.3 - high) / 0.1
    hall = t + 0.25 * t**2 / 3 + 0.25**2 * t**3 / 27 + 0.25 / 6
    assert hall == pytest.approx(-stats.t.ppf(0.975, 39))


def test_no_interval_where_the_second_term_is_too_large() -> None:
    found = symmetric(0.35)
    assert not math.isnan(found.at(1 - 1.1 * found.smallest_error)[0])
    assert math.isnan(found.at(1 - 0.9 * found.smallest_error)[0])


def test_no_interval_under_the_fewest_clusters_and_without_an_error() -> None:
    assert math.isnan(symmetric(units=5).at(0.95)[0])
    assert not math.isnan(symmetric(units=6).at(0.95)[0])
    none = SkewedT(effect=0.3, error=0.0, freedom=5, units=6, skewness=math.nan)
    assert math.isnan(none.at(0.95)[0])
    assert none.smallest_error == 0.5


def test_p_is_the_error_rate_at_which_the_interval_ends() -> None:
    for skewness in (-0.2, 0.0, 0.2):
        found = symmetric(skewness)
        for error in (0.3, 0.05, 0.01):
            low, high = found.unguarded(1 - error)
            assert found.p(low) == pytest.approx(error)
            assert found.p(high) == pytest.approx(error)


def test_records_give_the_same_intervals_again() -> None:
    for found in (symmetric(0.1), SkewedT(effect=0.3, error=0.1, freedom=math.nan, units=6.0, skewness=0.1)):
        again = intervals_of(found.plain())
        assert isinstance(again, SkewedT)
        assert str(again) == str(found)


def test_exponential_values_hold_their_level_where_t_does_not() -> None:
    rng, n, runs, misses, t_misses = np.random.default_rng(2), 60, 1500, 0, 0
    for _ in range(runs):
        x = rng.exponential(size=n)
        moves = mean_influence(x, np.arange(n), n)
        error = float(np.sqrt(np.sum(moves**2)))
        found = SkewedT(
            effect=float(x.mean()), error=error, freedom=n - 1, units=n, skewness=estimate_skewness(moves, n)
        )
        misses += found.at(0.95)[1] < 1
        t_misses += x.mean() + stats.t.ppf(0.975, n - 1) * error < 1
    assert misses < 1.5 * 0.025 * runs
    assert t_misses > 1.6 * 0.025 * runs
