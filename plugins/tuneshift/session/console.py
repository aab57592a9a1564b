"""What a run prints: header, plan, verdicts, and the files that it wrote."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..checkpoints.devices import device_name
from ..checkpoints.refs import ModelRef
from ..claims.claim_record import depends_on_reading
from ..claims.expectations_update import GIVE_THE_REASON, observed_update, update_file
from ..claims.finding import Finding
from ..engine.provenance import versions
from ..engine.rekey import outdated
from ..errors import TuneshiftError
from ..gate.look import run_baseline
from ..gate.text import write_comparisons
from ..plain import Json
from ..run_record import make_record, write_record
from .gating import saved
from .options import command_line
from .requests import Target
from .run import RunSession

if TYPE_CHECKING:
    from ..engine.steps import Line

MARKS = {
    "reproduced": ("✔", "green"),
    "contradicted": ("✘", "red"),
    "inconclusive": ("?", "yellow"),
    "not_applicable": ("–", "cyan"),
}


class Terminal(Protocol):
    """What is needed of pytest's terminal reporter."""

    def write_line(self, line: str, **markup: bool) -> None:
        """One line."""

    def write_sep(self, sep: str, title: str | None = None, **markup: bool) -> None:
        """A titled rule."""


def header_lines(run: RunSession) -> list[str]:
    """Pairs, settings, store and baselines, for pytest's header."""
    settings = run.options.settings
    lines = [f"tuneshift: pair {pair.name}: {_shown(pair.base)} -> {_shown(pair.tuned)}" for pair in run.pairs]
    if _device(run) is not None:
        lines.append(f"tuneshift: device {_device(run)}, dtype {settings.dtype}, response {settings.response}")
    older = sum(map(outdated, run.store.list()))
    if older:
        lines.append(
            f"tuneshift: {older} sets in the store have an older key and are not read; `tuneshift evidence rekey` "
            "keeps what is proved unchanged"
        )
    return [*lines, f"tuneshift: store {run.options.store}", f"tuneshift: baselines {run.options.gating.storage}"]


def _device(run: RunSession) -> str | None:
    """Where checkpoints are loaded; None where all evidence is recorded and torch is not needed."""
    if all(ref.evidence is not None for pair in run.pairs for ref in (pair.base, pair.tuned)):
        return None
    return device_name(run.options.settings.device)


def _shown(ref: ModelRef) -> str:
    return f"{ref.name} (recorded evidence)" if ref.evidence is not None else ref.name


def write_plan(terminal: Terminal, run: RunSession, wanted: Sequence[tuple[Finding, Target]]) -> None:
    """The tasks in running order with item counts, and the claims they serve."""
    lines = run.plan(wanted)
    terminal.write_sep("=", "tuneshift plan")
    if not wanted:
        terminal.write_line("No test of a finding was selected.")
        return
    alpha, sharing = run.options.alpha, max(1, run.confirmatory(wanted))
    terminal.write_line(
        f"{len(wanted)} claims on {len(run.pairs)} pair(s); {sharing} share an error rate of {alpha:g} by Holm's "
        f"procedure: levels from {1 - alpha / sharing:.4g} to {1 - alpha:.4g}"
    )
    for line in lines:
        terminal.write_line(_plan_line(line))
    recorded = {ref for p in run.pairs for ref in (p.base, p.tuned) if ref.evidence is not None}
    for ref in sorted(recorded, key=lambda r: r.name):
        terminal.write_line(f"  {ref.name}: recorded in {ref.evidence}, nothing to measure")
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
    if task.backend is not None:
        of += f" through {task.backend.name}"
    return (
        f"  {task.ref.name}: {task.measure.name}{of}, {task.on}, "
        f"{progress.stored}/{progress.total} stored, {task.key.digest[:12]}"
        + (f", again in {task.key.dtype}" if line.again else "")
    )


def number(value: Json, signed: bool = False) -> str:
    """Three significant digits; a dash where there is no number."""
    if value is None:
        return "–"
    return f"{value:+.3g}" if signed else f"{value:.3g}"


def effect_text(claim: Mapping[str, Json]) -> str:
    """``+0.19 [+0.08, +0.3]``."""
    if claim["effect"] is None:
        return "–"
    low, high = claim["interval"]
    return f"{number(claim['effect'], True)} [{number(low, True)}, {number(high, True)}]"


def explain(claim: Mapping[str, Json]) -> str:
    """A verdict in a few lines: what was claimed, found, and what that means."""
    where = f"pair {claim['pair']}, {claim['prompts']}" + ("" if claim["group"] == "all" else f", {claim['group']}")
    lines = [
        f"{claim['finding']} is {claim['verdict']} on {where}.",
        f"  claim:  {claim['claim']}",
        f"  found:  {effect_text(claim)} {claim['unit']} (n = {claim['n']}, {100 * claim['level']:.4g} % interval, p "
        f"= {number(claim['p'])})",
        f"  reason: {claim['reason']}",
    ]
    if claim["n_needed"]:
        lines.append(f"  about {claim['n_needed']} items would decide it")
    return "\n".join(lines)


def write_summary(terminal: Terminal, claims: Sequence[Mapping[str, Json]], written: Iterable[str]) -> None:
    """The table of verdicts, one line a claim, and where the files lie."""
    terminal.write_sep("=", "tuneshift verdicts")
    head = ("finding", "on", "n", "base", "tuned", "effect [interval]", "verdict")
    ordered = sorted(claims, key=lambda c: (c["pair"], c["finding"], c["prompts"], c["group"]))
    rows = [head, *(_row(claim) for claim in ordered)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
    for index, row in enumerate(rows):
        text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        colour = {"bold": True} if index == 0 else {MARKS[ordered[index - 1]["verdict"]][1]: True}
        terminal.write_line(text, **colour)
    if any(depends_on_reading(claim) for claim in ordered):
        terminal.write_line("† under another reading the verdict differs: see the claim's sensitivity in the report")
    write_comparisons(terminal, ordered)
    for line in written:
        terminal.write_line(line)


def _row(claim: Mapping[str, Json]) -> tuple[str, ...]:
    mark, _ = MARKS[claim["verdict"]]
    verdict = f"{mark} {claim['verdict'].replace('_', ' ')}"
    if depends_on_reading(claim):
        verdict += " †"
    if claim["expected"]:
        verdict += " (as declared)" if claim["expected"]["verdict"] == claim["verdict"] else " (declared otherwise)"
    on = claim["pair"] if claim["group"] == "all" else f"{claim['pair']}, {claim['group']}"
    arms = [_arm(arm) for arm in claim["arms"]] or ["–", "–"]
    counts = dict.fromkeys(str(arm["n"]) for arm in claim["arms"])
    n = "+".join(counts) if 0 < len(claim["arms"]) <= 2 else str(claim["n"])
    return (claim["finding"], on, n, arms[0], arms[-1], effect_text(claim), verdict)


def _arm(arm: Mapping[str, Json]) -> str:
    """An arm's mean, with its name where the column's head does not say it."""
    return number(arm["mean"]) if arm["label"] in ("base", "tuned") else f"{number(arm['mean'])} {arm['label']}"


def update_expectations(run: RunSession, claims: Sequence[Mapping[str, Json]]) -> tuple[list[str], bool]:
    """Rewrite the expectations files of the run's pairs; lines that say so, and whether one could not be written."""
    date = datetime.now(UTC).date().isoformat()
    lines, failed = [], False
    for pair in run.pairs:
        own = [claim for claim in claims if claim["pair"] == pair.name]
        if not own or pair.expectations is None:
            continue
        try:
            declared = run.declared(pair)
            update = observed_update(declared, own, run.places(pair), date)
            written = update_file(pair.expectations, pair.name, declared, update)
        except TuneshiftError as error:
            lines.append(f"tuneshift: {error}")
            failed = True
            continue
        what = f"{update.counts}; replace each {GIVE_THE_REASON!r}" if written else "nothing to change"
        lines.append(f"expectations: {pair.expectations}: {what}")
    return lines, failed


def append_step_summary(markdown: str) -> list[str]:
    """Append a run's Markdown to the file of ``$GITHUB_STEP_SUMMARY``, where CI names one; a warning line if it
    cannot."""
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return []
    try:
        with open(name, "a", encoding="utf-8") as file:
            file.write(markdown if markdown.endswith("\n") else f"{markdown}\n")
    except OSError as error:
        return [f"warning: no summary in $GITHUB_STEP_SUMMARY, {name}: {error.strerror or error}"]
    return []


def write_results(
    run: RunSession,
    claims: Sequence[Mapping[str, Json]],
    *,
    out: Path,
    started: float,
    exit_code: int,
    arguments: Iterable[object],
    templates: Path | None = None,
) -> list[str]:
    """Write run.json, summary.md and report.html; lines that say where they lie, or why they could not be written.

    ``templates`` is a folder whose templates come before the report's own.
    """
    from ..report.html import write_report
    from ..report.markdown import render_summary, write_summary

    fields = {**run_fields(run, claims, started), "command": command_line(arguments), "exit_code": exit_code}
    record = make_record(fields, run.describe(), claims)
    lines = []
    try:
        lines.append(f"record: {write_record(record, out / 'run.json')}")
        lines.append(f"summary: {write_summary(record, out / 'summary.md')}")
        lines += append_step_summary(render_summary(record))
        lines.append(f"report: {write_report(record, out / 'report.html', templates)}")
    except (TuneshiftError, OSError) as error:
        lines.append(f"tuneshift: {error}")
        return lines
    return [*lines, *saved(run.options.gating, record)]


def run_fields(run: RunSession, claims: Sequence[Mapping[str, Json]], started: float) -> dict[str, Json]:
    finished = time.time()
    settings = run.options.settings
    return {
        "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "finished": datetime.fromtimestamp(finished, UTC).isoformat(timespec="seconds"),
        "duration_s": round(finished - started, 2),
        "versions": versions(),
        "host": {"platform": platform.platform(), "cpus": os.cpu_count(), "device": _device(run)},
        "alpha": run.options.alpha,
        "confirmatory_claims": sum(claim["verdict"] != "not_applicable" for claim in claims),
        "response": settings.response,
        **run.describe_settings(),
        "store": str(run.options.store),
        "baseline": run_baseline(claims),
    }
