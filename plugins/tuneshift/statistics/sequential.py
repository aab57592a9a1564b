"""Many nights: how much of the error rate each look at a baseline may spend.

A baseline that is compared with a new checkpoint every night goes red by chance sooner or later. A budget of looks
shares the error rate alpha out over them: a spending function alpha(t) rises from 0 to alpha with the share t of looks
that were taken (Lan and DeMets 1983), and look k may spend alpha(k / K) - alpha((k - 1) / K).

Deviation: the group-sequential recursion computes each look's boundary from the correlation of the looks, which is
known where every look adds data to the same sample. Nights compare different checkpoints with one baseline, and how
their results depend on each other is unknown. Each look is therefore decided at its own increment; by the union bound
the chance of any false decision is at most alpha under every dependence, at the price of some power.

``even`` spends the same each night: the choice for a gate, where a fault is as likely and as costly on any night.
``obrien-fleming`` spends almost nothing at first and most of alpha at the end: for a series that ends in a release,
whose last looks matter. ``pocock`` lies between, a little more early than late.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal, get_args

Spending = Literal["even", "obrien-fleming", "pocock"]


def spent(alpha: float, share: float, spending: Spending) -> float:
    """The error rate that may be spent by the time that this share of the looks, 0..1, was taken.

    ``obrien-fleming``: 2 - 2 Phi(z / sqrt(t)) with z the normal quantile of 1 - alpha / 2. ``pocock``:
    alpha * ln(1 + (e - 1) t). ``even``: alpha * t. All are 0 at t = 0 and alpha at t = 1 (Lan and DeMets 1983). Raises
    ValueError for alpha outside (0, 1), a share outside 0..1 and an unknown spending.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is an error rate between 0 and 1, as 0.05; got {alpha}")
    if not 0 <= share <= 1:
        raise ValueError(f"the share of looks that were taken lies within 0..1; got {share}")
    if spending not in get_args(Spending):
        raise ValueError(f"spending is one of {', '.join(get_args(Spending))}; got {spending!r}")
    if share in (0, 1) or spending == "even":
        return alpha * share
    if spending == "pocock":
        return alpha * math.log(1 + (math.e - 1) * share)
    from scipy.special import ndtr, ndtri

    return float(2 * ndtr(ndtri(alpha / 2) / math.sqrt(share)))


def look_levels(alpha: float, looks: int, spending: Spending) -> tuple[float, ...]:
    """The error rate that each of ``looks`` looks may spend, in order; they sum to alpha.

    Raises ValueError as `spent`, and for fewer than one look.
    """
    if looks < 1:
        raise ValueError(f"a budget is of at least one look; got {looks}")
    totals = [spent(alpha, k / looks, spending) for k in range(looks + 1)]
    return tuple(after - before for before, after in itertools.pairwise(totals))
