"""Power: the chance that an interval clears the bounds it is held against, and the smallest n at which it does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

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
