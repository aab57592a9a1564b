"""The measures by name: version, chunk size and the function that prepares them. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from ..plain import NOTHING, Json
from ..store.evidence import EvidenceItem

if TYPE_CHECKING:
    from ..backends.model import BackendModel
    from ..checkpoints.loading import Checkpoint

Take = Callable[[Sequence[Any], Sequence[EvidenceItem | None]], Iterator[EvidenceItem]]
"""(units, inputs) -> one item per unit, in order: a `Prompt`, or a `Layer` where the measure reads weights. ``inputs``
holds for each unit the item of the measure that this one rests on (a generation, for attributions to a model's
response), or None."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One quantity taken from one checkpoint.

    ``version`` goes up when the numbers change: evidence of another version is never read. ``chunk`` is the number of
    items that are published together; a killed run loses at most that many. ``axis``: whether there is an item for each
    prompt or for each layer. ``loads``: whether it needs the weights, or only the evidence that it rests on. ``plain``:
    whether it differentiates or reads weights, or rests on one that does: quantised ones are dequantised for it.
    """

    name: str
    version: int
    chunk: int
    preparation: str
    axis: Literal["prompts", "layers"] = "prompts"
    loads: bool = True
    plain: bool = False

    def prepare(
        self,
        checkpoint: Checkpoint | BackendModel | None,
        params: Mapping[str, Json],
        sources: Mapping[str, Json] = NOTHING,
    ) -> Take:
        """What takes this measure from a checkpoint, loaded or behind its backend; None for one that ``loads`` nothing.

        ``params`` are part of the evidence's key, ``sources`` say where things lie that ``params`` identify by content.
        Work that all items share is done here, once.
        """
        module, name = self.preparation.split(":")
        prepare: Callable[..., Take] = getattr(import_module(module, package=__package__), name)
        return prepare(checkpoint, params, sources)


GENERATION = Measure(name="generation", version=2, chunk=32, preparation=".generation:generation")
ATTRIBUTION = Measure(
    name="attribution", version=2, chunk=8, preparation=".attribution.evidence:attribution", plain=True
)
RELATIONS = Measure(name="relations", version=1, chunk=1, preparation=".relations:relations", axis="layers", plain=True)
CONCEPTS = Measure(name="concepts", version=1, chunk=1, preparation=".concepts:concepts", axis="layers", plain=True)
ANNOTATION = Measure(
    name="annotation", version=1, chunk=1, preparation=".annotation:annotation", axis="layers", loads=False, plain=True
)
LIKELIHOOD = Measure(name="likelihood", version=2, chunk=32, preparation=".likelihood:likelihood")
MEASURES: Mapping[str, Measure] = {
    m.name: m for m in (GENERATION, ATTRIBUTION, LIKELIHOOD, RELATIONS, CONCEPTS, ANNOTATION)
}
