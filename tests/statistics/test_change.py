"""Against the paired and Welch's tests where they apply, explicit leave-one-out loops, and simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from tuneshift.statistics.change import independent_change, paired_change, two_sample_change
from tuneshift.statistics.differences import paired_difference
from tuneshift.statistics.estimates import estimate_change, jackknife_statistic, weighted_spearman
from tuneshift.statistics.statistic import Arm

pytestmark = pytest.mark.numerics


def run(values, high):
    """The low and the high arm of scores [item] by whether each item is high."""
    ids = np.array([f"p{i}" for i in range(len(values))])
    low, up = ~np.asarray(high), np.asarray(high)
    return tuple(
        Arm(label=name, ids=tuple(ids[side].tolist()), values=np.asarray(values)[side])
        for name, side in (("not followed", low), ("followed", up))
    )


def clusters_of(n, size):
    return {f"p{i}": f"c{i // size}" for i in range(n)}


def simulated(rng, n, *, size=1, change=0.0):
    """Scores of two runs that share items' difficulty and clusters; a third of the items changes arm."""
    common = np.repeat(rng.normal(size=n // size), size) + rng.normal(size=n)
    high = rng.random(n) < 0.5
    moved = np.where(rng.random(n) < 1 / 3, ~high, high)
    before = common + 0.5 * rng.normal(size=n) + 0.4 * high
    after = common + 0.5 * rng.normal(size=n) + (0.4 + change) * moved
    return run(before, high), run(after, moved)


def test_equal_low_arms_give_the_paired_test_of_the_high_ones():
    rng = np.random.default_rng(0)
    high = np.arange(60) < 40
    before = rng.normal(size=60)
    moves = rng.normal(size=20)
    after = before + np.concatenate([0.2 + moves, 0.2 - moves, np.zeros(20)])  # without skewness
    old, new = run(before, high), run(after, high)
    clusters = clusters_of(60, 2)
    found = two_sample_change(old, new, clusters=clusters, level=0.9)
    expected = paired_difference(old[1], new[1], clusters=[clusters[i] for i in old[1].ids], level=0.9)
    assert found.effect == pytest.approx(expected.effect)
    assert found.standard_error == pytest.approx(expected.standard_error)
    assert found.interval == pytest.approx(expected.interval)
    assert found.p == pytest.approx(expected.p)


def test_items_that_keep_their_arm_give_welchs_test_of_their_changes():
    rng = np.random.default_rng(1)
    # Each arm's changes with their mirror images: without skewness the interval is Welch's exactly.
    high, half = np.arange(70) < 28, [rng.normal(size=n) for n in (14, 21)]
    before = rng.normal(size=70)
    after = before + 0.3 + np.concatenate([side for h in half for side in (h, -h)])
    found = two_sample_change(run(before, high), run(after, high), clusters=None, level=0.95)
    change = after - before
    welch = stats.ttest_ind(change[high], change[~high], equal_var=False)
    assert found.p == pytest.approx(welch.pvalue)
    assert found.interval == pytest.approx(tuple(welch.confidence_interval(0.95)))
    assert found.freedom == pytest.approx(welch.df)
    assert found.details["changed_arm"] == 0


def test_the_error_is_that_of_leaving_out_each_cluster():
    old, new = simulated(np.random.default_rng(2), 80, size=4)
    clusters = clusters_of(80, 4)

    def mean_without(arm, cluster):
        return np.mean([v for i, v in zip(arm.ids, arm.values, strict=True) if clusters[i] != cluster])

    squares = 0.0
    for cluster in sorted(set(clusters.values())):
        move = 0.0
        for arm, sign in ((new[1], 1), (new[0], -1), (old[1], -1), (old[0], 1)):
            present = len({clusters[i] for i in arm.ids})
            move += sign * math.sqrt((present - 1) / present) * (mean_without(arm, cluster) - arm.mean)
        squares += move**2
    found = two_sample_change(old, new, clusters=clusters, level=0.95)
    assert found.standard_error == pytest.approx(math.sqrt(squares))
    assert found.effect == pytest.approx((new[1].mean - new[0].mean) - (old[1].mean - old[0].mean))
    assert found.details["new"] - found.details["baseline"] == pytest.approx(found.effect)
    assert found.details["changed_arm"] > 0


@pytest.mark.parametrize("moves", ["apart", "alike"])
def test_where_one_arm_is_the_same_in_both_runs_the_change_is_the_others_paired_difference(moves):
    rng, ids = np.random.default_rng(5), tuple(f"p{i}" for i in range(30))
    clusters = clusters_of(30, 3)

    def arm(values):
        return Arm(label="", ids=ids, values=values, span=(-3.0, 3.0))

    low, high = arm(rng.random(30)), arm(rng.random(30))
    moved = arm(low.values - (0.5 if moves == "alike" else np.repeat(rng.random(10), 3)))
    found = paired_change((low, high), (moved, high), clusters=clusters, level=0.9)
    expected = paired_difference(
        arm(-low.values), arm(-moved.values), clusters=[clusters[i] for i in ids], level=0.9
    )  # fmt: skip
    assert found.effect == pytest.approx(expected.effect)
    assert found.standard_error == pytest.approx(expected.standard_error)
    assert found.clusters == 10
    assert found.interval == pytest.approx(expected.interval)
    assert np.isfinite(found.interval).all()


def test_clusters_in_both_arms_give_no_more_degrees_of_freedom_than_there_are_clusters():
    rng, high = np.random.default_rng(6), np.arange(40) % 2 == 0  # an item of each cluster in either arm
    old, new = run(rng.normal(size=40), high), run(rng.normal(size=40), high)
    found = two_sample_change(old, new, clusters=clusters_of(40, 2), level=0.95)
    assert found.freedom == 19
    assert two_sample_change(old, new, clusters=None, level=0.95).freedom > 30


def test_estimates_without_items_add_their_errors_in_quadrature_and_an_unknown_one_gives_no_interval():
    found = independent_change((0.5, 0.3), (0.9, 0.4), n=60, clusters=50, level=0.95)
    assert (found.effect, found.standard_error) == pytest.approx((0.4, 0.5))
    reach = stats.t.ppf(0.975, 49) * 0.5
    assert found.interval == pytest.approx((0.4 - reach, 0.4 + reach))
    assert np.isnan(independent_change((0.5, None), (0.9, 0.4), n=60, clusters=50, level=0.95).interval).all()


def test_shared_difficulty_cancels():
    rng = np.random.default_rng(3)
    high, common = rng.random(100) < 0.5, 10 * rng.normal(size=100)
    old, new = run(common + rng.normal(size=100), high), run(common + rng.normal(size=100), high)
    found = two_sample_change(old, new, clusters=None, level=0.95)
    assert found.standard_error < 0.5  # unpaired it would be about 2.8


@pytest.mark.parametrize(("n", "size"), [(60, 1), (200, 1), (200, 5)])
def test_the_interval_covers(n, size):
    rng, runs = np.random.default_rng(4), 400
    clusters = clusters_of(n, size)
    hit = 0
    for _ in range(runs):
        low, high = two_sample_change(*simulated(rng, n, size=size, change=0.3), clusters=clusters, level=0.95).interval
        hit += low <= 0.3 <= high
    assert hit >= stats.binom.ppf(0.001, runs, 0.95)
    assert hit <= stats.binom.ppf(0.999, runs, 0.95) + 4


def test_a_run_against_itself_and_what_was_not_seen():
    old, _ = simulated(np.random.default_rng(5), 60)
    same = two_sample_change(old, old, clusters=None, level=0.95)
    assert (same.effect, same.standard_error) == (0.0, 0.0)
    assert math.isnan(same.interval[0])
    certain = two_sample_change(old, old, clusters=None, level=0.95, same_evidence=True)
    assert (certain.interval, certain.p) == ((0.0, 0.0), 1.0)
    few = two_sample_change(old, old, clusters=clusters_of(60, 15), level=0.95, same_evidence=True)
    assert math.isnan(few.p)
    assert all(math.isnan(x) for x in few.interval)
    shifted = tuple(Arm(label=a.label, ids=a.ids, values=a.values + k) for k, a in enumerate(old))
    unseen = two_sample_change(old, shifted, clusters=None, level=0.95)
    assert unseen.effect == pytest.approx(1.0)
    assert math.isnan(unseen.interval[0])


def test_runs_of_other_items_are_refused():
    old, new = simulated(np.random.default_rng(6), 40)
    short = Arm(label="followed", ids=new[1].ids[1:], values=new[1].values[1:])
    bad = Arm(label="followed", ids=new[1].ids, values=np.full(len(new[1].ids), np.nan))
    with pytest.raises(ValueError, match="only one has"):
        two_sample_change(old, (new[0], short), clusters=None, level=0.95)
    with pytest.raises(ValueError, match="lie in them twice"):
        two_sample_change((old[0], old[0]), new, clusters=None, level=0.95)
    with pytest.raises(ValueError, match="no cluster is given"):
        two_sample_change(old, new, clusters={}, level=0.95)
    bad = Arm(label="followed", ids=new[1].ids, values=np.full(len(new[1].ids), np.nan))
    with pytest.raises(ValueError, match="not finite"):
        two_sample_change(old, (new[0], bad), clusters=None, level=0.95)
    with pytest.raises(ValueError, match="coverage"):
        two_sample_change(old, new, clusters=None, level=95)


def shares(label, values):
    return Arm(
        label=label, ids=tuple(f"p{i}" for i in range(len(values))), values=np.asarray(values, float), span=(0, 1)
    )


def test_where_every_item_moved_alike_the_range_bounds_how_many_would_not():
    """Clopper and Pearson: of 50 that all stayed, at most 1 - 0.025**(1/50) would not, and those by what can move."""
    old = shares("base", np.zeros(50)), shares("tuned", np.ones(50))
    new = shares("base", np.zeros(50)), shares("tuned", np.ones(50))
    reach = 1 - 0.025 ** (1 / 50)
    both = paired_change(old, new, clusters={}, level=0.95)
    # Both sides may move, by 1 each: twice the range of one.
    assert both.interval == pytest.approx((-2 * reach, 2 * reach))
    assert paired_change(old, new, clusters={}, level=0.95, same_evidence=True).interval == (0.0, 0.0)
    lost = shares("base", np.zeros(50)), shares("tuned", np.zeros(50))
    one = paired_change(old, lost, clusters={}, level=0.95)
    # The base did not move, so that the change cannot leave -1 to 1, and lies at its lower end.
    assert one.interval == pytest.approx((-1.0, -1 + 2 * reach))
    fixed = [replace(arm, span=None) for arm in (*old, *new)]
    assert math.isnan(paired_change(tuple(fixed[:2]), tuple(fixed[2:]), clusters={}, level=0.95).interval[0])


def test_the_side_that_moved_decides_the_range():
    rng = np.random.default_rng(10)
    base, tuned, after = ((rng.random(80) < p).astype(float) for p in (0.3, 0.6, 0.5))
    old = shares("base", base), shares("tuned", tuned)
    found = paired_change(old, (old[0], shares("tuned", after)), clusters={}, level=0.95)
    plain = paired_difference(shares("a", tuned), shares("b", after), clusters=None, level=0.95)
    assert found.interval == plain.interval
    back = paired_change(old, (shares("base", after), old[1]), clusters={}, level=0.95)
    assert back.effect == pytest.approx(base.mean() - after.mean())


def test_two_groups_that_keep_their_items_have_a_bounded_change():
    old = (
        shares("low", np.zeros(20)),
        Arm(label="high", ids=tuple(f"q{i}" for i in range(20)), values=np.ones(20), span=(0, 1)),
    )
    found = two_sample_change(old, old, clusters=None, level=0.95)
    # Each arm at half of the error rate, its items free to move by 1.
    reach = 2 * (1 - 0.0125 ** (1 / 20))
    assert found.interval == pytest.approx((-reach, reach))


def points(x, y):
    return {str(i): (a, b) for i, (a, b) in enumerate(zip(x, y, strict=True))}


def correlated(rng, n, rho=0.5):
    x = rng.normal(size=n)
    return x, rho * x + math.sqrt(1 - rho**2) * rng.normal(size=n)


def test_the_change_of_a_correlation_is_joined():
    rng = np.random.default_rng(7)
    (x, y), z = correlated(rng, 60), rng.normal(size=60)
    clusters = {str(i): str(i // 2) for i in range(60)}
    found = estimate_change("spearman", points(x, y), points(x, y + z), clusters=clusters, level=0.9)
    assert found.effect == pytest.approx(stats.spearmanr(x, y + z)[0] - stats.spearmanr(x, y)[0])
    labels = list(clusters.values())
    alone = [jackknife_statistic(weighted_spearman(x, side), arms=(), clusters=labels, level=0.9, span=(-1, 1))
             for side in (y, y + z)]  # fmt: skip
    assert found.standard_error < math.hypot(*(a.standard_error for a in alone))  # the runs share their items
    assert (found.n, found.clusters, found.details["estimate"]) == (60, 30, "spearman")
    back = estimate_change("spearman", points(x, y + z), points(x, y), clusters=clusters, level=0.9)
    assert back.interval == pytest.approx((-found.interval[1], -found.interval[0]))
    with pytest.raises(ValueError, match="one of spearman, slope"):
        estimate_change("median", points(x, y), points(x, y), clusters={}, level=0.9)


def test_the_change_of_a_slope_is_over_the_layers_of_both_runs():
    rng = np.random.default_rng(8)
    x = np.arange(30) * 4 // 30 * 1.0
    before, after = (
        {f"layer.{k}": (x[k], float(y)) for k, y in enumerate(side)}
        for side in (rng.normal(size=30), rng.normal(0.3 * x))
    )
    del after["layer.7"]
    found = estimate_change("slope", before, after, clusters={}, level=0.95)
    xs, moves = np.array([(x, y - before[i][1]) for i, (x, y) in after.items()]).T
    assert found.effect == pytest.approx(np.polyfit(xs, moves, 1)[0])
    assert (found.n, found.clusters) == (29, 29)
    assert found.interval[0] < found.effect < found.interval[1]


def test_the_change_of_a_correlation_covers():
    rng, hit, runs = np.random.default_rng(8), 0, 150
    for _ in range(runs):
        x = rng.normal(size=100)
        sides = [points(x, 0.6 * x + 0.8 * rng.normal(size=100)) for _ in range(2)]
        low, high = estimate_change("spearman", *sides, clusters={}, level=0.95).interval
        hit += low <= 0 <= high
    assert stats.binom.ppf(0.001, runs, 0.95) <= hit


def test_few_clusters_have_no_change_of_a_correlation():
    rng = np.random.default_rng(9)
    (x, y), z = correlated(rng, 40), rng.normal(size=40)
    for count, known in ((1, False), (5, False), (8, True), (10, True)):
        clusters = {str(i): str(i * count // 40) for i in range(40)}
        found = estimate_change("spearman", points(x, y), points(x, z), clusters=clusters, level=0.95)
        assert math.isfinite(found.interval[0]) == known, count
        assert math.isfinite(found.effect)
