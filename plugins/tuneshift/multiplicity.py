"""One error rate for many claims. Temporary until the statistics branch is merged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def _filled(p: Sequence[float | None]) -> np.ndarray:
    return np.array([1.0 if x is None else x for x in p], dtype=np.float64)


def holm(p: Sequence[float | None]) -> list[float]:
    """Holm-adjusted p."""
    values = _filled(p)
    order = np.argsort(values, kind="stable")
    adjusted = np.minimum(1.0, np.maximum.accumulate(values[order] * (len(values) - np.arange(len(values)))))
    result = np.empty(len(values))
    result[order] = adjusted
    return [float(x) for x in result]


def benjamini_hochberg(p: Sequence[float | None]) -> list[float]:
    """q."""
    values = _filled(p)
    order = np.argsort(values, kind="stable")[::-1]
    m = len(values)
    q = np.minimum.accumulate(np.minimum(1.0, values[order] * m / (m - np.arange(m))))
    result = np.empty(m)
    result[order] = q
    return [float(x) for x in result]


def holm_shares(p: Sequence[float | None], alpha: float) -> list[float]:
    """Shares."""
    values = _filled(p)
    order = np.argsort(values, kind="stable")
    shares = np.empty(len(values))
    failed = None
    for rank, k in enumerate(order):
        share = alpha / (len(values) - rank)
        if failed is None and values[k] > share:
            failed = share
        shares[k] = share if failed is None else failed
    return [float(x) for x in shares]
