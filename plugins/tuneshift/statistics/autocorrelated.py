"""Slopes over a series of few values whose neighbours are correlated: a model's layers.

Layers share a residual stream, so that what tuning did to one says something of the next. A plain regression over
layers takes them as independent: at an autocorrelation of .5 it errs in one run of four at 5 %. Here the errors are a
first-order autoregression, the plainest model in which neighbours agree, and its coefficient is taken at the upper end
of what the residuals leave possible: few layers cannot show that they are independent, and then nothing is decided.
``benchmarks/layer_slope.py`` has the error rates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..plain import Json
from .bootstrap import ROUNDING, fields_at, rounded_off
from .intervals import Interval, Intervals, NoIntervals, StudentT
from .statistic import Arm, Statistic

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

SLOPE = "slope"
"""In a statistic's details, as ``estimate``: by which a gate knows how to take its change."""
RATES = (0.025, 0.01, 0.005, 0.0025, 0.001)
"""Error rates for which the autocorrelation has an upper bound of its own; beyond the last it is `LARGEST`."""
MISSED = 4
"""Times the error rate that its bound may miss the autocorrelation: 10 % at 2.5 %. A miss is a smaller error by some
part and no false alarm by itself; at a bound of one confidence for all levels it was, at small error rates."""
ROUNDED = 1e-9
"""Of an error rate that is one less a level."""
LARGEST = 0.99
"""Of a coefficient that is looked for: beyond it a series of layers cannot be told from a random walk."""
NODES = 1001
"""Of Imhof's integral: chances come out to two in a thousand."""
HALVINGS = 10
"""Of the interval in which the bound is looked for: to a part in a thousand."""


@dataclass(frozen=True, kw_only=True)
class SeriesT:
    """t intervals of a slope, each at the largest autocorrelation that is not ruled out at its level: ``steps`` are
    those of `RATES` and of `LARGEST`, for smaller error rates than all of these."""

    steps: tuple[StudentT, ...]

    def at(self, level: float) -> Interval:
        # Of all steps up to the level's own, the farthest ends, so that intervals grow with their level.
        used = 1 + sum(1 - level < rate * (1 - ROUNDED) for rate in RATES)
        ends = [step.at(level) for step in self.steps[:used]]
        return min(low for low, _ in ends), max(high for _, high in ends)

    def coverage(self, level: float) -> float:
        return level

    def plain(self) -> dict[str, Json]:
        return {"kind": "series t", "steps": [step.plain() for step in self.steps]}


def series_slope(
    x: Floats, y: Floats, *, places: Sequence[int], arms: tuple[Arm, ...], level: float, method: str = ""
) -> Statistic:
    """Least-squares slope of ``y`` on ``x``, [place] each, whose errors follow an autoregression over ``places``.

    The interval is t's with the error and the degrees of freedom (Satterthwaite's, of the residual sum of squares) that
    the slope has where the correlation of two errors is r to the power of their distance in places, which may have
    gaps. r is the upper confidence bound, between 0 and .99, of the residuals' correlation of neighbours (exact for
    normal errors: Imhof 1961), at a confidence that grows with the level (`SeriesT`). It assumes errors of one
    variance. The standard error, the degrees of freedom and ``autocorrelation_at_most`` are those at 97.5 % and below.

    NaN for fewer than two different ``x``. Without an interval where residuals do not vary. Details: ``estimate``
    (`SLOPE`), ``autocorrelation`` of the residuals and its bound ``autocorrelation_at_most``. Raises ValueError for
    places that do not rise.
    """
    if any(b <= a for a, b in pairwise(places)):
        raise ValueError(f"places of a series rise; got {list(places)}")
    details: dict[str, Json] = {"estimate": SLOPE, "autocorrelation": math.nan, "autocorrelation_at_most": math.nan}
    effect, error, freedom = math.nan, math.nan, math.nan
    intervals: Intervals = NoIntervals()
    if len(np.unique(x)) > 1:
        fit = _Fit.of(tuple(x.tolist()), tuple(places))
        effect = rounded_off(float(fit.slope @ y), float(np.abs(fit.slope) @ np.abs(y)))
        residuals = fit.residual @ y
        if len(x) > 3 and float(np.max(np.abs(residuals))) > ROUNDING * float(np.max(np.abs(y))):
            squares = float(residuals @ residuals)
            seen = float(residuals @ fit.neighbours @ residuals) / squares
            bounds = [fit.largest_autocorrelation(seen, MISSED * rate) for rate in RATES]
            spreads = [fit.error(bound, squares) for bound in (*bounds, LARGEST)]
            (error, freedom), bound = spreads[0], bounds[0]
            details |= {"autocorrelation": seen, "autocorrelation_at_most": bound}
            intervals = SeriesT(
                steps=tuple(StudentT(effect=effect, error=e, freedom=f, units=len(x)) for e, f in spreads)
            )
        else:
            details["no_interval"] = "the values lie on a line, so that no variance was seen"
    return Statistic(
        effect=effect,
        **fields_at(intervals, level),
        standard_error=error,
        freedom=freedom,
        n=len(x),
        clusters=len(x),
        method=f"{method}slope over a series, t at the largest autocorrelation that its residuals leave possible",
        seed=None,
        arms=arms,
        details=details,
    )


def series_slope_change(
    old: Mapping[str, tuple[float, float]], new: Mapping[str, tuple[float, float]], *, level: float
) -> Statistic:
    """Change of a slope between two runs, new less old, from the points (x, y) of each by id: the `series_slope` of the
    differences, over the places that have a point in both. An id ends in its place, as ``layer.7``."""
    places = sorted((place_of(i), i) for i in old.keys() & new.keys())
    x = np.array([new[i][0] for _, i in places], dtype=np.float64)
    y = np.array([new[i][1] - old[i][1] for _, i in places], dtype=np.float64)
    return series_slope(x, y, places=[place for place, _ in places], arms=(), level=level, method="change of a ")


def place_of(item: str) -> int:
    """The place in its series in which an id ends. Raises ValueError for an id without one."""
    place = item.rpartition(".")[2]
    if not place.isdecimal():
        raise ValueError(f"the id of an item of a series ends in its place, as layer.7; got {item!r}")
    return int(place)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fit:
    """A line through values at fixed x and places: slope [place], residual maker and neighbours [place, place]."""

    slope: Floats
    residual: Floats
    neighbours: Floats
    distance: Integers

    @classmethod
    @lru_cache(maxsize=16)
    def of(cls, x: tuple[float, ...], places: tuple[int, ...]) -> _Fit:
        design = np.column_stack([np.ones(len(x)), x])
        solved = np.linalg.pinv(design)
        distance = np.abs(np.subtract.outer(places, places))
        # Where only every fourth layer has attention heads, neighbours lie four places apart.
        nearest = distance[distance > 0].min()
        return cls(slope=solved[1], residual=np.eye(len(x)) - design @ solved, neighbours=(distance == nearest) / 2,
                   distance=distance)  # fmt: skip

    def largest_autocorrelation(self, seen: float, missed: float) -> float:
        """The largest coefficient under which residuals as little correlated as those seen come about with a chance of
        ``missed``; 0 where even independent errors seldom have as little."""
        low, high = 0.0, LARGEST
        if self._at_most(seen, high) >= missed:
            return high
        if self._at_most(seen, low) < missed:
            return low
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._at_most(seen, middle) >= missed else (low, middle)
        return low

    def error(self, autocorrelation: float, squares: float) -> tuple[float, float]:
        """Standard error of the slope and its degrees of freedom, from the residuals' sum of squares."""
        errors = autocorrelation**self.distance
        left = self.residual @ errors
        expected = float(np.trace(left))
        freedom = expected**2 / float(np.sum(left * left.T))
        return math.sqrt(float(self.slope @ errors @ self.slope) * squares / expected), freedom

    def _at_most(self, seen: float, autocorrelation: float) -> float:
        """P(residuals' neighbours correlate by ``seen`` or less) for normal errors: of a sum of chi squares at 0."""
        root = np.linalg.cholesky(autocorrelation**self.distance)
        within = self.residual @ (self.neighbours - seen * np.eye(len(root))) @ self.residual
        weights = np.linalg.eigvalsh(root.T @ within @ root)
        return _not_above_zero(weights / np.max(np.abs(weights)))


def _not_above_zero(weights: Floats) -> float:
    """P(sum of ``weights`` times chi squares of one degree of freedom <= 0) by Imhof's (1961) integral."""
    share = np.arange(1, NODES) / NODES
    u, width = share / (1 - share), 1 / ((1 - share) ** 2 * NODES)
    terms = np.outer(u, weights)
    angle = np.arctan(terms).sum(axis=1) / 2
    damping = np.exp(np.log1p(terms**2).sum(axis=1) / 4)
    return float(0.5 - np.sum(np.sin(angle) / (u * damping) * width) / np.pi)
