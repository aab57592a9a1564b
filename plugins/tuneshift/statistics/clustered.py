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


def expanded_level(level: float, units: float) -> float:
    """The level whose normal quantile is the t quantile of ``level`` times sqrt(units / (units - 1)).

    A bootstrap over few clusters is too narrow: its spread lacks the factor, and its tails are nearly normal. Taken at
    this level its interval has the length of a t interval at ``level``, as the expanded percentile interval (Hesterberg
    2015). ``units`` are independent clusters, above 1. Raises ValueError for what is out of range.
    """
    if not 0 < level < 1:
        raise ValueError(f"a level is the coverage of an interval, between 0 and 1, as 0.95; got {level}")
    _check_units(units)
    from scipy.special import ndtr, stdtrit

    return float(1 - 2 * ndtr(-math.sqrt(units / (units - 1)) * stdtrit(units - 1, (1 + level) / 2)))


def _check_units(units: float) -> None:
    if not units > 1:
        raise ValueError(f"it takes more than one independent cluster; got {units}")
