"""A published claim as data, its verdict, and what a pair's user expects of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ..statistics.assurance import NeededItems

Direction = Literal["greater", "less", "equivalent"]


class Outcome(StrEnum):
    """What a verdict says."""

    REPRODUCED = "reproduced"
    CONTRADICTED = "contradicted"
    INCONCLUSIVE = "inconclusive"
    NOT_APPLICABLE = "not_applicable"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A published claim as data.

    ``direction``: ``greater`` claims effect > sesoi, ``less`` effect < -sesoi, ``equivalent`` |effect| < sesoi.
    ``needs``: the evidence that its test reads, a measure's name per role, as ``("base", "attribution")``.
    ``how``: in one or two sentences, how it is tested; ``deviations``: where that departs from the paper. ``items``:
    what its statistic counts (``prompts``, ``layers``, ``heads``, ``verbs``). ``family``: the findings that it shares
    an error rate with, paper and section as ``wu2023.recognition``; a finding that names none is its own family.
    ``asks``: what its test asks beyond that evidence, ``judge`` or ``word space``: where it is not installed, nothing
    is measured for the finding.
    """

    id: str
    title: str
    claim: str
    source: str
    direction: Direction
    unit: str
    sesoi: float
    sesoi_reason: str
    how: str
    needs: tuple[tuple[str, str], ...]
    deviations: str = ""
    items: str = "prompts"
    family: str = ""
    asks: tuple[Literal["judge", "word space"], ...] = ()

    def __post_init__(self) -> None:
        if not self.family:
            object.__setattr__(self, "family", self.id)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A finding's outcome on a statistic, the reason in one sentence, and for inconclusive the n that would decide."""

    outcome: Outcome
    reason: str
    needed: NeededItems | None = None


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """A known outcome, declared with its reason; ``group`` None holds for every group of the pair."""

    finding: str
    verdict: Outcome
    reason: str
    group: str | None = None
    prompts: str | None = None
