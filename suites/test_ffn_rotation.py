"""Rotation of feed-forward knowledge (Wu et al., arXiv:2310.00492): what do the layers write after tuning?"""

from __future__ import annotations

import pytest

from tuneshift import (
    Claim,
    Finding,
    angle_curves_figure,
    category_shift,
    level_shares_figure,
    levels_shift,
    moved_concepts_figure,
    rotates_knowledge,
    task_shares_figure,
)

ANNOTATED = (("base", "annotation"), ("tuned", "annotation"))
CONCEPTS = (("base", "concepts"), ("tuned", "concepts"))

TURNS_TO_TASKS = Finding(
    id="wu2023.ffn_turns_to_user_tasks",
    family="wu2023.concepts",
    title="Feed-forward concepts turn to user tasks",
    claim=(
        "After instruction tuning, more of the concepts that feed-forward layers write suit writing, coding or solving "
        "math problems."
    ),
    source="arXiv:2310.00492, section 4.3",
    direction="greater",
    unit="share of concepts",
    sesoi=0.02,
    sesoi_reason="Two points in a hundred, what the sister finding on linguistic levels counts as no change.",
    how=(
        "A concept is a principal direction of a layer's down-projection, known by the words whose output embeddings "
        "it lies nearest to. An annotator sorts the word lists; the effect is the difference in the share of the top "
        "300 concepts that suit writing, coding or math, paired by layer, corrected for the annotator's sensitivity "
        "and specificity on lists labelled by hand."
    ),
    needs=ANNOTATED,
    deviations=(
        "The paper's annotator is a chat model; the run's is named in the record, with its agreement with lists "
        "labelled by hand; the paper takes its word. Decided on any of the three tasks together; each stands beside "
        "it."
    ),
    items="layers",
)

KEEPS_LEVELS = Finding(
    id="wu2023.ffn_keeps_linguistic_levels",
    family="wu2023.concepts",
    title="The mix of linguistic levels stays",
    claim="Tuning does not change how concepts spread over phonology, morphology, syntax and semantics.",
    source="arXiv:2310.00492, section 4.3",
    direction="equivalent",
    unit="share of concepts",
    sesoi=0.02,
    sesoi_reason="Two points in a hundred.",
    how=(
        "The annotator names the level of each concept's word list. Equivalence is asked of all four levels; it is "
        "contradicted where the interval of any, at a quarter of the error rate, lies outside. The difference shown is "
        "that of the level which decides: the one farthest outside, else the one that reaches farthest from zero. "
        "Corrected for the annotator's errors on lists labelled by hand; not applicable where it agrees with these by "
        "kappa under 0.6."
    ),
    needs=ANNOTATED,
    deviations=(
        "The paper reports shares and no test, and takes the annotator's word. A concept on which the annotator "
        "abstains is on no level."
    ),
    items="layers",
)

ROTATES = Finding(
    id="wu2023.ffn_rotates_knowledge",
    family="wu2023.concepts",
    title="Feed-forward knowledge is rotated, not replaced",
    claim="The directions that tuned feed-forward layers write are rotations within the space that the base spans.",
    source="arXiv:2310.00492, section 4.3",
    direction="greater",
    unit="overlap above match",
    sesoi=0.05,
    sesoi_reason=(
        "One part in twenty of the scale from 0 (each direction kept, or all replaced) to 1 (the same space, no "
        "direction kept)."
    ),
    how=(
        "Per layer, the overlap of the two top subspaces (mean squared cosine of principal angles) minus the direct "
        "match of single directions under the best assignment, both corrected for chance under random rotations, and "
        "minus what noise of the same overlap does to directions of near-equal variance."
    ),
    needs=CONCEPTS,
    deviations=(
        "The paper argues from example concepts; subspaces, chance levels and the noise null are ours. A large random "
        "change of low rank can still pass for a rotation (28 % of simulations; docs/ffn-rotation.md)."
    ),
    items="layers",
)


@pytest.mark.finding(TURNS_TO_TASKS)
def test_ffn_turns_to_user_tasks(claim: Claim) -> None:
    """More concepts suit user tasks."""
    agreement = claim.agreement()
    tasks = ("writing", "coding", "math", "translation")
    claim.decide(
        category_shift("any", agreement=agreement),
        secondary={name: category_shift(name, agreement=agreement) for name in tasks},
        readings={"as the annotator counts": category_shift("any")} if agreement else {},
        figures=[task_shares_figure],
    )


@pytest.mark.finding(KEEPS_LEVELS)
def test_ffn_keeps_linguistic_levels(claim: Claim) -> None:
    """The mix of linguistic levels stays."""
    agreement = claim.agreement()
    claim.decide(
        levels_shift(agreement=agreement),
        readings={"as the annotator counts": levels_shift()} if agreement else {},
        figures=[level_shares_figure],
    )


@pytest.mark.finding(ROTATES)
def test_ffn_rotates_knowledge(claim: Claim) -> None:
    """Directions are rotated within the base's space."""
    claim.decide(
        rotates_knowledge(beyond_noise=True),
        readings={"without taking off what noise does": rotates_knowledge(beyond_noise=False)},
        figures=[angle_curves_figure, moved_concepts_figure],
    )
