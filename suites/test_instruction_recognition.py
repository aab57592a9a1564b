"""Instruction recognition (Wu et al., arXiv:2310.00492, section 4): does tuning make a model heed the instruction
words?"""

from __future__ import annotations

import pytest

from tuneshift import (
    Claim,
    Finding,
    context_score,
    followed_or_not,
    instruction_minus_context,
    instruction_score,
    instruction_share_slope,
    kept_tokens_figure,
    longest_response,
    mean_instruction_share,
    middle_density_share,
    paired,
    to_shorter,
    tokens_without_share,
)

BOTH = (
    ("base", "attribution"),
    ("tuned", "attribution"),
    ("base", "attribution.contrast"),
    ("tuned", "attribution.contrast"),
    ("base", "attribution.thoughts"),
    ("tuned", "attribution.thoughts"),
    ("base", "attribution.plain"),
)
TUNED = (
    ("tuned", "generation.local"),
    ("tuned", "attribution"),
    ("tuned", "attribution.contrast"),
    ("tuned", "attribution.thoughts"),
)

OF_A_SLOPE = (-0.3, 0.3)
"""The range of the least-squares slope of five shares: (2 + 1) / 10 where the last two are 1 and the others 0."""

FEWEST_RESPONSE_TOKENS = 5
"""The paper's release leaves out shorter responses where it compares followed with unfollowed prompts."""

DENSITY_RISES = Finding(
    id="wu2023.instruction_density_rises",
    family="wu2023.recognition",
    title="Instruction words weigh more",
    claim=(
        "After instruction tuning, a model's response, up to the run's limit of tokens, depends more densely on the "
        "instruction words of the prompt."
    ),
    source="arXiv:2310.00492, section 4.1",
    direction="greater",
    unit="score",
    sesoi=0.05,
    sesoi_reason=(
        "One part in twenty, the rule of this family: scores of both models in the published tables lie around 1. It "
        "is what one word gains that goes from no density to a fifth of the largest in an instruction of ten words."
    ),
    how=(
        "Each prompt's score is the summed importance density of its instruction tokens over log2(2 + their number). "
        "The effect is the mean paired difference, tuned minus base, over prompts. The limit of tokens is among the "
        "details, as longer responses give denser words: beside the verdict stand the effect with both responses cut "
        "to the shorter, its curve by tokens kept, and the same score over the context, for prompts that have one."
    ),
    needs=BOTH,
    deviations=(
        "Paired by prompt, where the paper compares two independent samples. Importance levels are scale-free; the "
        "release adds 1e-7 to each response token's largest importance (shown as sensitivity)."
    ),
)

DENSITY_MARKS_FOLLOWED = Finding(
    id="wu2023.density_marks_followed",
    family="wu2023.recognition",
    title="Heeded instructions are the followed ones",
    claim="Within the tuned model, prompts whose instruction is followed have denser instruction words than those not.",
    source="arXiv:2310.00492, section 4.1",
    direction="greater",
    unit="score",
    sesoi=0.05,
    sesoi_reason="One part in twenty of a score around 1, the rule of this family.",
    how=(
        "Scores of the tuned model's prompts, followed against not followed, by the prompt set's ratings or else by "
        "its verifiers on the model's own responses; Welch's difference of means, with the area under the ROC curve "
        "beside it. Responses under five tokens are left out."
    ),
    needs=TUNED,
)

STAY_IMPORTANT = Finding(
    id="wu2023.instructions_stay_important",
    family="wu2023.recognition",
    title="The response stays conditioned on the instruction",
    claim="Throughout the response, instruction words hold a larger share of the prompt's importance after tuning.",
    source="arXiv:2310.00492, section 4.2",
    direction="greater",
    unit="share of importance",
    sesoi=0.05,
    sesoi_reason="One part in twenty, the rule of this family: a twentieth of all importance changes hands.",
    how=(
        "Per response token, the instruction tokens' part of the sparse importance levels of instruction and context, "
        "averaged in each fifth of the response. The verdict is on the level (mean of the fifths), paired by prompt; "
        "the slope over the fifths stands beside it. Context is the user's text outside the instruction, without white "
        "space and format labels (`Input:`, `Output:`); prompts with under five tokens of it, and responses under five "
        "tokens, are left out. Response tokens to which neither matters are skipped and counted."
    ),
    needs=BOTH,
    deviations="The paper shows example maps and gives no test; level and slope are our reading of the claim.",
)

MIDDLE_RECOVERS = Finding(
    id="wu2023.prompt_middle_recovers",
    family="wu2023.recognition",
    title="The middle of the prompt is less neglected",
    claim="After tuning, the middle of a long prompt is less neglected against its beginning and end.",
    source="arXiv:2310.00492v1, section 4 (left out of later versions)",
    direction="greater",
    unit="share of density",
    sesoi=0.0125,
    sesoi_reason=(
        "One part in twenty, the rule of this family: where middle and ends are even, a ratio of 1.05 instead of 1 "
        "moves the share r / (1 + r) by 0.0125."
    ),
    how=(
        "Mean density of the prompt's middle three fifths (r's numerator) over its outer two, as the share r / (1 + "
        "r), paired by prompt. Prompts under 30 tokens of the user's text are left out."
    ),
    needs=BOTH,
    deviations="The bounded share replaces the ratio r, whose mean single prompts would decide.",
)


@pytest.mark.finding(DENSITY_RISES)
def test_instruction_density_rises(claim: Claim) -> None:
    """The tuned model weighs instruction words more."""
    no_instruction, no_context = "no instruction token", "under five tokens of context"
    claim.decide(
        paired(instruction_score, undefined=no_instruction, by_model={"longest_response": longest_response}),
        secondary={
            "the same score over the context": paired(context_score, undefined=no_context),
            "instruction minus context": paired(instruction_minus_context, undefined=no_context),
        },
        readings={
            "both responses cut to the shorter": paired(instruction_score, undefined=no_instruction, cut=to_shorter)
        },
        strips=instruction_score,
        figures=[kept_tokens_figure(instruction_score, undefined=no_instruction)],
    )


@pytest.mark.finding(DENSITY_MARKS_FOLLOWED)
def test_density_marks_followed(claim: Claim) -> None:
    """Within the tuned model, followed prompts score higher than unfollowed ones."""
    claim.decide(followed_or_not(instruction_score, min_tokens=FEWEST_RESPONSE_TOKENS))


@pytest.mark.finding(STAY_IMPORTANT)
def test_instructions_stay_important(claim: Claim) -> None:
    """The response stays conditioned on the instruction."""
    undefined = "under five tokens of context, or a response under five tokens"
    claim.decide(
        paired(
            mean_instruction_share,
            undefined=undefined,
            span=(0.0, 1.0),
            by_model={"response_tokens_without_share": tokens_without_share},
        ),
        secondary={"slope per response fifth": paired(instruction_share_slope, undefined=undefined, span=OF_A_SLOPE)},
    )


@pytest.mark.finding(MIDDLE_RECOVERS)
def test_prompt_middle_recovers(claim: Claim) -> None:
    """The middle of the prompt is less neglected."""
    claim.decide(paired(middle_density_share, undefined="under 30 tokens of the user's text", span=(0.0, 1.0)))
