"""Two tuned checkpoints under a pairwise judge: their responses against each other, not both against the base."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gate_records import FINDING, claim, ids, pair_of, record

from tuneshift.gate.baselines import slim
from tuneshift.gate.compare import compare
from tuneshift.gate.direct import compared_directly
from tuneshift.run_record import RunRecord
from tuneshift.statistics.differences import paired_difference
from tuneshift.statistics.statistic import Arm

N = 60


def judged(scores, base=0.1, *, names=None, keep=True):
    """A claim by a pairwise judge that scored the tuned responses so, and every base's ``base``."""
    at, scores = tuple(names or ids(len(scores))), np.asarray(scores, dtype=float)
    won = 0.5 + np.sign(scores - base) / 2
    arms = [Arm(label=x, ids=at, values=v, span=(0, 1)) for x, v in (("base wins", 1 - won), ("tuned wins", won))]
    alone = tuple(Arm(label=x, ids=at, values=v, span=(-1, 1))
                  for x, v in (("base", np.full(len(at), base)), ("tuned", scores)))  # fmt: skip
    found = paired_difference(*arms, clusters=None, level=0.95)
    return claim(FINDING, replace(found, scores=alone if keep else (), unit="wins over base less losses"))


def compared(old, new):
    pair = pair_of(ids(N))
    baseline = record([old], [pair])
    kept = RunRecord(**{**vars(baseline), "claims": slim(baseline)["claims"]})
    run = record([new], [pair_of(ids(N), tuned="next")])
    return compare(run.claims, run.pairs, kept, name="good", margins={}, alpha=0.05)[0]["comparison"]


@pytest.mark.numerics
def test_a_loss_that_the_base_does_not_show_is_seen():
    """Both tuned checkpoints beat the base on every prompt; the new one is farther from every reference."""
    good, worse = np.linspace(0.6, 0.9, N), np.linspace(0.4, 0.7, N)
    assert compared(judged(good), judged(worse))["outcome"] == "regressed"
    assert compared(judged(good), judged(worse))["effect"] == pytest.approx(-1)
    assert compared(judged(worse), judged(good))["outcome"] == "improved"
    # Without the scores, as a judge leaves it that only compares, wins over the base are all that can be compared.
    assert compared(judged(good, keep=False), judged(worse, keep=False))["effect"] == 0


@pytest.mark.numerics
def test_the_change_is_wins_less_losses_of_the_new_over_the_old():
    rng = np.random.default_rng(0)
    old, new = rng.uniform(size=N), rng.uniform(size=N)
    new[:10] = old[:10]
    held = compared(judged(old), judged(new))
    assert held["effect"] == pytest.approx(np.mean(np.sign(new - old)), abs=1e-6)  # a record has six decimals
    assert held["n"] == N
    back = compared(judged(new), judged(old))
    assert back["effect"] == pytest.approx(-held["effect"])
    assert back["interval"] == pytest.approx([-held["interval"][1], -held["interval"][0]])


def test_scores_that_differ_by_their_rounding_tie():
    old = np.linspace(0.2, 0.8, N)
    assert compared(judged(old), judged(old + 1e-6))["effect"] == 0


def test_an_item_of_one_run_alone_is_left_to_be_counted_as_lost():
    new, old = compared_directly(judged([0.3, 0.4, 0.5]), judged([0.4, 0.3], names=["p001", "p009"]), None)
    values = {side: dict(zip(made["values"]["wins"]["ids"], made["values"]["wins"]["x"], strict=True))
              for side, made in (("new", new), ("old", old))}  # fmt: skip
    assert values == {"new": {"p000": 0.5, "p001": 0.5, "p002": 0.5}, "old": {"p001": 0.5, "p009": 0.5}}


def test_claims_without_scores_are_as_they_are():
    one, other = judged([0.3, 0.4, 0.5]), judged([0.3, 0.4, 0.5], keep=False)
    assert compared_directly(one, other, None) == (one, other)
