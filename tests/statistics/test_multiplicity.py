"""Against statsmodels and the step-down procedure written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from tuneshift.statistics.multiplicity import benjamini_hochberg, holm, holm_shares

FAMILIES = [
    [0.01, 0.04, 0.03, 0.005],
    [0.02, 0.02, 0.02],
    [0.001, 0.025, 0.025, 0.9, 1.0],
    [0.05],
    list(np.random.default_rng(0).uniform(0, 0.1, size=13)),
    list(np.round(np.random.default_rng(1).uniform(0, 0.05, size=20), 2)),
]


@pytest.mark.parametrize("p", FAMILIES)
def test_adjusted_p_and_q_are_statsmodels(p):
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], rtol=1e-12)
    np.testing.assert_allclose(benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1], rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("p", FAMILIES)
def test_p_within_its_share_is_holms_decision(p, alpha):
    shares = holm_shares(p, alpha)
    np.testing.assert_array_equal(np.array(p) <= shares, multipletests(p, alpha=alpha, method="holm")[0])
    assert np.all((shares >= alpha / len(p) - 1e-15) & (shares <= alpha))


def test_behind_the_first_failure_all_claims_keep_its_share():
    # 0.001 <= 0.05/4; 0.03 > 0.05/3 fails; 0.04 would pass at 0.05/1 but is not reached.
    np.testing.assert_allclose(holm_shares([0.04, 0.001, 0.03, 0.035], 0.05), [0.05 / 3, 0.05 / 4, 0.05 / 3, 0.05 / 3])


def test_a_claim_without_p_counts_as_one():
    for without in (None, math.nan):
        np.testing.assert_array_equal(holm([0.02, without, 0.01]), holm([0.02, 1.0, 0.01]))
        np.testing.assert_array_equal(benjamini_hochberg([0.02, without]), benjamini_hochberg([0.02, 1.0]))
        np.testing.assert_array_equal(holm_shares([0.02, without], 0.05), holm_shares([0.02, 1.0], 0.05))
    assert holm([0.03, None])[0] == pytest.approx(0.06)


def test_no_claims_have_no_p():
    assert len(holm([])) == len(benjamini_hochberg([])) == len(holm_shares([], 0.05)) == 0


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.inf])
def test_what_is_no_probability_is_refused(bad):
    for function in (holm, benjamini_hochberg, lambda p: holm_shares(p, 0.05)):
        with pytest.raises(ValueError, match="a p is a probability"):
            function([0.5, bad])


@pytest.mark.parametrize("alpha", [0, 1, -1, math.nan])
def test_an_alpha_that_is_no_error_rate_is_refused(alpha):
    with pytest.raises(ValueError, match="error rate"):
        holm_shares([0.5], alpha)
