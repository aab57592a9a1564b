"""The judge that needs no model to ask: which response is nearer to the prompt's reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..plain import Json
from ..prompts.prompt import Prompt
from ..words.texts import TextSpace, Vector
from .base import FIRST, SECOND, SIMILARITY, TIED, Comparison, Scores

TIE = 1e-6
"""Cosines of float32 vectors are exact to about this; closer ones do not say which is nearer."""


@dataclass(frozen=True)
class SimilarityJudge:
    """Which response is nearer to the prompt's reference, by the cosine of their vectors; ties half.

    A response without a vector has cosine 0. Nearness in topic is all that it sees: a wrong answer in the reference's
    words beats a right one in others.
    """

    space: TextSpace = field(default_factory=TextSpace)

    @property
    def identity(self) -> Mapping[str, Json]:
        return {"judge": SIMILARITY, **self.space.identity}

    @property
    def pairwise(self) -> bool:
        return True

    @property
    def unjudged(self) -> str:
        return "without a reference, or with one that has no vector"

    @property
    def pointwise_unit(self) -> str:
        return "cosine to the reference"

    @property
    def pointwise_span(self) -> tuple[float, float]:
        return (-1.0, 1.0)

    def pointwise(self, responses: Sequence[tuple[Prompt, str]]) -> list[float | None]:
        """The cosine of each response to its prompt's reference, of which `scores` takes the larger."""
        texts = [text for prompt, response in responses if prompt.reference for text in (prompt.reference, response)]
        known = dict(zip(texts, self.space(texts), strict=True)) if texts else {}
        references = [known[prompt.reference] if prompt.reference else None for prompt, _ in responses]
        return [
            None if reference is None else _cosine(reference, known[response])
            for reference, (_, response) in zip(references, responses, strict=True)
        ]

    def scores(self, items: Sequence[Comparison]) -> list[Scores | None]:
        asked = [(item, item.prompt.reference) for item in items if item.prompt.reference is not None]
        texts = [text for item, reference in asked for text in (reference, item.first, item.second)]
        known = dict(zip(texts, self.space(texts), strict=True)) if texts else {}
        return [self._nearer(item, known) for item in items]

    def _nearer(self, item: Comparison, known: Mapping[str, Vector | None]) -> Scores | None:
        reference = None if item.prompt.reference is None else known[item.prompt.reference]
        if reference is None:
            return None
        ahead = _cosine(reference, known[item.first]) - _cosine(reference, known[item.second])
        if item.first == item.second or abs(ahead) < TIE:
            return TIED
        return FIRST if ahead > 0 else SECOND


def _cosine(reference: Vector, vector: Vector | None) -> float:
    return 0.0 if vector is None else float(reference.astype(np.float64) @ vector.astype(np.float64))
