"""Implicit instruction following (Hewitt et al., arXiv:2409.14254): what does a base model already know of it?"""

from __future__ import annotations

import pytest

from tuneshift.comparison import Claim
from tuneshift.ranking import margin_figure, ranked, ranking_figure, ranking_survives
from tuneshift.records import Finding

RANKS = Finding(
    id="hewitt2024.base_ranks_responses",
    title="The base prefers an instruction's own response",
    claim="A base model gives an instruction's own response more probability than another instruction's response.",
    source="arXiv:2409.14254",
    direction="greater",
    unit="share of wins above one half",
    sesoi=0.05,
    sesoi_reason="One part in twenty, the rule of this project: of twenty comparisons one more is won than lost.",
    how=(
        "Each prompt's reference and five other prompts' references are scored after the prompt, by the sum of the log-"
        "probabilities of their tokens and the end token. The effect is the share of the five that the own response "
        "beats, less one half, over prompts."
    ),
    needs=(("base", "likelihood"),),
    deviations="In the pair's chat format where it has one; the paper uses its own tags. Five others, drawn by seed.",
)

RANKS_PMI = Finding(
    id="hewitt2024.base_ranks_responses_pmi",
    title="The base prefers it with the response's prior taken out",
    claim=(
        "The same, when each response's probability without the instruction is taken off (pointwise mutual "
        "information)."
    ),
    source="arXiv:2409.14254; the score is ours",
    direction="greater",
    unit="share of wins above one half",
    sesoi=0.05,
    sesoi_reason="One part in twenty, as for the paper's score.",
    how=(
        "As the paper's ranking, by log p(response | instruction) - log p(response), the second after a prompt that "
        "asks nothing."
    ),
    needs=(("base", "likelihood"),),
    deviations="The paper ranks by the raw sum, which a response's own length and prior can decide.",
)

RANKS_SWAP = Finding(
    id="hewitt2024.base_ranks_responses_swap",
    title="The base prefers a response's own instruction",
    claim="A base model gives a response more probability after its own instruction than after another's.",
    source="arXiv:2409.14254; the score is ours",
    direction="greater",
    unit="share of wins above one half",
    sesoi=0.05,
    sesoi_reason="One part in twenty, as for the paper's score.",
    how=(
        "The same response after its own and after five other instructions, so that its prior is the same on both "
        "sides. The effect is the share of the five that the own instruction beats, less one half."
    ),
    needs=(("base", "likelihood"),),
    deviations="The paper swaps responses, not instructions.",
)

SURVIVES = Finding(
    id="hewitt2024.ranking_survives_tuning",
    title="Tuning adds little to the ranking",
    claim="The tuned model ranks an instruction's own response no more often first than the base does.",
    source="arXiv:2409.14254",
    direction="equivalent",
    unit="share of wins",
    sesoi=0.05,
    sesoi_reason="One part in twenty: a change below it is none.",
    how="The share of wins by the raw sum, tuned minus base, paired by prompt.",
    needs=(("base", "likelihood"), ("tuned", "likelihood")),
)


@pytest.mark.finding(RANKS)
def test_base_ranks_responses(claim: Claim) -> None:
    """The base prefers the own response."""
    claim.decide(ranked("base", "raw"), figures=[ranking_figure("base"), margin_figure("base")])


@pytest.mark.finding(RANKS_PMI)
def test_base_ranks_responses_pmi(claim: Claim) -> None:
    """The same without the response's prior."""
    claim.decide(ranked("base", "pmi"))


@pytest.mark.finding(RANKS_SWAP)
def test_base_ranks_responses_swap(claim: Claim) -> None:
    """The base prefers the own instruction."""
    claim.decide(ranked("base", "swap"))


@pytest.mark.finding(SURVIVES)
def test_ranking_survives_tuning(claim: Claim) -> None:
    """Tuning adds little to the ranking."""
    claim.decide(
        ranking_survives("raw"),
        readings={
            "pointwise mutual information": ranking_survives("pmi"),
            "instructions swapped": ranking_survives("swap"),
        },
        figures=[ranking_figure("base", "tuned")],
    )
