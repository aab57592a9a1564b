"""Against scipy's permutation test, enumeration by hand and the binomial distribution."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from tuneshift.statistics.permutation import EXACT_FLIPS, sign_flip
from tuneshift.statistics.proportions import mcnemar
from tuneshift.statistics.statistic import Arm

pytestmark = pytest.mark.numerics


def arms(differences):
    ids = tuple(f"p{i}" for i in range(len(differences)))
    base = Arm(label="base", ids=ids, values=np.zeros(len(ids)))
    return base, Arm(label="tuned", ids=ids, values=np.asarray(differences, dtype=float))


def flipped(differences, clusters=None, *, seed=0, flips=999):
    return sign_flip(*arms(differences), clusters=clusters, seed=seed, flips=flips)


def test_few_items_are_scipys_exact_test():
    x = np.random.default_rng(0).normal(0.5, size=10)
    expected = stats.permutation_test((x,), np.mean, permutation_type="samples", n_resamples=np.inf)
    found = flipped(x)
    assert found.exact
    assert found.flips == 2**10
    assert found.p == pytest.approx(expected.pvalue)
    assert found.effect == pytest.approx(x.mean())


def test_clusters_flip_whole():
    rng = np.random.default_rng(1)
    clusters = [f"c{k}" for k in (0, 0, 0, 1, 2, 2, 3, 4, 4, 5)]
    x = rng.normal(0.7, size=10)
    signs = itertools.product([1, -1], repeat=6)
    totals = [sum(s[int(c[1])] * v for c, v in zip(clusters, x, strict=True)) for s in signs]
    naive = np.mean(np.abs(totals) >= abs(x.sum()) - 1e-9)
    assert flipped(x, clusters).p == pytest.approx(naive)
    assert flipped(x, clusters).p != flipped(x).p


def test_ties_count_although_their_sums_are_rounded_otherwise():
    # 0.1 + 0.2 + 0.3 depends on the order; all signs alike are the two most extreme patterns of eight.
    assert flipped([0.3, 0.1, 0.2]).p == 2 / 8
    assert flipped([0.1] * 12).p == 2 / 2**12


def test_many_clusters_are_drawn_with_the_seed_and_near_the_t_test():
    x = np.random.default_rng(2).normal(0.15, size=200)
    found = flipped(x, flips=9999)
    assert not found.exact
    assert 2 ** len(x) > EXACT_FLIPS
    assert found == flipped(x, flips=9999)
    assert found.p != flipped(x, flips=9999, seed=1).p
    assert found.p == pytest.approx(stats.ttest_1samp(x, 0).pvalue, abs=0.01)  # 9,999 flips, and Student for them
    assert flipped(x + 10).p == 1 / 1000


def test_equal_arms_have_p_1():
    assert flipped([0.0] * 8).p == 1
    assert flipped([0.0] * 40).p == 1


def test_binary_outcomes_of_single_items_give_mcnemars_test():
    rng = np.random.default_rng(3)
    base, tuned = rng.random(14) < 0.4, rng.random(14) < 0.8
    assert flipped(tuned.astype(float) - base).p == pytest.approx(mcnemar(base, tuned).p)


def test_null_clusters_are_rejected_at_the_level_and_not_when_their_clusters_are_ignored():
    rng = np.random.default_rng(4)
    clusters = [f"c{i // 5}" for i in range(50)]
    rows = [np.repeat(rng.normal(size=10), 5) + rng.normal(size=50) for _ in range(400)]
    rejected = sum(flipped(x, clusters).p <= 0.05 for x in rows)
    low, high = stats.binom.interval(0.99, 400, 0.05)
    assert low <= rejected <= high
    assert sum(flipped(x, flips=199).p <= 0.05 for x in rows) > 2 * high


def test_what_cannot_be_flipped_is_refused():
    base, tuned = arms([1.0, 2.0])
    other = Arm(label="tuned", ids=("p1", "p0"), values=tuned.values)
    with pytest.raises(ValueError, match="same ids"):
        sign_flip(base, other, clusters=None, seed=0, flips=9)
    with pytest.raises(ValueError, match="at least one"):
        flipped([])
    with pytest.raises(ValueError, match="not finite, first for p1"):
        flipped([1.0, np.nan])
    with pytest.raises(ValueError, match="clusters name 1 items"):
        flipped([1.0, 2.0], ["a"])
    with pytest.raises(ValueError, match="at least 1; got 0"):
        flipped([1.0, 2.0], flips=0)
