"""Against the paired and Welch's tests where they apply, explicit leave-one-out loops, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tuneshift.quantities.style import weighted_spearman
from tuneshift.statistics.bootstrap import bootstrap_statistic
from tuneshift.statistics.change import two_sample_change, weighted_change
from tuneshift.statistics.clustered import expanded_level, expanded_p
from tuneshift.statistics.differences import paired_difference
from tuneshift.statistics.statistic import Arm


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
    after = before + np.where(high, rng.normal(0.2, size=60), 0.0)
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
    high = rng.random(70) < 0.4
    before, after = rng.normal(size=70), rng.normal(0.3, size=70)
    found = two_sample_change(run(before, high), run(after, high), clusters=None, level=0.95)
    change = after - before
    welch = stats.ttest_ind(change[high], change[~high], equal_var=False)
    assert found.p == pytest.approx(welch.pvalue)
    assert found.interval == pytest.approx(tuple(welch.confidence_interval(0.95)))
    assert found.details["degrees_of_freedom"] == pytest.approx(welch.df)
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
    assert (same.effect, same.interval, same.p, same.standard_error) == (0.0, (0.0, 0.0), 1.0, 0.0)
    few = two_sample_change(old, old, clusters=clusters_of(60, 15), level=0.95)
    assert math.isnan(few.p)
    assert all(math.isnan(x) for x in few.interval)
    shifted = tuple(Arm(label=a.label, ids=a.ids, values=a.values + k) for k, a in enumerate(old))
    unseen = two_sample_change(old, shifted, clusters=None, level=0.95)
    assert unseen.effect == pytest.approx(1.0)
    assert math.isnan(unseen.standard_error)


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


def correlated(rng, n, rho=0.5):
    x = rng.normal(size=n)
    return x, rho * x + math.sqrt(1 - rho**2) * rng.normal(size=n)


def test_a_weighted_change_is_the_bootstrap_of_the_difference():
    rng = np.random.default_rng(7)
    (x, y), z = correlated(rng, 60), rng.normal(size=60)
    clusters = [str(i // 2) for i in range(60)]
    before, after = weighted_spearman(x, y), weighted_spearman(x, y + z)
    common = {"arms": (), "clusters": clusters, "level": 0.9, "seed": 3, "resamples": 999}
    found = weighted_change(before, after, **common)
    assert found.effect == pytest.approx(stats.spearmanr(x, y + z)[0] - stats.spearmanr(x, y)[0])
    both = [bootstrap_statistic(e, **common) for e in (before, after)]
    plain = bootstrap_statistic(lambda w: after(w) - before(w), **common)
    assert found.interval[0] < plain.interval[0] < plain.interval[1] < found.interval[1]
    assert found.level == 0.9
    assert found.standard_error < math.hypot(*(b.standard_error for b in both))  # the runs share their items
    back = weighted_change(after, before, **common)
    assert back.interval == pytest.approx((-found.interval[1], -found.interval[0]), abs=0.02)
    # The mean of values is a paired difference: the bootstrap's error is near its t error.
    mean = [lambda w, v=v: (w @ v) / w.sum(axis=1) for v in (x, y)]
    arms = [Arm(label=s, ids=tuple(map(str, range(60))), values=v) for s, v in (("x", x), ("y", y))]
    t = paired_difference(*arms, clusters=clusters, level=0.9)
    assert weighted_change(*mean, **common).standard_error == pytest.approx(t.standard_error, rel=0.1)
    assert weighted_change(before, before, **common).interval == (0.0, 0.0)


def test_a_weighted_change_covers():
    rng, hit, runs = np.random.default_rng(8), 0, 150
    for seed in range(runs):
        x = rng.normal(size=100)
        before, after = (weighted_spearman(x, 0.6 * x + 0.8 * rng.normal(size=100)) for _ in range(2))
        low, high = weighted_change(
            before, after, arms=(), clusters=list(map(str, range(100))), level=0.95, seed=seed, resamples=499
        ).interval
        hit += low <= 0 <= high
    assert stats.binom.ppf(0.001, runs, 0.95) <= hit


def test_an_expanded_level_has_the_t_intervals_reach():
    reach = stats.norm.isf((1 - expanded_level(0.95, 10)) / 2)
    assert reach == pytest.approx(stats.t.isf(0.025, 9) * math.sqrt(10 / 9))
    assert expanded_level(0.95, 1e6) == pytest.approx(0.95, abs=1e-5)
    # p and interval agree: the expanded p of what the expanded level just excludes is 1 - level.
    assert expanded_p(1 - expanded_level(0.99, 12), 12) == pytest.approx(0.01)
    assert expanded_p(1.0, 12) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="more than one"):
        expanded_level(0.95, 1)
    with pytest.raises(ValueError, match="probability"):
        expanded_p(1.5, 9)


def test_few_clusters_have_no_weighted_change():
    rng = np.random.default_rng(9)
    (x, y), z = correlated(rng, 40), rng.normal(size=40)
    for count, known in ((1, False), (5, False), (7, False), (10, True)):
        clusters = [str(i * count // 40) for i in range(40)]
        common = {"arms": (), "clusters": clusters, "level": 0.95, "seed": 0, "resamples": 299}
        found = weighted_change(weighted_spearman(x, y), weighted_spearman(x, z), **common)
        assert math.isfinite(found.p) == known, count
        assert math.isfinite(found.effect)
