"""The judge that applies the rules a prompt brings with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..plain import Json
from ..prompts.verifiers import verify
from .base import VERIFIER

if TYPE_CHECKING:
    from .base import Comparison, Scores


@dataclass(frozen=True)
class VerifierJudge:
    """Scores each response by its prompt's own rule, 1 where it is correct and 0 where not, whatever the other is.

    Raises PromptError for a malformed rule.
    """

    @property
    def identity(self) -> Mapping[str, Json]:
        return {"judge": VERIFIER}

    @property
    def pairwise(self) -> bool:
        return False

    @property
    def unjudged(self) -> str:
        return "without a verifier"

    def scores(self, items: Sequence[Comparison]) -> list[Scores | None]:
        return [_verified(item) for item in items]


def _verified(item: Comparison) -> Scores | None:
    rule = item.prompt.verify
    if rule is None:
        return None
    sides = (item.first, item.first_ended), (item.second, item.second_ended)
    first, second = (float(verify(rule, text, ended=bool(ended)).correct) for text, ended in sides)
    return first, second
