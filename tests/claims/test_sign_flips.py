"""Flipping signs beside a paired verdict: by the definition, at the claim's error rate, of paired statistics only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tuneshift.claims.finding import Finding
from tuneshift.claims.sign_flips import is_paired, sign_flip_row
from tuneshift.statistics.differences import paired_difference, two_sample_difference
from tuneshift.statistics.statistic import Arm

FINDING = Finding(
    id="a.first", title="t", claim="c", source="s", direction="greater", unit="u", sesoi=0.1, sesoi_reason="r", how="h",
    needs=(),
)  # fmt: skip


def statistic(values, level=0.95):
    ids = tuple(f"p{i}" for i in range(len(values)))
    base = Arm(label="base", ids=ids, values=np.zeros(len(values)))
    return paired_difference(base, replace(base, label="tuned", values=np.asarray(values)), clusters=None, level=level)


def row(values, *, level=0.95, clusters=None, **finding):
    found = statistic(values, level)
    return sign_flip_row(replace(FINDING, **finding), found, clusters or found.arms[0].ids, seed=1)


@pytest.mark.numerics
def test_p_is_the_share_of_all_sign_patterns_that_reach_as_far():
    values = np.array([0.5, -0.1, 0.4, 0.3, 0.2, 0.6, 0.1])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 7)).reshape(7, -1)
    reached = np.abs(values @ signs) >= abs(values.sum()) - 1e-12
    made = row(values)
    assert made["p"] == pytest.approx(reached.mean())
    assert made["note"] == "all 128 patterns of signs"
    assert row(np.tile(values, 5))["note"] == "9,999 random patterns of signs"


@pytest.mark.parametrize(
    ("direction", "shift", "verdict"),
    [
        ("greater", 0.5, "reproduced"), ("greater", -0.2, "contradicted"), ("greater", 0.12, "inconclusive"),
        ("less", -0.5, "reproduced"), ("less", 0.2, "contradicted"),
        ("equivalent", 0.0, "reproduced"), ("equivalent", 0.5, "contradicted"), ("equivalent", 0.1, "inconclusive"),
    ],
)  # fmt: skip
def test_the_verdict_is_of_the_findings_bounds(direction, shift, verdict):
    noise = 0.1 * np.random.default_rng(0).normal(size=60)
    assert row(noise - noise.mean() + shift, direction=direction)["verdict"] == verdict


def test_it_is_judged_at_the_claims_error_rate_and_by_cluster():
    values = np.array([0.5, 0.3, 0.4, 0.3, 0.2, 0.6, 0.3])  # all above 0.1: 2 of 128 patterns, 1.6 %
    assert row(values)["verdict"] == "reproduced"
    assert row(values, level=0.99)["verdict"] == "inconclusive"
    assert row(values, clusters=["a", "a", "b", "b", "c", "c", "c"])["verdict"] == "inconclusive"  # 2 of 8


def test_only_paired_statistics_have_one():
    low, high = (Arm(label=s, ids=tuple(f"{s}{i}" for i in range(9)), values=np.arange(9.0)) for s in "ab")
    assert is_paired(statistic(np.arange(9.0)))
    assert not is_paired(statistic([]))
    assert not is_paired(two_sample_difference(low, high, clusters=None, level=0.95))
