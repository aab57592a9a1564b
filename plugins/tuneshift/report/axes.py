"""Axes, histograms and quartiles of the report's plots, in pixels."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..plain import Json
from .values import finite, number


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A linear scale from [low, high] to percent of the figure's width, with round tick values."""

    low: float
    high: float
    step: float

    def at(self, value: float) -> float:
        """Position of a value in percent, with a margin of 2 on either side; values beyond the ends stay there."""
        share = (value - self.low) / (self.high - self.low)
        return round(2 + 96 * min(max(share, 0.0), 1.0), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Positions and labels of the multiples of ``step`` on the scale."""
        places = max(0, -math.floor(math.log10(self.step) + 1e-9))
        first, last = math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9)
        return [(self.at(k * self.step), number(k * self.step, places if k else 0)) for k in range(first, last + 1)]


def round_step(span: float, parts: int) -> float:
    """The largest of 1, 2 or 5 times a power of ten that divides the span into at least ``parts`` steps."""
    raw = span / parts
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (5.0, 2.0, 1.0) if m * power <= raw * (1 + 1e-9))


def axis(values: Iterable[Json], parts: int = 3) -> Axis:
    """A scale over the finite values; one unit wide around a single value, [0, 1] without any."""
    known = [x for x in map(finite, values) if x is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        pad = abs(low) / 2 or 0.5
        low, high = low - pad, high + pad
    return Axis(low=low, high=high, step=round_step(high - low, parts))


def histogram(values: Sequence[float], scale: Axis, bins: float) -> dict[str, Any]:
    """A histogram with edges at multiples of ``bins``, 0 among them, as one SVG path in a 100 by 100 box."""
    counts = Counter(math.floor(x / bins + 1e-9) for x in values)
    peak = max(counts.values(), default=1)
    path = "".join(_run_path(counts, run, scale, bins, peak) for run in _neighbours(sorted(counts)))
    return {"path": path, "peak": peak, "rug": [scale.at(x) for x in values] if len(values) <= 40 else []}


def _neighbours(bars: Sequence[int]) -> list[list[int]]:
    """Numbers of bars gathered where they touch, so that one outline holds them."""
    runs: list[list[int]] = []
    for k in bars:
        if runs and runs[-1][-1] == k - 1:
            runs[-1].append(k)
        else:
            runs.append([k])
    return runs


def _run_path(counts: Counter[int], run: Sequence[int], scale: Axis, bins: float, peak: int) -> str:
    steps = (f"V{100 - 100 * counts[k] / peak:.1f}H{round(scale.at((k + 1) * bins), 1):g}" for k in run)
    return f"M{round(scale.at(run[0] * bins), 1):g} 100{''.join(steps)}V100z"


def padded(scale: Axis, bins: float) -> Axis:
    """The scale widened to whole bins, so that the outermost bars are as wide as the others."""
    low, high = math.floor(scale.low / bins + 1e-9) * bins, (math.floor(scale.high / bins + 1e-9) + 1) * bins
    return Axis(low=low, high=high, step=scale.step)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile (linear interpolation); one value three times."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, median, third
