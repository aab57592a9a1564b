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
    items that are published together; a killed run loses at most that many. ``small_chunk``: the same for a small
    checkpoint; 0 where that makes no difference. ``axis``: whether there is an item for each
    prompt or for each layer. ``loads``: whether it needs the weights, or only the evidence that it rests on.
    ``narrowing``: what makes an item of an item that holds more; empty where no evidence holds more than another.
    ``plain``: whether it differentiates or reads weights, or rests on one that does: quantised ones are dequantised
    for it.
    """

    name: str
    version: int
    chunk: int
    preparation: str
    small_chunk: int = 0
    narrowing: str = ""
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
        prepare: Callable[..., Take] = _function(self.preparation)
        return prepare(checkpoint, params, sources)

    def narrow(self, item: EvidenceItem, params: Mapping[str, Json]) -> EvidenceItem:
        """An item of evidence that holds more than ``params`` ask for, as it would have been measured under them."""
        narrowed: Callable[..., EvidenceItem] = _function(self.narrowing)
        return narrowed(item, params)


def _function(named: str) -> Callable[..., Any]:
    module, name = named.split(":")
    found: Callable[..., Any] = getattr(import_module(module, package=__package__), name)
    return found


GENERATION = Measure(name="generation", version=2, chunk=32, preparation=".generation:generation")
ATTRIBUTION = Measure(
    name="attribution", version=2, chunk=1, small_chunk=8, preparation=".attribution.evidence:attribution",
    narrowing=".attribution.thinning:narrowed", plain=True,
)  # fmt: skip
RELATIONS = Measure(name="relations", version=1, chunk=1, preparation=".relations:relations", axis="layers", plain=True)
CONCEPTS = Measure(name="concepts", version=1, chunk=1, preparation=".concepts:concepts", axis="layers", plain=True)
ANNOTATION = Measure(
    name="annotation", version=1, chunk=1, preparation=".annotation:annotation", axis="layers", loads=False, plain=True
)
LIKELIHOOD = Measure(name="likelihood", version=2, chunk=8, small_chunk=32, preparation=".likelihood:likelihood")
TEXT = Measure(name="text", version=1, chunk=8, small_chunk=32, preparation=".text:text")
MEASURES: Mapping[str, Measure] = {
    m.name: m for m in (GENERATION, ATTRIBUTION, LIKELIHOOD, TEXT, RELATIONS, CONCEPTS, ANNOTATION)
}
