"""What cluster-robust t inference on means is made of: cluster codes, leave-one-out influences, degrees of freedom."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def cluster_codes(labels: Sequence[str]) -> Integers:
    """Cluster labels as codes from 0 in order of appearance, [item]."""
    codes = {label: code for code, label in enumerate(dict.fromkeys(labels))}
    return np.array([codes[label] for label in labels], dtype=np.int64)


def mean_influence(values: Floats, groups: Integers, count: int) -> Floats:
    """How leaving out each of ``count`` clusters moves the mean of values [item], as [cluster].

    Scaled so that the squares sum to the squared standard error (CV3 in MacKinnon, Nielsen and Webb 2023). Influences
    of several means over the same clusters add up, and the squares of the sum hold their covariance. A cluster without
    items has 0. Raises ValueError where one cluster holds all items.
    """
    sizes = np.bincount(groups, minlength=count)
    present = int(np.count_nonzero(sizes))
    if present < 2:
        raise ValueError(f"leaving out a cluster takes items in at least two; got {present}")
    sums = np.bincount(groups, weights=values - np.mean(values), minlength=count)
    return np.asarray(math.sqrt((present - 1) / present) * sums / (len(values) - sizes), dtype=np.float64)


def satterthwaite(variances: Sequence[float], freedoms: Sequence[float]) -> float:
    """Degrees of freedom of a sum of independent variances, each with its own; NaN where all are 0."""
    below = sum(v**2 / f for v, f in zip(variances, freedoms, strict=True))
    return sum(variances) ** 2 / below if below > 0 else math.nan
