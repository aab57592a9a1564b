"""Labels of a layer's concepts: which user tasks their word lists suit, and on which linguistic level they cohere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..annotators.base import LEVELS, TASKS, Annotator, Label
from ..annotators.registry import make_annotator
from ..checkpoints.refs import Layer
from ..errors import EndpointError, MeasureError
from ..plain import Json
from ..store.evidence import EvidenceItem
from .catalogue import Take

TASK_COLUMNS = (*TASKS, "none")
ABSTAINED = -1


def annotation(checkpoint: None, params: Mapping[str, Json], sources: Mapping[str, Json]) -> Take:
    """Annotations as evidence, per layer, from the word lists of the concepts that it rests on.

    Arrays: ``tasks`` uint8 [seed, concept, 5] in the order of `TASK_COLUMNS`; ``levels`` int8 [seed, concept], index
    into `annotators.LEVELS` or -1 (abstained). A concept that the annotator failed on has no column set, not even
    "none", and level -1. Values: ``annotator`` (its identity), ``seeds``, ``failed`` (count over seeds), ``notes``.

    ``params``: ``annotator`` (identity) and ``seeds``; ``sources``: ``annotator`` and ``word_vectors``, as the options
    spell them. Raises MeasureError where the named annotator is not the one of ``params``, or its endpoint fails;
    layers that are done are kept.
    """
    annotator = make_annotator(str(sources["annotator"]), str(sources["word_vectors"]))
    if dict(annotator.identity) != params["annotator"]:
        raise MeasureError(
            f"annotator {sources['annotator']!r} is not the one that the evidence is keyed by: it is "
            f"{dict(annotator.identity)}, wanted is {params['annotator']}. Did its files change during the run?"
        )
    seeds = [int(seed) for seed in params["seeds"]]

    def take(units: Sequence[Layer], inputs: Sequence[EvidenceItem | None]) -> Iterator[EvidenceItem]:
        for layer, concepts in zip(units, inputs, strict=True):
            if concepts is None:
                yield EvidenceItem(id=layer.id, left_out="no concepts were taken from it")
            elif concepts.left_out:
                yield EvidenceItem(id=layer.id, left_out=concepts.left_out)
            else:
                yield _item(layer, concepts.values["words"], annotator, seeds)

    return take


def _item(layer: Layer, lists: Sequence[Sequence[str]], annotator: Annotator, seeds: Sequence[int]) -> EvidenceItem:
    try:
        labels = [annotator.annotate(lists, seed) for seed in seeds]
    except EndpointError as error:
        raise MeasureError(f"{layer.id}: its concepts could not be annotated. {error}") from None
    return EvidenceItem(
        id=layer.id,
        arrays=label_arrays(labels),
        values={
            "annotator": dict(annotator.identity),
            "seeds": list(seeds),
            "failed": sum(label is None for row in labels for label in row),
            "notes": annotator.notes(),
        },
    )


def label_arrays(labels: Sequence[Sequence[Label | None]]) -> dict[str, npt.NDArray[Any]]:
    """Labels [seed][concept] as ``tasks`` uint8 [seed, concept, 5] and ``levels`` int8 [seed, concept]."""
    concepts = len(labels[0]) if labels else 0
    tasks = np.zeros((len(labels), concepts, len(TASK_COLUMNS)), dtype=np.uint8)
    levels = np.full((len(labels), concepts), ABSTAINED, dtype=np.int8)
    for s, row in enumerate(labels):
        for c, label in enumerate(row):
            if label is None:
                continue
            for task in label.tasks or ("none",):
                tasks[s, c, TASK_COLUMNS.index(task)] = 1
            if label.level is not None:
                levels[s, c] = LEVELS.index(label.level)
    return {"tasks": tasks, "levels": levels}
