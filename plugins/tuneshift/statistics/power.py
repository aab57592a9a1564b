"""Sample sizes: how many items would decide, and what a number of items can see."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from .intervals import fewest_clusters

Decision = Literal["beyond", "noninferior", "equivalent"]
"""``beyond``: the effect exceeds the bound. ``noninferior``: it is above minus the bound. ``equivalent``: within +-."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """How precise a mean over items is: its standard error is ``unit_error / sqrt(n)``, for n items.

    ``unit_error``, in the effect's unit, is the standard deviation of the per-item differences times the square root of
    the design effect. ``cluster_size`` items are asked together; degrees of freedom are clusters less one.
    """

    unit_error: float
    cluster_size: float

    def __post_init__(self) -> None:
        if not 0 < self.unit_error < math.inf:
            raise ValueError(f"the spread of the per-item differences is finite and above 0; got {self.unit_error}")
        if not 1 <= self.cluster_size < math.inf:
            raise ValueError(f"a cluster holds at least one item; got {self.cluster_size}")

    def error(self, n: float) -> float:
        """Standard error of the mean over n items."""
        return self.unit_error / math.sqrt(n)

    def freedom(self, n: float) -> float:
        """Degrees of freedom of the cluster-robust t at n items."""
        return n / self.cluster_size - 1

    def fewest(self, level: float) -> int:
        """Items below which no interval is given at this level."""
        return math.ceil(fewest_clusters(level) * self.cluster_size - 1e-9)


def clustered_design(*, sd: float, cluster_size: int, icc: float) -> Design:
    """The design of equal clusters whose items correlate by ``icc`` in 0..1: design effect 1 + (size - 1) icc (Kish
    1965). ``sd`` is that of the per-item differences. Raises ValueError for what is out of range."""
    if not 0 <= icc <= 1:
        raise ValueError(f"the intracluster correlation lies within 0..1; got {icc}")
    if not 0 < sd < math.inf:
        raise ValueError(f"the standard deviation of the per-item differences is finite and above 0; got {sd}")
    return Design(unit_error=sd * math.sqrt(1 + (cluster_size - 1) * icc), cluster_size=cluster_size)


def observed_design(*, standard_error: float, n: int, clusters: int) -> Design:
    """The design that a run showed: its standard error and items per cluster. Raises ValueError for what is out of
    range, as clusters above n."""
    if not 1 <= clusters <= n:
        raise ValueError(f"n items lie in 1 to n clusters; got n = {n}, clusters = {clusters}")
    return Design(unit_error=standard_error * math.sqrt(n), cluster_size=n / clusters)


def planned_power(n: float, *, effect: float, bound: float, decision: Decision, level: float, design: Design) -> float:
    """Probability that n items decide the claim if ``effect`` is the true one; 0 where it lies on the wrong side.

    ``bound`` is the sesoi or margin, 0 or more in the effect's unit; effects are counted in the claimed direction.
    0 below ``fewest_clusters``. Raises ValueError for what is out of range.
    """
    check_share(level, "level")
    distances = _distances(effect, bound, decision)
    if n < design.fewest(level) or min(distances) <= 0:
        return 0.0
    return interval_power(distances, error=design.error(n), freedom=design.freedom(n), level=level)


def items_needed(
    *, effect: float, bound: float, decision: Decision, power: float, level: float, design: Design
) -> int | None:
    """The smallest number of items, in whole clusters, that decides the claim with this power; None past ``LARGEST_N``.

    None too where the effect lies at the bound or on its wrong side: then no number decides. Raises ValueError for what
    is out of range.
    """
    check_share(level, "level")
    check_share(power, "power")
    if min(_distances(effect, bound, decision)) <= 0:
        return None

    def power_at(n: int) -> float:
        return planned_power(n, effect=effect, bound=bound, decision=decision, level=level, design=design)

    found = smallest_n(power_at, power=power, fewest=design.fewest(level))
    return None if found is None else _whole_clusters(found, design)


def minimal_distance(n: int, *, bounds: int, power: float, level: float, design: Design) -> float | None:
    """How far from its bound(s) a true effect must lie for n items to decide with this power, in the effect's unit.

    ``bounds`` is 1, or 2 for equivalence, with the effect in their middle. The minimal detectable effect beyond a sesoi
    is the sesoi plus this; the loss that can still be shown to be within a margin is the margin less this. None where
    n has too few clusters for an interval. Raises ValueError for what is out of range.
    """
    check_share(level, "level")
    check_share(power, "power")
    if bounds not in (1, 2):
        raise ValueError(f"a decision has one bound, or two; got {bounds}")
    if n < design.fewest(level):
        return None
    from scipy.optimize import brentq
    from scipy.special import stdtrit

    error, freedom = design.error(n), design.freedom(n)

    def excess(distance: float) -> float:
        return interval_power([distance] * bounds, error=error, freedom=freedom, level=level) - power

    # Reach and what the wished power adds: with few degrees of freedom both are long, so search twice as far.
    far = 2 * error * float(stdtrit(freedom, (1 + level) / 2) + stdtrit(freedom, (1 + power) / 2) + 1)
    return float(brentq(excess, 0.0, far, xtol=1e-10 * error, rtol=1e-12)) if excess(0.0) < 0 else 0.0


def minimal_detectable_effect(n: int, *, sesoi: float, power: float, level: float, design: Design) -> float | None:
    """The smallest true effect that n items show to be beyond the sesoi with this power; as ``minimal_distance``."""
    distance = minimal_distance(n, bounds=1, power=power, level=level, design=design)
    return None if distance is None else sesoi + distance


def _distances(effect: float, bound: float, decision: Decision) -> tuple[float, ...]:
    """From the effect to each bound, above 0 on the side that decides."""
    if not 0 <= bound < math.inf:
        raise ValueError(f"a sesoi or margin is a finite size of an effect, 0 or above; got {bound}")
    if not math.isfinite(effect):
        raise ValueError(f"the assumed effect is finite; got {effect}")
    known: dict[Decision, tuple[float, ...]] = {
        "beyond": (effect - bound,),
        "noninferior": (effect + bound,),
        "equivalent": (bound - effect, bound + effect),
    }
    if decision not in known:
        raise ValueError(f"a decision is one of {', '.join(known)}; got {decision!r}")
    return known[decision]


def _whole_clusters(n: int, design: Design) -> int:
    return math.ceil(math.ceil(n / design.cluster_size - 1e-9) * design.cluster_size - 1e-9)


LARGEST_N = 1_000_000
"""A number of items past this decides nothing in practice: the effect lies at the bound."""
CERTAIN = 40.0
"""Standard errors past the interval's reach that are certainty; further out the noncentral t loses its precision."""


def interval_power(distances: Sequence[float], *, error: float, freedom: float, level: float) -> float:
    """Probability that a two-sided t interval clears every bound, for a true effect at these distances from them.

    ``distances`` are at least 0 and in the effect's unit, ``error`` is the standard error that the interval will have,
    ``level`` its coverage. One bound: the noncentral t's power of a one-sided test at (1 - level) / 2, exact for normal
    values. Two: the lower bound 1 - sum of what each misses, never below 0; close to exact where the power is worth
    having, as both bounds are missed together by a wide interval only. Raises ValueError for an error or degrees of
    freedom not above 0, a level outside (0, 1) and a negative distance.
    """
    if not 0 < error < math.inf:
        raise ValueError(f"a standard error is finite and above 0; got {error}")
    if not freedom > 0:
        raise ValueError(f"degrees of freedom are above 0; got {freedom}")
    check_share(level, "level")
    if not all(d >= 0 for d in distances):
        raise ValueError(f"distances from the bounds are 0 or more; got {list(distances)}")
    from scipy.special import nctdtr, stdtrit

    reach = float(stdtrit(freedom, (1 + level) / 2))
    missed = sum(float(nctdtr(freedom, min(d / error, reach + CERTAIN), reach)) for d in distances)
    return max(0.0, 1 - missed)


def smallest_n(power_at: Callable[[int], float], *, power: float, fewest: int) -> int | None:
    """The smallest n, at least ``fewest``, with ``power_at(n) >= power``; None where none up to ``LARGEST_N`` has it.

    ``power_at`` must not fall with n. Raises ValueError for a power outside (0, 1).
    """
    check_share(power, "power")
    if power_at(fewest) >= power:
        return fewest
    low, high = fewest, 2 * fewest
    while power_at(high) < power:
        low, high = high, 2 * high
        if low > LARGEST_N:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_at(middle) >= power else (middle, high)
    return high if high <= LARGEST_N else None


def check_share(value: float, name: str) -> None:
    """Raise ValueError for what lies outside (0, 1)."""
    if not 0 < value < 1:
        raise ValueError(f"the {name} lies between 0 and 1, as 0.9; got {value}")
