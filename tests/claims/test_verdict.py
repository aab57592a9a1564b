"""The verdict rule as theorems, and the error rate at which a verdict turns."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from scipy import stats

from tuneshift.claims.finding import Finding, Outcome
from tuneshift.claims.verdict import deciding_error, judge, would_decide
from tuneshift.statistics.differences import paired_difference
from tuneshift.statistics.intervals import NoIntervals, StudentT, TwoOneSided
from tuneshift.statistics.statistic import Arm, Statistic

Direction = Literal["greater", "less", "equivalent"]
DIRECTIONS: tuple[Direction, ...] = ("greater", "less", "equivalent")


def finding(direction: Direction, sesoi: float) -> Finding:
    return Finding(
        id="wu2023.instruction_density_rises",
        title="",
        claim="",
        source="",
        direction=direction,
        unit="score",
        sesoi=sesoi,
        sesoi_reason="",
        how="",
        needs=(),
    )


@pytest.mark.parametrize(
    ("low", "high", "expected", "words"),
    [
        (-0.04, 0.02, Outcome.REPRODUCED, "lies wholly above the smallest effect of interest, -0.05"),
        (0.20, 0.40, Outcome.REPRODUCED, "lies wholly above"),
        (-0.06, 0.02, Outcome.INCONCLUSIVE, "holds the smallest effect of interest, -0.05"),
        (-0.20, -0.06, Outcome.CONTRADICTED, "lies wholly below the smallest effect of interest, -0.05"),
    ],
)
def test_no_loss_is_claimed_by_noninferior(low: float, high: float, expected: Outcome, words: str) -> None:
    claimed = replace(finding("greater", 0.05), noninferior=True)
    verdict = judge(claimed, with_interval(low, high))
    assert verdict.outcome is expected
    assert words in verdict.reason
    planned = would_decide(with_interval(low, high), sesoi=-0.05, direction="greater")
    assert verdict.needed == (planned if expected is Outcome.INCONCLUSIVE else None)
    assert planned != would_decide(with_interval(low, high), sesoi=0.05, direction="greater")


def test_noninferior_is_of_the_direction_greater() -> None:
    with pytest.raises(ValueError, match="noninferior is of the direction greater; this one is less"):
        replace(finding("less", 0.05), noninferior=True)


def with_interval(low: float, high: float, *, n: int = 40, clusters: int = 40) -> Statistic:
    return Statistic(
        effect=(low + high) / 2,
        interval=(low, high),
        level=0.95,
        p=0.5,
        n=n,
        clusters=clusters,
        standard_error=(high - low) / 4,
        method="made up",
        seed=None,
        arms=(),
        intervals=NoIntervals(),
        freedom=clusters - 1,
    )


def outcome(direction: Direction, sesoi: float, low: float, high: float) -> Outcome:
    return judge(finding(direction, sesoi), with_interval(low, high)).outcome


@pytest.mark.parametrize(
    ("direction", "low", "high", "expected"),
    [
        ("greater", 0.06, 0.20, Outcome.REPRODUCED),
        ("greater", 0.04, 0.20, Outcome.INCONCLUSIVE),
        ("greater", -0.10, 0.04, Outcome.CONTRADICTED),
        ("greater", 0.01, 0.04, Outcome.CONTRADICTED),
        ("greater", 0.05, 0.20, Outcome.INCONCLUSIVE),
        ("greater", -0.10, 0.05, Outcome.INCONCLUSIVE),
        ("less", -0.20, -0.06, Outcome.REPRODUCED),
        ("less", -0.20, -0.04, Outcome.INCONCLUSIVE),
        ("less", -0.04, 0.10, Outcome.CONTRADICTED),
        ("equivalent", -0.04, 0.03, Outcome.REPRODUCED),
        ("equivalent", -0.06, 0.03, Outcome.INCONCLUSIVE),
        ("equivalent", -0.20, 0.20, Outcome.INCONCLUSIVE),
        ("equivalent", 0.06, 0.20, Outcome.CONTRADICTED),
        ("equivalent", -0.20, -0.06, Outcome.CONTRADICTED),
    ],
)
def test_the_rule(direction: Direction, low: float, high: float, expected: Outcome) -> None:
    assert outcome(direction, 0.05, low, high) is expected


def intervals() -> list[tuple[float, float]]:
    rng = np.random.default_rng(0)
    return [(float(min(x)), float(max(x))) for x in rng.normal(scale=0.1, size=(500, 2))]


@pytest.mark.parametrize("sesoi", [0.0, 0.05])
def test_less_is_greater_in_the_mirror(sesoi: float) -> None:
    for low, high in intervals():
        assert outcome("less", sesoi, -high, -low) is outcome("greater", sesoi, low, high)


@pytest.mark.parametrize("sesoi", [0.0, 0.05])
def test_equivalent_reproduces_only_where_greater_and_less_are_contradicted(sesoi: float) -> None:
    seen = set()
    for low, high in intervals():
        sides = {outcome("greater", sesoi, low, high), outcome("less", sesoi, low, high)}
        equivalent = outcome("equivalent", sesoi, low, high)
        seen.add(equivalent)
        assert (equivalent is Outcome.REPRODUCED) == (sides == {Outcome.CONTRADICTED})
        assert (equivalent is Outcome.CONTRADICTED) == (Outcome.REPRODUCED in sides)
    assert seen >= {Outcome.CONTRADICTED, Outcome.INCONCLUSIVE}
    assert (Outcome.REPRODUCED in seen) == (sesoi > 0)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_narrower_interval_never_takes_a_decision_back(direction: Direction) -> None:
    for low, high in intervals():
        wide, narrow = (
            outcome(direction, 0.05, low, high),
            outcome(direction, 0.05, low + (high - low) / 4, high - (high - low) / 4),
        )
        assert wide is Outcome.INCONCLUSIVE or narrow is wide


def test_moving_the_interval_up_moves_greater_from_contradicted_to_reproduced() -> None:
    order = [Outcome.CONTRADICTED, Outcome.INCONCLUSIVE, Outcome.REPRODUCED]
    found = [order.index(outcome("greater", 0.05, x - 0.03, x + 0.03)) for x in np.linspace(-0.2, 0.2, 81)]
    assert found == sorted(found)
    assert set(found) == {0, 1, 2}


@pytest.mark.parametrize("direction", ["greater", "less"])
@pytest.mark.parametrize("sesoi", [0.0, 0.05])
def test_a_checkpoint_against_itself_never_reproduces(direction: Direction, sesoi: float) -> None:
    values = np.random.default_rng(1).normal(size=50)
    for n in (0, 1, 5, 50):
        arm = Arm(label="base", ids=tuple(map(str, range(n))), values=values[:n])
        statistic = paired_difference(arm, replace(arm, label="tuned"), clusters=None, level=0.95)
        assert judge(finding(direction, sesoi), statistic).outcome is not Outcome.REPRODUCED


def test_reasons_carry_the_numbers() -> None:
    up = judge(finding("greater", 0.05), with_interval(0.11234, 0.26789))
    assert up.reason == "The interval [+0.112, +0.268] lies wholly beyond the smallest effect of interest, +0.05."
    assert up.needed is None
    down = judge(finding("less", 0.05), with_interval(0.01, 0.02))
    assert down.reason == "The interval [+0.01, +0.02] does not reach the smallest effect of interest, -0.05."
    same = judge(finding("equivalent", 0.05), with_interval(-0.01, 0.02))
    assert same.reason == "The interval [-0.01, +0.02] lies wholly within the smallest effect of interest, ±0.05."


def test_an_undecided_interval_names_the_n_that_would_decide() -> None:
    verdict = judge(finding("greater", 0.05), with_interval(0.0, 0.2))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason == "The interval [+0, +0.2] holds the smallest effect of interest, +0.05."
    assert verdict.needed is not None
    # A fresh set decides either way in four of five cases: with the truth at +0.2, the farther end, 37 would do; over
    # all that the effect may be it takes many more.
    assert verdict.needed.at_least < 60 < verdict.needed.assured
    assert re.fullmatch(r"[\d,]+ prompts \(at least \d+ if the truth .* farther end\)", verdict.needed.text("prompts"))
    at_the_bound = judge(finding("greater", 0.1), with_interval(0.0, 0.2)).needed
    assert at_the_bound is not None
    assert verdict.needed.assured < at_the_bound.assured < 100_000
    layers = replace(finding("greater", 0.05), items="layers")
    assert judge(layers, with_interval(0.0, 0.2)).needed is None


@pytest.mark.numerics
def test_all_items_of_two_groups_are_counted() -> None:
    few = replace(with_interval(0.0, 0.2), n=26, asked=342, freedom=28.0)
    claim = finding("greater", 0.05)
    alone, both = (judge(claim, s).needed for s in (replace(few, asked=None), few))
    assert alone is not None
    assert both is not None
    # The same standard error from 26 or from 342 items: thirteen times as many fresh ones for the same precision.
    assert both.assured == pytest.approx(alone.assured * 342 / 26, rel=0.1)  # Student's quantiles differ a little


def test_values_that_agree_name_the_n_at_which_agreement_would_do() -> None:
    ones = Arm(label="base", ids=tuple(map(str, range(20))), values=np.ones(20), span=(0.0, 1.0))
    found = paired_difference(ones, replace(ones, label="tuned"), clusters=None, level=0.95)
    verdict = judge(finding("equivalent", 0.05), found)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.needed is not None
    n = verdict.needed.assured
    assert 1 - 0.025 ** (1 / n) < 0.05 <= 1 - 0.025 ** (1 / (n - 1))


def test_no_interval_is_inconclusive_and_says_why() -> None:
    def reason(n: int, clusters: int) -> str:
        verdict = judge(finding("greater", 0.05), with_interval(math.nan, math.nan, n=n, clusters=clusters))
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert verdict.needed is None
        return verdict.reason

    assert reason(0, 0) == "No prompt is left to compare."
    assert "5 independent clusters are too few; at this level it takes 6" in reason(25, 5)
    assert "do not vary" in reason(25, 25)


@pytest.mark.parametrize("sesoi", [-0.1, math.nan, math.inf])
def test_a_sesoi_that_is_no_size_is_refused(sesoi: float) -> None:
    with pytest.raises(ValueError, match="0 or above"):
        judge(finding("greater", sesoi), with_interval(0.0, 0.1))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("effect", [-0.4, -0.06, 0.0, 0.06, 0.4])
def test_deciding_error_is_where_the_verdict_turns(direction: Direction, effect: float) -> None:
    claim, t = finding(direction, 0.05), StudentT(effect=effect, error=0.1, freedom=29.0, units=30.0)
    intervals = TwoOneSided(inner=t) if direction == "equivalent" else t

    def at(error: float) -> Outcome:
        return judge(claim, replace(with_interval(*intervals.at(1 - error)), intervals=intervals)).outcome

    found = deciding_error(claim, intervals)
    if found is None:
        assert at(0.49) is Outcome.INCONCLUSIVE
    else:
        assert at(found * 1.000001) is not Outcome.INCONCLUSIVE
        assert at(found * 0.999999) is Outcome.INCONCLUSIVE


@pytest.mark.numerics
def test_deciding_error_of_a_t_interval_is_the_two_sided_p_against_the_sesoi() -> None:
    intervals = StudentT(effect=0.3, error=0.1, freedom=29.0, units=30.0)
    expected = 2 * stats.t.sf((0.3 - 0.05) / 0.1, 29)
    assert deciding_error(finding("greater", 0.05), intervals) == pytest.approx(expected)


def test_without_intervals_nothing_is_decided_at_any_rate() -> None:
    assert deciding_error(finding("greater", 0.05), NoIntervals()) is None
