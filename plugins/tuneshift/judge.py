"""From a finding and a statistic to a verdict, by one rule; and the outcomes that a pair declares beforehand. Pure."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from .errors import ExpectationError
from .intervals import Intervals, fewest_clusters
from .records import Expectation, Finding, Outcome, Statistic, Verdict
from .statistics import n_needed

SMALLEST_ERROR, LARGEST_ERROR = 1e-12, 0.49
EXPECTATION_KEYS = ("finding", "verdict", "reason", "group", "prompts")


def judge(finding: Finding, statistic: Statistic) -> Verdict:
    """The verdict on a finding. Reproduced: the interval lies beyond the sesoi in the claimed direction (for
    ``equivalent``: wholly within it). Contradicted: it lies wholly on the other side of the sesoi. Else inconclusive,
    with the number of items that would decide it if the observed effect were the true one; not where the items are a
    model's layers, heads or verbs, of which nobody can take more.

    Raises ValueError for a sesoi that is negative or not finite.
    """
    if not 0 <= finding.sesoi < math.inf:
        raise ValueError(f"{finding.id}: the sesoi is {finding.sesoi}; it is a finite size of an effect, 0 or above")
    low, high = statistic.interval
    if not (math.isfinite(low) and math.isfinite(high)):
        return Verdict(outcome=Outcome.INCONCLUSIVE, reason=_too_few(finding, statistic))
    outcome = _outcome(finding, low, high)
    if outcome is not Outcome.INCONCLUSIVE:
        return Verdict(outcome=outcome, reason=_decided(finding, outcome, low, high))
    more = finding.items == "prompts"
    needed = n_needed(statistic, sesoi=finding.sesoi, direction=finding.direction) if more else None
    return Verdict(outcome=outcome, reason=_undecided(finding, low, high), n_needed=needed)


def deciding_error(finding: Finding, intervals: Intervals) -> float | None:
    """The smallest error rate at which these intervals decide the finding: the p of a verdict, as `smallest_error`."""
    return smallest_error(intervals, lambda low, high: _outcome(finding, low, high) is not Outcome.INCONCLUSIVE)


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


def _outcome(finding: Finding, low: float, high: float) -> Outcome:
    sesoi = finding.sesoi
    reproduced, contradicted = {
        "greater": (low > sesoi, high < sesoi),
        "less": (high < -sesoi, low > -sesoi),
        "equivalent": (-sesoi < low and high < sesoi, low > sesoi or high < -sesoi),
    }[finding.direction]
    if reproduced:
        return Outcome.REPRODUCED
    return Outcome.CONTRADICTED if contradicted else Outcome.INCONCLUSIVE


def _bound(finding: Finding) -> str:
    return {"greater": "{:+.3g}", "less": "{:+.3g}", "equivalent": "±{:.3g}"}[finding.direction].format(
        -finding.sesoi if finding.direction == "less" else finding.sesoi
    )


def _interval(low: float, high: float) -> str:
    return f"the interval [{low:+.3g}, {high:+.3g}]"


def _decided(finding: Finding, outcome: Outcome, low: float, high: float) -> str:
    interval, bound = _interval(low, high), f"the smallest effect of interest, {_bound(finding)}"
    if finding.direction == "equivalent":
        where = "lies wholly within" if outcome is Outcome.REPRODUCED else "lies wholly outside"
    elif outcome is Outcome.REPRODUCED:
        where = "lies wholly beyond"
    else:
        where = "does not reach"
    return f"{interval} {where} {bound}".capitalize() + "."


def _undecided(finding: Finding, low: float, high: float) -> str:
    return f"{_interval(low, high)} holds the smallest effect of interest, {_bound(finding)}".capitalize() + "."


def _too_few(finding: Finding, statistic: Statistic) -> str:
    if statistic.n == 0:
        return f"No {finding.items.removesuffix('s')} is left to compare."
    units, needed = statistic.clusters, fewest_clusters(statistic.level)
    if units < needed:
        return f"No interval can be given: {units} independent clusters are too few; at this level it takes {needed}."
    return (
        f"No interval can be given: the values of {statistic.n} {finding.items} in {units} clusters do not vary, "
        "or one cluster holds most of them."
    )


def expected_outcome(expectations: Sequence[Expectation], finding: str, prompts: str, group: str) -> Expectation | None:
    """The declared outcome of a finding on a prompt set and group; the most specific declaration counts."""

    def fits(e: Expectation) -> bool:
        return e.finding == finding and e.prompts in (None, prompts) and e.group in (None, group)

    found = [e for e in expectations if fits(e)]
    return max(found, key=lambda e: (e.group is not None, e.prompts is not None), default=None)


def load_expectations(path: Path, known_findings: Sequence[str]) -> tuple[Expectation, ...]:
    """Declared outcomes from TOML: ``[[expect]]`` tables of ``finding``, ``verdict``, ``reason``, optional ``group``,
    ``prompts``. Raises ExpectationError for what is missing, unknown or declared twice, with the closest known name.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExpectationError(f"The expectations file {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ExpectationError(f"{path} is not TOML: {error}.") from error
    for key in data:
        if key != "expect":
            raise ExpectationError(f"{path}: unknown table {key!r}; outcomes are declared as [[expect]] tables.")
    tables = data.get("expect", [])
    if not isinstance(tables, list):
        raise ExpectationError(f"{path}: write [[expect]] with two brackets, one table for each outcome.")
    found = tuple(_expectation(table, f"{path}, [[expect]] {i}", known_findings) for i, table in enumerate(tables, 1))
    seen: set[tuple[str, str | None, str | None]] = set()
    for e in found:
        if (e.finding, e.prompts, e.group) in seen:
            raise ExpectationError(f"{path}: {e.finding} is declared twice for the same prompts and group.")
        seen.add((e.finding, e.prompts, e.group))
    return found


def _expectation(table: Any, where: str, known_findings: Sequence[str]) -> Expectation:
    if not isinstance(table, dict):
        raise ExpectationError(f"{where} is not a table.")
    for key, value in table.items():
        if key not in EXPECTATION_KEYS:
            raise ExpectationError(f"{where}: unknown key {key!r}; {_options(key, EXPECTATION_KEYS)}.")
        if not isinstance(value, str) or not value.strip():
            raise ExpectationError(f"{where}: {key} is {value!r}; it is a text that is not empty.")
    for key in ("finding", "verdict", "reason"):
        if key not in table:
            raise ExpectationError(
                f"{where}: {key} is missing; every declared outcome has a finding, a verdict and a reason."
            )
    if table["finding"] not in known_findings:
        raise ExpectationError(
            f"{where}: no finding is called {table['finding']!r}; {_options(table['finding'], known_findings)}."
        )
    outcomes = [o.value for o in Outcome]
    if table["verdict"] not in outcomes:
        raise ExpectationError(f"{where}: {table['verdict']!r} is no verdict; {_options(table['verdict'], outcomes)}.")
    return Expectation(**{**table, "verdict": Outcome(table["verdict"])})


def _options(got: str, known: Sequence[str]) -> str:
    close = get_close_matches(got, known, n=1)
    return (f"did you mean {close[0]!r}? " if close else "") + f"known: {', '.join(known)}"
