"""From a finding and a statistic to a verdict, by one rule. Pure."""

from __future__ import annotations

import math

from ..errors import counted
from ..statistics.assurance import NeededItems, beyond_bounds, needed_for, needed_without_variance
from ..statistics.intervals import Intervals, fewest_clusters, smallest_error
from ..statistics.statistic import Statistic
from .finding import Direction, Finding, Outcome, Verdict


def judge(finding: Finding, statistic: Statistic) -> Verdict:
    """The verdict on a finding. Reproduced: the interval lies beyond the sesoi in the claimed direction (for
    ``equivalent``: wholly within it; for ``noninferior``: above the sesoi as a loss). Contradicted: it lies wholly on
    the other side of that bound. Else inconclusive,
    with the number of items of a fresh set that would decide (`assurance`); not where the items are a model's layers,
    heads or verbs, of which nobody can take more.

    Raises ValueError for a sesoi that is negative or not finite.
    """
    if not 0 <= finding.sesoi < math.inf:
        raise ValueError(f"{finding.id}: the sesoi is {finding.sesoi}; it is a finite size of an effect, 0 or above")
    low, high = statistic.interval
    if not (math.isfinite(low) and math.isfinite(high)):
        return Verdict(outcome=Outcome.INCONCLUSIVE, reason=_no_interval(finding, statistic))
    outcome = _outcome(finding, low, high)
    if outcome is not Outcome.INCONCLUSIVE:
        return Verdict(outcome=outcome, reason=_decided(finding, outcome, low, high))
    more = finding.items == "prompts"
    needed = would_decide(statistic, sesoi=_told(finding), direction=finding.direction) if more else None
    return Verdict(outcome=outcome, reason=_undecided(finding, low, high), needed=needed)


def _told(finding: Finding) -> float:
    """The sesoi as planning reads it: of ``noninferior`` below zero, of ``less`` the size of the fall."""
    return finding.bound if finding.noninferior else finding.sesoi


def would_decide(statistic: Statistic, *, sesoi: float, direction: Direction) -> NeededItems | None:
    """The items of a fresh set that would decide an inconclusive claim, all counted: of two groups both. None where
    the values say nothing of it: no standard error, and no bounded values that agree."""
    if statistic.n == 0 or not math.isfinite(statistic.interval[0]):
        return None
    if not statistic.standard_error > 0:
        return needed_without_variance(statistic.intervals, items_per_unit=statistic.n / statistic.clusters,
                                       sesoi=sesoi, direction=direction, level=statistic.level)  # fmt: skip
    if not statistic.freedom > 0:
        return None
    decided = beyond_bounds(sesoi, direction, statistic.level)
    return needed_for(statistic, decided, interval=statistic.interval, level=statistic.level)


def deciding_error(finding: Finding, intervals: Intervals) -> float | None:
    """The smallest error rate at which these intervals decide the finding: the p of a verdict, as `smallest_error`."""
    return smallest_error(intervals, lambda low, high: _outcome(finding, low, high) is not Outcome.INCONCLUSIVE)


def _outcome(finding: Finding, low: float, high: float) -> Outcome:
    sesoi, bound = finding.sesoi, finding.bound
    reproduced, contradicted = {
        "greater": (low > bound, high < bound),
        "less": (high < bound, low > bound),
        "equivalent": (-sesoi < low and high < sesoi, low > sesoi or high < -sesoi),
    }[finding.direction]
    if reproduced:
        return Outcome.REPRODUCED
    return Outcome.CONTRADICTED if contradicted else Outcome.INCONCLUSIVE


def _bound(finding: Finding) -> str:
    return ("±{:.3g}" if finding.direction == "equivalent" else "{:+.3g}").format(finding.bound)


def _interval(low: float, high: float) -> str:
    return f"the interval [{low:+.3g}, {high:+.3g}]"


def _decided(finding: Finding, outcome: Outcome, low: float, high: float) -> str:
    interval, bound = _interval(low, high), f"the smallest effect of interest, {_bound(finding)}"
    if finding.direction == "equivalent":
        where = "lies wholly within" if outcome is Outcome.REPRODUCED else "lies wholly outside"
    elif outcome is Outcome.REPRODUCED:
        where = "lies wholly above" if finding.noninferior else "lies wholly beyond"
    elif finding.noninferior:
        where = "lies wholly below"
    else:
        where = "does not reach"
    return f"{interval} {where} {bound}".capitalize() + "."


def _undecided(finding: Finding, low: float, high: float) -> str:
    return f"{_interval(low, high)} holds the smallest effect of interest, {_bound(finding)}".capitalize() + "."


def _no_interval(finding: Finding, statistic: Statistic) -> str:
    if statistic.n == 0:
        return f"No {finding.items.removesuffix('s')} is left to compare."
    return "No interval can be given: " + why_no_interval(statistic, finding.items)


def why_no_interval(statistic: Statistic, items: str) -> str:
    """Why a statistic has no interval at its level, in a sentence's end."""
    units, needed = statistic.clusters, fewest_clusters(statistic.level)
    if units < needed:
        found = f"{counted(units, 'independent cluster')} {'is' if units == 1 else 'are'}"
        return f"{found} too few; at this level it takes {needed}."
    if reason := statistic.details.get("no_interval"):
        return f"{reason}."
    if not statistic.standard_error > 0:
        return (
            f"the values of {statistic.n} {items} in {units} clusters do not vary, and have no range that would say "
            "how much others could."
        )
    return (
        f"the values of {statistic.n} {items} in {units} clusters are too skewed for this level, or one cluster holds "
        "most of them, and they have no range that would bound their mean."
    )
