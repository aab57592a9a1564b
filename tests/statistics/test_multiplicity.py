"""Against statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from tuneshift.statistics.multiplicity import benjamini_hochberg, holm

pytestmark = pytest.mark.numerics

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
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
    np.testing.assert_allclose(benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1])


def test_a_claim_without_p_counts_as_one():
    for without in (None, math.nan):
        np.testing.assert_array_equal(holm([0.02, without, 0.01]), holm([0.02, 1.0, 0.01]))
        np.testing.assert_array_equal(benjamini_hochberg([0.02, without]), benjamini_hochberg([0.02, 1.0]))
    assert holm([0.03, None])[0] == pytest.approx(0.06)


def test_no_claims_have_no_p():
    assert len(holm([])) == len(benjamini_hochberg([])) == 0


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.inf])
def test_what_is_no_probability_is_refused(bad):
    for function in (holm, benjamini_hochberg):
        with pytest.raises(ValueError, match="a p is a probability"):
            function([0.5, bad])
