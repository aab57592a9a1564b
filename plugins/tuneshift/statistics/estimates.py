"""Statistics of weighted items that are no means: correlation, area under the ROC curve; and changes of estimates.

Each ``weighted_...`` makes an `Estimate`; `jackknife_statistic` gives it an interval by leaving out clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .autocorrelated import SLOPE, series_slope_change
from .bootstrap import fields_at
from .clustered import cluster_codes
from .intervals import NoIntervals
from .jackknife import Estimate, Jackknife, jackknife, jackknife_change
from .statistic import Arm, Span, Statistic

Floats = npt.NDArray[np.float64]
Points = Mapping[str, tuple[float, float]]
"""Item id -> (x, y)."""


def jackknife_statistic(
    estimate: Estimate, *, arms: tuple[Arm, ...], clusters: Sequence[str], level: float, span: Span | None,
    name: str | None = None,
) -> Statistic:  # fmt: skip
    """Any smooth statistic of weighted items, with its interval by leaving out clusters (`jackknife.jackknife`).

    ``span`` is the range that the statistic cannot leave, as (-1, 1) for a correlation; ``clusters`` has a label per
    item. Details: ``estimate``, the ``name`` in `ESTIMATES`, by which a gate knows how to take its change.
    """
    return _statistic(jackknife(estimate, clusters, span=span), arms, clusters, level, name)


def estimate_change(name: str, old: Points, new: Points, *, clusters: Mapping[str, str], level: float) -> Statistic:
    """Change of an estimate of `CHANGES` between two runs, new less old, from the points (x, y) of each by item id.

    Leaving out a cluster leaves it out of both runs, so that what they share cancels; an item may have a point in one
    run only. The change of a slope is `autocorrelated.series_slope_change`, over the layers that have a point in both.
    Raises ValueError for an estimate that is not known.
    """
    if name not in CHANGES:
        raise ValueError(f"an estimate is one of {', '.join(CHANGES)}; got {name!r}")
    if name == SLOPE:
        return series_slope_change(old, new, level=level)
    make, span = ESTIMATES[name]
    ids = list(dict.fromkeys([*old, *new]))
    labels = [clusters.get(i, i) for i in ids]
    before, after = (_on_rows(make, points, ids) for points in (old, new))
    return _statistic(
        jackknife_change(before, after, labels, span=span), (), labels, level, name, "change of a statistic, "
    )


def _on_rows(make: Callable[[Floats, Floats], Estimate], points: Points, ids: Sequence[str]) -> Estimate:
    """The estimate of the points, for weights of all ``ids``."""
    rows = [k for k, i in enumerate(ids) if i in points]
    x, y = np.array([points[ids[k]] for k in rows], dtype=np.float64).reshape(-1, 2).T
    estimate = make(x, y)
    return lambda weights: estimate(weights[:, rows])


def _statistic(
    found: Jackknife, arms: tuple[Arm, ...], clusters: Sequence[str], level: float, name: str | None, of: str = ""
) -> Statistic:
    sizes = np.bincount(cluster_codes(clusters)).astype(np.float64) if len(clusters) else np.zeros(0)
    details: dict[str, Any] = {} if name is None else {"estimate": name}
    if found.reason is not None:
        details["no_interval"] = found.reason
    return Statistic(
        effect=found.effect,
        **fields_at(found.intervals or NoIntervals(), level),
        standard_error=found.standard_error,
        freedom=float(sizes.sum() ** 2 / np.sum(sizes**2)) - 1 if len(sizes) else math.nan,
        n=len(clusters),
        clusters=found.clusters,
        method=f"{of}jackknife t over clusters{'' if found.intervals is None else _scale(found)}",
        seed=None,
        arms=arms,
        details=details,
    )


def _scale(found: Jackknife) -> str:
    assert found.intervals is not None
    return " on the logit" if found.intervals.plain()["kind"].startswith("logit") else ""


def weighted_auc(values: Floats, is_high: npt.NDArray[np.bool_]) -> Estimate:
    """Probability that a high item's value exceeds a low item's, ties half, in 0..1, for any weights of the items.

    NaN where the high or the low items have no weight. ``values`` and ``is_high`` are [item].
    """
    order = np.argsort(values, kind="stable")
    high_side = is_high[order]
    starts = np.flatnonzero(np.r_[True, np.diff(values[order]) != 0])

    def estimate(weights: Floats) -> Floats:
        ordered = weights[:, order]
        high = np.add.reduceat(np.where(high_side, ordered, 0.0), starts, axis=1)  # [resample, distinct value]
        low = np.add.reduceat(np.where(high_side, 0.0, ordered), starts, axis=1)
        below = np.cumsum(low, axis=1) - low / 2
        pairs = high.sum(axis=1) * low.sum(axis=1)
        return np.asarray(
            np.divide((high * below).sum(axis=1), pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
        )

    return estimate


def weighted_spearman(x: Floats, y: Floats) -> Estimate:
    """Spearman's rank correlation, ties by midranks, for any weights of the items; x and y are [item].

    With whole weights it is that of the sample in which each item stands so often. NaN where a side does not vary.
    """
    ranks = [_weighted_ranks(values) for values in (x, y)]

    def estimate(weights: Floats) -> Floats:
        total = weights.sum(axis=1, keepdims=True)
        a, b = (rank(weights) for rank in ranks)  # [resample, item]
        a, b = (side - (weights * side).sum(axis=1, keepdims=True) / total for side in (a, b))
        together = (weights * a * b).sum(axis=1)
        spread = (weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1)
        # Ranks lie half a weight apart at least, so a spread of rounding error is none.
        varies = spread > 1e-9 * total[:, 0] ** 2
        found = np.full(len(weights), np.nan)
        return np.asarray(np.divide(together, np.sqrt(np.where(varies, spread, 1.0)), out=found, where=varies))

    return estimate


def _weighted_ranks(values: Floats) -> Callable[[Floats], Floats]:
    """Weights [resample, item] -> midranks [resample, item] less one half."""
    order = np.argsort(values, kind="stable")
    new = np.r_[True, np.diff(values[order]) != 0]
    starts, place = np.flatnonzero(new), np.empty(len(values), dtype=np.int64)
    place[order] = np.cumsum(new) - 1

    def ranks(weights: Floats) -> Floats:
        tied = np.add.reduceat(weights[:, order], starts, axis=1)  # [resample, distinct value]
        return np.asarray((np.cumsum(tied, axis=1) - tied / 2)[:, place])

    return ranks


ESTIMATES: Mapping[str, tuple[Callable[[Floats, Floats], Estimate], Span | None]] = {
    "spearman": (weighted_spearman, (-1.0, 1.0)),
}
"""Name -> how the estimate is made of x and y, [item] each, and its range."""
CHANGES = (*ESTIMATES, SLOPE)
"""Names of the estimates whose change between two runs can be taken."""
