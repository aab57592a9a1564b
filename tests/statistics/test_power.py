"""Against statsmodels' power of the t test, and simulation at the planned n."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from tuneshift.statistics.differences import paired_difference
from tuneshift.statistics.intervals import fewest_clusters
from tuneshift.statistics.power import (
    LARGEST_N,
    Design,
    clustered_design,
    interval_power,
    items_needed,
    minimal_detectable_effect,
    minimal_distance,
    observed_design,
    planned_power,
    smallest_n,
)
from tuneshift.statistics.statistic import Arm

UNIT = clustered_design(sd=1.0, cluster_size=1, icc=0.0)


@pytest.mark.numerics
@pytest.mark.parametrize("n", [8, 30, 200])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.996])
@pytest.mark.parametrize("distance", [0.1, 0.3, 1.0])
def test_power_of_one_bound_is_statsmodels(n, level, distance):
    expected = TTestPower().power(distance, n, (1 - level) / 2, alternative="larger")
    assert interval_power([distance], error=1 / math.sqrt(n), freedom=n - 1, level=level) == pytest.approx(expected)


@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("effect", [0.2, 0.35, 0.8])
def test_items_needed_are_statsmodels_rounded_up(power, effect):
    exact = TTestPower().solve_power(effect - 0.1, None, 0.025, power, alternative="larger")
    found = items_needed(effect=effect, bound=0.1, decision="beyond", power=power, level=0.95, design=UNIT)
    assert found == max(fewest_clusters(0.95), math.ceil(exact))


def test_a_noninferior_claim_counts_from_minus_the_margin():
    common = {"power": 0.9, "level": 0.95, "design": UNIT}
    assert items_needed(effect=0.0, bound=0.3, decision="noninferior", **common) == items_needed(
        effect=0.3, bound=0.0, decision="beyond", **common
    )


@pytest.mark.numerics
def test_equivalence_misses_on_both_sides():
    n, design = 400, clustered_design(sd=2.0, cluster_size=1, icc=0.0)
    found = planned_power(n, effect=0.1, bound=0.4, decision="equivalent", level=0.95, design=design)
    sides = [TTestPower().power(d / 2, n, 0.025, alternative="larger") for d in (0.3, 0.5)]
    assert found == pytest.approx(sum(sides) - 1)


@pytest.mark.numerics
def test_equal_clusters_are_the_t_test_of_their_means():
    design = clustered_design(sd=1.5, cluster_size=5, icc=0.4)
    found = planned_power(100, effect=0.7, bound=0.1, decision="beyond", level=0.95, design=design)
    sd_of_means = 1.5 * math.sqrt((1 + 4 * 0.4) / 5)
    assert found == pytest.approx(TTestPower().power(0.6 / sd_of_means, 20, 0.025, alternative="larger"))
    needed = items_needed(effect=0.7, bound=0.1, decision="beyond", power=0.8, level=0.95, design=design)
    assert needed % 5 == 0
    assert planned_power(needed, effect=0.7, bound=0.1, decision="beyond", level=0.95, design=design) >= 0.8
    assert planned_power(needed - 5, effect=0.7, bound=0.1, decision="beyond", level=0.95, design=design) < 0.8


@pytest.mark.numerics
def test_the_minimal_effect_is_the_one_that_needs_n():
    for n, power, level in ((8, 0.9, 0.95), (60, 0.8, 0.99), (500, 0.95, 0.996)):
        effect = minimal_detectable_effect(n, sesoi=0.2, power=power, level=level, design=UNIT)
        if n < fewest_clusters(level):
            continue
        assert planned_power(n, effect=effect, bound=0.2, decision="beyond", level=level, design=UNIT) == pytest.approx(
            power
        )
    margin = minimal_distance(100, bounds=2, power=0.9, level=0.95, design=UNIT)
    found = planned_power(100, effect=0.0, bound=margin, decision="equivalent", level=0.95, design=UNIT)
    assert found == pytest.approx(0.9)


def test_an_observed_run_is_planned_in_whole_clusters():
    rng = np.random.default_rng(0)
    base = Arm(label="base", ids=tuple(map(str, range(60))), values=np.zeros(60))
    tuned = Arm(label="tuned", ids=base.ids, values=rng.normal(0.3, size=60))
    found = paired_difference(base, tuned, clusters=[str(i // 2) for i in range(60)], level=0.95)
    design = observed_design(standard_error=found.standard_error, n=found.n, clusters=found.clusters)
    needed = items_needed(effect=found.effect, bound=0.1, decision="beyond", power=0.8, level=0.95, design=design)
    at = planned_power(needed, effect=found.effect, bound=0.1, decision="beyond", level=0.95, design=design)
    assert (
        at
        >= 0.8
        > planned_power(needed - 2, effect=found.effect, bound=0.1, decision="beyond", level=0.95, design=design)
    )


@pytest.mark.parametrize(
    ("decision", "effect", "bound"), [("beyond", 0.5, 0.1), ("noninferior", 0.0, 0.4), ("equivalent", 0.0, 0.5)]
)
def test_the_planned_items_decide_as_often_as_planned(decision, effect, bound):
    design = clustered_design(sd=1.0, cluster_size=4, icc=0.3)
    n = items_needed(effect=effect, bound=bound, decision=decision, power=0.8, level=0.95, design=design)
    rng, decided, runs = np.random.default_rng(1), 0, 500
    clusters = [str(i // 4) for i in range(n)]
    base = Arm(label="base", ids=tuple(map(str, range(n))), values=np.zeros(n))
    for _ in range(runs):
        noise = math.sqrt(0.3) * np.repeat(rng.normal(size=n // 4), 4) + math.sqrt(0.7) * rng.normal(size=n)
        tuned = Arm(label="tuned", ids=base.ids, values=effect + noise)
        low, high = paired_difference(base, tuned, clusters=clusters, level=0.95).interval
        decided += {"beyond": low > bound, "noninferior": low > -bound, "equivalent": -bound < low <= high < bound}[
            decision
        ]
    lowest, highest = stats.binom.interval(0.999, runs, 0.8)
    assert lowest <= decided <= highest + 10  # whole clusters give a little more power than was asked


def test_no_number_decides_an_effect_at_or_behind_its_bound():
    for effect in (0.1, 0.05, -1.0):
        assert items_needed(effect=effect, bound=0.1, decision="beyond", power=0.8, level=0.95, design=UNIT) is None
    assert items_needed(effect=0.2, bound=0.1, decision="equivalent", power=0.8, level=0.95, design=UNIT) is None
    assert items_needed(effect=0.1001, bound=0.1, decision="beyond", power=0.8, level=0.95, design=UNIT) is None
    assert planned_power(5, effect=9.0, bound=0.1, decision="beyond", level=0.95, design=UNIT) == 0
    assert minimal_distance(5, bounds=1, power=0.9, level=0.95, design=UNIT) is None


def test_smallest_n_is_the_first_that_has_the_power():
    assert smallest_n(lambda n: n / 1000, power=0.437, fewest=6) == 437
    assert smallest_n(lambda n: 0.9, power=0.8, fewest=6) == 6
    assert smallest_n(lambda n: 0.1, power=0.8, fewest=6) is None
    assert smallest_n(lambda n: float(n >= LARGEST_N), power=0.8, fewest=6) == LARGEST_N


def test_what_is_out_of_range_is_refused():
    with pytest.raises(ValueError, match="finite and above 0"):
        interval_power([0.1], error=0.0, freedom=5, level=0.95)
    with pytest.raises(ValueError, match="degrees of freedom"):
        interval_power([0.1], error=1.0, freedom=0, level=0.95)
    with pytest.raises(ValueError, match="level lies between"):
        interval_power([0.1], error=1.0, freedom=5, level=1.0)
    with pytest.raises(ValueError, match="0 or more"):
        interval_power([-0.1], error=1.0, freedom=5, level=0.9)
    with pytest.raises(ValueError, match="power lies between"):
        smallest_n(lambda n: 1.0, power=1.0, fewest=6)
    with pytest.raises(ValueError, match="intracluster"):
        clustered_design(sd=1.0, cluster_size=5, icc=1.5)
    with pytest.raises(ValueError, match="standard deviation"):
        clustered_design(sd=-1.0, cluster_size=5, icc=0.5)
    with pytest.raises(ValueError, match="at least one item"):
        Design(unit_error=1.0, cluster_size=0.5)
    with pytest.raises(ValueError, match="clusters = 9"):
        observed_design(standard_error=0.1, n=5, clusters=9)
    with pytest.raises(ValueError, match="one of beyond, noninferior, equivalent"):
        items_needed(effect=1, bound=0, decision="superior", power=0.8, level=0.95, design=UNIT)
    with pytest.raises(ValueError, match="sesoi or margin"):
        items_needed(effect=1, bound=-1, decision="beyond", power=0.8, level=0.95, design=UNIT)
