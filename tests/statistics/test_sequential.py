"""The spending functions by their definition, and error rates of sequences of looks at one baseline."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tuneshift.statistics.sequential import look_levels, spent

KINDS = ("even", "obrien-fleming", "pocock")


@pytest.mark.numerics
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("looks", [1, 2, 30])
def test_the_looks_spend_alpha_and_no_more(kind, looks):
    levels = look_levels(0.05, looks, kind)
    assert len(levels) == looks
    assert all(level > 0 for level in levels) or (kind == "obrien-fleming" and looks == 30)
    assert all(level >= 0 for level in levels)
    assert sum(levels) == pytest.approx(0.05)


@pytest.mark.numerics
def test_spending_follows_lan_and_demets():
    z = stats.norm.ppf(0.975)
    for t in (0.2, 0.5, 0.9):
        assert spent(0.05, t, "obrien-fleming") == pytest.approx(2 - 2 * stats.norm.cdf(z / math.sqrt(t)))
        assert spent(0.05, t, "pocock") == pytest.approx(0.05 * math.log(1 + (math.e - 1) * t))
        assert spent(0.05, t, "even") == pytest.approx(0.05 * t)
    # The first of five boundaries at one-sided 0.025, as tables of this spending function give it.
    # Three digits are printed
    assert stats.norm.isf(spent(0.025, 0.2, "obrien-fleming")) == pytest.approx(4.877, abs=5e-4)


def test_obrien_fleming_saves_for_the_end_and_pocock_does_not():
    late, flat, early = (look_levels(0.05, 10, kind) for kind in ("obrien-fleming", "even", "pocock"))
    assert late[0] < flat[0] < early[0]
    assert late[-1] > flat[-1] > early[-1]
    assert list(late) == sorted(late)


def test_looks_at_one_baseline_seldom_go_red_and_naive_ones_often():
    rng, nights, n = np.random.default_rng(0), 20, 40
    ever = dict.fromkeys((*KINDS, "naive"), 0)
    for _ in range(300):
        differences = rng.normal(size=(nights, n)) - rng.normal(size=n)  # [night, item], the baseline is shared
        p = stats.ttest_1samp(differences, 0, axis=1).pvalue
        for kind in KINDS:
            ever[kind] += bool(np.any(p <= look_levels(0.05, nights, kind)))
        ever["naive"] += bool(np.any(p <= 0.05))
    highest = stats.binom.ppf(0.99, 300, 0.05)
    assert all(ever[kind] <= highest for kind in KINDS)
    assert ever["naive"] > 4 * highest


def test_what_is_out_of_range_is_refused():
    with pytest.raises(ValueError, match="error rate"):
        look_levels(1.5, 3, "even")
    with pytest.raises(ValueError, match="at least one look; got 0"):
        look_levels(0.05, 0, "even")
    with pytest.raises(ValueError, match="one of even, obrien-fleming, pocock; got 'haybittle'"):
        look_levels(0.05, 3, "haybittle")
    with pytest.raises(ValueError, match="share of looks"):
        spent(0.05, 1.2, "even")
