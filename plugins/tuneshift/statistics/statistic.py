"""An effect with its interval: what every comparison returns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..plain import NOTHING

if TYPE_CHECKING:
    from ..plain import Json
    from .intervals import Intervals


Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One side of a comparison: its label (``base``, ``tuned``, ``followed`` ...) and the per-item values.

    ``span`` is the range that a value cannot leave, as (0, 1) for a share, None where there is none. It is a matter of
    what the values are, never of what was seen: intervals rest on it where the normal approximation cannot be trusted.
    """

    label: str
    ids: tuple[str, ...]
    values: npt.NDArray[np.float64]
    span: Span | None = None

    @property
    def mean(self) -> float:
        """Mean over items; NaN where there are none."""
        return float(np.mean(self.values)) if len(self.values) else float("nan")

    @property
    def sd(self) -> float:
        """Population standard deviation over items, as the published tables give it; NaN where there are none."""
        return float(np.std(self.values)) if len(self.values) else float("nan")


@dataclass(frozen=True, kw_only=True, repr=False)
class Statistic:
    """An effect with its interval: what a paired or two-sample comparison returned.

    ``level`` is the interval's coverage (0.95 ...), and ``intervals`` gives it at any other. ``p`` is two-sided against
    zero effect, ``n`` the number of items (for two samples that of the smaller arm), ``clusters`` the independent
    units. ``standard_error`` is that of the effect, with ``freedom`` degrees of freedom, NaN where the values do not
    say. Where no interval can be given, interval and p are NaN. ``asked`` counts all items: of two samples both arms.
    ``unit`` is what the effect counts where that is not its finding's. ``scores``: of arms that say who won against the
    other, each side's items by themselves.
    """

    effect: float
    interval: tuple[float, float]
    level: float
    p: float
    n: int
    clusters: int
    standard_error: float
    method: str
    seed: int | None
    arms: tuple[Arm, ...]
    intervals: Intervals
    freedom: float = math.nan
    asked: int | None = None
    unit: str | None = None
    scores: tuple[Arm, ...] = ()
    details: Mapping[str, Json] = field(default_factory=lambda: NOTHING)

    def __repr__(self) -> str:
        low, high = self.interval
        return (
            f"Statistic(effect={self.effect:+.4g}, interval=[{low:+.4g}, {high:+.4g}], level={self.level:.4g}, "
            f"n={self.n}, p={self.p:.3g})"
        )
