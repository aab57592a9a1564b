"""Levels of looks and claims: they share one rate, and none falls under the floor."""

from __future__ import annotations

import pytest

from tuneshift.statistics.look_budget import SMALLEST, claim_levels
from tuneshift.statistics.sequential import look_levels

pytestmark = pytest.mark.numerics


@pytest.mark.parametrize("spending", ["even", "obrien-fleming", "pocock"])
@pytest.mark.parametrize("claims", [1, 11, 18])
def test_looks_and_claims_share_alpha(spending, claims: int) -> None:
    levels = claim_levels(look_levels(0.05, 30, spending), claims)
    assert claims * sum(levels) == pytest.approx(0.05)
    assert min(levels) >= SMALLEST


def test_a_first_look_that_spends_next_to_nothing_has_a_level_that_float64_knows() -> None:
    spent = look_levels(0.05, 30, "obrien-fleming")
    assert spent[0] / 11 < 1e-26  # 1 less this is 1: the level that crashed
    assert claim_levels(spent, 11)[0] == SMALLEST
    assert 1 - SMALLEST < 1


def test_even_spending_is_divided_and_nothing_else() -> None:
    assert claim_levels((0.01, 0.01), 5) == pytest.approx((0.002, 0.002))


def test_a_last_look_that_cannot_pay_for_the_floor_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer looks"):
        claim_levels((0.0, 0.0, 1e-12), 1)
    with pytest.raises(ValueError, match="rates from 0 on"):
        claim_levels((), 1)


def test_the_last_look_pays_for_the_floor() -> None:
    levels = claim_levels((1e-14, 1e-10), 1)
    assert levels[0] == SMALLEST
    assert sum(levels) == pytest.approx(1e-14 + 1e-10, abs=1e-26)  # not a floor more
