"""What a run prints: header, plan, verdicts, and the files that it wrote."""

from __future__ import annotations

import contextlib
import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from ..checkpoints.devices import device_name
from ..checkpoints.quiet import first_line
from ..checkpoints.refs import ModelRef
from ..claims.claim_record import depends_on_reading, not_measured, other_paths
from ..claims.decisions import exposure_of, with_run_wide
from ..claims.expectations_update import GIVE_THE_REASON, observed_update, update_file
from ..claims.table import Layout, table_lines, terminal_width
from ..engine.provenance import versions
from ..engine.rekey import outdated
from ..errors import RecordError, TuneshiftError, UsageError, counted
from ..files import publish_all, remove_leftovers, require_writable
from ..gate.look import run_baseline
from ..gate.text import ci_annotations, write_comparisons
from ..plain import NOTHING, Json
from ..run_record import RunRecord, make_record, record_text, write_record
from .describe import attribution_lines, describe_pairs, describe_settings
from .gating import saved
from .options import command_line
from .run import RunSession

MARKS = {
    "reproduced": ("✔", "green"),
    "contradicted": ("✘", "red"),
    "inconclusive": ("?", "yellow"),
    "not_applicable": ("–", "cyan"),
}
TABLE = Layout(
    head=("finding", "on", "n", "means", "effect [interval]", "verdict"), first=(0, 5), spare=3, named=(1, 2)
)
REASONS = 3
"""Different reasons why claims do not apply that one line names; the report has all."""


class Terminal(Protocol):
    """What is needed of pytest's terminal reporter."""

    def write_line(self, line: str, **markup: bool) -> None:
        """One line."""

    def write_sep(self, sep: str, title: str | None = None, **markup: bool) -> None:
        """A titled rule."""


def header_lines(run: RunSession) -> list[str]:
    """Pairs, settings, store and baselines, for pytest's header."""
    settings = run.settings
    shown = [(pair.name, _shown(run, pair.base), _shown(run, pair.tuned)) for pair in run.pairs]
    lines = [f"tuneshift: pair {name}: {base} -> {tuned}" for name, base, tuned in shown]
    lines += [f"tuneshift: note: {note}" for pair in run.pairs for note in run.notes(pair)]
    if _device(run) is not None:
        lines.append(f"tuneshift: device {_device(run)}, dtype {settings.dtype}, response {settings.response}")
    lines += attribution_lines(run)
    older = sum(map(outdated, run.store.list()))
    if older:
        lines.append(
            f"tuneshift: {older} sets in the store have an older key and are not read; `tuneshift evidence rekey` "
            "keeps what is proved unchanged"
        )
    spent = run.exposure(run.catalogue_claims)
    return [
        *lines,
        f"tuneshift: store {run.options.store}",
        f"tuneshift: baselines {run.options.gating.storage}",
        f"tuneshift: error rate {run.options.alpha:g} for each family of findings on each pair, prompt set and group: "
        f"{spent.families} of these in a complete run, no more than {spent.false:.3g} false decisions expected",
    ]


def _device(run: RunSession) -> str | None:
    """Where checkpoints are loaded; None where all evidence is recorded and torch is not needed."""
    if all(ref.evidence is not None for pair in run.pairs for ref in (pair.base, pair.tuned)):
        return None
    return device_name(run.settings.device)


def _shown(run: RunSession, ref: ModelRef) -> str:
    how = None if ref.evidence is not None else run.inspected(ref).quantization
    said = "recorded evidence" if ref.evidence is not None else how and how.name
    return f"{ref.name} ({said})" if said else ref.name


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
    if claim["needed"]:
        lines.append(f"  a fresh set of {claim['needed']} would decide it in four of five cases")
    return "\n".join(lines)


def write_summary(
    terminal: Terminal,
    claims: Sequence[Mapping[str, Json]],
    written: Iterable[str],
    alpha: float,
    *,
    inconclusive: str,
    errors: int = 0,
    gate: Mapping[str, Json] | None = None,
) -> None:
    """The table of verdicts, what the error rate does not cover, how many claims could not be made, and where the files
    lie."""
    terminal.write_sep("=", "tuneshift verdicts")
    ordered = sorted(claims, key=lambda c: (c["pair"], c["finding"], c["prompts"], c["group"]))
    _write_table(terminal, ordered)
    if any(depends_on_reading(claim) for claim in ordered):
        terminal.write_line("† under another reading the verdict differs: see the claim's sensitivity in the report")
    for line in not_measured(ordered):
        terminal.write_line(line)
    if line := _undecided(ordered, inconclusive):
        terminal.write_line(line, yellow=True)
    if ordered:
        terminal.write_line(exposure_of(ordered, alpha).sentence(alpha))
    for claim in ordered:
        if note := other_paths(claim):
            terminal.write_line(f"{claim['finding']}, {claim['pair']}: {note}", yellow=True)
    write_comparisons(terminal, ordered, gate)
    if gate is not None and os.environ.get("GITHUB_ACTIONS") == "true":
        for line in ci_annotations(gate):
            terminal.write_line(line)
    if errors:
        from ..report.conclusion import unmade

        terminal.write_line(f"{unmade(errors)} Why is under `errors` in run.json and in the report.", red=True)
    for line in written:
        terminal.write_line(line)


def _write_table(terminal: Terminal, claims: Sequence[Mapping[str, Json]]) -> None:
    """The claims that were tested, as wide as the terminal, and one line on all that do not apply."""
    silent = [c for c in claims if c["verdict"] == "not_applicable" and not c["expected"]]
    listed = [claim for claim in claims if claim not in silent]
    if listed:
        head, rows = table_lines(TABLE, [_row(claim) for claim in listed], terminal_width())
        for line in head:
            terminal.write_line(line, bold=True)
        for claim, lines in zip(listed, rows, strict=True):
            for line in lines:
                terminal.write_line(line, **{_colour(claim): True})
    if silent:
        terminal.write_line(_not_applicable(silent), cyan=True)


def _colour(claim: Mapping[str, Json]) -> str:
    """A verdict's colour; an outcome that was declared fails no run, so it is not red."""
    colour = MARKS[claim["verdict"]][1]
    known = claim["expected"] and claim["expected"]["verdict"] == claim["verdict"]
    return "yellow" if known and colour == "red" else colour


def _not_applicable(claims: Sequence[Mapping[str, Json]]) -> str:
    """How many claims do not apply, and why, in one line."""
    reasons = Counter(str(claim["reason"]) for claim in claims).most_common()
    said = [f"{reason} ({count})" for reason, count in reasons[:REASONS]]
    if len(reasons) > REASONS:
        said.append(f"{len(reasons) - REASONS} more in the report")
    subject = f"{counted(len(claims), 'claim')} {'does' if len(claims) == 1 else 'do'}"
    return f"– {subject} not apply: {'; '.join(said)}"


def _undecided(claims: Sequence[Mapping[str, Json]], inconclusive: str) -> str:
    """How many claims nobody declared are inconclusive, and what that did to their tests; empty for none."""
    count = sum(c["verdict"] == "inconclusive" and not c["expected"] for c in claims)
    if not count:
        return ""
    subject = f"{count} claim{' is' if count == 1 else 's are'}"
    fate = {
        "skip": "skipped, not passed (--shift-inconclusive=fail for strict runs)",
        "fail": "failed (--shift-inconclusive=fail)",
        "pass": "passed as if decided (--shift-inconclusive=pass)",
    }[inconclusive]
    return f"? {subject} inconclusive, neither shown nor refuted: {fate}"


def _row(claim: Mapping[str, Json]) -> tuple[str, ...]:
    mark, _ = MARKS[claim["verdict"]]
    verdict = f"{mark} {claim['verdict'].replace('_', ' ')}"
    if depends_on_reading(claim):
        verdict += " †"
    if claim["expected"]:
        verdict += " (as declared)" if claim["expected"]["verdict"] == claim["verdict"] else " (declared otherwise)"
    on = claim["pair"] if claim["group"] == "all" else f"{claim['pair']}, {claim['group']}"
    counts = dict.fromkeys(str(arm["n"]) for arm in claim["arms"])
    n = "+".join(counts) if 0 < len(claim["arms"]) <= 2 else str(claim["n"])
    if len(counts) == 1 and claim["clusters"] < int(n):  # a base and a tuned arm of the same items
        n += f" in {claim['clusters']}"
    return (claim["finding"], on, n, _means(claim["arms"]), effect_text(claim), verdict)


def _means(arms: Sequence[Mapping[str, Json]]) -> str:
    """``0.81 → 0.68`` from base to tuned; any other arms with their names."""
    if not arms:
        return "–"
    plain = [arm["label"] for arm in arms] == ["base", "tuned"]
    ends = [arms[0], arms[-1]] if len(arms) > 1 else arms
    return " → ".join(number(arm["mean"]) if plain else f"{number(arm['mean'])} {arm['label']}" for arm in ends)


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


def require_output_folder(out: Path) -> None:
    """Raise UsageError where the results could not be written: asked before hours of measuring, not after."""
    try:
        require_writable(out)
    except OSError as error:
        raise UsageError(
            f"--shift-out {out} cannot be written ({error.strerror or error}); name another folder."
        ) from error
    remove_leftovers(out)


def write_results(
    run: RunSession,
    claims: Sequence[Mapping[str, Json]],
    errors: Sequence[Mapping[str, Json]],
    *,
    out: Path,
    started: float,
    duration: float,
    exit_code: int,
    arguments: Iterable[object],
    templates: Path | None = None,
    more: Mapping[str, Json] = NOTHING,
) -> tuple[list[str], bool]:
    """Write run.json, summary.md and report.html; lines that say where they lie, or why they could not be written, and
    whether one of them, or the baseline to be saved, was not.

    All three are rendered before any takes its place, and one that cannot be rendered is removed where an earlier run
    left it, so that they never tell of two runs. ``errors``: claims that could not be made. ``duration`` in seconds.
    ``templates`` is a folder whose templates come before the report's own, ``more`` of the record's ``run``.
    """
    try:
        fields = {**run_fields(run, claims, started, duration), **more, "command": command_line(arguments)}
        record = make_record({**fields, "exit_code": exit_code}, describe_pairs(run), with_run_wide(claims), errors)
        lines, failed = _publish(record, out, templates)
    except (TuneshiftError, OSError) as error:
        return [f"tuneshift: nothing was written to {out}: {error}"], True
    kept, unsaved = saved(run.options.gating, record)
    failed |= unsaved
    if failed and exit_code == 0:
        with contextlib.suppress(RecordError):  # the record that is there then says 0 and the process 1
            write_record(replace(record, run={**record.run, "exit_code": 1}), out / "run.json")
    return [*lines, *kept], failed


def _publish(record: RunRecord, out: Path, templates: Path | None) -> tuple[list[str], bool]:
    """Write what can be rendered of a record; lines that say where or why not, and whether something was not."""
    from ..report.html import render_html
    from ..report.markdown import render_summary

    made: dict[str, tuple[Path, Callable[[], str]]] = {
        "record": (out / "run.json", lambda: record_text(record)),
        "summary": (out / "summary.md", lambda: render_summary(record)),
        "report": (out / "report.html", lambda: render_html(record, templates)),
    }
    rendered, refused = {}, {}
    for what, (path, render) in made.items():
        try:
            rendered[path] = render().encode()
        except TuneshiftError as error:
            refused[path] = f"tuneshift: {error}"
        except Exception as error:  # whatever a template or a figure raises: the record must not be lost to it
            refused[path] = f"tuneshift: the {what} could not be rendered: {first_line(error)}"
    out.mkdir(parents=True, exist_ok=True)
    publish_all(rendered)
    remove_leftovers(out)
    for path in refused:
        path.unlink(missing_ok=True)
    lines = [refused.get(path) or f"{what}: {path}" for what, (path, _) in made.items()]
    summary = rendered.get(out / "summary.md")
    if summary is not None:
        lines[2:2] = append_step_summary(summary.decode())
    return lines, bool(refused)


def run_fields(
    run: RunSession, claims: Sequence[Mapping[str, Json]], started: float, duration: float
) -> dict[str, Json]:
    settings = run.settings
    return {
        "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "finished": datetime.fromtimestamp(started + duration, UTC).isoformat(timespec="seconds"),
        "duration_s": round(duration, 2),
        "versions": versions(),
        "host": {"platform": platform.platform(), "cpus": os.cpu_count(), "device": _device(run)},
        "alpha": run.options.alpha,
        **exposure_of(claims, run.options.alpha).fields(),
        "response": settings.response,
        **describe_settings(run),
        "store": str(run.options.store),
        "costs": [cost.plain() for cost in run.engine.costs],
        "baseline": run_baseline(claims),
    }
