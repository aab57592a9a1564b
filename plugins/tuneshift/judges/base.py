"""Judges: which of two responses to a prompt follows it, by the prompt's own rule, its reference or a language model.

``docs/following.md`` has what each can tell and how to write one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..plain import Json
from ..prompts.prompt import Prompt

VERIFIER, SIMILARITY, IFEVAL, OPENAI, HF = "verifier", "similarity", "ifeval", "openai:", "hf:"

Scores = tuple[float, float]
"""Of the first and the second response, each 0, 0.5 or 1."""
FIRST, TIED, SECOND = (1.0, 0.0), (0.5, 0.5), (0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two responses to one prompt. ``first_ended``, ``second_ended``: whether the model itself ended it, if known."""

    prompt: Prompt
    first: str
    second: str
    first_ended: bool | None = None
    second_ended: bool | None = None


class Judge(Protocol):
    """What scores pairs of responses.

    ``identity`` is JSON: whatever changes a score changes it. ``pairwise``: a response's score depends on the other
    one, so that it is a win (1), a tie (0.5) or a loss (0); otherwise it says whether the response follows its prompt.
    ``unjudged`` says, for the report, when there is no score.
    """

    @property
    def identity(self) -> Mapping[str, Json]: ...

    @property
    def pairwise(self) -> bool: ...

    @property
    def unjudged(self) -> str: ...

    def scores(self, items: Sequence[Comparison]) -> list[Scores | None]:
        """The scores per comparison, in order; None where it is not judged.

        Raises a TuneshiftError where it cannot work at all: a server that is down, a checkpoint that does not load.
        """


@runtime_checkable
class PointwiseJudge(Protocol):
    """A pairwise judge that can also score a response by itself, whatever the other is.

    ``pointwise_unit`` says what a score is; scores lie within ``pointwise_span``, the higher the better.
    """

    @property
    def pointwise_unit(self) -> str: ...

    @property
    def pointwise_span(self) -> tuple[float, float]: ...

    def pointwise(self, responses: Sequence[tuple[Prompt, str]]) -> list[float | None]:
        """The score per response to its prompt, in order; None where it is not judged."""
