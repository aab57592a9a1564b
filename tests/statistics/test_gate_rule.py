"""The gate's five words on planted intervals, in their order, and the loss it sees against simulation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from tuneshift.statistics.gate_rule import Spread, detectable_loss, gate_outcome, red_share, settled_at
from tuneshift.statistics.intervals import NoIntervals, StudentT

ALPHA, MARGIN, CLAIMS = 0.05, 0.05, 10


@dataclass(frozen=True)
class Planted:
    """An interval at the level of losses and gains that are shown, and one at that of `held`."""

    shown: tuple[float, float]
    held: tuple[float, float]

    def at(self, level: float) -> tuple[float, float]:
        return {1 - ALPHA / CLAIMS: self.shown, 1 - 2 * ALPHA: self.held}[level]

    def coverage(self, level: float) -> float:
        return level

    def plain(self) -> dict[str, object]:
        return {}


def outcome(shown: tuple[float, float], held: tuple[float, float], direction: str = "greater") -> str:
    return gate_outcome(Planted(shown, held), direction=direction, margin=MARGIN, claims=CLAIMS, alpha=ALPHA)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shown", "held", "word"),
    [
        ((-0.20, -0.06), (-0.16, -0.10), "regressed"),
        ((-0.20, -0.01), (-0.15, -0.05), "worse"),  # an end at the margin does not rule it out
        ((-0.20, -0.01), (-0.04, -0.02), "held"),  # a loss is shown, and shown to lie within the margin
        ((-0.06, 0.04), (-0.04, 0.03), "held"),
        ((0.01, 0.20), (0.02, 0.15), "improved"),
        ((0.01, 0.30), (-0.06, 0.25), "improved"),
        ((-0.10, 0.10), (-0.06, 0.06), "inconclusive"),
        ((math.nan, math.nan), (-0.04, 0.04), "held"),  # too few units for alpha / K
        ((math.nan, math.nan), (math.nan, math.nan), "inconclusive"),
    ],
)
def test_words(shown: tuple[float, float], held: tuple[float, float], word: str) -> None:
    assert outcome(shown, held) == word
    mirrored = outcome((-shown[1], -shown[0]), (-held[1], -held[0]), "less")
    assert mirrored == word


@pytest.mark.parametrize(
    ("shown", "held", "word"),
    [
        ((0.06, 0.2), (0.08, 0.18), "regressed"),
        ((-0.2, -0.06), (-0.18, -0.08), "regressed"),
        ((-0.06, 0.06), (-0.04, 0.04), "held"),
        ((0.01, 0.08), (0.02, 0.06), "inconclusive"),  # neither worse nor improved
    ],
)
def test_words_of_equivalent_claims(shown: tuple[float, float], held: tuple[float, float], word: str) -> None:
    assert outcome(shown, held, "equivalent") == word


def test_no_intervals_say_nothing() -> None:
    assert gate_outcome(NoIntervals(), direction="greater", margin=0.1, claims=1, alpha=0.05) == "inconclusive"


def test_a_look_spends_on_what_is_shown_and_not_on_held() -> None:
    t = StudentT(effect=-0.1, error=0.025, freedom=100, units=101)
    told = {"direction": "greater", "margin": 0.05, "claims": 5, "alpha": 0.05}
    assert gate_outcome(t, **told) == "worse"  # type: ignore[arg-type]
    assert gate_outcome(t, **told, shown_alpha=1e-6) == "inconclusive"  # type: ignore[arg-type]
    same = StudentT(effect=0.0, error=0.025, freedom=100, units=101)
    assert gate_outcome(same, **told, shown_alpha=1e-12) == gate_outcome(same, **told) == "held"  # type: ignore[arg-type]


@pytest.mark.numerics
@pytest.mark.parametrize("direction", ["greater", "equivalent"])
@pytest.mark.parametrize("error", [0.06, 0.02, 0.004])
def test_the_loss_it_sees_is_red_in_four_of_five_runs(direction, error: float) -> None:
    freedom, rng, runs = 40, np.random.default_rng(0), 4000
    told = {"direction": direction, "margin": MARGIN, "claims": 11, "alpha": ALPHA}
    spread = Spread(error=error, freedom=freedom, step=0.0, items=1.0)
    loss = detectable_loss(spread=spread, **told)
    red = 0
    for _ in range(runs):
        t = StudentT(effect=-loss + error * rng.normal(), error=error * math.sqrt(rng.chisquare(freedom) / freedom),
                     freedom=freedom, units=freedom + 1)  # fmt: skip
        red += gate_outcome(t, **told) in ("regressed", "worse")
    assert red / runs == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / runs))
    assert red_share(loss, spread=spread, **told) == pytest.approx(0.8)


def test_a_longer_interval_sees_less() -> None:
    spread = Spread(error=0.02, freedom=200, step=0.0, items=1.0)
    told = {"spread": spread, "direction": "greater", "margin": MARGIN, "claims": 11, "alpha": ALPHA}
    assert detectable_loss(**told, reach=1.2) > detectable_loss(**told)


@pytest.mark.numerics
def test_without_a_change_red_is_a_fortieth_of_runs_at_most() -> None:
    spread = Spread(error=0.02, freedom=60, step=0.0, items=1.0)
    told = {"spread": spread, "direction": "greater", "margin": MARGIN, "claims": 11, "alpha": ALPHA}
    assert 11 * red_share(0.0, **told) <= ALPHA / 2 + 1e-4
    assert 11 * red_share(0.0, **told) == pytest.approx(
        11 * float(stats.t.sf(stats.t.isf(ALPHA / 22, 60), 60)),
        rel=0.05,  # the margin is crossed from both sides
    )


def test_arguments_out_of_range_are_refused() -> None:
    for wrong in ({"margin": 0.0}, {"claims": 0}, {"alpha": 0.5}, {"direction": "up"}):
        told = {"direction": "greater", "margin": 0.1, "claims": 1, "alpha": 0.05, **wrong}
        with pytest.raises(ValueError, match=r"direction|margin|claim"):
            gate_outcome(NoIntervals(), **told)


@pytest.mark.numerics
def test_a_loss_of_whole_answers_scatters_more_than_one_that_all_share() -> None:
    # 348 prompts of which 5 % flip each way: the spread of no change alone would promise 80 % and keep 54 %.
    rng, n, runs = np.random.default_rng(1), 348, 3000
    told = {"direction": "greater", "margin": MARGIN, "claims": 11, "alpha": ALPHA}
    loss = detectable_loss(spread=Spread(error=math.sqrt(0.1 / n), freedom=n - 1, step=1.0, items=n), **told)
    counts = rng.multinomial(n, [0.05, 0.05 + loss, 0.9 - loss], size=runs)
    mean = (counts[:, 0] - counts[:, 1]) / n
    error = np.sqrt(((counts[:, 0] + counts[:, 1]) / n - mean**2) / (n - 1))
    red = [gate_outcome(StudentT(effect=m, error=e, freedom=n - 1, units=n), **told) in ("regressed", "worse")
           for m, e in zip(mean, error, strict=True)]  # fmt: skip
    assert np.mean(red) == pytest.approx(0.8, abs=0.035)  # 3,000 runs of whole answers


def test_a_spread_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Spread(error=0.0, freedom=5, step=1.0, items=10)


@pytest.mark.parametrize("direction", ["greater", "less", "equivalent"])
@pytest.mark.parametrize("error", [0.005, 0.02, 0.1])
def test_what_counts_as_settled_is_where_the_gate_has_a_word(direction: str, error: float) -> None:
    """Of a gain that is shown though a loss beyond the margin is not ruled out nothing is settled: no t has it."""
    told = {"direction": direction, "margin": MARGIN, "claims": CLAIMS, "alpha": ALPHA}
    spans = settled_at(**told)(np.array([error]), 40)  # type: ignore[arg-type]
    for effect in np.linspace(-0.5, 0.5, 401):
        t = StudentT(effect=float(effect), error=error, freedom=40, units=41)
        word = gate_outcome(t, **told)  # type: ignore[arg-type]
        settled = any(np.all(low < effect) and np.all(effect < high) for low, high in spans)
        assert settled == (word != "inconclusive"), (effect, word)
