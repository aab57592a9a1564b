"""Who rates in a run: judges and annotator, what they need that is not installed, and how far they can be believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..annotators.base import EMBEDDING
from ..annotators.registry import make_annotator
from ..claims.finding import Finding
from ..engine.settings import Settings
from ..errors import NotInstalledError
from ..judges.base import SIMILARITY, VERIFIER, Judge
from ..judges.registry import make_judge
from ..measures.catalogue import ANNOTATION, RELATIONS
from ..plain import Json, digest
from ..words.spaces import space_identity
from .requests import Target


@dataclass(kw_only=True)
class Raters:
    """Judges and annotators of one run. A word space is named as `load_word_space` takes it."""

    settings: Settings
    _made: dict[tuple[str, str], Judge] = field(default_factory=dict)
    _missing: dict[str, str] = field(default_factory=dict)
    _judged: dict[str, Mapping[str, Json]] = field(default_factory=dict)
    """Digest of a judge's identity -> its agreement with responses judged by hand."""

    def judges(self, target: Target, space: str) -> list[Judge]:
        """The judge that decides, and others as far as they are installed; none for a claim on weights."""
        if target.prompts is None:
            return []
        first, *others = self._specs(target)
        others = [spec for spec in others if spec != SIMILARITY or not self._missing_space(space)]
        return [self._judge(spec, space) for spec in (first, *others)]

    def not_installed(self, finding: Finding, target: Target, space: str) -> str:
        """What a finding rests on that is not installed here, and how to install it; empty where all is there."""
        asked = [*finding.asks, *(need for _, need in finding.needs)]
        near = "judge" in asked and self._specs(target)[0] == SIMILARITY
        by_words = ANNOTATION.name in asked and self.settings.annotator == EMBEDDING
        rests = near or by_words or "word space" in asked or RELATIONS.name in asked
        return self._missing_space(space) if rests else ""

    def judge_agreement(self, judge: Judge) -> Mapping[str, Json] | None:
        """How an offline judge agrees with responses judged by hand; None for others: a chat model would be asked what
        nobody wanted, and IFEval's rules are not those of the prompts."""
        if judge.identity["judge"] not in (VERIFIER, SIMILARITY):
            return None
        known = digest(dict(judge.identity))
        if known not in self._judged:
            from ..judges.agreement import agreement

            self._judged[known] = agreement(judge).plain()
        return self._judged[known]

    def annotator_agreement(self, finding: Finding, space: str) -> Mapping[str, Json] | None:
        """How the run's annotator agrees with lists labelled by hand, for findings that rest on it.

        For the offline annotator only: a chat model would be asked a thousand questions that nobody wanted.
        """
        rests = any(need == ANNOTATION.name for _, need in finding.needs)
        if not rests or self.settings.annotator != EMBEDDING:
            return None
        from ..annotators.agreement import cached_agreement

        return cached_agreement(make_annotator(EMBEDDING, space))

    def _specs(self, target: Target) -> tuple[str, ...]:
        verified = any(prompt.verify for prompt in target.members)
        return self.settings.judges or ((VERIFIER,) if verified else (SIMILARITY,))

    def _judge(self, spec: str, space: str) -> Judge:
        """The same for all claims, which ask about the same responses: a judge remembers what it was asked."""
        if (spec, space) not in self._made:
            self._made[spec, space] = make_judge(spec, space)
        return self._made[spec, space]

    def _missing_space(self, space: str) -> str:
        """Why a word space is not installed here, and how to install it; empty where it is."""
        if space not in self._missing:
            try:
                space_identity(space)
                self._missing[space] = ""
            except NotInstalledError as error:
                self._missing[space] = str(error)
        return self._missing[space]
