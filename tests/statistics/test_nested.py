"""A higher level's interval holds a lower one's, of every kind: p and the n that would decide are searched by level."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from tuneshift.statistics.autocorrelated import series_slope
from tuneshift.statistics.bounded import BoundedMean, BoundedT
from tuneshift.statistics.estimates import weighted_spearman
from tuneshift.statistics.intervals import (
    AllWithin,
    AtBound,
    Bca,
    Expanded,
    Intervals,
    NoIntervals,
    StudentT,
    TwoOneSided,
    Wilson,
    smallest_error,
)
from tuneshift.statistics.jackknife import LogitT, LogitTChange, jackknife
from tuneshift.statistics.matched import PermutationIntervals
from tuneshift.statistics.mean_intervals import difference_intervals, mean_intervals
from tuneshift.statistics.misclassification import Corrected, Youden
from tuneshift.statistics.paired_binary import PairedBinary

LEVELS = [1 - error for error in np.geomspace(0.48, 1e-9, 32)]


def own(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def logit_change(rng: np.random.Generator) -> LogitTChange:
    """Of six to eight items, of which one statistic is near the end of its range."""
    units = int(rng.integers(6, 9))
    sides = [
        LogitT(inner=StudentT(effect=float(effect), error=float(rng.uniform(0.2, 1)), freedom=units - 1, units=units),
               low=-1.0, high=1.0)
        for effect in rng.permutation([rng.normal(), rng.uniform(2, 5)])
    ]  # fmt: skip
    return LogitTChange(before=sides[0], after=sides[1], correlation=float(rng.uniform(0.5, 1)))


def bounded(rng: np.random.Generator) -> Intervals:
    n = int(rng.integers(2, 80))
    labels = [f"c{int(c)}" for c in rng.integers(0, max(3, n // int(rng.integers(1, 5))), size=n)]
    values = rng.choice([-1, 0, 0, 0, 0, rng.uniform(-1, 1), 1], size=n).astype(np.float64)
    if rng.random() < 0.3:
        values[:] = rng.uniform(-1, 1)
    return mean_intervals(values, labels, span=(-1.0, 1.0), rounding=1e-12)


def corrected(rng: np.random.Generator) -> Intervals:
    positives, negatives = int(rng.integers(5, 60)), int(rng.integers(5, 60))
    youden = Youden(
        hits=float(rng.integers(positives // 2, positives + 1)), positives=positives,
        false_alarms=float(rng.integers(0, negatives // 2 + 1)), negatives=negatives,
    )  # fmt: skip
    shift = float(rng.uniform(-0.4, 0.4))
    inner = StudentT(effect=shift, error=float(rng.uniform(0.005, 0.2)), freedom=40, units=41)
    return Corrected(counted=shift, inner=inner, youden=youden)


def series(rng: np.random.Generator) -> Intervals:
    n = int(rng.integers(6, 30))
    return series_slope(np.arange(n) / n, np.cumsum(rng.normal(size=n)), places=list(range(n)), arms=(),
                        level=0.95, method="a ").intervals  # fmt: skip


def paired_binary(rng: np.random.Generator) -> Intervals:
    n = int(rng.integers(8, 100))
    return PairedBinary.of(rng.choice([-1.0, 0.0, 0.0, 0.0, 1.0], size=n), own(n))


def student(rng: np.random.Generator) -> StudentT:
    freedom = float(rng.integers(5, 60))
    return StudentT(effect=float(rng.normal()), error=float(rng.uniform(0, 1)), freedom=freedom, units=freedom + 1)


def bca(rng: np.random.Generator) -> Bca:
    return Bca.of(rng.normal(size=999), bias=float(rng.normal(0, 0.1)), acceleration=float(rng.normal(0, 0.02)),
                  units=30)  # fmt: skip


MADE: dict[str, Callable[[np.random.Generator], Intervals | None]] = {
    "LogitTChange": logit_change,
    "BoundedT and BoundedMean": bounded,
    "BoundedDifference": lambda rng: difference_intervals(
        rng.beta(0.3, 2, size=20), rng.beta(2, 0.3, size=15), own(35), span=(0.0, 1.0), rounding=1e-12
    ),
    "SkewedT": lambda rng: mean_intervals(rng.lognormal(size=60), own(60), span=None, rounding=1e-12),
    "LogitT": lambda rng: jackknife(
        weighted_spearman(*rng.normal(size=(2, 9))), own(9), span=(-1.0, 1.0)
    ).intervals,
    "Corrected": corrected,
    "SeriesT": series,
    "PairedBinary": paired_binary,
    "StudentT": student,
    "TwoOneSided": lambda rng: TwoOneSided(inner=student(rng)),
    "PermutationIntervals": lambda rng: PermutationIntervals.of(rng.normal(size=999), same=1),
    "AtBound": lambda rng: AtBound(end=1.0, scale=1.0, units=int(rng.integers(5, 60))),
    "Wilson": lambda rng: Wilson(share=float(rng.random()), n=30, chance=0.5, units=30),
    "Bca": bca,
    "Expanded": lambda rng: Expanded(inner=bca(rng), units=float(rng.integers(8, 40))),
    "NoIntervals": lambda rng: NoIntervals(),
}  # fmt: skip


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("seed", range(8))
def test_a_higher_level_holds_a_lower_one(kind: str, seed: int) -> None:
    found = MADE[kind](np.random.default_rng([seed, len(kind)]))
    if found is None:
        pytest.skip("no interval for these values")
    ends = [found.at(level) for level in LEVELS]
    known = [pair for pair in ends if not np.isnan(pair[0])]
    for (low, high), (lower, higher) in itertools.pairwise(known):
        slack = 1e-9 * max(1.0, abs(low), abs(high))
        assert lower <= low + slack
        assert higher >= high - slack
    # Once there is no interval, there is none at any higher level.
    assert all(not np.isnan(pair[0]) for pair in ends[: len(known)])


def test_the_kinds_are_all_that_a_record_can_hold() -> None:
    from tuneshift.statistics import interval_reader

    kinds = {name for name, value in vars(interval_reader).items() if isinstance(value, type) and hasattr(value, "at")}
    named = {name for kind in MADE for name in kind.split(" and ")} | {"AllWithin", "Intervals"}
    assert kinds | {"Corrected"} == named


@pytest.mark.parametrize("seed", range(40))
def test_what_all_lie_within_is_decided_at_every_larger_rate(seed: int) -> None:
    """Of several effects another may decide at another level, so that the ends of one interval say little."""
    rng = np.random.default_rng(seed)
    margin, parts = 0.5, tuple(student(rng) for _ in range(3))
    parts = tuple(StudentT(effect=p.effect, error=p.error / 5, freedom=p.freedom, units=p.units) for p in parts)
    found = AllWithin(of=parts, margin=margin)

    def within(low: float, high: float) -> bool:
        return -margin < low and high < margin

    def outside(low: float, high: float) -> bool:
        return low > margin or high < -margin

    for decides in (within, outside):
        least = smallest_error(found, decides)
        decided = {level for level in LEVELS if decides(*found.at(level))}
        assert decided == {level for level in LEVELS if least is not None and 1 - level >= least}


def test_the_changes_of_correlations_are_some_that_would_get_shorter_by_zous_formula_alone() -> None:
    assert sum(any(logit_change(np.random.default_rng(seed))._peaks.values()) for seed in range(15)) >= 5


def test_bounded_t_takes_both_of_its_kinds() -> None:
    kinds = {type(bounded(np.random.default_rng(seed))) for seed in range(8)}
    assert kinds == {BoundedT, BoundedMean}
