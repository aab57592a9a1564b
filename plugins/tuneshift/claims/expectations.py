"""Known outcomes that a pair declares beforehand: reading them, finding the one that counts, and stale ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ExpectationError
from ..parse import MalformedError, parse_toml
from .finding import Expectation, Outcome

EXPECTATION_KEYS = ("finding", "verdict", "reason", "group", "prompts")


class Place(NamedTuple):
    """Where a claim of a pair stands: its finding, prompt set and group."""

    finding: str
    prompts: str
    group: str


def expected_outcome(expectations: Sequence[Expectation], finding: str, prompts: str, group: str) -> Expectation | None:
    """The declared outcome of a finding on a prompt set and group; the most specific declaration counts."""
    found = [e for e in expectations if fits(e, Place(finding, prompts, group))]
    return max(found, key=lambda e: (e.group is not None, e.prompts is not None), default=None)


def fits(e: Expectation, place: Place) -> bool:
    """Whether a declaration speaks of a claim."""
    return e.finding == place.finding and e.prompts in (None, place.prompts) and e.group in (None, place.group)


def load_expectations(path: Path, known_findings: Sequence[str]) -> tuple[Expectation, ...]:
    """Declared outcomes from TOML: ``[[expect]]`` tables of ``finding``, ``verdict``, ``reason``, optional ``group``,
    ``prompts``. Raises ExpectationError for what is missing, unknown or declared twice, with the closest known name.
    """
    try:
        data = parse_toml(path.read_bytes())
    except OSError as error:
        raise ExpectationError(f"The expectations file {path} cannot be read: {error.strerror}.") from error
    except MalformedError as error:
        raise ExpectationError(f"{path}: {error}.") from error
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


def check_not_stale(expectations: Sequence[Expectation], places: Iterable[Place], *, path: Path, pair: str) -> None:
    """Raise ExpectationError for a declaration that no claim of the pair's complete run, at ``places``, can meet."""
    known = list(places)
    for number, e in enumerate(expectations, 1):
        if any(fits(e, place) for place in known):
            continue
        where = f"{path}, [[expect]] {number}: {e.finding} on pair {pair}"
        own = [place for place in known if place.finding == e.finding]
        sets = list(dict.fromkeys(place.prompts for place in own))
        if e.prompts is not None and e.prompts not in sets:
            said = f"is not tested on prompts {e.prompts!r}; {_options(e.prompts, sets)}"
        else:
            groups = list(dict.fromkeys(place.group for place in own if e.prompts in (None, place.prompts)))
            said = f"has no group {e.group!r}; {_options(e.group or '', groups)}"
        raise ExpectationError(f"{where} {said}. Correct the entry, or take it out if it is stale.")


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
