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

    ``noninferior``: of ``greater``, claims effect > -sesoi in its place: no loss past it. ``prompt_set``: a shipped set
    that is asked whatever the pair names; ``""`` for the pair's own. Raises ValueError for ``noninferior`` in another
    direction.
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
    noninferior: bool = False
    prompt_set: str = ""

    def __post_init__(self) -> None:
        if self.noninferior and self.direction != "greater":
            raise ValueError(f"{self.id}: noninferior is of the direction greater; this one is {self.direction}")
        if not self.family:
            object.__setattr__(self, "family", self.id)

    @property
    def bound(self) -> float:
        """The effect that the claim is held against, with its sign; of ``equivalent`` the upper one of two."""
        return -self.sesoi if self.noninferior or self.direction == "less" else self.sesoi


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
