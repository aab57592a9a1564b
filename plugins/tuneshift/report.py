"""A run record as one HTML file and as a Markdown table. Reads plain JSON types only and never imports torch.

The templates in ``reports/templates`` own the markup, display.py how values look; this module decides what is shown.
"""

from __future__ import annotations

import base64
import hashlib
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, FileSystemLoader
from markupsafe import Markup

from . import display
from .display import MISSING, axis, estimate, finite, histogram, number, padded, quartiles, round_step, shown
from .errors import RecordError, UsageError
from .figures import PAGE_NOTES, figure_views, note_budget
from .files import publish
from .recording import depends_on_reading
from .records import Json, Outcome, RunRecord
from .resources import data_folder

SCHEMA = 1
SHAPES = {"reproduced": "●", "contradicted": "◆", "inconclusive": "○", "not_applicable": "–"}
"""A verdict's shape, the same in figures and text, so that colour never carries it alone."""

STRIP_LIMIT = 1_500
"""Tokens of one strip that are shown, so that one long context does not fill the file."""

View = dict[str, Any]


# What the templates see


def arm_views(claim: Mapping[str, Json]) -> list[View]:
    """The sides of a comparison with their finite values by id; base and tuned where no arms are listed."""
    arms = claim.get("arms") or [{"label": role, **claim[role]} for role in ("base", "tuned") if claim.get(role)]
    recorded = claim.get("values") or {}
    views = []
    for arm in arms:
        held = recorded.get(arm.get("label")) or {}
        pairs = zip(held.get("ids") or (), held.get("x") or (), strict=False)
        views.append({**arm, "by_id": {str(i): x for i, v in pairs if (x := finite(v)) is not None}})
    return views


def distribution(claim: Mapping[str, Json], arms: Sequence[View]) -> View | None:
    """Histograms of each arm on one scale and, where two arms share their items, of the paired differences."""
    values = [list(arm["by_id"].values()) for arm in arms]
    if not any(values):
        return None
    pooled = [x for side in values for x in side]
    scale = axis(pooled)
    bins = round_step(scale.high - scale.low, 16)
    sides = [
        {"arm": arm, "mean": statistics.fmean(x), "middle": quartiles(x), **histogram(x, padded(scale, bins), bins)}
        for arm, x in zip(arms, values, strict=True)
        if x
    ]
    result: View = {"axis": padded(scale, bins), "sides": sides, "difference": None}
    if len(arms) == 2 and set(arms[0]["by_id"]) == set(arms[1]["by_id"]):
        first, second = arms[0]["by_id"], arms[1]["by_id"]
        differences = [second[i] - first[i] for i in first]
        sesoi = finite(claim.get("sesoi")) or 0.0
        scale = axis([*differences, 0.0, sesoi, -sesoi])
        bins = round_step(scale.high - scale.low, 16)
        scale = padded(scale, bins)
        result["difference"] = {"axis": scale, "n": len(differences), **histogram(differences, scale, bins)}
        result["difference"]["share_above"] = sum(d > 0 for d in differences) / len(differences)
    return result


def flattened(value: Json, name: str = "") -> list[tuple[str, str]]:
    """Nested details as (dotted name, text) rows; lists of scalars on one line."""
    if isinstance(value, Mapping):
        return [row for key, inner in value.items() for row in flattened(inner, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list | tuple):
        return [(name, ", ".join(str(shown(x)) for x in value))]
    return [(name, str(shown(value)))]


def slug(*parts: Json) -> str:
    """An anchor from names: letters, digits, dots and dashes."""
    return re.sub(r"[^\w.]+", "-", "/".join(str(p) for p in parts if p)).strip("-")


def where(claim: Mapping[str, Json], several_sets: bool) -> str:
    """The group of a claim, and its prompt set where a run has several or the set has no groups."""
    group, prompts = str(claim.get("group") or "all"), str(claim.get("prompts") or "")
    named = [part for part, wanted in ((prompts, several_sets or group == "all"), (group, group != "all")) if wanted]
    return " · ".join(part for part in named if part) or group


def claim_view(claim: Mapping[str, Json], anchor: str, several_sets: bool = False, notes: int = PAGE_NOTES) -> View:
    """A claim with what its rows and figures print."""
    arms = arm_views(claim)
    known = {outcome.value for outcome in Outcome}
    verdict = claim.get("verdict") if claim.get("verdict") in known else Outcome.NOT_APPLICABLE.value
    expected = claim.get("expected") or None
    paired = len(arms) == 2 and bool(arms[0]["by_id"]) and set(arms[0]["by_id"]) == set(arms[1]["by_id"])
    return {
        **claim,
        "anchor": anchor,
        "verdict": verdict,
        "arms": arms,
        "many": str(claim.get("items") or "prompts"),
        "one": str(claim.get("items") or "prompts").removesuffix("s"),
        "paired": paired,
        "named_arms": bool(arms) and not (claim.get("base") and claim.get("tuned")),
        "expected": expected,
        "as_expected": expected is not None and expected.get("verdict") == verdict,
        "estimate": estimate(claim.get("effect"), claim.get("interval")),
        "distribution": distribution(claim, arms),
        "ids": list(dict.fromkeys(i for arm in arms for i in arm["by_id"])),
        "details": flattened(claim.get("details") or {}),
        "figures": figure_views(claim.get("figures"), notes),
        "where": where(claim, several_sets),
        "depends": depends_on_reading(claim),
    }


def unused(name: str, taken: set[str]) -> str:
    """The name, numbered where it is taken already; takes it."""
    count, free = 1, name
    while free in taken:
        count += 1
        free = f"{name}-{count}"
    taken.add(free)
    return free


def finding_views(claims: Sequence[Mapping[str, Json]]) -> list[View]:
    """Claims gathered by finding, in order of appearance, each finding with the scale of its forest panel."""
    gathered: dict[str, list[Mapping[str, Json]]] = {}
    for claim in claims:
        gathered.setdefault(str(claim.get("finding")), []).append(claim)
    several_sets = len({claim.get("prompts") for claim in claims}) > 1
    notes = note_budget(claims)
    taken: set[str] = set()
    anchors = {finding: unused(slug(finding), taken) for finding in gathered}
    views = []
    for finding, rows in gathered.items():
        names = [slug(finding, *(row.get(part) for part in ("pair", "prompts", "group"))) for row in rows]
        members = [claim_view(row, unused(n, taken), several_sets, notes) for row, n in zip(rows, names, strict=True)]
        reach = [x for c in members for x in (c.get("effect"), *(c.get("interval") or ()))]
        sesoi = finite(members[0].get("sesoi"))
        scale = axis([*reach, 0.0, *((1.15 * sesoi, -1.15 * sesoi) if sesoi else ())])
        views.append({**members[0], "id": finding, "anchor": anchors[finding], "claims": members, "axis": scale})
    return views


def strip(model: Mapping[str, Json]) -> View:
    """One model's prompt tokens as display text with density in [0, 1], its step 0..10, and the masks."""
    tokens = [str(t) for t in model.get("tokens") or ()]
    density, instruction, template = (model.get(k) or () for k in ("density", "instruction", "template"))
    sentencepiece = any("▁" in t for t in tokens)
    marked = [k < len(instruction) and bool(instruction[k]) for k in range(len(tokens) + 1)]
    cells = []
    for k, token in enumerate(tokens[:STRIP_LIMIT]):
        text = token.replace("▁", " ") if sentencepiece else token.replace("Ġ", " ").replace("Ċ", "\n")
        text = re.sub(r"\r\n?|<0x0A>", "\n", text)
        value = finite(density[k]) if k < len(density) else None
        last = k == min(len(tokens), STRIP_LIMIT) - 1
        cells.append(
            {
                # A word's space stands before its colour, and a line breaks after it.
                "lead": " " if text[:1] == " " and text.strip() else "",
                "tail": "\n" * min(text.count("\n"), 3),
                "text": display.token_text(text),
                "more": max(0, len(text) - display.TOKEN_LIMIT),
                "value": value,
                "step": round(10 * min(max(value or 0.0, 0.0), 1.0)),
                "instruction": marked[k],
                "template": k < len(template) and bool(template[k]),
                "opens": marked[k] and (k == 0 or not marked[k - 1]),
                "closes": marked[k] and (last or not marked[k + 1]),
            }
        )
    response = display.cut(str(model.get("response") or ""))
    return {**model, "cells": cells, "more": max(0, len(tokens) - STRIP_LIMIT), "response": response}


def example_views(examples: Iterable[Mapping[str, Json]]) -> list[View]:
    """Examples with their strips; ``aligned`` where all models read the same tokens, so that one table holds them."""
    views = []
    for example in examples:
        models = [strip(m) for m in example.get("models") or ()]
        texts = [[c["text"] for c in m["cells"]] for m in models]
        aligned = bool(texts) and all(t == texts[0] for t in texts)
        views.append({**example, "models": models, "aligned": aligned})
    return views


# Words


def headline(claims: Sequence[Mapping[str, Json]]) -> str:
    """One sentence of conclusion: how many claims hold, on which pairs, and what became of the others."""
    if not claims:
        return "No claim was tested in this run."
    counts = Counter(c["verdict"] for c in claims)
    pairs = list(dict.fromkeys(str(c.get("pair")) for c in claims))
    where = f"on {' and '.join(pairs)}" if len(pairs) <= 2 else f"across {len(pairs)} pairs"
    total, held = len(claims), counts["reproduced"]
    if total == 1:
        return f"The one claim that was tested is {str(claims[0]['verdict']).replace('_', ' ')} {where}."
    start = {0: f"None of the {total} claims is", total: f"All {total} claims are", 1: f"1 of {total} claims is"}
    sentence = f"{start.get(held, f'{held} of {total} claims are')} reproduced {where}"
    rest = [f"{counts[v]} {v.replace('_', ' ')}" for v in SHAPES if v != "reproduced" and counts[v]]
    if not rest:
        return sentence + "."
    listed = rest[0] if len(rest) == 1 else f"{', '.join(rest[:-1])} and {rest[-1]}"
    return f"{sentence}; {listed}."


def declared(claims: Sequence[View]) -> str:
    """One sentence on known outcomes: how many were declared, whether they came out so, and what nobody declared."""
    known = [c for c in claims if c["expected"]]
    differing = sum(not c["as_expected"] for c in known)
    unexpected = sum(not c["expected"] and c["verdict"] in ("contradicted", "inconclusive") for c in claims)
    parts = []
    if known:
        noun = "outcome was" if len(known) == 1 else "outcomes were"
        fate = f"{differing} came out otherwise" if differing else "none came out otherwise"
        parts.append(f"{len(known)} {noun} declared beforehand; {fate}.")
    if unexpected:
        verb = "claim fails" if unexpected == 1 else "claims fail"
        parts.append(f"{unexpected} {verb} without having been declared.")
    return " ".join(parts)


# Pages


def environment() -> Environment:
    """Jinja over the packaged templates: autoescape always on, missing values print as dashes."""
    loader = FileSystemLoader(data_folder("reports") / "templates")
    jinja = Environment(
        loader=loader,
        autoescape=True,
        finalize=shown,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("finite", "number", "p_value", "plain", "percent", "moment", "linked", "cut", "unbroken")
    jinja.filters |= {name: getattr(display, name) for name in names}
    jinja.filters["estimate"] = lambda row: estimate(row.get("effect"), row.get("interval"))
    jinja.globals |= {"shapes": SHAPES}
    return jinja


def render_html(record: RunRecord) -> str:
    """The run record as one self-contained HTML page that loads nothing and is readable without JavaScript.

    Raises RecordError for a schema that this version does not know.
    """
    if record.schema != SCHEMA:
        raise RecordError(
            f"The run record has schema {record.schema!r}; this version reads {SCHEMA}. Update tuneshift."
        )
    jinja = environment()
    findings = finding_views(record.claims)
    claims = [c for f in findings for c in f["claims"]]
    script = jinja.get_template("report.js").render()
    page = jinja.get_template("report.html").render(
        run=record.run,
        pairs=record.pairs,
        findings=findings,
        claims=claims,
        examples=example_views(record.examples),
        counts=Counter(c["verdict"] for c in claims),
        headline=headline(claims),
        declared=declared(claims),
        script=Markup(script),
        # Only this very script may run, whatever a model wrote.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def write_report(record: RunRecord, out: Path) -> Path:
    """Write the HTML report to ``out`` in one step, so that a reader never meets half a file; returns ``out``.

    Raises UsageError where the place cannot be written.
    """
    page = render_html(record)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        publish(out, page.encode())
    except OSError as error:
        raise UsageError(f"Cannot write the report to {out}: {error}. Name a folder that can be written.") from error
    return out


def render_summary(record: RunRecord) -> str:
    """The run record's verdicts as Markdown: the conclusion and one table row per claim."""
    claims = [c for f in finding_views(record.claims) for c in f["claims"]]
    lines = [markdown(headline(claims)), ""]
    if not claims:
        return "\n".join(lines)
    lines += ["| finding | pair | group | n | base | tuned | effect [interval] | verdict | known outcome |"]
    lines += ["| --- | --- | --- | ---: | ---: | ---: | ---: | --- | --- |"]
    for claim in claims:
        arms = (claim["arms"][0], claim["arms"][-1]) if claim["named_arms"] else ()
        sides = [f"{arm['label']} {number(arm.get('mean'))}" for arm in arms]
        sides = sides or [number((claim.get(role) or {}).get("mean")) for role in ("base", "tuned")]
        known = MISSING
        if claim["expected"]:
            known = "as declared" if claim["as_expected"] else f"declared {claim['expected'].get('verdict')}"
        sides += [MISSING] * (2 - len(sides))
        cells = [claim.get("finding"), claim.get("pair"), claim["where"], number(claim.get("n")), *sides]
        verdict = f"{SHAPES[claim['verdict']]} {claim['verdict'].replace('_', ' ')}"
        cells = [*map(markdown, cells), claim["estimate"], verdict, markdown(known)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def markdown(value: Json) -> str:
    """A table cell: visible, on one line, with what Markdown or HTML would act on escaped."""
    text = " ".join(str(shown(value)).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*|\[\]])", r"\\\1", text)
