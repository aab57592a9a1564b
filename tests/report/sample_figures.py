"""Figures of every kind, ordinary and hostile, and views of them."""

from __future__ import annotations

import random
import re

from run_records import HOSTILE, claim, record

from tuneshift.report import figures
from tuneshift.report.html import render_html

LINE = (
    "translate explain summarize retrieve revise generate describe classify create evaluate correct develop identify "
    "analyze compose demonstrate interpret design solve follow clarify say help act recommend estimate edit format "
    "repeat write give find make have tell output predict detect run see walk open carry build drink"
)


VERBS = LINE.split()


def grid(height=4, width=5, seed=0, **changed):
    """A map of counts around zero, a few missing, with the pairs behind each count as its note."""
    draw = random.Random(seed)
    values = [
        [None if draw.random() < 0.02 else round(draw.gauss(0.5, 2)) for _ in range(width)] for _ in range(height)
    ]
    notes = [[", ".join(draw.choices(VERBS, k=2 * abs(x or 0))) for x in line] for line in values]
    figure = {"kind": "grid", "title": "Relations gained", "caption": "Tuned minus base.", "unit": "pairs"}
    figure |= {"rows": [str(k) for k in range(height)], "columns": [str(k) for k in range(width)]}
    return figure | {"row_name": "layer", "column_name": "head", "values": values, "notes": notes} | changed


def dots(labels=VERBS, seed=0, **changed):
    """Two points a row with intervals, in two groups."""
    draw = random.Random(seed)
    rows = []
    for k, verb in enumerate(labels):
        points = []
        for arm in ("lower layers", "upper layers"):
            value, half = draw.uniform(0.2, 0.8), draw.uniform(0.05, 0.2)
            points.append({"label": arm, "value": value, "low": value - half, "high": value + half, "n": 10 + k})
        rows.append({"label": verb, "group": "general" if k % 6 == 5 else "instruction", "points": points})
    figure = {"kind": "dots", "title": "Win rate per verb", "caption": "Heads that gained.", "unit": "share of heads"}
    return figure | {"reference": 0.5, "rows": rows} | changed


def curves(length=32, names=("subspace", "direct match", "random"), seed=0, **changed):
    """Lines over layers, the first with a band."""
    draw = random.Random(seed)
    series = [
        {"label": name, "values": [0.9 - 0.2 * k + draw.uniform(0, 0.05) for _ in range(length)], "low": None}
        | {"high": None}
        for k, name in enumerate(names)
    ]
    series[0] |= {"low": [v - 0.02 for v in series[0]["values"]], "high": [v + 0.02 for v in series[0]["values"]]}
    figure = {"kind": "curves", "title": "Overlap of the subspaces", "caption": "", "unit": "overlap, 0 to 1"}
    return figure | {"x_name": "layer", "x": list(range(length)), "series": series} | changed


def words(height=24, seed=0, **changed):
    """Concepts with an angle and two lists of words."""
    draw = random.Random(seed)
    table = [
        [f"{k}, 7", draw.uniform(20, 90), draw.choices(VERBS, k=25), draw.choices(VERBS, k=25)] for k in range(height)
    ]
    figure = {"kind": "words", "title": "Concepts that moved", "caption": "By angle.", "unit": ""}
    return figure | {"columns": ["Layer, concept", "Angle, degrees", "Base", "Tuned"], "rows": table} | changed


def realistic(seed=0):
    """The figures of one pair of 7B models."""
    return [grid(32, 32, seed), dots(seed=seed), curves(seed=seed), words(seed=seed)]


def shown(*figure_list, **changed):
    """The page of one claim with these figures."""
    return render_html(record([claim(figures=list(figure_list), **changed)]))


def view(figure):
    """The layout of one figure, which must be drawn."""
    laid = figures.figure_views([figure])[0]
    assert laid["kind"] == figure["kind"], laid.get("reason")
    return laid


def part(html):
    """The markup between the first figure of ours and the end of the last."""
    return "".join(re.findall(r'<figure class="measured">.*?</figure>', html, flags=re.S))


def table(html, kind):
    """Rows of the first table whose class begins so, as lists of cell texts."""
    body = re.search(rf'<table class="{kind}.*?</table>', html, flags=re.S)[0]
    rows = re.findall(r"<tr.*?</tr>", body, flags=re.S)
    return [[re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row, flags=re.S)] for row in rows]


def hostile_figures():
    """Every kind with every hostile text wherever there is text."""
    found = []
    for text in HOSTILE:
        texts = {"title": text, "caption": text, "unit": text}
        two = [text, f"{text}2"]
        found.append(grid(2, 2, rows=two, columns=two, row_name=text, column_name=text, notes=[two, two], **texts))
        points = [{"label": text[:70] + str(k), "value": 0.1 * k, "low": 0, "high": 1, "n": 3} for k in range(3)]
        found.append(dots(rows=[{"label": text, "group": text, "points": points}] * 3, **texts))
        found.append(curves(3, [text, text], x_name=text, **texts))
        found.append(words(1, columns=[text] * 3, rows=[[text, text, [text] * 40]], **texts))
        found.append({"kind": text, "title": text})
        found.append(grid(101, 100, rows=[text] * 101, notes=None, row_name=text, **texts))
    return found
