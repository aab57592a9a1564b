"""Whose responses stand beside a prompt's own where a model ranks them: drawn from the prompts alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from ..errors import PromptError
from ..prompts.prompt import Prompt


def draws(prompts: Sequence[Prompt], *, k: int, seed: int) -> dict[str, tuple[str, ...]]:
    """For each prompt with a reference, ``k`` others at random whose responses and instructions stand beside its own.

    Never one of its own topic (`Prompt.subject`), nor one with the same reference text; as many as there are where they
    are fewer. Each prompt has its own generator, of ``seed`` and its id, and prompts are drawn in the order of their
    ids: the order of the file does not matter. Raises PromptError where no prompt has another, ValueError for k < 1.
    """
    if k < 1:
        raise ValueError(f"k, the number of other responses, must be at least 1, got {k}")
    able = sorted((p for p in prompts if has_reference(p)), key=lambda p: p.id)
    # Two prompts may be drawn for one another unless their codes agree in a column.
    topics = np.unique([p.subject for p in able], return_inverse=True)[1]
    texts = np.unique([(p.reference or "").strip() for p in able], return_inverse=True)[1]
    found: dict[str, tuple[str, ...]] = {}
    for i, prompt in enumerate(able):
        others = np.flatnonzero((topics != topics[i]) & (texts != texts[i]))
        generator = np.random.default_rng([seed, int(hashlib.sha256(prompt.id.encode()).hexdigest()[:15], 16)])
        drawn = generator.choice(others, size=min(k, len(others)), replace=False)
        found[prompt.id] = tuple(able[j].id for j in drawn)
    if not any(found.values()):
        raise PromptError(
            f"responses cannot be ranked: of {len(prompts)} prompts {len(able)} have a reference response, and none of "
            "them another prompt of another topic with another reference. Give the prompt set `reference` fields, and "
            "`topic`, or `cluster` where there is none, only where prompts belong together."
        )
    return found


def unrankable(prompts: Sequence[Prompt]) -> str | None:
    """Why no response of a prompt set can be ranked; None where one can."""
    try:
        draws(prompts, k=1, seed=0)
    except PromptError as error:
        return str(error)
    return None


def has_reference(prompt: Prompt) -> bool:
    """Whether a prompt has a reference response that holds anything."""
    return bool(prompt.reference and prompt.reference.strip())
