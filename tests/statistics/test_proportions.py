"""Against statsmodels and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats import contingency_tables
from statsmodels.stats.proportion import proportion_confint

from tuneshift.statistics.proportions import mcnemar, wilson_interval

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
