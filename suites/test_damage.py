"""What a change of weights must not cost: findings of this project's own, for tuned checkpoints and copies alike.

A pair of a checkpoint and its quantised, pruned or merged copy is asked them as a base and its tuned model is.
"""

from __future__ import annotations

import math

import pytest

from tuneshift import Claim, Finding, likelihood_change

REFERENCES = Finding(
    id="damage.references_stay_likely",
    family="damage.likelihood",
    title="References lose no probability",
    claim="The tuned model gives the prompts' references no less probability per token than the base does.",
    source="of this project; nothing published",
    direction="greater",
    noninferior=True,
    unit="nats per token",
    sesoi=0.05,
    sesoi_reason=(
        "A twentieth of a nat is five percent of perplexity, the rule of this project; it was set before any copy of a "
        "model was measured."
    ),
    how=(
        "The log-probability of each prompt's reference and its end token after the prompt, divided by their number, "
        "tuned minus base, paired by prompt, none with more than half a nat: what a few lose beyond it is in the "
        "reading without a cap. Reproduced where the interval lies above the sesoi as a loss."
    ),
    needs=(("base", "likelihood"), ("tuned", "likelihood")),
    deviations="There is no paper to depart from.",
)

TEXT = Finding(
    id="damage.text_stays_likely",
    family="damage.likelihood",
    title="Plain text loses no probability",
    claim="The tuned model gives plain English text no less probability per token than the base does.",
    source="of this project; nothing published",
    direction="greater",
    noninferior=True,
    unit="nats per token",
    sesoi=0.05,
    sesoi_reason="Five percent of perplexity, as for the references.",
    how=(
        "The log-probability of each of 48 shipped passages (`plain-text`), without a chat format and after the token "
        "that begins a text, divided by its tokens, tuned minus base, paired by passage, none with more than half a "
        "nat: what a few lose beyond it is in the reading without a cap. Reproduced where the interval lies above the "
        "sesoi as a loss."
    ),
    needs=(("base", "text"), ("tuned", "text")),
    deviations="There is no paper to depart from.",
    prompt_set="plain-text",
)


UNCAPPED = "no cap on a text"
"""The reading with every text's whole change: what a few texts lost beyond the cap is in it, and in no verdict."""


@pytest.mark.finding(REFERENCES)
def test_references_stay_likely(claim: Claim) -> None:
    """References lose no probability."""
    claim.decide(likelihood_change("likelihood"), readings={UNCAPPED: likelihood_change("likelihood", cap=math.inf)})


@pytest.mark.finding(TEXT)
def test_text_stays_likely(claim: Claim) -> None:
    """Plain text loses no probability."""
    claim.decide(likelihood_change("text"), readings={UNCAPPED: likelihood_change("text", cap=math.inf)})
