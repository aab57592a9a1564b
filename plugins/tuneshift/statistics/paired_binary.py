"""Change of a share between two runs on the same items: Tango's score interval, with the clusters' effective n."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .clustered import cluster_codes, mean_influence
from .intervals import UNKNOWN, Interval, fewest_clusters

Floats = npt.NDArray[np.float64]


def tango_score(gained: float, lost: float, n: float, change: float) -> float:
    """Tango's (1998) score statistic of a true ``change``, in -1..1, with ``gained`` and ``lost`` of ``n`` pairs.

    Z = (gained - lost - n change) / sqrt(n (2 q + change (1 - change))), q the maximum likelihood estimate of the share
    lost under that change (Tango 1998, equations 24 to 26). Falls in ``change``; infinite where the change allows no
    spread.
    """
    variance, distance = _variance(gained, lost, n, change), gained - lost - n * change
    if variance <= 1e-12 * n:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def _variance(gained: float, lost: float, n: float, change: float) -> float:
    """Of gained less lost, at the most likely share lost under a true change."""
    b = -gained - lost + (2 * n - gained + lost) * change
    q = (math.sqrt(max(0.0, b**2 + 8 * n * lost * change * (1 - change))) - b) / (4 * n)
    return max(0.0, n * (2 * q + change * (1 - change)))


@dataclass(frozen=True, kw_only=True)
class PairedBinary:
    """Tango's (1998) score intervals of the change of a share, from ``fewest_clusters`` units on.

    ``gained`` and ``lost`` are counts of ``n`` pairs, all three divided by the design effect where pairs share
    clusters. ``freedom`` is infinite for independent pairs; else the normal deviate gives way to t's, since a design
    effect seen over few clusters is uncertain.
    """

    gained: float
    lost: float
    n: float
    units: float
    freedom: float

    @classmethod
    def of(cls, difference: Floats, clusters: Sequence[str]) -> PairedBinary:
        """From differences [item] that are -1, 0 or 1, and a cluster label for each.

        The design effect is the cluster-robust variance of the mean (``mean_influence``) over that of independent
        items, at least 1; where nothing changed it cannot be seen, and each cluster counts as one pair. Raises
        ValueError for other values, for none, and for labels of another number.
        """
        if len(difference) == 0 or len(clusters) != len(difference):
            raise ValueError(f"it takes a cluster for each of one pair or more; got {len(clusters)}, {len(difference)}")
        if not bool(np.all(np.isin(difference, (-1.0, 0.0, 1.0)))):
            raise ValueError("differences of binary outcomes are -1, 0 or 1; take another interval for other values")
        codes = cluster_codes(clusters)
        sizes = np.bincount(codes)
        units = float(sizes.sum() ** 2 / np.sum(sizes**2))
        n, gained, lost = float(len(difference)), float(np.sum(difference > 0)), float(np.sum(difference < 0))
        if len(sizes) == len(difference):
            return cls(gained=gained, lost=lost, n=n, units=units, freedom=math.inf)
        alone = float(np.var(difference, ddof=1)) / n if len(difference) > 1 else 0.0
        together = float(np.sum(mean_influence(difference, codes, len(sizes)) ** 2)) if len(sizes) > 1 else math.nan
        share = units / n if not alone > 0 else min(1.0, alone / together) if together > 0 else 1.0
        return cls(gained=gained * share, lost=lost * share, n=n * share, units=units, freedom=units - 1)

    def at(self, level: float) -> Interval:
        if self.units < fewest_clusters(level):
            return UNKNOWN
        from scipy.special import ndtri, stdtrit

        tail = (1 - level) / 2
        z = float(-ndtri(tail) if math.isinf(self.freedom) else -stdtrit(self.freedom, tail))
        return (-self._upper(z, gained=self.lost, lost=self.gained), self._upper(z, gained=self.gained, lost=self.lost))

    def _upper(self, z: float, *, gained: float, lost: float) -> float:
        """The largest change whose score is not below -z."""
        from scipy.optimize import brentq

        def excess(change: float) -> float:
            # The score's two parts apart, since their ratio is infinite where nothing varies.
            return gained - lost - self.n * change + z * math.sqrt(_variance(gained, lost, self.n, change))

        # Where nothing varies, the effect itself is a root as well; the end sought lies beyond.
        start = (gained - lost) / self.n + 1e-9
        if start >= 1 or excess(1.0) >= 0:
            return 1.0
        return start if excess(start) <= 0 else float(brentq(excess, start, 1.0, xtol=1e-12))

    def coverage(self, level: float) -> float:
        return level

    def p(self, value: float = 0.0) -> float:
        """Two-sided p of a change of ``value``; at 0 that of McNemar's test without correction."""
        from scipy.special import ndtr, stdtr

        z = -abs(tango_score(self.gained, self.lost, self.n, value))
        return float(2 * (ndtr(z) if math.isinf(self.freedom) else stdtr(self.freedom, z)))

    def plain(self) -> dict[str, Any]:
        freedom = self.freedom if math.isfinite(self.freedom) else None
        return {"kind": "paired binary", "gained": self.gained, "lost": self.lost, "n": self.n, "units": self.units,
                "freedom": freedom}  # fmt: skip

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> PairedBinary:
        """From the fields of `plain` without the kind; for `intervals_of`."""
        freedom = math.inf if fields["freedom"] is None else float(fields["freedom"])
        numbers = {name: float(fields[name]) for name in ("gained", "lost", "n", "units")}
        return cls(**numbers, freedom=freedom)
