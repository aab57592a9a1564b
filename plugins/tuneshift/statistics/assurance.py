"""The number of items that would decide a claim, by assurance: power averaged over what the effect may be.

Power at the observed effect promises too much: the true one may lie nearer to the bound. Assurance (O'Hagan, Stevens
and Campbell 2005, Pharmaceutical Statistics 4:187) averages the chance that a fresh set decides, either way, over the
effect's sampling distribution: with a standard error s on nu degrees of freedom, the true effect is the observed one
plus s times t. Over claims whose effects are spread wider than s, a fresh set of the named number then decides as often
as named; for one fixed truth it decides more often far from the bound and less often near it, where no number would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from .bounded import BoundedMean
from .intervals import TwoOneSided, fewest_clusters

if TYPE_CHECKING:
    from .intervals import Intervals
    from .statistic import Statistic

Floats = npt.NDArray[np.float64]
Direction = Literal["greater", "less", "equivalent"]
Ends = tuple[Floats | float, Floats | float]
Decided = Callable[[Floats, float], Sequence[Ends]]
"""(standard errors [case] that a fresh set may see, degrees of freedom) -> spans of its effect that decide, apart from
each other, each from and to [case]."""

LARGEST = 100_000
"""Prompts; beyond, a number is not an instruction any more."""
SPREADS, OWN_SPREADS, MANY = 32, 8, 200.0
"""Equally likely values that stand for the unknown standard deviation, and for what a fresh set will see of it; beyond
`MANY` degrees of freedom the set sees the true one."""


@dataclass(frozen=True, kw_only=True)
class NeededItems:
    """``assured``: items of a fresh set at which it decides with the wished probability on average over what the effect
    may be; None for more than `LARGEST`. ``at_least``: the items where the truth is the end of the interval that is the
    easiest to decide; None for more than `LARGEST`."""

    assured: int | None
    at_least: int | None

    def text(self, noun: str) -> str:
        """As "812 prompts (at least 240 if the truth lies at the interval's farther end)"."""
        assured, least = (f"more than {LARGEST:,}" if n is None else f"{n:,}" for n in (self.assured, self.at_least))
        if self.at_least is None:
            return f"{assured} {noun}"
        return f"{assured} {noun} (at least {least} if the truth lies at the interval's farther end)"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a first set showed: ``effect`` with its standard ``error`` on ``freedom`` degrees, from ``items`` items.

    ``items`` counts all that were asked: of two groups both. ``units_per_item`` is the share of independent units, 1
    without clusters; a fresh set keeps it, and the balance of groups.
    """

    effect: float
    error: float
    freedom: float
    items: int
    units_per_item: float

    def __post_init__(self) -> None:
        if not (0 < self.error < math.inf and math.isfinite(self.effect)):
            raise ValueError(f"an effect is finite, its standard error above 0; got {self.effect} and {self.error}")
        if not (self.freedom > 0 and self.items > 0 and 0 < self.units_per_item <= 1):
            raise ValueError(
                "degrees of freedom and items are above 0, units per item in (0, 1]; got "
                f"{self.freedom}, {self.items} and {self.units_per_item}"
            )


def beyond_bounds(sesoi: float, direction: Direction, level: float) -> Decided:
    """What a verdict calls decided: an interval wholly on one side of the sesoi; for ``equivalent`` within it, or
    wholly past one end. ``level`` is the coverage of the interval."""

    def decided(error: Floats, freedom: float) -> Sequence[Ends]:
        reach = _t(level, freedom) * error
        if direction != "equivalent":
            bound = sesoi if direction == "greater" else -sesoi
            return [(-math.inf, bound - reach), (bound + reach, math.inf)]
        within = np.maximum(sesoi - reach, 0.0)
        return [(-math.inf, -sesoi - reach), (-within, within), (sesoi + reach, math.inf)]

    return decided


def assurance(seen: Seen, n: int, decided: Decided) -> float:
    """Probability that a fresh set of ``n`` items decides, averaged over the effect's sampling distribution."""
    error, freedom = _fresh(seen, n)
    # True errors [case, 1] under what the first set saw, and what the fresh set will see of them, [case, case].
    true = _spreads(seen.freedom, SPREADS)[:, None] ** -1
    own = true * _spreads(freedom, OWN_SPREADS)
    scale = np.broadcast_to(seen.error * true * math.sqrt(1 + seen.items / n), own.shape)
    return _within(decided(error * own, freedom), seen.effect, scale)


def power_at(seen: Seen, n: int, decided: Decided, *, truth: float) -> float:
    """Probability that a fresh set of ``n`` items decides, for ``truth`` as the effect and a known standard error."""
    error, freedom = _fresh(seen, n)
    return _within(decided(np.array([error]), freedom), truth, np.array([error]))


def needed_for(statistic: Statistic, decided: Decided, *, interval: tuple[float, float], level: float) -> NeededItems:
    """`needed_items` of what a statistic saw, whose standard error and degrees of freedom are above 0; all items that
    were asked are counted, of two groups both. ``interval`` is its own at ``level``, at which a fresh set is decided.

    Raises ValueError as `Seen`.
    """
    asked = statistic.asked or statistic.n
    seen = Seen(effect=statistic.effect, error=statistic.standard_error, freedom=statistic.freedom, items=asked,
                units_per_item=min(1.0, (statistic.freedom + 1) / asked))  # fmt: skip
    fewest = math.ceil(fewest_clusters(level) / seen.units_per_item)
    return needed_items(seen, decided, interval=interval, fewest=fewest)


def needed_items(
    seen: Seen, decided: Decided, *, interval: tuple[float, float], fewest: int, share: float = 0.8
) -> NeededItems:
    """The smallest number of items at which a fresh set decides with probability ``share``; `NeededItems`.

    ``interval`` is the first set's at its level, ``fewest`` the items below which there is no interval at all. Raises
    ValueError for a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of sets that decide lies between 0 and 1, as 0.8; got {share}")
    assured = _smallest(lambda n: assurance(seen, n, decided) >= share, fewest)
    ends = [_smallest(_powered(seen, decided, end, share), fewest) for end in interval if math.isfinite(end)]
    known = [n for n in ends if n is not None]
    return NeededItems(assured=assured, at_least=min(known) if known else None)


def needed_without_variance(
    intervals: Intervals, *, items_per_unit: float, sesoi: float, direction: Direction, level: float
) -> NeededItems | None:
    """The items at which bounded values that all agree would decide if they went on agreeing (`BoundedMean`); None for
    other intervals. There is no ``at_least``: the truth is taken to be what was seen."""
    inner = intervals.inner if isinstance(intervals, TwoOneSided) else intervals
    if not isinstance(inner, BoundedMean):
        return None
    mean = inner.mean
    bounds = {"greater": (sesoi,), "less": (-sesoi,), "equivalent": (-sesoi, sesoi)}[direction]
    if direction == "equivalent" and abs(mean) > sesoi:
        bounds = (math.copysign(sesoi, mean),)
    units = [
        units_without_variance(abs(mean - b), span=inner.high - mean if b > mean else mean - inner.low, level=level)
        for b in bounds
    ]
    known = [n for n in units if n is not None]
    items = math.ceil(max(known) * items_per_unit) if len(known) == len(units) else None
    return NeededItems(assured=items if items is not None and items <= LARGEST else None, at_least=None)


def units_without_variance(distance: float, *, span: float, level: float) -> int | None:
    """Units at which a mean of values that all agree would be shown to lie on its side of a bound at this distance.

    The exact bound of `bounded`: the least units with span (1 - ((1 - level) / 2)**(1 / units)) < distance, ``span``
    the way from the value to the end of the range behind the bound. None where that is more than `LARGEST`.
    """
    if not distance > 0:
        return None
    if distance >= span:
        return 1
    units = math.floor(math.log((1 - level) / 2) / math.log1p(-distance / span)) + 1
    return units if units <= LARGEST else None


def _powered(seen: Seen, decided: Decided, truth: float, share: float) -> Callable[[int], bool]:
    return lambda n: power_at(seen, n, decided, truth=truth) >= share


def _fresh(seen: Seen, n: int) -> tuple[float, float]:
    """Standard error and degrees of freedom of a fresh set."""
    return seen.error * math.sqrt(seen.items / n), max(seen.units_per_item * n - 1, 1e-9)


def _spreads(freedom: float, count: int) -> Floats:
    """Equally likely ratios of an observed standard error to the true one."""
    if freedom > MANY:
        return np.ones(1)
    from scipy.special import gammaincinv

    middles = (np.arange(count) + 0.5) / count
    return np.asarray(np.sqrt(gammaincinv(freedom / 2, middles) * 2 / freedom))


def _within(spans: Sequence[Ends], centre: float, scale: Floats) -> float:
    """Mean probability of the spans for a normal effect with each of the scales."""
    from scipy.special import ndtr

    inside = [
        ndtr((np.asarray(high) - centre) / scale) - ndtr((np.asarray(low) - centre) / scale) for low, high in spans
    ]
    return float(np.mean(np.sum(inside, axis=0)))


def _t(level: float, freedom: float) -> float:
    from scipy.special import stdtrit

    return -float(stdtrit(freedom, (1 - level) / 2))


def _smallest(enough: Callable[[int], bool], fewest: int) -> int | None:
    """The smallest n from ``fewest`` on that is enough, on a grid of steps of an eighth, then exactly."""
    low, n = fewest - 1, max(fewest, 2)
    while not enough(n):
        if n >= LARGEST:
            return None
        low, n = n, min(LARGEST, max(n + 1, math.ceil(n * 1.125)))
    while n - low > 1:
        middle = (low + n) // 2
        low, n = (low, middle) if enough(middle) else (middle, n)
    return n
