"""A comparison with a baseline in words and as a table, for pytest's terminal and for ``tuneshift gate``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from ..parse import one_line
from ..plain import Json

MARKS = {
    "regressed": ("▼", "red"),
    "inconclusive": ("?", "yellow"),
    "improved": ("▲", "green"),
    "held": ("=", "green"),
    "not_compared": ("–", "cyan"),
}
"""A comparison's outcome, its shape and colour; what needs a look first."""
HEAD = ("finding", "on", "n", "change [interval]", "margin", "outcome")


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
    if held.get("fallen"):
        lines.append(f"  lost most on: {', '.join(map(one_line, held['fallen']))}")
    if held["needed"]:
        lines.append(f"  a fresh set of {held['needed']} would decide it in four of five cases")
    low, high = claim["interval"]
    interval = f"[{_signed(low)}, {_signed(high)}]"
    return "\n".join(
        [*lines, f"  verdict of this run by itself: {claim['verdict']}, {_signed(claim['effect'])} {interval}"]
    )


def write_comparisons(terminal: Lines, claims: Sequence[Mapping[str, Json]]) -> None:
    """The table of comparisons, a line a claim, what needs a look first; nothing where there are none."""
    compared = [claim for claim in claims if claim.get("comparison")]
    if not compared:
        return
    order = list(MARKS)
    compared.sort(key=lambda claim: order.index(claim["comparison"]["outcome"]))
    against = compared[0]["comparison"]["against"]
    terminal.write_sep("=", f"tuneshift against baseline {one_line(against['name'])}")
    rows = [HEAD, *(_row(claim) for claim in compared)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(HEAD))]
    for index, row in enumerate(rows):
        text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        colour = "bold" if index == 0 else MARKS[compared[index - 1]["comparison"]["outcome"]][1]
        terminal.write_line(text, **{colour: True})
    for claim in compared:
        if claim["comparison"]["outcome"] in ("not_compared", "inconclusive") or _moved(claim):
            terminal.write_line(
                f"{claim['finding']}, {_on(claim)}: {one_line(claim['comparison']['reason'])}{_needed(claim)}"
            )
    for line in _other_families(compared):
        terminal.write_line(line)
    terminal.write_line(_summary(compared, against))


def _other_families(compared: Sequence[Mapping[str, Json]]) -> list[str]:
    """Families whose size is not that of the baseline: effects compare as before, verdicts are at other levels."""
    changed = {
        claim["family"]: (claim["family_size"], claim["comparison"]["family_was"])
        for claim in compared
        if claim["comparison"].get("family_was") is not None
    }
    return [
        f"family {family} has {now} findings here and had {was} in the baseline: its verdicts are at another level, "
        "changes of effects are not touched"
        for family, (now, was) in sorted(changed.items())
    ]


def _summary(compared: Sequence[Mapping[str, Json]], against: Mapping[str, Json]) -> str:
    counts = Counter(claim["comparison"]["outcome"] for claim in compared)
    listed = ", ".join(f"{counts[outcome]} {outcome.replace('_', ' ')}" for outcome in MARKS if counts[outcome])
    look = f"; look {against['look']} of {against['looks']}" if against["look"] else ""
    return (
        f"{listed}; baseline saved {one_line(against['saved'])} from {one_line(against['tuned'])}; "
        f"error rate {against['alpha']:.3g} "
        f"shared by the baseline's {against['claims']} claims{look}{_other_versions(against)}"
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


def _moved(claim: Mapping[str, Json]) -> bool:
    held = claim["comparison"]
    return any(held[f"{side}_items"] for side in ("new", "gone", "changed", "unpaired"))


def _needed(claim: Mapping[str, Json]) -> str:
    needed = claim["comparison"]["needed"]
    return f" A fresh set of {needed} would decide it in four of five cases." if needed else ""


def _level(held: Mapping[str, Json]) -> str:
    return "" if held["level"] is None else f"{100 * held['level']:.4g} % interval, "


def _number(value: Json) -> str:
    return "–" if value is None else f"{value:.3g}"


def _signed(value: Json) -> str:
    return "–" if value is None else f"{value:+.3g}"
