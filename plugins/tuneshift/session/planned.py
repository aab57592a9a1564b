"""What ``--shift-plan`` prints: the tasks of a run, and how much of them is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..claims.finding import Finding
from ..errors import counted
from .foresight import shortage_lines
from .requests import Target
from .run import RunSession

if TYPE_CHECKING:
    from ..engine.steps import Line
    from .console import Terminal


def write_plan(terminal: Terminal, run: RunSession, wanted: Sequence[tuple[Finding, Target]]) -> None:
    """The tasks in running order with item counts, and the claims they serve."""
    lines = run.plan(wanted)
    terminal.write_sep("=", "tuneshift plan")
    if not wanted:
        terminal.write_line("No test of a finding was selected.")
        return
    terminal.write_line(f"{counted(len(wanted), 'claim')} on {counted(len(run.pairs), 'pair')}")
    terminal.write_line(run.exposure(wanted).sentence(run.options.alpha, "to decide"))
    for line in lines:
        terminal.write_line(_plan_line(line))
    recorded = {ref for p in run.pairs for ref in (p.base, p.tuned) if ref.evidence is not None}
    for ref in sorted(recorded, key=lambda r: r.name):
        terminal.write_line(f"  {ref.name}: recorded in {ref.evidence}, nothing to measure")
    for said in shortage_lines(run, wanted, declared=True):
        terminal.write_line(f"  {said}", yellow=True)
    left = sum(line.progress.total - line.progress.stored for line in lines)
    terminal.write_line(
        f"{left} of {sum(line.progress.total for line in lines)} items to measure; store {run.options.store}"
    )


def _plan_line(line: Line) -> str:
    task, progress = line.task, line.progress
    of = f" to {task.params['response']} response" if "response" in task.params else ""
    if "rules" in task.params:
        on = " + ".join(name for name, rule in task.params["rules"].items() if rule)
        of = f" under rules {on}" + (", user's text alone present" if task.params["present"] == "text" else "")
    if task.params.get("attributed_response_tokens", "all") != "all":
        of += f", {task.params['attributed_response_tokens']} tokens of it"
    if task.asked_in is not None:
        of += f", asked in the {task.asked_in} format"
    if task.backend is not None:
        of += f" through {task.backend.name}"
    return (
        f"  {task.ref.name}: {task.measure.name}{of}, {task.on}, "
        f"{progress.stored}/{progress.total} stored, {task.key.digest[:12]}"
        + (f", again in {task.key.dtype}" if line.again else "")
    )
