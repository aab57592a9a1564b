"""Against statsmodels and scipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats import contingency_tables
from statsmodels.stats.proportion import proportion_confint

from tuneshift.statistics.proportions import mcnemar, melded_difference, wilson_interval

pytestmark = pytest.mark.numerics


@pytest.mark.parametrize(("k", "n", "level"), [(0, 4, 0.95), (3, 7, 0.9), (40, 40, 0.99), (1, 200, 0.95)])
def test_wilson_interval_is_statsmodels_and_scipys(k, n, level):
    found = wilson_interval(k / n, n, level)
    np.testing.assert_allclose(found, proportion_confint(k, n, alpha=1 - level, method="wilson"))
    expected = stats.binomtest(k, n).proportion_ci(confidence_level=level, method="wilson")
    np.testing.assert_allclose(found, (expected.low, expected.high))


@pytest.mark.parametrize(
    ("share", "n", "level", "said"),
    [
        (1.1, 5, 0.95, "within 0..1"),
        (0.5, 0, 0.95, "above 0"),
        (0.5, 5, 1.0, "coverage"),
        (np.nan, 5, 0.9, "0..1"),
    ],
)
def test_wilson_refuses_what_is_out_of_range(share, n, level, said):
    with pytest.raises(ValueError, match=said):
        wilson_interval(share, n, level)


def outcomes(both, gained, lost, neither):
    base = [True] * both + [False] * gained + [True] * lost + [False] * neither
    tuned = [True] * both + [True] * gained + [False] * lost + [False] * neither
    return np.array(base), np.array(tuned)


@pytest.mark.parametrize("counts", [(10, 8, 2, 5), (0, 3, 3, 0), (5, 0, 0, 5), (20, 1, 12, 3), (0, 6, 0, 0)])
def test_mcnemar_is_statsmodels_exact_test(counts):
    both, gained, lost, neither = counts
    found = mcnemar(*outcomes(*counts))
    expected = contingency_tables.mcnemar([[both, lost], [gained, neither]], exact=True)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.gained, found.lost) == (gained, lost)
    assert found.effect == pytest.approx((gained - lost) / sum(counts))


def test_mcnemar_refuses_scores_and_unequal_items():
    with pytest.raises(ValueError, match="boolean"):
        mcnemar(np.array([0.0, 1.0]), np.array([True, False]))
    with pytest.raises(ValueError, match="same items"):
        mcnemar(np.array([True]), np.array([True, False]))
    with pytest.raises(ValueError, match="at least one"):
        mcnemar(np.array([], dtype=bool), np.array([], dtype=bool))


@pytest.mark.numerics
def test_melded_with_a_known_share_is_clopper_and_pearsons():
    low, high = melded_difference((7, 20), (0, 1e9), 0.95)
    assert low == pytest.approx(stats.beta.ppf(0.025, 7, 14), abs=1e-7)  # a billion negatives are not all
    assert high == pytest.approx(stats.beta.ppf(0.975, 8, 13), abs=1e-7)


@pytest.mark.numerics
@pytest.mark.parametrize(("first", "second"), [((3, 17), (2, 140)), ((5, 5), (0, 140)), ((0, 9), (4, 12))])
def test_melded_is_the_quantile_of_a_difference_of_two_draws(first, second):
    rng, (x, n), (y, m) = np.random.default_rng(1), first, second
    lower = rng.beta(x, n - x + 1, 400_000) if x else np.zeros(1)
    upper = rng.beta(y + 1, m - y, 400_000)
    assert melded_difference(first, second, 0.9)[0] == pytest.approx(
        np.quantile(lower - upper, 0.05), abs=0.002
    )  # 400,000 draws: three Monte-Carlo errors
    assert melded_difference(first, second, 0.9) == tuple(-end for end in melded_difference(second, first, 0.9)[::-1])


def test_melded_ends_grow_with_their_level_and_stay_within_the_range():
    for counts in (((3, 17), (0, 140)), ((17, 17), (0, 140)), ((0, 3), (3, 3)), ((2.5, 5), (1.5, 7))):
        ends = [melded_difference(*counts, 1 - error) for error in np.geomspace(0.5, 1e-12, 40)]
        assert all(b[0] <= a[0] and b[1] >= a[1] for a, b in itertools.pairwise(ends))
        assert all(-1 <= low <= high <= 1 for low, high in ends)
    with pytest.raises(ValueError, match=r"a count within 0\.\.n of a number of trials above 0; got 3 of 2"):
        melded_difference((3, 2), (0, 5), 0.95)
    with pytest.raises(ValueError, match="a level is the coverage"):
        melded_difference((1, 2), (0, 5), 1.0)
