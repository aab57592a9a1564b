"""Assurance: against its definition by simulation, its limits, and what is said of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tuneshift.statistics.assurance import (
    LARGEST,
    NeededItems,
    Seen,
    assurance,
    beyond_bounds,
    needed_items,
    power_at,
    units_without_variance,
)


def seen(effect: float = 0.2, items: int = 50) -> Seen:
    return Seen(effect=effect, error=1 / math.sqrt(items), freedom=items - 1, items=items, units_per_item=1.0)


@pytest.mark.numerics
@pytest.mark.parametrize("direction", ["greater", "equivalent"])
@pytest.mark.parametrize("n", [30, 400])
def test_it_is_the_share_of_fresh_sets_that_decide_over_what_the_effect_may_be(direction, n: int) -> None:
    first, rng, runs = seen(), np.random.default_rng(0), 200_000
    sd = np.sqrt(49 / rng.chisquare(49, runs))  # the first set's was 1
    truth = 0.2 + sd / math.sqrt(50) * rng.normal(size=runs)
    mean = truth + sd / math.sqrt(n) * rng.normal(size=runs)
    reach = stats.t.ppf(0.975, n - 1) * sd * np.sqrt(rng.chisquare(n - 1, runs) / (n - 1)) / math.sqrt(n)
    low, high = mean - reach, mean + reach
    if direction == "greater":
        decided = (low > 0.1) | (high < 0.1)
    else:
        decided = (low > 0.1) | (high < -0.1) | ((low > -0.1) & (high < 0.1))
    # 200,000 runs: four and a half Monte-Carlo errors
    assert assurance(first, n, beyond_bounds(0.1, direction, 0.95)) == pytest.approx(float(decided.mean()), abs=0.005)


def test_the_named_number_is_the_smallest_that_is_enough() -> None:
    rule = beyond_bounds(0.1, "greater", 0.95)
    found = needed_items(seen(), rule, interval=(-0.08, 0.48), fewest=6)
    assert found.assured is not None
    assert found.at_least is not None
    assert assurance(seen(), found.assured, rule) >= 0.8 > assurance(seen(), found.assured - 1, rule)
    assert (
        power_at(seen(), found.at_least, rule, truth=0.48)
        >= 0.8
        > power_at(seen(), found.at_least - 1, rule, truth=0.48)
    )


@pytest.mark.numerics
def test_an_effect_at_the_bound_needs_a_finite_number_that_power_would_not_name() -> None:
    # Half of what the effect may be lies far enough on either side: about 59 times the first set, by
    # P(|Z| > 1.96 sqrt(k / (1 + k))) = 0.8, k the ratio of sizes.
    k = 1 / 59
    assert 2 * stats.norm.sf(1.96 * math.sqrt(k / (1 + k))) == pytest.approx(0.8, abs=0.002)  # 59 is rounded
    first = Seen(effect=0.1, error=0.05, freedom=1e9, items=400, units_per_item=1.0)
    found = needed_items(first, beyond_bounds(0.1, "greater", 0.95), interval=(0.0, 0.2), fewest=6)
    assert found.assured == pytest.approx(59 * 400, rel=0.02)  # 59 is rounded


def test_past_the_largest_number_it_says_so() -> None:
    first = Seen(effect=0.1, error=0.001, freedom=1e6, items=5000, units_per_item=1.0)
    found = needed_items(first, beyond_bounds(0.1, "greater", 0.95), interval=(0.099, 0.101), fewest=6)
    assert found.assured is None
    assert found.text("prompts").startswith("more than 100,000 prompts")
    assert NeededItems(assured=812, at_least=240).text("prompts") == (
        "812 prompts (at least 240 if the truth lies at the interval's farther end)"
    )


def test_less_mirrors_greater() -> None:
    found = [needed_items(seen(e), beyond_bounds(0.1, d, 0.95), interval=(-0.4, 0.4), fewest=6).assured
             for e, d in ((0.2, "greater"), (-0.2, "less"))]  # fmt: skip
    assert found[0] == found[1]


def test_values_that_all_agree_need_as_many_units_as_the_exact_bound() -> None:
    units = units_without_variance(0.05, span=1.0, level=0.95)
    assert units is not None
    assert 1 - 0.025 ** (1 / units) < 0.05 <= 1 - 0.025 ** (1 / (units - 1))
    assert units_without_variance(1e-9, span=1.0, level=0.95) is None
    assert units_without_variance(0.0, span=1.0, level=0.95) is None


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="standard error above 0"):
        Seen(effect=0.1, error=0.0, freedom=5, items=6, units_per_item=1.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        needed_items(seen(), beyond_bounds(0.1, "greater", 0.95), interval=(0, 1), fewest=6, share=1.0)
    assert LARGEST == 100_000
