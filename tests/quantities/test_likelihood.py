"""The change of log-probability per token: by hand, paired, and where there is nothing to read."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tolerances import assert_near

from tuneshift.checkpoints.refs import ModelRef
from tuneshift.claims.view import NotApplicable, View
from tuneshift.errors import MeasureError
from tuneshift.pairs import ModelPair
from tuneshift.prompts.prompt import Prompt
from tuneshift.quantities.likelihood import CAP, likelihood_change
from tuneshift.store.evidence import EvidenceItem

PAIR = ModelPair(name="pair", base=ModelRef(name="b", model="b"), tuned=ModelRef(name="t", model="t"))
PROMPTS = tuple(Prompt(id=f"p{i}", prompt="Say.", instruction_spans=(), reference="r") for i in range(12))


def passage(i: str, logprob: float, tokens: int) -> EvidenceItem:
    return EvidenceItem(id=i, arrays={"logprob": np.array(logprob), "tokens": np.array(tokens)}, values={})


def reference(i: str, own: float, tokens: int) -> EvidenceItem:
    arrays = {"own": np.array(own), "lengths": np.array([tokens, 99])}
    return EvidenceItem(id=i, arrays=arrays, values={})


def view(**roles):
    return View(pair=PAIR, prompts=PROMPTS, items=lambda role, need: roles.get(role), level=0.95, seed=0,
                evidence_name=lambda role, need: str(id(roles.get(role))))  # fmt: skip


@pytest.mark.numerics
@pytest.mark.parametrize(("need", "make"), [("text", passage), ("likelihood", reference)])
def test_it_is_the_mean_of_differences_per_token(need, make):
    sums = np.random.default_rng(0).normal(-40, 5, size=(2, len(PROMPTS)))
    tokens = np.arange(5, 5 + len(PROMPTS))
    base, tuned = ({p.id: make(p.id, s, n) for p, s, n in zip(PROMPTS, row, tokens, strict=True)} for row in sums)
    found = likelihood_change(need)(view(base=base, tuned=tuned))
    change = (sums[1] - sums[0]) / tokens
    assert np.abs(change).max() > CAP > np.abs(change).min()
    assert_near(found.effect, np.mean(np.clip(change, -CAP, CAP)), terms=len(PROMPTS) + 3, dtype=torch.float64)
    assert found.n == found.clusters == len(PROMPTS)
    assert found.details["base"] == pytest.approx(np.mean(sums[0] / tokens))
    assert found.details["tuned"] == pytest.approx(np.mean(sums[1] / tokens))
    assert found.details["capped"] == pytest.approx(np.mean(np.abs(change) > CAP))


def test_a_few_large_changes_leave_an_interval():
    """As rounding makes them: t is refused, the cap bounds what others could be."""
    base = {p.id: passage(p.id, -10.0, 5) for p in PROMPTS}
    tuned = {**base, "p0": passage("p0", -40.0, 5)}
    low, high = likelihood_change("text")(view(base=base, tuned=tuned)).interval
    assert -CAP < low < -CAP / len(PROMPTS) < high < CAP


def test_a_text_left_out_of_one_checkpoint_counts_for_neither():
    base = {p.id: passage(p.id, -10.0 - i, 5) for i, p in enumerate(PROMPTS)}
    tuned = {**base, "p3": EvidenceItem(id="p3", left_out="it does not fit")}
    seen = view(base=base, tuned=tuned)
    assert likelihood_change("text")(seen).n == len(PROMPTS) - 1
    assert seen.excluded == {"tuned: it does not fit": 1}


def test_recorded_evidence_without_them_does_not_apply():
    with pytest.raises(NotApplicable, match="base checkpoint has no likelihoods of plain text"):
        likelihood_change("text")(view())


def test_another_need_is_refused():
    with pytest.raises(ValueError, match="likelihood or text; got 'generation'"):
        likelihood_change("generation")


def test_a_reference_is_the_own_response_alone():
    same = {p.id: reference(p.id, -6.0, 3) for p in PROMPTS}
    assert likelihood_change()(view(base=same, tuned=dict(same))).details["base"] == -2.0


def test_a_finer_tokenizer_gains_nothing():
    """The same probability of each text in twice as many tokens is half as many nats per token, and no gain."""
    base = {p.id: passage(p.id, -10.0 - i, 5) for i, p in enumerate(PROMPTS)}
    tuned = {p.id: passage(p.id, -10.0 - i, 10) for i, p in enumerate(PROMPTS)}
    assert likelihood_change("text")(view(base=base, tuned=tuned)).effect == 0.0


@pytest.mark.numerics
def test_without_a_cap_a_few_texts_count_with_all_they_lost():
    base = {p.id: passage(p.id, -10.0, 5) for p in PROMPTS}
    tuned = {**{p.id: passage(p.id, -9.9, 5) for p in PROMPTS}, "p0": passage("p0", -60.0, 5)}
    found = likelihood_change("text", cap=math.inf)(view(base=base, tuned=tuned))
    assert found.effect == pytest.approx((11 * 0.02 - 10) / 12)
    assert found.details["capped"] == 0
    assert likelihood_change("text")(view(base=base, tuned=tuned)).effect > -0.05


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_what_is_no_number_is_said_of_the_checkpoint(value):
    base = {p.id: passage(p.id, -10.0, 5) for p in PROMPTS}
    with pytest.raises(MeasureError, match="t gives 1 text no probability that is a number, first p3"):
        likelihood_change("text")(view(base=base, tuned={**base, "p3": passage("p3", value, 5)}))
