"""The end of a run: the gate over all its claims, the files, and the exit code that both leave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..plain import Json
from .console import update_expectations, write_results
from .gating import Gate, pairs_left_out
from .run import RunSession

PASSED, FAILED, MISUSED = 0, 1, 4
"""pytest's exit codes."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What is left of a run: its claims as they were written, the gate's summary, lines to print, the exit code."""

    claims: list[dict[str, Json]]
    gate: dict[str, Json] | None
    lines: list[str]
    exit_code: int


def finish(
    run: RunSession,
    claims: list[dict[str, Json]],
    errors: Sequence[Mapping[str, Json]],
    *,
    gate: Gate | None,
    selection: Sequence[Sequence[str]] | None,
    costs: Sequence[Mapping[str, Json]],
    out: Path,
    started: float,
    duration: float,
    exit_code: int,
    arguments: Iterable[object],
    templates: Path | None,
) -> Finished:
    """Compare the finished run with its baseline, write its files, and only then spend the look that it took.

    A run fails that was green until here where a claim of the baseline is missing or a file could not be written; it is
    misused where its comparison sees less than ``--shift-min-power`` asks. ``selection``: as `gating.selected`.
    ``costs``: of what was measured, by workers too.
    """
    found = None if gate is None else gate.finished(claims, errors, selection)
    claims = claims if found is None else found.claims
    short = None if gate is None or found is None else gate.short_of_power(found)
    lines, failed = update_expectations(run, claims) if run.options.update_expectations else ([], False)
    failed |= found is not None and bool(found.summary["red"])
    if exit_code == PASSED:
        exit_code = FAILED if failed else PASSED if short is None else MISUSED
    summary = None if found is None else found.summary
    written, unwritten = write_results(
        run, claims, errors, out=out, started=started, duration=duration, exit_code=exit_code, arguments=arguments,
        templates=templates,
        more={"selection": selection, "pairs_left_out": list(pairs_left_out(run)), "gate": summary,
              "costs": list(costs)},
    )  # fmt: skip
    if gate is not None and exit_code in (PASSED, FAILED, MISUSED) and not unwritten:
        unspent = gate.spent(claims)
        written, unwritten = [*written, *unspent], bool(unspent)
    if unwritten and exit_code == PASSED:
        exit_code = FAILED
    if short is not None:
        written = [*written, f"tuneshift: {short}"]
    return Finished(claims=claims, gate=summary, lines=[*written, *lines], exit_code=exit_code)
