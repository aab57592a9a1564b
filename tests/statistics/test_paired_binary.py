"""Tango's score interval against his published examples, PropCIs' values and a plain search."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from tuneshift.statistics.interval_reader import intervals_of
from tuneshift.statistics.paired_binary import PairedBinary, tango_score

pytestmark = pytest.mark.numerics


def pairs(gained: int, lost: int, n: int) -> PairedBinary:
    return PairedBinary(gained=gained, lost=lost, n=n, units=n, freedom=math.inf)


def test_published_examples() -> None:
    # Tango (1998), section 6.2 (n = 32, 9 and 3) and 6.1 (n = 44, 0 and 1; Z at a margin of 0.1 is 1.709).
    assert pairs(9, 3, 32).at(0.95) == pytest.approx((-0.027, 0.390), abs=5e-4)  # three digits are printed
    assert pairs(0, 1, 44).at(0.90)[0] == pytest.approx(-0.096, abs=5e-4)  # three digits are printed
    assert tango_score(0, 1, 44, -0.1) == pytest.approx(1.709, abs=5e-4)  # three digits are printed


@pytest.mark.parametrize(
    ("gained", "lost", "n", "level", "interval"),
    # R, PropCIs::scoreci.mp (which counts the other way round), as two other projects print its values.
    [(20, 60, 1000, 0.95, (-0.0584, -0.0231)), (28, 25, 618, 0.90, (-0.0148, 0.0247))],
)
def test_propcis(gained: int, lost: int, n: int, level: float, interval: tuple[float, float]) -> None:
    assert pairs(gained, lost, n).at(level) == pytest.approx(interval, abs=5e-5)  # four digits are printed


@pytest.mark.parametrize(("gained", "lost", "n"), [(3, 9, 40), (0, 4, 30), (12, 0, 25), (1, 1, 12)])
def test_ends_are_where_a_maximised_likelihood_puts_the_score(gained: int, lost: int, n: int) -> None:
    def score(change: float) -> float:
        # The share lost by direct maximisation of the trinomial likelihood under the change.
        def minus_log(q: float) -> float:
            cells = ((gained, q + change), (lost, q), (n - gained - lost, 1 - 2 * q - change))
            return -sum(k * math.log(max(p, 1e-300)) for k, p in cells if k)

        span = (max(0.0, -change), (1 - change) / 2)
        q = optimize.minimize_scalar(minus_log, bounds=span, method="bounded", options={"xatol": 1e-12}).x
        return float((gained - lost - n * change) / math.sqrt(n * (2 * q + change - change**2)))

    low, high = pairs(gained, lost, n).at(0.99)
    z = float(stats.norm.ppf(0.995))
    assert score(low) == pytest.approx(z, abs=2e-3)  # the likelihood is flat where it is maximised
    assert score(high) == pytest.approx(-z, abs=2e-3)  # the likelihood is flat where it is maximised


def test_p_against_no_change_is_mcnemars_without_correction() -> None:
    assert pairs(12, 4, 50).p() == pytest.approx(float(stats.chi2.sf((12 - 4) ** 2 / 16, 1)))


def test_mirrored_counts_mirror_the_interval() -> None:
    low, high = pairs(3, 9, 40).at(0.95)
    assert pairs(9, 3, 40).at(0.95) == pytest.approx((-high, -low))


def test_no_change_seen_is_not_no_change() -> None:
    z2 = float(stats.norm.ppf(0.975)) ** 2
    assert pairs(0, 0, 20).at(0.95) == pytest.approx((-z2 / (20 + z2), z2 / (20 + z2)))
    assert pairs(20, 0, 20).at(0.95)[1] == 1.0


def test_doubled_items_in_clusters_count_once() -> None:
    x = np.array([1.0] * 5 + [-1.0] * 3 + [0.0] * 32)
    twice = PairedBinary.of(np.repeat(x, 2), [str(i // 2) for i in range(80)])
    # The design effect of pairs that agree is 2, but for the factor n / (n - 1) of the two variances.
    assert twice.n == pytest.approx(40, rel=0.02)  # n / (n - 1)
    assert twice.gained == pytest.approx(5, rel=0.02)  # n / (n - 1)
    assert twice.freedom == 39


def test_nothing_seen_in_clusters_counts_clusters() -> None:
    assert PairedBinary.of(np.zeros(30), [str(i // 5) for i in range(30)]).n == 6


def test_other_values_are_refused() -> None:
    with pytest.raises(ValueError, match="-1, 0 or 1"):
        PairedBinary.of(np.array([0.5, 0.0]), ["a", "b"])


def test_records_give_the_same_intervals_again() -> None:
    for freedom in (math.inf, 14.0):
        found = PairedBinary(gained=3, lost=5.5, n=40, units=15, freedom=freedom)
        assert intervals_of(found.plain()) == found


def test_pairs_that_go_against_one_another_within_clusters_count_for_no_more_than_they_are() -> None:
    x = np.array([1.0, -1.0] * 8 + [1.0, 0.0] * 2)
    found = PairedBinary.of(x, [str(i // 2) for i in range(20)])
    assert (found.n, found.gained, found.lost) == (20, 10, 8)
