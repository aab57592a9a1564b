"""Correction of counted shares: its definition, its limits, and by simulation what it holds and no longer says."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from scipy import optimize, stats

from tuneshift.claims.finding import Finding, Outcome
from tuneshift.claims.verdict import judge
from tuneshift.statistics.differences import equivalence, paired_difference
from tuneshift.statistics.interval_reader import intervals_of
from tuneshift.statistics.intervals import StudentT
from tuneshift.statistics.misclassification import Corrected, Youden, corrected_shift
from tuneshift.statistics.proportions import melded_difference
from tuneshift.statistics.statistic import Arm

GOOD = Youden(hits=36, positives=40, false_alarms=12, negatives=120)
"""Sensitivity 0.9, specificity 0.9."""
BLIND = Youden(hits=2, positives=20, false_alarms=12, negatives=120)
UNCHANGED = Finding(
    id="who2024.what", title="t", claim="c", source="s", direction="equivalent", unit="share", sesoi=0.02,
    sesoi_reason="r", how="h", needs=(), items="layers",
)  # fmt: skip


def arms(base, tuned):
    ids = tuple(f"layer.{i}" for i in range(len(base)))
    return [Arm(label=x, ids=ids, values=np.asarray(v, dtype=float), span=(0, 1))
            for x, v in (("base", base), ("tuned", tuned))]  # fmt: skip


def shift(base, tuned, *, level=0.95, margin=None):
    sides = arms(base, tuned)
    if margin is None:
        return paired_difference(*sides, clusters=sides[0].ids, level=level)
    return equivalence(*sides, clusters=sides[0].ids, level=level, margin=margin)


def counted(rng, share, youden, concepts):
    """What an annotator with these rates counts of layers with these true shares."""
    true = rng.binomial(concepts, share)
    hits = rng.binomial(true, youden.sensitivity)
    alarms = rng.binomial(concepts - true, 1 - youden.specificity)
    return (hits + alarms) / concepts


def relabelled(rng, youden):
    """The rates as another set of labelled lists would give them."""
    return Youden(
        hits=rng.binomial(int(youden.positives), youden.sensitivity), positives=youden.positives,
        false_alarms=rng.binomial(int(youden.negatives), 1 - youden.specificity), negatives=youden.negatives,
    )  # fmt: skip


@pytest.mark.numerics
def test_the_corrected_shares_are_rogan_and_gladens():
    base, tuned = np.linspace(0.2, 0.4, 12), np.linspace(0.31, 0.48, 12)
    found = corrected_shift(shift(base, tuned), GOOD, level=0.95)
    for arm, share in zip(found.arms, (base, tuned), strict=True):
        assert arm.values == pytest.approx((share + 0.9 - 1) / (0.9 + 0.9 - 1))
    assert found.effect == pytest.approx((tuned - base).mean() / 0.8)
    assert found.effect == pytest.approx(found.arms[1].mean - found.arms[0].mean)
    assert found.details["counted"]["effect"] == pytest.approx((tuned - base).mean())
    assert found.arms[0].span == pytest.approx((-0.125, 1.125))


@pytest.mark.numerics
def test_an_annotator_without_errors_of_many_lists_changes_nothing():
    perfect = Youden(hits=1e9, positives=1e9, false_alarms=0, negatives=1e9)
    counts = shift(np.linspace(0.2, 0.4, 12), np.linspace(0.25, 0.48, 12) ** 1.1)
    found = corrected_shift(counts, perfect, level=0.95)
    assert (found.effect, *found.interval) == pytest.approx(
        (counts.effect, *counts.interval), abs=1e-6
    )  # ends are solved for
    assert found.p == counts.p


@pytest.mark.numerics
def test_youdens_interval_is_melded_of_both_rates():
    assert GOOD.interval(0.95) == melded_difference((36, 40), (12, 120), 0.95)
    assert not BLIND.sees(0.95)
    assert GOOD.sees(0.95)
    assert not Youden(hits=0, positives=0, false_alarms=0, negatives=9).sees(0.95)


@pytest.mark.numerics
@pytest.mark.parametrize(("low", "effect", "high"), [(0.01, 0.05, 0.08), (-0.02, 0.01, 0.05), (-0.09, -0.05, -0.02)])
def test_bounds_are_where_the_difference_from_the_ratio_ends_at_zero(low, effect, high):
    """By definition, solved for numerically: counted - r J with the bounds of its parts put together."""

    class Fixed:
        def at(self, level):
            return low, high

    j_low, j_high = GOOD.interval(0.95)

    def lower(r):
        part = (j_high - GOOD.index) if r >= 0 else (GOOD.index - j_low)
        return effect - r * GOOD.index - math.hypot(effect - low, r * part)

    def upper(r):
        part = (GOOD.index - j_low) if r >= 0 else (j_high - GOOD.index)
        return effect - r * GOOD.index + math.hypot(high - effect, r * part)

    found = Corrected(counted=effect, inner=Fixed(), youden=GOOD).at(0.95)
    assert found == pytest.approx(
        (optimize.brentq(lower, -1, 1), optimize.brentq(upper, -1, 1)), abs=1e-9
    )  # as both are solved for
    assert found[0] < effect / GOOD.index < found[1]


def test_intervals_grow_with_their_level_and_end_at_all_that_a_shift_can_be():
    found = corrected_shift(shift(np.linspace(0.2, 0.4, 12), np.linspace(0.31, 0.48, 12)), GOOD, level=0.95).intervals
    bounds = [found.at(1 - error) for error in np.geomspace(0.4, 1e-9, 40)]
    assert all(a[0] >= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(bounds))
    barely = Youden(hits=3, positives=17, false_alarms=0, negatives=140)
    wide = Corrected(counted=0.01, inner=StudentT(effect=0.01, error=0.002, freedom=11, units=12), youden=barely)
    assert barely.sees(0.95)
    assert not barely.sees(1 - 1e-6)
    assert wide.at(0.95)[1] < 1
    assert Corrected(counted=0.01, inner=wide.inner, youden=BLIND).at(0.95) == (-1, 1)
    # A counted shift of more than J can say: both ends beyond the range, and none past the other.
    past = Youden(hits=57, positives=58, false_alarms=32, negatives=37)
    for sign in (-1, 1):
        inner = StudentT(effect=0.5 * sign, error=0.01, freedom=11, units=12)
        assert Corrected(counted=0.5 * sign, inner=inner, youden=past).at(0.7) == (sign, sign)


def test_a_blind_annotator_is_not_corrected():
    with pytest.raises(ValueError, match="may give the category blindly"):
        corrected_shift(shift([0.1] * 12, np.linspace(0.1, 0.2, 12)), BLIND, level=0.95)


def test_equal_evidence_stays_exactly_equal():
    sides = arms([0.3, 0.4] * 6, [0.3, 0.4] * 6)
    found = paired_difference(*sides, clusters=sides[0].ids, level=0.95, same_evidence=True)
    corrected = corrected_shift(found, GOOD, level=0.95)
    assert (corrected.effect, *corrected.interval) == (0, 0, 0)


def test_the_record_gives_the_same_intervals_again():
    for margin in (None, 0.05):
        found = corrected_shift(shift(np.linspace(0.2, 0.4, 12), np.linspace(0.3, 0.45, 12), margin=margin), GOOD,
                                level=0.95).intervals  # fmt: skip
        again = intervals_of(json.loads(json.dumps(found.plain())))
        assert [again.at(level) for level in (0.8, 0.95, 0.999)] == [found.at(level) for level in (0.8, 0.95, 0.999)]


@pytest.mark.numerics
@pytest.mark.parametrize("positives", [5, 8, 17])
@pytest.mark.parametrize(("sensitivity", "specificity"), [(0.6, 0.98), (0.9, 0.98), (0.95, 0.9), (0.98, 0.995)])
def test_the_index_of_few_positives_errs_no_more_often_than_stated(positives, sensitivity, specificity):
    """Every outcome enumerated. Newcombe's interval errs 4.3 times as often with 5 positives, 0.98 and 0.995."""
    hits, alarms = stats.binom(positives, sensitivity), stats.binom(140, 1 - specificity)
    true, below, above = sensitivity + specificity - 1, 0.0, 0.0
    for hit, alarm in itertools.product(range(positives + 1), range(int(alarms.ppf(1 - 1e-6)) + 1)):
        low, high = Youden(hits=hit, positives=positives, false_alarms=alarm, negatives=140).interval(0.95)
        chance = float(hits.pmf(hit) * alarms.pmf(alarm))
        below, above = below + chance * (high < true), above + chance * (low > true)
    assert max(below, above) <= 0.025 + 1e-6


@pytest.mark.parametrize("true_shift", [0.0, 0.1, -0.2])
def test_corrected_intervals_hold_the_true_shift_as_often_as_they_say(true_shift):
    rng, runs, held = np.random.default_rng(3), 600, 0
    rates = Youden(hits=24, positives=40, false_alarms=12, negatives=120)  # sensitivity 0.6, specificity 0.9
    for _ in range(runs):
        layers = rng.uniform(0.3, 0.5, 16)
        base = counted(rng, layers, rates, 300)
        tuned = counted(rng, layers + true_shift, rates, 300)
        errors = relabelled(rng, rates)
        low, high = corrected_shift(shift(base, tuned), errors, level=0.95).interval
        held += low <= true_shift <= high
    assert held / runs > 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs)


def test_without_the_uncertainty_of_the_rates_the_true_shift_is_missed():
    rng, runs, held = np.random.default_rng(4), 400, 0
    rates = Youden(hits=24, positives=40, false_alarms=12, negatives=120)
    for _ in range(runs):
        layers = rng.uniform(0.3, 0.5, 16)
        found = shift(counted(rng, layers, rates, 300), counted(rng, layers - 0.2, rates, 300))
        low, high = (end / relabelled(rng, rates).index for end in found.interval)
        held += low <= -0.2 <= high
    assert held / runs < 0.75


@pytest.mark.nightly
@pytest.mark.numerics
def test_a_true_shift_is_not_reproduced_as_unchanged_by_an_annotator_of_kappa_028():
    """Sensitivity 3 in 17 without false alarms, as the embedded word space on `writing`: kappa 0.28. A true shift of
    0.03 comes out as 0.005, within the margin of 0.02."""
    rng, runs = np.random.default_rng(5), 300
    rates = Youden(hits=3, positives=17, false_alarms=0, negatives=140)
    n, agree = 157, (3 + 140) / 157
    chance = (17 * 3 + 140 * 154) / n**2
    assert (agree - chance) / (1 - chance) == pytest.approx(0.28, abs=0.005)  # two decimals of the figure
    said = {"as counted": 0, "corrected": 0}
    for _ in range(runs):
        layers = rng.uniform(0.2, 0.3, 32)
        found = shift(counted(rng, layers, rates, 300), counted(rng, layers + 0.03, rates, 300), margin=0.02)
        said["as counted"] += judge(UNCHANGED, found).outcome is Outcome.REPRODUCED
        errors = relabelled(rng, rates)
        if errors.sees(0.95):
            corrected = corrected_shift(found, errors, level=0.95)
            said["corrected"] += judge(UNCHANGED, corrected).outcome is Outcome.REPRODUCED
    assert said["as counted"] > 0.9 * runs
    assert said["corrected"] <= 0.05 * runs
