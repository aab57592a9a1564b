"""The measures by name: version, chunk size and the function that prepares them. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from ..records import EvidenceItem, Json, Prompt

if TYPE_CHECKING:
    from ..checkpoints import Checkpoint

Take = Callable[[Sequence[Prompt], Sequence[EvidenceItem | None]], Iterator[EvidenceItem]]
"""(prompts, inputs) -> one item per prompt, in order. ``inputs`` holds for each prompt the item of the measure that
this one rests on (a generation, for attributions to a model's response), or None."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One quantity taken from one checkpoint.

    ``version`` goes up when the numbers change: evidence of another version is never read. ``chunk`` is the number of
    prompts that are published together; a killed run loses at most that many.
    """

    name: str
    version: int
    chunk: int
    preparation: str

    def prepare(self, checkpoint: Checkpoint, params: Mapping[str, Json]) -> Take:
        """What takes this measure from a loaded checkpoint. Work that all prompts share is done here, once."""
        module, name = self.preparation.split(":")
        prepare: Callable[[Checkpoint, Mapping[str, Json]], Take] = getattr(
            import_module(module, package=__package__), name
        )
        return prepare(checkpoint, params)


GENERATION = Measure(name="generation", version=1, chunk=32, preparation=".items:generation")
ATTRIBUTION = Measure(name="attribution", version=1, chunk=8, preparation=".items:attribution")
MEASURES: Mapping[str, Measure] = {m.name: m for m in (GENERATION, ATTRIBUTION)}
