"""Verb relations in attention heads (Wu et al., arXiv:2310.00492, section 4.2): do heads take up instruction verbs?"""

from __future__ import annotations

import pytest

from tuneshift import (
    Claim,
    Finding,
    gain_over_all_verbs,
    gain_over_heads,
    gain_slope,
    head_map_figure,
    instruction_verbs_gain,
    relations_change,
    verb_dots_figure,
)

NEEDS = (("base", "relations"), ("tuned", "relations"))

QUARTERS = {
    "first quarter of the layers": (0.0, 0.25),
    "second quarter of the layers": (0.25, 0.5),
    "third quarter of the layers": (0.5, 0.75),
    "last quarter of the layers": (0.75, 1.0),
}

CHANGE = "relative change of a verb's relations (-1 to 1), whatever head changed"

HEADS_GAIN = Finding(
    id="wu2023.heads_gain_instruction_verbs",
    family="wu2023.verbs",
    title="Heads take up instruction verbs",
    claim=(
        "After instruction tuning, more attention heads relate words with instruction verbs than give such relations "
        "up, beyond what other verbs show."
    ),
    source="arXiv:2310.00492, section 4.2",
    direction="greater",
    unit="share of changed heads",
    sesoi=0.05,
    sesoi_reason="One part in twenty: of twenty heads that change their relations with a verb, one more takes it up.",
    how=(
        "Two words are related by a head where neurons of its query and key projections respond to both and a word "
        "space that knows nothing of the model holds them similar. Per verb: the share of heads whose number of such "
        "pairs with the verb rose, among those where it changed; pairs found in one neuron only do not count. The "
        "effect is the mean over instruction verbs minus that over the general verbs nearest to them in frequency. "
        "Verbs share embeddings and heads: a permutation of who is an instruction verb, among verbs as frequent, "
        "decides; its interval holds the effects that it does not reject."
    ),
    needs=NEEDS,
    deviations=(
        "Decided over all layers, with the quarters beside it; the paper tests each quarter. Rotary embeddings and "
        "biases are ignored, the first as in the paper. Similarity comes from the run's word space, where the paper "
        "has GloVe. The paper compares with all general verbs by a t test; that is a reading."
    ),
    items="verbs",
)

LOWER_GAIN_MOST = Finding(
    id="wu2023.lower_layers_gain_most",
    family="wu2023.verbs",
    title="The gain is in the lower layers",
    claim="Heads of lower and middle layers take up more instruction verbs than those of upper layers.",
    source="arXiv:2310.00492, section 4.2",
    direction="less",
    unit="score per quarter of the layers",
    sesoi=0.0167,
    sesoi_reason="One part in twenty between the first quarter and the last, three steps apart.",
    how=(
        "Each head scores the mean sign of change over instruction verbs minus that over general verbs, verbs without "
        "change left out; each layer scores the mean of its heads. The effect is the slope of the layers' scores over "
        "the quarters of the depth; layers are the units, and the interval is that of the largest autocorrelation "
        "between neighbours that their residuals leave possible."
    ),
    needs=NEEDS,
    deviations="The paper compares the quarters' results by eye.",
    items="layers",
)


@pytest.mark.finding(HEADS_GAIN)
def test_heads_gain_instruction_verbs(claim: Claim) -> None:
    """More heads take up instruction verbs than give them up."""
    claim.decide(
        instruction_verbs_gain(),
        secondary={
            **{name: instruction_verbs_gain(layers=part) for name, part in QUARTERS.items()},
            CHANGE: relations_change(),
        },
        readings={
            "pairs of a single neuron count too": instruction_verbs_gain(min_neurons=1),
            "all general verbs, verbs as independent draws (Welch)": gain_over_all_verbs(),
            "heads as the items, those of a layer together": gain_over_heads(),
        },
        figures=[head_map_figure, verb_dots_figure],
    )


@pytest.mark.finding(LOWER_GAIN_MOST)
def test_lower_layers_gain_most(claim: Claim) -> None:
    """The gain falls from lower to upper layers."""
    claim.decide(gain_slope(), readings={"pairs of a single neuron count too": gain_slope(min_neurons=1)})
