"""Who judges in a run, and what of judges, annotator and words is not installed."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..annotators.base import EMBEDDING
from ..claims.finding import Finding
from ..engine.settings import Settings
from ..errors import NotInstalledError
from ..judges.base import SIMILARITY, VERIFIER, Judge
from ..judges.registry import make_judge
from ..measures.catalogue import ANNOTATION, RELATIONS
from ..words.spaces import space_identity
from .requests import Target


@dataclass(kw_only=True)
class Raters:
    """Judges of one run, and what is not installed. A word space is named as `load_word_space` takes it."""

    settings: Settings
    _made: dict[tuple[str, str], Judge] = field(default_factory=dict)
    _missing: dict[str, str] = field(default_factory=dict)

    def judges(self, target: Target, space: str) -> list[Judge]:
        """The judge that decides, and others as far as they are installed; none for a claim on weights."""
        if target.prompts is None:
            return []
        first, *others = self._specs(target)
        others = [spec for spec in others if spec != SIMILARITY or not self._missing_space(space)]
        return [self._judge(spec, space) for spec in (first, *others)]

    def not_installed(self, finding: Finding, target: Target, space: str) -> str:
        """What a finding rests on that is not installed here, and how to install it; empty where all is there."""
        # Recorded concepts and relations were labelled and compared where they were measured.
        measured = [need for _, need in finding.needs] if target.pair.recorded is None else []
        asked = [*finding.asks, *measured]
        near = "judge" in asked and self._specs(target)[0] == SIMILARITY
        by_words = ANNOTATION.name in asked and self.settings.annotator == EMBEDDING
        rests = near or by_words or "word space" in asked or RELATIONS.name in asked
        return self._missing_space(space) if rests else ""

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
