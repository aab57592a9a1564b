"""The words of tuneshift as frozen dataclasses. Standard library and numpy only; nothing here does work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .intervals import Intervals

Span = tuple[int, int]
Json = Any
"""A value that json.dumps accepts without a default."""

NOTHING: Mapping[str, Any] = MappingProxyType({})


def digest(value: Json) -> str:
    """SHA-256 of a JSON value's canonical form (sorted keys, no white space), as 64 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class LMBackend:
    """One of lm-eval's models by its registry name, with its arguments as ``key=value,key=value``: what scores and
    generates for a checkpoint in place of our own passes. The name ``none`` means our own."""

    name: str
    args: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelRef:
    """One checkpoint as the user named it: weights by ``model``, or recorded evidence by ``evidence``, never both.

    ``chat_template``: None takes the pair's (the tuned tokenizer's own, if it has one); ``"none"`` means the plain
    prompt; else a path to a Jinja file or the template itself. ``backend``: None takes the run's.
    """

    name: str
    model: str | None = None
    revision: str | None = None
    adapter: str | None = None
    dtype: str | None = None
    device_map: str | None = None
    trust_remote_code: bool = False
    chat_template: str | None = None
    backend: LMBackend | None = None
    evidence: Path | None = None


@dataclass(frozen=True, kw_only=True)
class PromptSource:
    """Where a pair's prompts lie: a JSONL path or the name of a shipped set, and how its ids fall into groups.

    ``groups`` maps a group's name to a shell pattern on prompt ids; it overrides the prompts' own ``group``.
    """

    path: str
    groups: Mapping[str, str] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, kw_only=True)
class SingleTask:
    """What the sibling ``single_task_tuned`` was tuned on: a JSONL file of examples (prompt, response), and a shell
    pattern on the ``task`` field (or else the id) of prompts that are of that task."""

    examples: Path
    prompts: str


@dataclass(frozen=True, kw_only=True)
class ModelPair:
    """A base and a tuned checkpoint, siblings by role, and what the pair is asked."""

    name: str
    base: ModelRef
    tuned: ModelRef
    siblings: Mapping[str, ModelRef] = field(default_factory=lambda: NOTHING)
    prompts: tuple[PromptSource, ...] = ()
    expectations: Path | None = None
    ratings: str | None = None
    max_new_tokens: int | None = None
    """Longest response in tokens; None takes the run's."""
    single_task: SingleTask | None = None
    vocabulary: str | None = None
    word_vectors: str | None = None
    """Words and word space of the measures that read weights, as the options spell them; None takes the run's."""

    def checkpoint(self, role: str) -> ModelRef | None:
        """The checkpoint of a role: ``base``, ``tuned`` or a sibling's; None where the pair names no such sibling."""
        return {"base": self.base, "tuned": self.tuned, **self.siblings}.get(role)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One prompt with the character spans of its instruction, [start, end) in ``prompt``."""

    id: str
    prompt: str
    instruction_spans: tuple[Span, ...]
    reference: str | None = None
    cluster: str | None = None
    group: str = "all"
    verify: Mapping[str, Any] | None = None
    fields: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    """Every other field of the JSONL line, ratings among them."""

    @property
    def sha256(self) -> str:
        """Hash of all that its per-item values rest on but its id: text, reference, instruction spans and rules."""
        verify = None if self.verify is None else dict(self.verify)
        return digest([self.prompt, self.reference, [list(span) for span in self.instruction_spans], verify])


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """Prompts in file order. ``name`` is the file's stem, ``source`` where it was read."""

    name: str
    source: str
    prompts: tuple[Prompt, ...]

    @property
    def sha256(self) -> str:
        """Hash of what a measure sees: ids, prompts, references. Spans and ratings act later and are left out."""
        return digest([[p.id, p.prompt, p.reference] for p in self.prompts])

    @property
    def groups(self) -> tuple[str, ...]:
        """Group names in order of first appearance."""
        return tuple(dict.fromkeys(p.group for p in self.prompts))


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of a checkpoint: what a measure of weights is taken from, as a prompt is what others are taken from."""

    index: int

    @property
    def id(self) -> str:
        """``layer.`` and the index from 0: the item's id in the store."""
        return f"layer.{self.index}"


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
    what its statistic counts (``prompts``, ``layers``, ``heads``, ``verbs``).
    """

    id: str
    title: str
    claim: str
    source: str
    direction: Literal["greater", "less", "equivalent"]
    unit: str
    sesoi: float
    sesoi_reason: str
    how: str
    needs: tuple[tuple[str, str], ...]
    deviations: str = ""
    items: str = "prompts"


@dataclass(frozen=True, kw_only=True)
class EvidenceKey:
    """What evidence is keyed by. No path and no model name: content only (decision 2 of the design)."""

    measure: str
    version: int
    params: Mapping[str, Json]
    checkpoint: str
    """Fingerprint of weights and tokenizer."""
    dtype: str
    prompts: str
    """``PromptSet.sha256``; empty for a measure that reads weights alone."""

    @property
    def digest(self) -> str:
        """64 hexadecimal digits that name the evidence in the store."""
        return digest([self.measure, self.version, dict(self.params), self.checkpoint, self.dtype, self.prompts])


@dataclass(frozen=True, kw_only=True)
class EvidenceItem:
    """What a measure returned for one prompt or layer: numeric arrays, JSON values, or why it was left out."""

    id: str
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=lambda: NOTHING)
    values: Mapping[str, Json] = field(default_factory=lambda: NOTHING)
    left_out: str | None = None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All items of one key, in prompt order, with provenance (versions, device, dtype, time taken)."""

    key: EvidenceKey
    items: tuple[EvidenceItem, ...]
    provenance: Mapping[str, Json] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One side of a comparison: its label (``base``, ``tuned``, ``followed`` ...) and the per-item values."""

    label: str
    ids: tuple[str, ...]
    values: npt.NDArray[np.float64]

    @property
    def mean(self) -> float:
        """Mean over items; NaN where there are none."""
        return float(np.mean(self.values)) if len(self.values) else float("nan")

    @property
    def sd(self) -> float:
        """Population standard deviation over items, as the published tables give it; NaN where there are none."""
        return float(np.std(self.values)) if len(self.values) else float("nan")


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """An effect with its interval: what a paired or two-sample comparison returned.

    ``level`` is the interval's coverage (0.95 ...), and ``intervals`` gives it at any other. ``p`` is two-sided against
    zero effect, ``n`` the number of items (for two samples that of the smaller arm), ``clusters`` the independent
    units, ``standard_error`` that of the effect. Too few units give ``effect`` where it is defined and NaN for
    interval, p and standard error.
    """

    effect: float
    interval: tuple[float, float]
    level: float
    p: float
    n: int
    clusters: int
    standard_error: float
    method: str
    seed: int | None
    arms: tuple[Arm, ...]
    intervals: Intervals
    details: Mapping[str, Json] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A finding's outcome on a statistic, the reason in one sentence, and for inconclusive the n that would decide."""

    outcome: Outcome
    reason: str
    n_needed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """A known outcome, declared with its reason; ``group`` None holds for every group of the pair."""

    finding: str
    verdict: Outcome
    reason: str
    group: str | None = None
    prompts: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """All verdicts of a run as plain JSON types; ``docs/run-record.md`` describes the fields."""

    schema: int
    run: Mapping[str, Json]
    pairs: Sequence[Mapping[str, Json]]
    claims: Sequence[Mapping[str, Json]]
    examples: Sequence[Mapping[str, Json]] = ()
