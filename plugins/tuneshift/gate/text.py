"""A comparison with a baseline in words and as a table, for pytest's terminal and for ``tuneshift gate``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from ..claims.table import Layout, table_lines, terminal_width
from ..errors import counted
from ..parse import one_line
from ..plain import Json
from ..statistics.gate_rule import RED

MARKS = {
    "regressed": ("▼", "red"),
    "worse": ("↓", "red"),
    "missing": ("✘", "red"),
    "inconclusive": ("?", "yellow"),
    "improved": ("▲", "green"),
    "held": ("=", "green"),
    "not_compared": ("–", "cyan"),
}
"""A comparison's outcome, its shape and colour; what needs a look first."""
HEAD = ("finding", "on", "n", "change [interval]", "margin", "outcome")
TABLE = Layout(head=HEAD, first=(0, 5), named=(1, 2, 4))


class Lines(Protocol):
    """What is needed of a terminal."""

    def write_line(self, line: str, **markup: bool) -> None:
        """One line."""

    def write_sep(self, sep: str, title: str | None = None, **markup: bool) -> None:
        """A titled rule."""


def explain_comparison(claim: Mapping[str, Json]) -> str:
    """What became of a claim against the baseline, in a few lines."""
    held = claim["comparison"]
    where = f"pair {claim['pair']}, {claim['prompts']}" + ("" if claim["group"] == "all" else f", {claim['group']}")
    lines = [
        f"{claim['finding']}: {held['outcome']} against baseline {held['baseline']} on {where}.",
        f"  change: {change_text(held)} {one_line(claim['unit'])} (n = {held['n']}, {_level(held)}"
        f"p = {_number(held['p'])})",
        f"  margin: {_margin(claim)}",
        f"  reason: {one_line(held['reason'])}",
    ]
    if held["sees"] is not None:
        lines.append(f"  sees: {_sees(held)} would be red in 80 % of runs")
    if held.get("fallen"):
        lines.append(f"  lost most on: {', '.join(map(one_line, held['fallen']))}")
    if held["needed"]:
        lines.append(f"  a fresh set of {held['needed']} would decide it in four of five cases")
    low, high = claim["interval"]
    interval = f"[{_signed(low)}, {_signed(high)}]"
    return "\n".join(
        [*lines, f"  verdict of this run by itself: {claim['verdict']}, {_signed(claim['effect'])} {interval}"]
    )


def write_comparisons(
    terminal: Lines, claims: Sequence[Mapping[str, Json]], summary: Mapping[str, Json] | None
) -> None:
    """The table of comparisons, a line a claim, what needs a look first, and what the whole gate says and can see;
    nothing without ``summary``, the `look.gate_summary` of a run that was compared."""
    compared = [claim for claim in claims if claim.get("comparison")]
    if summary is None or not compared:
        return
    order = list(MARKS)
    compared.sort(key=lambda claim: order.index(claim["comparison"]["outcome"]))
    against = compared[0]["comparison"]["against"]
    terminal.write_sep("=", f"tuneshift against baseline {one_line(against['name'])}")
    absent = [((row["finding"], _on(row), "–", "–", "–", "✘ missing"), "missing") for row in summary["missing"]]
    body = [*absent, *((_row(claim), claim["comparison"]["outcome"]) for claim in compared)]
    body.sort(key=lambda row: order.index(row[1]))
    head, rows = table_lines(TABLE, [row for row, _ in body], terminal_width())
    for line in head:
        terminal.write_line(line, bold=True)
    for lines, (_, outcome) in zip(rows, body, strict=True):
        for line in lines:
            terminal.write_line(line, **{MARKS[outcome][1]: True})
    for row in summary["missing"]:
        terminal.write_line(f"{row['finding']}, {_on(row)}: {one_line(row['reason'])}")
    for claim in compared:
        told = claim["comparison"]["outcome"] in ("not_compared", "inconclusive", "missing")
        if told or _moved(claim) or _held_past_its_interval(claim):
            terminal.write_line(
                f"{claim['finding']}, {_on(claim)}: {one_line(claim['comparison']['reason'])}{_needed(claim)}"
            )
    for line in _other_families(compared):
        terminal.write_line(line)
    if summary["not_asked"]:
        terminal.write_line(f"not asked: {_not_asked(summary['not_asked'])}")
    for said, colour in ((summary["sees_text"], "bold"), (summary["conclusion"], summary["colour"])):
        if said:
            terminal.write_line(one_line(said), **{colour: True})
    terminal.write_line(_summary(compared, against))


SHOWN = 5
"""Claims that a line names."""


def _not_asked(rows: Sequence[Mapping[str, Json]]) -> str:
    """How many claims of the baseline a selection left out, and the first of them."""
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    named = ", ".join(f"{row['finding']} on {_on(row)}" for row in rows[:SHOWN])
    return f"{counted(len(rows), 'claim')} of the baseline ({named}{more})"


def conclusion(
    claims: Sequence[Mapping[str, Json]], missing: Sequence[Mapping[str, Json]],
    not_asked: Sequence[Mapping[str, Json]], *, allow_missing: bool,
) -> tuple[str, str]:  # fmt: skip
    """What the whole gate says, in a line, and its colour: red, yellow or green. A gate that should have compared
    claims and compared none is red, whatever may be missing."""
    counts = Counter(claim["comparison"]["outcome"] for claim in claims if claim.get("comparison"))
    counts["missing"] += len(missing)
    failing = [outcome for outcome in MARKS if outcome in RED and counts[outcome]]
    if allow_missing:
        failing = [outcome for outcome in failing if outcome != "missing"]
    unknown, held = counts["inconclusive"], counts["held"] + counts["improved"]
    notes = [f"{counted(unknown, 'claim')} cannot say"] if unknown else []
    if allow_missing and counts["missing"]:
        notes.append(f"{counts['missing']} missing, which is allowed")
    if not_asked:
        notes.append(f"{len(not_asked)} not asked")
    more = "".join(f"; {note}" for note in notes)
    if failing:
        return f"the gate is red: {', '.join(f'{counts[outcome]} {outcome}' for outcome in failing)}{more}", "red"
    if (unknown or counts["missing"]) and not any(map(_was_compared, claims)):
        return f"the gate is red: no claim was compared{more}", "red"
    if unknown:
        return f"no loss shown{more}", "yellow"
    if not held:
        return f"no loss shown; no claim was compared{more}", "yellow"
    return f"no loss beyond its margin in {'the one claim' if held == 1 else f'any of {held} claims'}{more}", "green"


def _was_compared(claim: Mapping[str, Json]) -> bool:
    """Whether a change was found, however little it says."""
    held = claim.get("comparison")
    return held is not None and held["effect"] is not None


def ci_annotations(summary: Mapping[str, Json]) -> list[str]:
    """Lines that GitHub Actions shows beside a commit: an error where the gate is red, a warning where it is yellow."""
    kind = {"red": "error", "yellow": "warning", "green": "notice"}[summary["colour"]]
    text = one_line(". ".join(filter(None, (summary["conclusion"], summary["sees_text"])))).replace("%", "%25")
    return [f"::{kind} title=tuneshift gate::{text}"]


def _other_families(compared: Sequence[Mapping[str, Json]]) -> list[str]:
    """Families whose size is not that of the baseline: effects compare as before, verdicts are at other levels."""
    changed = {
        claim["family"]: (claim["family_size"], claim["comparison"]["family_was"])
        for claim in compared
        if claim["comparison"].get("family_was") is not None
    }
    return [
        f"family {family} has {counted(now, 'finding')} here and had {was} in the baseline: its verdicts are at "
        "another level, changes of effects are not touched"
        for family, (now, was) in sorted(changed.items())
    ]


def _summary(compared: Sequence[Mapping[str, Json]], against: Mapping[str, Json]) -> str:
    counts = Counter(claim["comparison"]["outcome"] for claim in compared)
    listed = ", ".join(f"{counts[outcome]} {outcome.replace('_', ' ')}" for outcome in MARKS if counts[outcome])
    look = f"; look {against['look']} of {against['looks']}" if against["look"] else ""
    return (
        f"{listed}; baseline saved {one_line(against['saved'])} from {one_line(against['tuned'])}; "
        f"error rate {against['shown']:.3g} for losses shown in "
        f"{counted(against['claims'], 'claim')} of the baseline that can move"
        f"{look}{_other_versions(against)}"
    )


def _other_versions(against: Mapping[str, Json]) -> str:
    differ = against.get("other_versions") or {}
    listed = ", ".join(
        f"{name} {here or 'none'} here, {there or 'none'} there" for name, (here, there) in differ.items()
    )
    return f"; measured with other versions: {listed}" if listed else ""


def _row(claim: Mapping[str, Json]) -> tuple[str, ...]:
    held = claim["comparison"]
    outcome = f"{MARKS[held['outcome']][0]} {held['outcome'].replace('_', ' ')}"
    outcome += " (same evidence)" if held["same_evidence"] else ""
    return (claim["finding"], _on(claim), str(held["n"]), change_text(held), _margin(claim), outcome)


def change_text(held: Mapping[str, Json]) -> str:
    """``-0.19 [-0.3, -0.08]``."""
    if held["effect"] is None:
        return "–"
    low, high = held["interval"]
    return f"{_signed(held['effect'])} [{_signed(low)}, {_signed(high)}]"


def _on(claim: Mapping[str, Json]) -> str:
    return str(claim["pair"]) if claim["group"] == "all" else f"{claim['pair']}, {claim['group']}"


def _margin(claim: Mapping[str, Json]) -> str:
    margin = claim["comparison"]["margin"]
    return {"greater": f"{-margin:+.3g}", "less": f"{margin:+.3g}", "equivalent": f"±{margin:.3g}"}[claim["direction"]]


def _sees(held: Mapping[str, Json]) -> str:
    return f"a loss of {held['sees']:.3g}{' (planned)' if held['planned'] else ''}"


def _held_past_its_interval(claim: Mapping[str, Json]) -> bool:
    """Whether a claim holds though the interval that is shown, of losses and gains at their share of the error rate,
    reaches the margin: what it holds by is the one-sided end, which the reason names."""
    held = claim["comparison"]
    if held["outcome"] != "held" or held["same_evidence"] or held["effect"] is None:
        return False
    low, high = held["interval"]
    if low is None or high is None:
        return False
    ends = {"less": (high,), "equivalent": (-low, high)}.get(claim["direction"], (-low,))
    return any(end >= held["margin"] for end in ends)


def _moved(claim: Mapping[str, Json]) -> bool:
    held = claim["comparison"]
    return any(held[f"{side}_items"] for side in ("new", "gone", "changed", "relabelled", "unpaired"))


def _needed(claim: Mapping[str, Json]) -> str:
    needed = claim["comparison"]["needed"]
    return f" A fresh set of {needed} would decide it in four of five cases." if needed else ""


def _level(held: Mapping[str, Json]) -> str:
    return "" if held["level"] is None else f"{100 * held['level']:.4g} % interval, "


def _number(value: Json) -> str:
    return "–" if value is None else f"{value:.3g}"


def _signed(value: Json) -> str:
    return "–" if value is None else f"{value:+.3g}"
