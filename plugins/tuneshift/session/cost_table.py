"""What measuring cost, as the terminal tells it, and which test's time it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..claims.finding import Finding
from ..engine.costs import LOADING
from ..plain import Json
from .console import Terminal
from .requests import Target
from .run import RunSession


def charged_seconds(run: RunSession, finding: Finding, target: Target) -> float:
    """Seconds of measuring that a test is the first to need, in a run whose evidence was measured before its tests.

    pytest charges what tests share to the first that asks for it.
    """
    if not run.engine.costs:
        return 0.0
    return run.engine.charge([*run.tasks(finding, target), *run.second_tasks(finding, target)])


def write_costs(terminal: Terminal, costs: Sequence[Mapping[str, Json]]) -> None:
    """What was measured, the longest first, and all of it together; nothing where the store had everything."""
    if not costs:
        return
    terminal.write_sep("=", "tuneshift measuring")
    for line in cost_lines(costs):
        terminal.write_line(line)
    terminal.write_line(f"{sum(float(row['seconds']) for row in costs):8.1f} s in all")


def cost_lines(costs: Sequence[Mapping[str, Json]]) -> list[str]:
    """The rows of a run record's ``costs`` for a terminal, the longest first."""
    ordered = sorted(costs, key=lambda row: -float(row["seconds"]))
    return [" ".join(part for part in _cells(row) if part) for row in ordered]


def _cells(row: Mapping[str, Json]) -> Iterable[str]:
    items, tokens, paths = row["items"], row["tokens"], row["paths"]
    yield f"{row['seconds']:8.1f} s  {row['measure']} of {row['checkpoint']}"
    yield f"on {row['on']}:" if row["measure"] != LOADING else ""
    yield f"{items} items" if items else ""
    yield f"({tokens:,} tokens)" if tokens else ""
    yield f"by {', '.join(f'{path} {count}' for path, count in paths.items())}," if paths else ""
    yield f"peak {row['peak_bytes'] / 1e6:,.0f} MB" if row["peak_bytes"] is not None else ""
