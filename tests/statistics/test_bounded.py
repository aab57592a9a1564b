"""Gaffke's bounds: equal to Clopper and Pearson's for binary values, to a simulated quantile for others."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from tuneshift.statistics.bounded import BoundedDifference, BoundedMean, BoundedT, exponential_tail
from tuneshift.statistics.interval_reader import intervals_of
from tuneshift.statistics.intervals import searched_p
from tuneshift.statistics.mean_intervals import difference_intervals, mean_intervals
from tuneshift.statistics.tail_error import SkewedT

pytestmark = pytest.mark.numerics


def own(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def clopper_pearson(k: int, n: int, level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    return (0.0 if k == 0 else float(stats.beta.ppf(tail, k, n - k + 1)),
            1.0 if k == n else float(stats.beta.isf(tail, k + 1, n - k)))  # fmt: skip


@pytest.mark.parametrize("n", [2, 6, 20, 300, 5000])
@pytest.mark.parametrize("level", [0.6, 0.95, 0.9975, 1 - 1e-6, 1 - 1e-12])
def test_binary_values_have_clopper_and_pearsons_interval(n: int, level: float) -> None:
    for k in {0, 1, n // 2, n - 1, n}:
        x = np.r_[np.ones(k), np.zeros(n - k)]
        found = BoundedMean.of(x, own(n), low=0, high=1).at(level)
        assert found == pytest.approx(clopper_pearson(k, n, level)), (k, n, level)


def test_equal_values_get_the_bound_on_what_would_differ_times_the_range() -> None:
    most = 1 - 0.025 ** (1 / 6)  # of six units
    found = BoundedMean.of(np.full(6, 0.25), own(6), low=-1, high=1).at(0.95)
    assert found == pytest.approx((0.25 - 1.25 * most, 0.25 + 0.75 * most))


def test_clusters_are_the_units_of_equal_values() -> None:
    found = BoundedMean.of(np.zeros(30), [str(i // 5) for i in range(30)], low=-1, high=1).at(0.95)
    most = 1 - 0.025 ** (1 / 6)
    assert found == pytest.approx((-most, most))


def test_equal_clusters_are_their_means() -> None:
    x = np.random.default_rng(1).random((9, 4))
    by_cluster = BoundedMean.of(x.ravel(), [str(g) for g in range(9) for _ in range(4)], low=0, high=1).at(0.99)
    assert by_cluster == pytest.approx(BoundedMean.of(x.mean(axis=1), own(9), low=0, high=1).at(0.99))


def test_uneven_clusters_follow_the_simulated_bootstrap() -> None:
    rng = np.random.default_rng(2)
    x, codes = rng.beta(0.3, 2, 25), rng.integers(0, 9, 25)
    bounds = BoundedMean.of(x, codes.astype(str).tolist(), low=0, high=1)
    sizes, sums = np.bincount(codes), np.bincount(codes, weights=x)
    typical = float(np.sum(sizes**2) / 25)
    e = rng.exponential(size=(400_000, 10))
    drawn = (e[:, :9] @ sums + typical * e[:, 9]) / (e[:, :9] @ sizes + typical * e[:, 9])
    # 400,000 draws, and the saddle point of one of nine clusters
    assert bounds.at(0.9)[1] == pytest.approx(float(np.quantile(drawn, 0.95)), abs=0.003)
    drawn = (e[:, :9] @ sums) / (e[:, :9] @ sizes + typical * e[:, 9])
    # 400,000 draws, and the saddle point of one of nine clusters
    assert bounds.at(0.9)[0] == pytest.approx(float(np.quantile(drawn, 0.05)), abs=0.003)


@pytest.mark.parametrize(
    ("weights", "counts"),
    [([1.05, 0.05, -0.95], [5, 40, 12]), ([0.99, -0.01, -1.01], [1, 292, 8]), ([1, 0.2, -0.05], [1, 30, 200])],
)
def test_tail_of_a_sum_of_exponentials_is_the_simulated_one(weights: list[float], counts: list[float]) -> None:
    # The last two have poles of high order on the side to which the contour would bend.
    w, c = np.array(weights), np.array(counts, dtype=np.float64)
    draws = np.random.default_rng(3).standard_gamma(c, size=(200_000, len(c))) @ w
    share = float(np.mean(draws >= 0))
    assert math.exp(exponential_tail(w, c)) == pytest.approx(
        share, abs=4 * math.sqrt(share * (1 - share) / 200_000) + 1e-5
    )


def test_p_is_the_error_rate_at_which_the_interval_ends() -> None:
    x = np.random.default_rng(4).uniform(-0.2, 0.8, 40)
    bounds = BoundedMean.of(x, own(40), low=-1, high=1)
    assert bounds.at(1 - bounds.p(0.1))[0] == pytest.approx(0.1)


def test_shifted_values_shift_the_interval() -> None:
    x = np.random.default_rng(5).random(12)
    low, high = BoundedMean.of(x, own(12), low=0, high=1).at(0.95)
    shifted = BoundedMean.of(x - 0.5, own(12), low=-0.5, high=0.5).at(0.95)
    assert shifted == pytest.approx((low - 0.5, high - 0.5))


def test_values_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"values lie within \[0, 1\]; got 1.5"):
        BoundedMean.of(np.array([0.2, 1.5]), own(2), low=0, high=1)


def skewed_and_bounded(x: np.ndarray) -> BoundedT:
    found = mean_intervals(x, own(len(x)), span=(0.0, 1.0), rounding=1e-12)
    assert isinstance(found, BoundedT)
    return found


def test_intervals_grow_with_their_level_across_the_change_of_method() -> None:
    x = np.r_[np.zeros(45), np.linspace(0.1, 1, 15)]
    found = skewed_and_bounded(x)
    change = found.t.smallest_error
    assert 1e-4 < change < 0.3  # both methods are asked below
    ends = [found.at(1 - e) for e in np.geomspace(0.4, 1e-6, 60)]
    assert all(b[0] <= a[0] + 1e-12 and b[1] >= a[1] - 1e-12 for a, b in itertools.pairwise(ends))
    assert found.at(1 - change * 1.01) == found.t.at(1 - change * 1.01)
    assert found.at(1 - change / 2)[1] >= found.bounded.at(1 - change / 2)[1]


@pytest.mark.parametrize("n", [20, 58])
@pytest.mark.parametrize("gained", range(4))
@pytest.mark.parametrize("lost", range(4))
def test_a_few_that_moved_make_nobody_surer_than_none(n: int, gained: int, lost: int) -> None:
    """t alone is surer of one change each way than of no change at all, at 58 and 0.9 by a fifth."""
    moves = np.zeros(n)
    moves[:gained], moves[gained : gained + lost] = 1, -1
    found = mean_intervals(moves, own(n), span=(-1.0, 1.0), rounding=1e-12)
    none = mean_intervals(np.zeros(n), own(n), span=(-1.0, 1.0), rounding=1e-12)
    for level in (0.8, 0.95, 0.999):
        (low, high), (lowest, highest) = found.at(level), none.at(level)
        assert high - low >= (highest - lowest) * (1 - 1e-9)
        # Losses alone are never better news than no change, gains never worse.
        assert gained or low <= lowest + 1e-9
        assert lost or high >= highest - 1e-9
    if isinstance(found, BoundedT):
        for value in (-0.04, 0.07):
            searched = searched_p(found, value)
            if searched < 0.49:  # the largest that is searched
                assert found.p(value) == pytest.approx(searched, rel=1e-6)


def test_a_few_clusters_that_moved_make_nobody_surer_than_none_either() -> None:
    clusters = np.repeat([f"c{k}" for k in range(30)], np.r_[np.full(15, 3), np.full(15, 5)]).tolist()
    moves = np.zeros(len(clusters))
    none = mean_intervals(moves, clusters, span=(-1.0, 1.0), rounding=1e-12).at(0.9)
    moves[0], moves[-1] = 1, -1
    found = mean_intervals(moves, clusters, span=(-1.0, 1.0), rounding=1e-12)
    assert isinstance(found, BoundedT)
    assert np.diff(found.t.at(0.9)) < 0.8 * np.diff(none), "t alone is not surer: this test sees nothing"
    assert np.diff(found.at(0.9)) >= np.diff(none) - 1e-9


def test_difference_of_two_groups_holds_half_of_the_rate_each() -> None:
    rng = np.random.default_rng(6)
    a, b = (BoundedMean.of(rng.random(15), own(15), low=0, high=1) for _ in range(2))
    low, high = BoundedDifference(first=a, second=b).at(0.95)
    assert (low, high) == (b.at(0.975)[0] - a.at(0.975)[1], b.at(0.975)[1] - a.at(0.975)[0])


def test_records_give_the_same_intervals_again() -> None:
    x = np.random.default_rng(7).random(20)
    mean = BoundedMean.of(x, own(20), low=0, high=1)
    t = SkewedT(effect=0.1, error=0.02, freedom=19, units=20, skewness=0.3)
    for kind in (mean, BoundedDifference(first=mean, second=mean), BoundedT(t=t, bounded=mean),
                 BoundedT(t=t, bounded=BoundedDifference(first=mean, second=mean))):  # fmt: skip
        again = intervals_of(kind.plain())
        assert again == kind
        assert again.at(0.99) == kind.at(0.99)


def test_error_stays_at_the_nominal_tail_where_t_errs_many_times_as_often() -> None:
    # 5 % of values are 1, else 0: at n = 20 a third of the samples shows no variance at all.
    rng, n, misses, t_misses = np.random.default_rng(8), 20, 0, 0
    for _ in range(400):
        x = (rng.random(n) < 0.05).astype(np.float64)
        misses += BoundedMean.of(x, own(n), low=0, high=1).at(0.95)[1] < 0.05
        t_misses += x.mean() + 2.093 * x.std(ddof=1) / math.sqrt(n) < 0.05
    assert misses <= 17  # 99.9 % point of binomial(400, 0.025)
    assert t_misses > 100


def test_an_interval_ends_where_the_mean_must() -> None:
    x = np.array([0, 0, 1 / 128, 1 / 128])
    found = mean_intervals(x, own(4), span=(0.0, 1.0), rounding=1e-12)
    assert isinstance(found, BoundedT)
    t_low, _ = found.t.at(1 - max(found.t.smallest_error, 0.05))
    assert t_low < 0, "t alone does not leave the range: this test sees nothing"
    assert found.at(0.95)[0] == 0.0
    assert mean_intervals(1 - x, own(4), span=(0.0, 1.0), rounding=1e-12).at(0.95)[1] == 1.0


def test_nothing_within_the_range_is_cut() -> None:
    x = np.linspace(0.3, 0.6, 30)
    found = mean_intervals(x, own(30), span=(0.0, 1.0), rounding=1e-12)
    assert isinstance(found, BoundedT)
    assert found.at(0.95) == found.t.at(0.95)


def test_a_difference_of_two_means_ends_at_the_width_of_their_ranges() -> None:
    sides = [BoundedMean.of(np.array([0.1, 0.3]), own(2), low=0, high=1) for _ in range(2)]
    assert BoundedDifference(first=sides[0], second=sides[1]).range == (-1, 1)
    low, high = np.full(3, 0.0), np.array([1.0, 1.0, 0.99])
    found = difference_intervals(low, high, [*own(3), "a", "b", "c"], span=(0.0, 1.0), rounding=1e-12)
    assert found.at(0.9999)[1] <= 1.0
