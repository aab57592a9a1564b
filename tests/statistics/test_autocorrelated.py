"""Slopes over a series: against definitions, and error rates that a plain regression does not keep."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from tuneshift.statistics.autocorrelated import _Fit, series_slope, series_slope_change
from tuneshift.statistics.interval_reader import intervals_of
from tuneshift.statistics.intervals import p_value

ALPHA = 0.05


def quarters(layers):
    return np.arange(layers) * 4 // layers * 1.0


def errors(rng, layers, correlation, runs):
    """A stationary first-order autoregression of variance 1, [run, layer]."""
    values = rng.normal(size=(runs, layers))
    for k in range(1, layers):
        values[:, k] = correlation * values[:, k - 1] + math.sqrt(1 - correlation**2) * values[:, k]
    return values


def slope_of(y, level=1 - ALPHA, places=None):
    places = range(len(y)) if places is None else places
    return series_slope(quarters(len(y)), y, places=list(places), arms=(), level=level)


@pytest.mark.numerics
def test_the_slope_is_least_squares_and_its_error_the_autoregressions():
    rng = np.random.default_rng(1)
    y = errors(rng, 12, 0.5, 1)[0] + 0.2 * quarters(12)
    found = slope_of(y)
    x = quarters(12)
    line = stats.linregress(x, y)
    assert found.effect == pytest.approx(line.slope)
    residuals = y - line.intercept - line.slope * x
    seen = float(residuals[1:] @ residuals[:-1] / (residuals @ residuals))
    assert found.details["autocorrelation"] == pytest.approx(seen)
    bound = found.details["autocorrelation_at_most"]
    # Naively: many slopes and residual sums of squares under that autocorrelation.
    drawn = errors(rng, 12, bound, 40_000)
    slopes = np.polyfit(x, drawn.T, 1)[0]
    squares = np.sum((drawn.T - np.polyval(np.polyfit(x, drawn.T, 1), x[:, None])) ** 2, axis=0)
    ratio = np.var(slopes) / np.mean(squares)
    # of 40,000 draws: a variance is exact to 0.7 % (root of two in n), its own variance to some percent
    assert found.standard_error == pytest.approx(math.sqrt(ratio * (residuals @ residuals)), rel=0.03)
    assert found.freedom == pytest.approx(2 * np.mean(squares) ** 2 / np.var(squares), rel=0.05)  # as above


@pytest.mark.numerics
def test_independent_errors_at_the_least_bound_give_the_regressions_interval():
    # Neighbours that disagree as far as they can leave no room for any agreement.
    y = np.where(np.arange(30) % 2, 1.0, -1.0) + 0.1 * quarters(30)
    found, line = slope_of(y), stats.linregress(quarters(30), y)
    assert found.details["autocorrelation_at_most"] == 0
    assert found.standard_error == pytest.approx(line.stderr)
    assert found.freedom == pytest.approx(28)


@pytest.mark.numerics
@pytest.mark.parametrize(("layers", "correlation"), [(12, 0.0), (12, 0.8), (30, 0.5)])
def test_the_bound_of_the_autocorrelation_is_one(layers, correlation):
    """Imhof's chance is that of drawn residuals, and one bound in ten at most lies below the truth."""
    rng = np.random.default_rng(2)
    fit = _Fit.of(tuple(quarters(layers).tolist()), tuple(range(layers)))
    residuals = errors(rng, layers, correlation, 20_000) @ fit.residual
    seen = np.sum(residuals[:, 1:] * residuals[:, :-1], axis=1) / np.sum(residuals**2, axis=1)
    for value in np.quantile(seen, [0.05, 0.5, 0.9]):
        assert fit._at_most(value, correlation) == pytest.approx(
            np.mean(seen <= value), abs=0.012
        )  # 3.4 errors of 20,000
    low = np.mean([fit.largest_autocorrelation(value, 0.1) < correlation for value in seen[:200]])
    assert low <= stats.binom.ppf(0.999, 200, 0.1) / 200


@pytest.mark.parametrize("layers", [12, 30])
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_no_slope_is_found_more_often_than_stated(layers, correlation):
    """At 97.5 %, the level of its claim; a plain regression errs in up to 44 %."""
    runs, alpha = 200, 0.025
    drawn = errors(np.random.default_rng(3), layers, correlation, runs)
    wrong = sum(slope_of(y, 1 - alpha).p < alpha for y in drawn)
    assert wrong <= stats.binom.ppf(0.999, runs, alpha)
    plain = sum(stats.linregress(quarters(layers), y).pvalue < alpha for y in drawn)
    assert (plain > stats.binom.ppf(0.999, runs, alpha)) == (correlation > 0)


@pytest.mark.parametrize(("layers", "correlation"), [(12, 0.8), (12, 0.9), (24, 0.9)])
def test_at_the_levels_of_a_gate_no_slope_is_found_more_often_than_stated_either(layers, correlation):
    """At alpha / 18; with one bound for all levels 2.4 to 7.7 times as often."""
    runs, alpha = 600, 0.05 / 18
    drawn = errors(np.random.default_rng(8), layers, correlation, runs)
    intervals = [slope_of(y, 1 - alpha).interval for y in drawn]
    wrong = sum(not low <= 0 <= high for low, high in intervals if math.isfinite(low))
    assert wrong <= stats.binom.ppf(0.999, runs, alpha)


@pytest.mark.numerics
def test_intervals_of_a_slope_grow_with_their_level_and_come_back_from_a_record():
    found = slope_of(errors(np.random.default_rng(9), 24, 0.3, 1)[0]).intervals
    ends = [found.at(1 - error) for error in np.geomspace(0.4, 1e-5, 200)]
    assert all(a[0] >= b[0] and a[1] <= b[1] for a, b in pairwise(ends))
    assert intervals_of(json.loads(json.dumps(found.plain()))) == found
    assert p_value(found) == slope_of(errors(np.random.default_rng(9), 24, 0.3, 1)[0]).p


def test_a_slope_that_layers_can_show_is_found():
    rng = np.random.default_rng(4)
    for correlation, needed in ((0.0, 1.0), (0.5, 2.5)):
        found = [slope_of(y - needed * quarters(30)) for y in errors(rng, 30, correlation, 40)]
        assert np.mean([s.interval[1] < 0 for s in found]) > 0.8


def test_few_layers_decide_nothing():
    rng = np.random.default_rng(5)
    for layers, known in ((1, False), (3, False), (4, False), (6, False), (7, True)):
        y = -quarters(layers) + 0.01 * rng.normal(size=layers)
        found = slope_of(y, 0.975)
        assert math.isfinite(found.interval[0]) == known, layers
        assert math.isfinite(found.effect) == (layers > 1)
        assert found.n == found.clusters == layers


@pytest.mark.numerics
def test_a_perfect_line_is_no_certainty():
    found = slope_of(-0.5 * quarters(12))
    assert found.effect == pytest.approx(-0.5)
    assert math.isnan(found.interval[0])
    assert "lie on a line" in found.details["no_interval"]
    assert math.isnan(slope_of(np.zeros(12)).interval[0])


@pytest.mark.numerics
def test_layers_that_are_missing_are_gaps():
    y = errors(np.random.default_rng(6), 12, 0.5, 1)[0]
    near, far = slope_of(y), slope_of(y, places=4 * np.arange(12))
    # Only every fourth layer has heads: the same neighbours, whose correlation is that of four steps.
    assert far.details["autocorrelation"] == near.details["autocorrelation"]
    step = near.details["autocorrelation_at_most"] ** 0.25
    # both bounds are found to a step of the search
    assert far.details["autocorrelation_at_most"] == pytest.approx(min(0.99, step), abs=2e-3)
    gap = slope_of(y, places=[*range(6), *range(10, 16)])
    assert gap.effect == near.effect
    residuals = stats.linregress(quarters(12), y)
    left = y - residuals.intercept - residuals.slope * quarters(12)
    together = left[1:] * left[:-1]
    assert gap.details["autocorrelation"] == pytest.approx((together.sum() - together[5]) / (left @ left))
    with pytest.raises(ValueError, match=r"places of a series rise; got \[0, 0, 1\]"):
        series_slope(np.arange(3.0), np.arange(3.0), places=[0, 0, 1], arms=(), level=0.95)


def test_the_change_of_a_slope_is_the_slope_of_the_differences():
    old, new = errors(np.random.default_rng(7), 30, 0.8, 2)
    x = quarters(30)
    before, after = ({f"layer.{k}": (x[k], float(side[k])) for k in range(30)} for side in (old, new))
    found, other = series_slope_change(before, after, level=0.95), slope_of(new - old)
    assert (found.effect, found.interval) == (other.effect, other.interval)
    del after["layer.9"]
    assert series_slope_change(before, after, level=0.95).n == 29
    with pytest.raises(ValueError, match=r"ends in its place, as layer\.7; got 'head'"):
        series_slope_change({"head": (0.0, 1.0)}, {"head": (0.0, 1.0)}, level=0.95)
