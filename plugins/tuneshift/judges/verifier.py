"""The judge that scores each response by its prompt's own rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..plain import Json
from ..prompts.verifiers import verify
from .base import VERIFIER, Comparison, Scores


@dataclass(frozen=True)
class VerifierJudge:
    """Scores each response by its prompt's own rule, 1 where it is correct and 0 where not, whatever the other is.

    What it scored it remembers, since each response is set beside several others. Raises PromptError for a malformed
    rule.
    """

    _known: dict[tuple[int, str, bool], tuple[object, float]] = field(default_factory=dict, repr=False, compare=False)
    """(id of the rule, response, ended) -> the rule, which keeps the id its own, and the score."""

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
        return [self._scores(item) for item in items]

    def _scores(self, item: Comparison) -> Scores | None:
        rule = item.prompt.verify
        if rule is None:
            return None
        return (
            self._score(rule, item.first, bool(item.first_ended)),
            self._score(rule, item.second, bool(item.second_ended)),
        )

    def _score(self, rule: Mapping[str, Json], response: str, ended: bool) -> float:
        asked = id(rule), response, ended
        if asked not in self._known:
            self._known[asked] = rule, float(verify(rule, response, ended=ended).correct)
        return self._known[asked][1]
