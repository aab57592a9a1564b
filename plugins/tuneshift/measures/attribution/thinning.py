"""Which response tokens are attributed where not all are, and evidence of all for a request of fewer. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ...plain import Json
from ...store.evidence import EvidenceItem


def evenly_spaced(length: int, count: int | None) -> npt.NDArray[np.int64]:
    """Places of ``count`` evenly spaced tokens among ``length``: the middles of as many equal parts, rising. All of
    them where there are no more, or ``count`` is None."""
    if count is None or count >= length:
        return np.arange(length)
    return (2 * np.arange(count) + 1) * length // (2 * count)


def narrowed(item: EvidenceItem, params: Mapping[str, Json]) -> EvidenceItem:
    """Of evidence of all response or prompt tokens, what ``params`` ask for; rows that are there stay."""
    asked = params["attributed_response_tokens"]
    return item if asked == "all" or "thinned_from" in item.values else thinned(item, int(asked))


def thinned(item: EvidenceItem, count: int) -> EvidenceItem:
    """Evidence of all response tokens of a prompt, importance or levels, cut down to `evenly_spaced` ones."""
    if item.left_out is not None:
        return item
    name = "importance" if "importance" in item.arrays else "levels"
    length = item.arrays[name].shape[1]
    columns = evenly_spaced(length, count)
    if len(columns) == length:
        return item
    texts = item.values["response_tokens"]
    return replace(
        item,
        arrays={**item.arrays, name: item.arrays[name][:, columns]},
        values={**item.values, "response_tokens": [texts[i] for i in columns], "thinned_from": length},
    )
