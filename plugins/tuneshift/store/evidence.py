"""Evidence and the key that it is stored under."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from ..plain import NOTHING, digest

if TYPE_CHECKING:
    from ..plain import Json


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
