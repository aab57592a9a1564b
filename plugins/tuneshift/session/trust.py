"""How far a run's annotator and judges can be believed: their agreement with what was labelled by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..annotators.base import EMBEDDING
from ..annotators.registry import make_annotator
from ..judges.base import SIMILARITY, VERIFIER, Judge
from ..plain import Json, digest


def annotator_agreement(named: str, word_space: str) -> Mapping[str, Json] | None:
    """The agreement of the annotator that the options name, in the run's word space.

    Measured for the offline annotator only: a chat model would be asked a thousand questions that nobody wanted. Of
    that, what ``tuneshift annotators`` has measured before; None where it has not.
    """
    from ..annotators.agreement import cached_agreement, kept_agreement

    annotator = make_annotator(named, word_space)
    return cached_agreement(annotator) if named == EMBEDDING else kept_agreement(annotator)


@dataclass(frozen=True)
class JudgeAgreements:
    """The agreement of each judge of a run, worked out once.

    None for judges that are not offline, which would be asked what nobody wanted, and for IFEval's, whose rules are not
    those of the prompts.
    """

    _known: dict[str, Mapping[str, Json]] = field(default_factory=dict, repr=False)

    def __call__(self, judge: Judge) -> Mapping[str, Json] | None:
        if judge.identity["judge"] not in (VERIFIER, SIMILARITY):
            return None
        known = digest(dict(judge.identity))
        if known not in self._known:
            from ..judges.agreement import agreement

            self._known[known] = agreement(judge).plain()
        return self._known[known]
