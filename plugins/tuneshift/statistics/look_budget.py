"""How a budget of looks and the number of claims share one error rate.

The rule: look k of a series may spend a_k (`sequential.look_levels`, which sum to alpha) on losses and gains that are
*shown*, and each of the K claims that can move is tested at a_k / K there. By the union bound over looks and claims, a
series without any true change has a false red in at most alpha / 2 of cases, under any dependence. *Held* is claimed at
the one-sided rate alpha at every look: it is a statement on that look's checkpoint alone, made afresh each time, and
its error is a loss missed, which waiting does not add up for one checkpoint.

No claim is tested under `SMALLEST`: below it float64 has no levels left (1 - 1e-17 is 1), and an interval would be
infinite. Looks that O'Brien and Fleming's spending gives less get that much, which the last look pays.
"""

from __future__ import annotations

from collections.abc import Sequence

SMALLEST = 1e-12


def claim_levels(spent: Sequence[float], claims: int) -> tuple[float, ...]:
    """The error rate of one claim at each look, from what each look may spend; claims times their sum is that of
    ``spent``.

    Raises ValueError for no looks, fewer than one claim, rates below 0, and a last look that cannot pay for the floor
    of the others.
    """
    if not spent or claims < 1 or min(spent) < 0:
        raise ValueError(
            f"it takes a look, a claim and rates from 0 on; got {len(spent)} looks, {claims} claims, {spent}"
        )
    floored = [max(rate / claims, SMALLEST) for rate in spent]
    excess = sum(floored) - sum(spent) / claims
    last = floored[-1] - excess
    if last < SMALLEST:
        raise ValueError(
            f"{len(spent)} looks at {claims} claims leave the last one {last:.3g}; the smallest rate of a claim is "
            f"{SMALLEST:g}. Take a larger error rate, fewer looks, or even spending"
        )
    return (*floored[:-1], last)
