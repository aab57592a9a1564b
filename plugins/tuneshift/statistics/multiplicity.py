"""Many claims at once: Holm's step-down procedure and Benjamini and Hochberg's false discovery rate.

A claim that has no p (None or NaN: too few items, say) stays in the family and counts as p = 1. Leaving it out would
loosen the level of the others by how much could not be measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
PValues = Sequence[float | None]


def holm(p: PValues) -> Floats:
    """Adjusted p of each claim, [claim], in 0..1: at most alpha where Holm's procedure rejects at error rate alpha.

    With m claims in ascending order of p, the j-th has the largest (m - i + 1) * p_i of i <= j (Holm 1979). The chance
    of any false rejection is at most alpha, however the claims depend on one another. Raises ValueError for a p
    outside 0..1.
    """
    known, order = _ascending(p)
    steps = np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1))
    return _in_given_order(np.minimum(steps, 1.0), order)


def benjamini_hochberg(p: PValues) -> Floats:
    """q value of each claim, [claim], in 0..1: the lowest false discovery rate at which it would be reported.

    With m claims in ascending order of p, the j-th has the smallest m * p_i / i of i >= j (Benjamini and Hochberg
    1995). Holds for claims that are independent or positively dependent; it is reported, and decides nothing. Raises
    ValueError for a p outside 0..1.
    """
    known, order = _ascending(p)
    steps = known[order] * len(known) / np.arange(1, len(known) + 1)
    return _in_given_order(np.minimum.accumulate(steps[::-1])[::-1], order)


def _ascending(p: PValues) -> tuple[Floats, npt.NDArray[np.int64]]:
    """The p with 1 where there is none, and the order that sorts them."""
    known = np.array([1.0 if x is None or math.isnan(x) else float(x) for x in p], dtype=np.float64)
    outside = known[(known < 0) | (known > 1)]
    if len(outside):
        raise ValueError(f"a p is a probability, 0 to 1, or None where there is none; got {outside[0]}")
    return known, np.argsort(known, kind="stable")


def _in_given_order(ordered: Floats, order: npt.NDArray[np.int64]) -> Floats:
    found = np.empty_like(ordered)
    found[order] = ordered
    return found
