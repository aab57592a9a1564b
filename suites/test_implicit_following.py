"""Implicit instruction following (Hewitt et al., arXiv:2409.14254): what does a base model already know of it?"""

from __future__ import annotations

import pytest

from tuneshift import (
    Claim,
    Finding,
    ended_figure,
    following,
    following_figure,
    length_figure,
    margin_figure,
    outside_single_task,
    ranked,
    ranking_figure,
    ranking_survives,
    repetition_figure,
    responses_figure,
    single_task_style_fades,
    win_matrix_figure,
    win_rate,
)

RANKS = Finding(
    id="hewitt2024.base_ranks_responses",
    family="hewitt2024.ranking",
    title="The base prefers an instruction's own response",
    claim="A base model gives an instruction's own response more probability than another instruction's response.",
    source="arXiv:2409.14254",
    direction="greater",
    unit="share of wins above one half",
    sesoi=0.05,
    sesoi_reason="One part in twenty, the rule of this project: of twenty comparisons one more is won than lost.",
    how=(
        "Each prompt's reference and five other prompts' references are scored after the prompt, by the mean log-"
        "probability of their tokens and the end token, as the paper's release ranks. The effect is the share of the "
        "five that the own response beats, less one half, over prompts."
    ),
    needs=(("base", "likelihood"),),
    deviations="In the pair's chat format where it has one; the paper uses its own tags. Five others, drawn by seed.",
)

RANKS_PMI = Finding(
    id="hewitt2024.base_ranks_responses_pmi",
    family="hewitt2024.ranking",
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
    deviations="The paper ranks by the mean log-probability per token, which a response's own prior can decide.",
)

RANKS_SWAP = Finding(
    id="hewitt2024.base_ranks_responses_swap",
    family="hewitt2024.ranking",
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
    family="hewitt2024.ranking",
    title="Tuning adds little to the ranking",
    claim="The tuned model ranks an instruction's own response no more often first than the base does.",
    source="arXiv:2409.14254",
    direction="equivalent",
    unit="share of wins",
    sesoi=0.05,
    sesoi_reason="One part in twenty: a change below it is none.",
    how="The share of wins by the mean log-probability per token, tuned minus base, paired by prompt.",
    needs=(("base", "likelihood"), ("tuned", "likelihood")),
)


OTHERWISE = (("base", "generation.plain"), ("base", "generation.paper"))
"""The base asked in other formats, for readings: in the pair's it meets role tags that it may never have seen."""

RULES_YIELD = Finding(
    id="hewitt2024.rules_yield_following",
    family="hewitt2024.following",
    title="Three rules make the base follow",
    claim="A base model times three hand-written rules about the next token follows instructions better than alone.",
    source="arXiv:2409.14254, the rule-based adapter",
    direction="greater",
    unit="share of prompts followed",
    sesoi=0.05,
    sesoi_reason="One part in twenty, the rule of this project: one more of twenty prompts is followed.",
    how=(
        "Greedy responses of the base with and without the adapter (a rising score for the end token, fixed scores for "
        "fifteen tokens, a malus on tokens already present), judged by the run's judge; paired by prompt."
    ),
    needs=(
        ("base", "generation.local"),
        ("base", "generation.rules"),
        ("base", "generation.rules+text"),
        ("base", "generation.rules-end"),
        ("base", "generation.rules-uniform"),
        ("base", "generation.rules-diversity"),
        ("base", "generation.local.plain"),
        ("base", "generation.rules.plain"),
        ("base", "generation.local.paper"),
        ("base", "generation.rules.paper"),
    ),
    deviations=(
        "The paper's judge is a chat model in pairwise comparison. Tokens of the assistant's tag count as present, as "
        "in the release; the user's text alone stands beside it."
    ),
    asks=("judge",),
)

RESPONSE_TUNING = Finding(
    id="hewitt2024.response_tuning_yields_following",
    family="hewitt2024.following",
    title="Tuning on responses alone yields following",
    claim="A model tuned on responses without their instructions follows instructions better than the base.",
    source="arXiv:2409.14254, response tuning",
    direction="greater",
    unit="share of prompts followed",
    sesoi=0.05,
    sesoi_reason="One part in twenty, as for the rules.",
    how="Greedy responses of the response-tuned sibling and of the base, judged by the run's judge; paired by prompt.",
    needs=(("base", "generation"), ("response_tuned", "generation"), ("tuned", "generation"), *OTHERWISE),
    deviations="The paper compares with the instruction-tuned model by win rate, which stands beside the verdict.",
    asks=("judge",),
)

SINGLE_TASK = Finding(
    id="hewitt2024.single_task_yields_following",
    family="hewitt2024.following",
    title="Tuning on one narrow task yields following",
    claim="A model tuned on one narrow task follows instructions of other kinds better than the base.",
    source="arXiv:2409.14254, single-task tuning",
    direction="greater",
    unit="share of prompts followed",
    sesoi=0.05,
    sesoi_reason="One part in twenty, as for the rules.",
    how=(
        "Greedy responses of the single-task sibling and of the base, judged by the run's judge, on prompts outside "
        "the task where the pair says which these are (`single_task`); paired by prompt."
    ),
    needs=(("base", "generation"), ("single_task_tuned", "generation"), ("tuned", "generation"), *OTHERWISE),
    deviations="The paper compares with the instruction-tuned model by win rate, which stands beside the verdict.",
    asks=("judge",),
)

STYLE_FADES = Finding(
    id="hewitt2024.style_fades_off_domain",
    family="hewitt2024.following",
    title="Single-task style fades off its domain",
    claim="The farther an instruction lies from the single task, the less its response is in the task's style.",
    source="arXiv:2409.14254, single-task tuning",
    direction="greater",
    unit="rank correlation",
    sesoi=0.1,
    sesoi_reason="Cohen's bound of a small correlation.",
    how=(
        "Spearman's correlation over prompts between nearness of the instruction to the task's instructions (cosine in "
        "the run's word space) and likeness of the response to the task's responses (length, opening, punctuation, "
        "character trigrams); bootstrap over clusters."
    ),
    needs=(("single_task_tuned", "generation"),),
    deviations="The paper shows examples and win rates by instruction type; the measure of style is ours.",
    asks=("word space",),
)

TUNED_FOLLOWS = Finding(
    id="hewitt2024.tuned_follows",
    family="hewitt2024.following",
    title="Control: the tuned model follows",
    claim="The instruction-tuned model follows instructions better than the base.",
    source="arXiv:2409.14254, the comparison that the others rest on",
    direction="greater",
    unit="share of prompts followed",
    sesoi=0.05,
    sesoi_reason="One part in twenty, as for the rules.",
    how="Greedy responses of the tuned model and of the base, judged by the run's judge; paired by prompt.",
    needs=(("base", "generation"), ("tuned", "generation"), *OTHERWISE),
    asks=("judge",),
)

BASE, TUNED = ("base", "generation"), ("tuned", "generation")
RESPONSE_ONLY, SINGLE = ("response_tuned", "generation"), ("single_task_tuned", "generation")
RULES = ("base", "generation.rules")
ALONE = ("base", "generation.local")
"""The rule adapter needs logits, which no backend gives, so its difference is taken within our own passes."""
ABLATIONS = {
    "base": ALONE,
    "with three rules": RULES,
    "without the end rule": ("base", "generation.rules-end"),
    "without the uniform rule": ("base", "generation.rules-uniform"),
    "without the diversity rule": ("base", "generation.rules-diversity"),
    "the user's text alone present": ("base", "generation.rules+text"),
}


@pytest.mark.finding(RANKS)
def test_base_ranks_responses(claim: Claim) -> None:
    """The base prefers the own response."""
    claim.decide(
        ranked("base", "mean"),
        readings={"sum over tokens": ranked("base", "sum")},
        figures=[ranking_figure("base"), margin_figure("base")],
    )


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
        ranking_survives("mean"),
        readings={
            "sum over tokens": ranking_survives("sum"),
            "pointwise mutual information": ranking_survives("pmi"),
            "instructions swapped": ranking_survives("swap"),
        },
        figures=[ranking_figure("base", "tuned")],
    )


@pytest.mark.finding(RULES_YIELD)
def test_rules_yield_following(claim: Claim) -> None:
    """Three rules make the base follow."""
    first, *others = claim.judges
    labels = ("base", "with three rules")
    claim.decide(
        following(ALONE, RULES, judge=first, labels=labels),
        secondary={
            f"{name}, against the base": following(ALONE, source, judge=first, labels=("base", name))
            for name, source in ABLATIONS.items()
            if name not in labels
        },
        readings={
            "the user's text alone present": following(ALONE, ABLATIONS["the user's text alone present"], judge=first),
            **claim.asked_otherwise(
                lambda end: following(
                    (ALONE[0], ALONE[1] + end), (RULES[0], RULES[1] + end), judge=first, labels=labels
                )
            ),
            **{f"judged by {j.identity['judge']}": following(ALONE, RULES, judge=j, labels=labels) for j in others},
        },
        figures=[
            following_figure(ABLATIONS, judge=first, against="base"),
            length_figure(ABLATIONS),
            repetition_figure(ABLATIONS),
            responses_figure({"base": ALONE, "with three rules": RULES}, judge=first, first="base", second=labels[1]),
        ],
    )


@pytest.mark.finding(RESPONSE_TUNING)
def test_response_tuning_yields_following(claim: Claim) -> None:
    """Tuned on responses alone, it follows."""
    first, *others = claim.judges
    labels = ("base", "response-tuned")
    models = {"base": BASE, "response-tuned": RESPONSE_ONLY, "tuned": TUNED}
    claim.decide(
        following(BASE, RESPONSE_ONLY, judge=first, labels=labels),
        secondary={"win rate against the tuned, less one half": win_rate(TUNED, RESPONSE_ONLY, judge=first)},
        readings={
            **claim.asked_otherwise(
                lambda end: following((BASE[0], BASE[1] + end), RESPONSE_ONLY, judge=first, labels=labels)
            ),
            **{
                f"judged by {j.identity['judge']}": following(BASE, RESPONSE_ONLY, judge=j, labels=labels)
                for j in others
            },
        },
        figures=[
            following_figure(models, judge=first, against="base"),
            win_matrix_figure(models, judge=first),
            ended_figure(models),
            responses_figure(models, judge=first, first="base", second="response-tuned"),
        ],
    )


@pytest.mark.finding(SINGLE_TASK)
def test_single_task_yields_following(claim: Claim) -> None:
    """Tuned on one narrow task, it follows broadly."""
    first, *others = claim.judges
    labels = ("base", "single-task")
    outside = outside_single_task(claim.pair)
    models = {"base": BASE, "single-task": SINGLE, "tuned": TUNED}
    claim.decide(
        following(BASE, SINGLE, judge=first, labels=labels, leave_out=outside),
        secondary={
            "win rate against the tuned, less one half": win_rate(TUNED, SINGLE, judge=first, leave_out=outside)
        },
        readings={
            **claim.asked_otherwise(
                lambda end: following((BASE[0], BASE[1] + end), SINGLE, judge=first, labels=labels, leave_out=outside)
            ),
            **{
                f"judged by {j.identity['judge']}": following(BASE, SINGLE, judge=j, labels=labels, leave_out=outside)
                for j in others
            },
        },
        figures=[
            following_figure(models, judge=first, against="base", leave_out=outside),
            responses_figure(models, judge=first, first="base", second="single-task", leave_out=outside),
        ],
    )


@pytest.mark.finding(STYLE_FADES)
def test_style_fades_off_domain(claim: Claim) -> None:
    """Single-task style fades as instructions leave its domain."""
    claim.decide(single_task_style_fades(SINGLE, claim.word_vectors))


@pytest.mark.finding(TUNED_FOLLOWS)
def test_tuned_follows(claim: Claim) -> None:
    """The tuned model follows."""
    first, *others = claim.judges
    labels, models = ("base", "tuned"), {"base": BASE, "tuned": TUNED}
    claim.decide(
        following(BASE, TUNED, judge=first, labels=labels),
        readings={
            **claim.asked_otherwise(lambda end: following((BASE[0], BASE[1] + end), TUNED, judge=first, labels=labels)),
            **{f"judged by {j.identity['judge']}": following(BASE, TUNED, judge=j, labels=labels) for j in others},
        },
        figures=[
            following_figure(models, judge=first, against="base"),
            length_figure(models),
            ended_figure(models),
            repetition_figure(models),
            responses_figure(models, judge=first, first="base", second="tuned"),
        ],
    )
