"""Intervals of one effect at every level: what decides a claim at its family's share of the error rate, gives the
smallest rate at which it would be decided, and lets a change between two runs be decided at the gate's.

Each kind, here and in the modules beside, gives its interval at any level, and a plain form from which
``interval_reader`` makes the same intervals again, bit for bit. `AtBound` and `Expanded` are of records that earlier
versions wrote; nothing makes them any more.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ..plain import Json
from .clustered import expanded_level
from .proportions import wilson_interval

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]

FLOAT32 = "<f4"
UNKNOWN: Interval = (math.nan, math.nan)
TAIL = 0.125
"""Share of the resamples that a bootstrap keeps on each side: what an interval of 75 % or more reaches, bias aside."""


def fewest_clusters(level: float) -> int:
    """Independent units below which no interval is given at this level: six at 95 %.

    With G units a test of their signs, which assumes symmetry only, cannot fall below p = 2 / 2**G. Where that is above
    1 - level, a decision would rest on the normal assumption alone. Raises ValueError for a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"a level is the coverage of an interval, between 0 and 1, as 0.95; got {level}")
    return 1 + math.ceil(math.log2(1 / (1 - level)))


class Intervals(Protocol):
    """The intervals of an effect, one for each level."""

    def at(self, level: float) -> Interval:
        """The interval that decides at error rate 1 - ``level``; NaN where none can be given."""

    def coverage(self, level: float) -> float:
        """Coverage of ``at(level)``: the level itself, but for two one-sided tests."""

    def plain(self) -> dict[str, Json]:
        """The same in JSON types, with the class under ``kind``; `interval_reader.intervals_of` reads it."""


@runtime_checkable
class WithP(Protocol):
    """Intervals whose p has a closed form."""

    def p(self, value: float = 0.0) -> float:
        """Two-sided p of a true ``value``: the error rate at which the interval ends there."""


SMALLEST_ERROR, LARGEST_ERROR = 1e-12, 0.49


def p_value(intervals: Intervals, value: float = 0.0) -> float:
    """Two-sided p of a true ``value``; 1 where no interval of 51 % or more leaves it out."""
    return intervals.p(value) if isinstance(intervals, WithP) else searched_p(intervals, value)


def searched_p(intervals: Intervals, value: float) -> float:
    """The same from the intervals alone, whether or not they have a p of their own."""
    found = smallest_error(intervals, lambda low, high: not low <= value <= high)
    return 1.0 if found is None else found


def smallest_error(intervals: Intervals, decides: Callable[[float, float], bool]) -> float | None:
    """The smallest error rate at which an interval decides, to a part in a billion.

    In [1e-12, 0.49]: below that float64 has no levels left, and above it nothing is called decided (None). Intervals
    grow with their level, so at any larger rate the same holds.
    """

    def decided(error: float) -> bool:
        low, high = intervals.at(1 - error)
        return math.isfinite(low) and math.isfinite(high) and decides(low, high)

    undecided, found = SMALLEST_ERROR, LARGEST_ERROR
    if decided(undecided):
        return undecided
    if not decided(found):
        return None
    while found > undecided * (1 + 1e-9):
        middle = math.sqrt(found * undecided)
        undecided, found = (undecided, middle) if decided(middle) else (middle, found)
    return found


class _Symmetric:
    """Two-sided intervals, whose coverage is their level."""

    def coverage(self, level: float) -> float:
        return level


@dataclass(frozen=True, kw_only=True)
class NoIntervals(_Symmetric):
    """An effect whose variance is not known: no interval at any level."""

    def at(self, level: float) -> Interval:
        return UNKNOWN

    def plain(self) -> dict[str, Json]:
        return {"kind": "none"}


@dataclass(frozen=True, kw_only=True)
class StudentT(_Symmetric):
    """effect +- t(freedom) * error, from ``fewest_clusters`` independent ``units`` on; error 0: all items agree."""

    effect: float
    error: float
    freedom: float
    units: float

    def at(self, level: float) -> Interval:
        if self.units < fewest_clusters(level):
            return UNKNOWN
        if self.error == 0:
            return (self.effect, self.effect)
        from scipy.special import stdtrit

        half = float(stdtrit(self.freedom, (1 + level) / 2)) * self.error
        return (self.effect - half, self.effect + half)

    def p(self, value: float = 0.0) -> float:
        """Two-sided p of a true ``value``; of an effect without error, 1 for itself and 0 for any other."""
        if self.error == 0:
            return float(value == self.effect)
        from scipy.special import stdtr

        return float(2 * stdtr(self.freedom, -abs(self.effect - value) / self.error))

    def plain(self) -> dict[str, Json]:
        freedom = self.freedom if math.isfinite(self.freedom) else None
        return {"kind": "t", "effect": self.effect, "error": self.error, "freedom": freedom, "units": self.units}


@dataclass(frozen=True, kw_only=True)
class AtBound(_Symmetric):
    """An effect at its bound ``end``, where no variance was seen: Clopper and Pearson's (1934) exact bound.

    At most 1 - ((1 - level) / 2)**(1 / units) of the items would come out otherwise, each moving the effect by at most
    ``scale`` towards zero.
    """

    end: float
    scale: float
    units: int

    def at(self, level: float) -> Interval:
        reach = self.scale * (1 - ((1 - level) / 2) ** (1 / self.units))
        return (self.end - reach, self.end) if self.end > 0 else (self.end, self.end + reach)

    def plain(self) -> dict[str, Json]:
        return {"kind": "bound", "end": self.end, "scale": self.scale, "units": self.units}


@dataclass(frozen=True, kw_only=True)
class Wilson(_Symmetric):
    """Wilson's (1927) score intervals of a ``share`` of ``n`` independent items, less ``chance``."""

    share: float
    n: float
    chance: float
    units: float

    def at(self, level: float) -> Interval:
        if self.units < fewest_clusters(level):
            return UNKNOWN
        low, high = wilson_interval(self.share, self.n, level)
        return (low - self.chance, high - self.chance)

    def plain(self) -> dict[str, Json]:
        return {"kind": "wilson", "share": self.share, "n": self.n, "chance": self.chance, "units": self.units}


@dataclass(frozen=True, kw_only=True)
class Bca(_Symmetric):
    """Bias-corrected and accelerated bootstrap intervals (Efron 1987), from ``fewest_clusters`` units on.

    ``low`` and ``high``: the lowest and highest ``TAIL`` of ``resamples`` sorted resamples, as little-endian float32. A
    bound that would lie between them takes the nearer end of its tail, which widens the interval.
    """

    low: bytes
    high: bytes
    resamples: int
    bias: float
    acceleration: float
    units: float

    @classmethod
    def of(cls, drawn: Floats, *, bias: float, acceleration: float, units: float) -> Bca:
        """From all resamples, in any order."""
        ordered = np.sort(drawn).astype(FLOAT32)
        kept = max(1, math.ceil(TAIL * len(ordered)))
        return cls(low=ordered[:kept].tobytes(), high=ordered[-kept:].tobytes(), resamples=len(ordered), bias=bias,
                   acceleration=acceleration, units=units)  # fmt: skip

    def at(self, level: float) -> Interval:
        if self.units < fewest_clusters(level):
            return UNKNOWN
        from scipy.special import ndtr, ndtri

        reach = self.bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
        shares = ndtr(self.bias + reach / (1 - self.acceleration * reach))
        return (self._quantile(float(shares[0])), self._quantile(float(shares[1])))

    def _quantile(self, share: float) -> float:
        """Linear between order statistics, as numpy's default."""
        place = share * (self.resamples - 1)
        if share <= 0.5:
            low = np.frombuffer(self.low, dtype=FLOAT32)
            return float(np.interp(place, np.arange(len(low)), low))
        high = np.frombuffer(self.high, dtype=FLOAT32)
        return float(np.interp(place, np.arange(self.resamples - len(high), self.resamples), high))

    def plain(self) -> dict[str, Json]:
        low, high = (base64.b64encode(tail).decode() for tail in (self.low, self.high))
        return {"kind": "bca", "low": low, "high": high, "resamples": self.resamples, "bias": self.bias,
                "acceleration": self.acceleration, "units": self.units}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TwoOneSided:
    """For two one-sided tests at error rate 1 - level each (Schuirmann 1987): coverage 2 * level - 1."""

    inner: Intervals

    def at(self, level: float) -> Interval:
        return self.inner.at(self.coverage(level)) if level > 0.5 else UNKNOWN

    def coverage(self, level: float) -> float:
        return 2 * level - 1

    def plain(self) -> dict[str, Json]:
        return {"kind": "two one-sided", "inner": self.inner.plain()}


@dataclass(frozen=True, kw_only=True)
class Expanded(_Symmetric):
    """Bootstrap intervals taken at the level that t over few clusters asks for (`clustered.expanded_level`)."""

    inner: Intervals
    units: float

    def at(self, level: float) -> Interval:
        if self.units < fewest_clusters(level):
            return UNKNOWN
        return self.inner.at(min(expanded_level(level, self.units), math.nextafter(1.0, 0.0)))

    def plain(self) -> dict[str, Json]:
        return {"kind": "expanded", "inner": self.inner.plain(), "units": self.units}


@dataclass(frozen=True, kw_only=True)
class AllWithin:
    """Of several effects that all have to lie within +-``margin``, the one that decides at each level.

    Where all intervals lie within, the one that reaches farthest from zero, without a correction (intersection-union).
    That any lies wholly outside is one of several chances to err, so there intervals are taken at an equal share of the
    error rate (Bonferroni): the one farthest outside, or where none is, the one that reaches farthest.
    """

    of: tuple[Intervals, ...]
    margin: float

    def deciding(self, level: float) -> tuple[int, Interval, float]:
        """Which of the effects decides, its interval, and that interval's coverage."""
        found = [one.at(level) for one in self.of]
        if not all(-self.margin < low and high < self.margin for low, high in found):
            level = 1 - (1 - level) / len(self.of)
            found = [one.at(level) for one in self.of]
        outside = [max(low, -high) for low, high in found]  # from zero to the nearer end
        if any(distance > self.margin for distance in outside):
            index = int(np.nanargmax(outside))
        else:
            reach = [math.inf if math.isnan(low) else max(abs(low), abs(high)) for low, high in found]
            index = reach.index(max(reach))
        return index, found[index], self.of[index].coverage(level)

    def at(self, level: float) -> Interval:
        return self.deciding(level)[1]

    def coverage(self, level: float) -> float:
        return self.deciding(level)[2]

    def plain(self) -> dict[str, Json]:
        return {"kind": "all within", "of": [one.plain() for one in self.of], "margin": self.margin}
