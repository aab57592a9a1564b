"""What a gate says of a claim's change, in five words, and the loss that it would see. Pure.

The change d is the new effect less the baseline's in the claimed direction, m the margin, K the number of claims that
can move. A loss is shown at the two-sided rate alpha / K, so that all losses shown together are wrong in at most
alpha / 2 of runs without a change (Bonferroni); that no loss exceeds the margin is shown at the one-sided rate alpha
for each claim alone, since "all held" claims every one of them (intersection-union; Berger 1982), which needs no share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from .assurance import Decided, Direction, Ends, Floats
from .intervals import Intervals

Outcome = Literal["regressed", "held", "worse", "improved", "inconclusive"]
RED = frozenset({"regressed", "worse", "missing"})
"""What fails a gate: of the outcomes of a change these two, and a claim of the baseline that has no effect any more."""


def gate_outcome(
    intervals: Intervals,
    *,
    direction: Direction,
    margin: float,
    claims: int,
    alpha: float,
    shown_alpha: float | None = None,
) -> Outcome:
    """The outcome of one claim, from the ``intervals`` of its change (new less baseline, in the effect's unit).

    In this order: ``regressed``, a loss beyond the margin is shown; ``held``, a loss beyond it is ruled out, printed
    ``improved`` where a gain is shown besides; ``worse``, a loss is shown, its size against the margin open;
    ``improved``, a gain is shown, though a loss beyond the margin is not ruled out, which takes a wide interval;
    ``inconclusive``. Of ``less`` a fall is the gain; of ``equivalent`` a change either way is the loss, and there is
    neither ``worse`` nor ``improved``. ``shown_alpha`` is what this look may spend on losses and gains that are shown
    (`look_budget`); without it, ``alpha``. An end that is NaN shows nothing.

    Raises ValueError for a margin not above 0, fewer than one claim, and rates that leave no level.
    """
    _check(direction, margin, claims, alpha)
    shown = 1 - (alpha if shown_alpha is None else shown_alpha) / claims
    low, high = intervals.at(shown)
    held_low, held_high = intervals.at(1 - 2 * alpha)
    if direction == "less":
        low, high, held_low, held_high = -high, -low, -held_high, -held_low
    if direction == "equivalent":
        if low > margin or high < -margin:
            return "regressed"
        return "held" if -margin < held_low and held_high < margin else "inconclusive"
    if high < -margin:
        return "regressed"
    if held_low > -margin:
        return "improved" if low > 0 else "held"
    if high < 0:
        return "worse"
    return "improved" if low > 0 else "inconclusive"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How the change of a claim scatters where nothing changed: its standard ``error`` with ``freedom``, and what a
    loss adds to it.

    A loss is seldom the same in every item. Where an item can fall by ``step`` at most (1 for a share of correct
    answers), a mean loss of x over ``items`` independent ones adds up to x (step - x) / items to the variance, as if
    some fell by all of it; ``items`` is the number of items over the design effect. ``step`` 0 is a loss that all share
    alike.
    """

    error: float
    freedom: float
    step: float
    items: float

    def __post_init__(self) -> None:
        if not (0 < self.error < math.inf and self.freedom > 0 and self.step >= 0 and self.items > 0):
            raise ValueError(
                "a standard error, its degrees of freedom and a number of items are above 0, a step is 0 or more; got "
                f"{self.error}, {self.freedom}, {self.items} and {self.step}"
            )

    def at(self, loss: float) -> float:
        """Standard error at a true loss."""
        return math.sqrt(self.error**2 + max(0.0, loss * (self.step - loss)) / self.items)


def red_share(
    loss: float, *, spread: Spread, direction: Direction, margin: float, claims: int, alpha: float,
    shown_alpha: float | None = None, reach: float = 1.0,
) -> float:  # fmt: skip
    """Probability that a claim whose true loss is ``loss`` is red, for a t interval.

    ``reach`` is how much longer than t's the interval used is, 1 for t. Averaged over the standard error that the run
    will see. Raises ValueError as `gate_outcome`.
    """
    _check(direction, margin, claims, alpha)
    from scipy.special import gammaincinv, ndtr, stdtrit

    error, freedom = spread.at(loss), spread.freedom
    shown = reach * -float(stdtrit(freedom, (alpha if shown_alpha is None else shown_alpha) / claims / 2))
    held = reach * -float(stdtrit(freedom, alpha))
    middles = (np.arange(64) + 0.5) / 64
    seen = error * np.sqrt(gammaincinv(freedom / 2, middles) * 2 / freedom) if freedom < 1e6 else np.array([error])
    if direction == "equivalent":
        past = margin + shown * seen
        return float(np.mean(ndtr((loss - past) / error) + ndtr((-loss - past) / error)))
    # Red is a loss that is shown and not held: below both ends.
    threshold = np.maximum(shown * seen, np.minimum(margin - held * seen, margin + shown * seen))
    return float(np.mean(ndtr((loss - threshold) / error)))


def detectable_loss(
    *, spread: Spread, direction: Direction, margin: float, claims: int, alpha: float,
    shown_alpha: float | None = None, reach: float = 1.0, power: float = 0.8,
) -> float:  # fmt: skip
    """The true loss, in the effect's unit, that would be red with probability ``power``; arguments as `red_share`."""
    from scipy.optimize import brentq

    def excess(loss: float) -> float:
        return red_share(loss, spread=spread, direction=direction, margin=margin, claims=claims, alpha=alpha,
                         shown_alpha=shown_alpha, reach=reach) - power  # fmt: skip

    far = margin + spread.error
    while excess(far) < 0:
        far *= 2
    return float(brentq(excess, 0.0, far, xtol=1e-9 * far))


def settled_at(
    *, direction: Direction, margin: float, claims: int, alpha: float, shown_alpha: float | None = None
) -> Decided:
    """What a gate calls settled, for `assurance.needed_items`: red, or a loss beyond the margin ruled out, by t."""
    _check(direction, margin, claims, alpha)

    def decided(error: Floats, freedom: float) -> Sequence[Ends]:
        from scipy.special import stdtrit

        shown = -float(stdtrit(freedom, (alpha if shown_alpha is None else shown_alpha) / claims / 2)) * error
        held = margin + float(stdtrit(freedom, alpha)) * error  # losses below this are held
        if direction == "equivalent":
            within = np.maximum(held, 0.0)
            return [(-math.inf, -margin - shown), (-within, within), (margin + shown, math.inf)]
        red = np.maximum(shown, held)
        return [(-math.inf, held), (red, math.inf)] if direction == "less" else [(-math.inf, -red), (-held, math.inf)]

    return decided


def _check(direction: str, margin: float, claims: int, alpha: float) -> None:
    if direction not in get_args(Direction):
        raise ValueError(f"a direction is one of {', '.join(get_args(Direction))}; got {direction!r}")
    if not 0 < margin < math.inf:
        raise ValueError(f"a margin is a finite size of an effect, above 0; got {margin}")
    if claims < 1 or not 0 < alpha < 0.5:
        raise ValueError(f"it takes one claim or more and a rate alpha in (0, 0.5); got {claims} and {alpha}")
