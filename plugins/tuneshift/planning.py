"""How many items would decide a claim, and the effect that a number of items can detect. Paired, by cluster.

Decisions are those of the verdict and the gate: the two-sided interval at ``level`` lies wholly beyond a bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from .intervals import fewest_clusters
from .power import check_share, interval_power, smallest_n

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
