"""A run as Markdown that fits a pull-request comment: the conclusion, what changed, then the verdicts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..plain import Json
from ..run_record import RunRecord
from .changes import CHANGES, change_sentence, changed, missing_rows, outcome_of
from .claims import finding_views
from .conclusion import SHAPES, declared, headline, one_draw, unmade
from .html import write_text
from .several_runs import runs_of
from .values import MISSING, number, shown

CELL_LIMIT = 200
"""Characters of a cell: a name that long is no name, and a comment holds 65,536 characters."""
ROWS = 150
"""Claims that the table of verdicts lists, some 30,000 characters; the report has all."""

View = dict[str, Any]


def render_summary(record: RunRecord) -> str:
    """The run record as Markdown: the conclusion, the changes against the baseline, one table row per claim."""
    claims = [c for f in finding_views(record.claims) for c in f["claims"]]
    runs = runs_of(record)
    sentences = [headline(claims), unmade(len(record.errors)), declared(claims), change_sentence(claims, runs)]
    blocks = ["\n".join(f"{'**' * (k == 0)}{markdown(s)}{'**' * (k == 0)}" for k, s in enumerate(sentences) if s)]
    missing = missing_rows(runs)
    if changed(claims) or missing:
        blocks.append("\n".join([*change_table(changed(claims)), *map(missing_row, missing[:ROWS])]))
    if claims:
        blocks.append("\n".join(verdict_table(claims)))
    if one_draw(claims):
        blocks.append(one_draw(claims))
    if record.errors:
        blocks.append("\n".join(error_table(record.errors)))
    return "\n\n".join(blocks) + "\n"


def error_table(errors: Sequence[Mapping[str, Json]]) -> list[str]:
    """What could not be claimed, and why."""
    lines = ["| not made | on | why |", "| --- | --- | --- |"]
    for error in errors[:ROWS]:
        on = [error.get("pair"), error.get("prompts"), *([error.get("group")] if error.get("group") != "all" else [])]
        lines.append(row([error.get("finding"), " · ".join(map(str, on)), error.get("message")]))
    return lines


def change_table(claims: Sequence[View]) -> list[str]:
    """What regressed and what improved, with the change and its interval."""
    lines = [
        "| change | finding | on | change in effect [interval] | margin | why |",
        "| --- | --- | --- | ---: | ---: | --- |",
    ]
    for claim in claims[:ROWS]:
        held = claim["comparison"]
        outcome = f"{CHANGES[held['outcome']]} {held['outcome']}"
        cells = [claim.get("finding"), place(claim), held["estimate"], number(held.get("margin")), held.get("reason")]
        lines.append(row([outcome, *cells]))
    return lines


def missing_row(absent: Mapping[str, Json]) -> str:
    """The row of a claim of the baseline that this run says nothing of."""
    on = absent.get("pair") if absent.get("group") == "all" else f"{absent.get('pair')} · {absent.get('group')}"
    return row([f"{CHANGES['missing']} missing", absent.get("finding"), on, MISSING, MISSING, absent.get("reason")])


def verdict_table(claims: Sequence[View]) -> list[str]:
    """One row per claim: what was compared, the effect, the verdict, what was declared, and the change."""
    compared = any(outcome_of(claim) for claim in claims)
    heads = ["finding", "on", "n", "means", "effect [interval]", "verdict", "known outcome"]
    lines = [f"| {' | '.join([*heads, *(['baseline'] if compared else [])])} |"]
    lines.append(f"| --- | --- | ---: | --- | ---: | --- | --- |{' --- |' if compared else ''}")
    for claim in claims[:ROWS]:
        verdict = f"{SHAPES[claim['verdict']]} {claim['verdict'].replace('_', ' ')}"
        cells = [claim.get("finding"), place(claim), counted(claim), means(claim), claim["estimate"], verdict]
        outcome = outcome_of(claim)
        change = [f"{CHANGES[outcome]} {outcome.replace('_', ' ')}" if outcome else MISSING] if compared else []
        lines.append(row([*cells, known(claim), *change]))
    if len(claims) > ROWS:
        lines += ["", f"{len(claims) - ROWS} more claims are in the report."]
    return lines


def place(claim: View) -> str:
    """Pair and group of a claim."""
    return f"{claim.get('pair')} · {claim['where']}"


def counted(claim: View) -> str:
    """``348``, or ``348 in 58`` where items share clusters."""
    n, clusters = claim.get("n"), claim.get("clusters")
    shared = isinstance(n, int) and isinstance(clusters, int) and clusters < n
    return f"{number(n)} in {number(clusters)}" if shared else number(n)


def means(claim: View) -> str:
    """``0.81 → 0.68``, with the arms' names where they are not base and tuned."""
    arms = claim["arms"]
    if not arms:
        return MISSING
    ends = [arms[0], arms[-1]] if len(arms) > 1 else arms
    return " → ".join(
        f"{arm.get('label')} {number(arm.get('mean'))}" if claim["named_arms"] else number(arm.get("mean"))
        for arm in ends
    )


def known(claim: View) -> str:
    """How the verdict stands to what was declared."""
    if not claim["expected"]:
        return MISSING
    return "as declared" if claim["as_expected"] else f"declared {claim['expected'].get('verdict')}"


def row(cells: Sequence[Json]) -> str:
    """A table row with every cell escaped."""
    return f"| {' | '.join(map(markdown, cells))} |"


def markdown(value: Json) -> str:
    """Text on one line, cut and visible, with what Markdown, HTML or a forge would act on escaped."""
    text = " ".join(str(shown(value)).split())
    text = text if len(text) <= CELL_LIMIT else text[: CELL_LIMIT - 1] + "…"
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # Entities keep a forge from calling people and issues by @name, #7 or a link.
    text = text.replace("#", "&#35;").replace("@", "&#64;").replace("://", "&#58;//")
    # Within a word an underscore marks nothing.
    return re.sub(r"([\\`*|\[\]~]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def write_summary(record: RunRecord, out: Path) -> Path:
    """Write the summary to ``out``, whole or not at all; returns ``out``. Raises UsageError where it cannot."""
    return write_text(out, render_summary(record), "summary")
