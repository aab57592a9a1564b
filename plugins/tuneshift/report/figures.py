"""A claim's figures laid out for the templates: scales, positions, colours, texts cut to what a page holds.

A figure is plain JSON of one of four kinds (docs/run-record.md): grid, dots, curves, words. Positions are percentages
of the width, so that text keeps its size; heights are pixels. What cannot be drawn becomes a line that says which
figure and why: a figure never costs the report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ..plain import Json
from .axes import Axis, axis
from .figure_grid import grid
from .figure_values import View, described, label, listed, matrix, pixels, real
from .values import MISSING, TOKEN_LIMIT, number

Layout = Callable[[Mapping[str, Json]], View]

PAGE_NOTES = 200_000
"""Characters of all notes of a page with their markup, shared out evenly over its grids."""
DOT_ROWS = 60
WORD_ROWS = 100
PAGE_WORD_ROWS = 300
WORD_ROWS_LEAST = 4
"""Rows of all tables of words of a page, of the largest and, where they share the page, of the smallest."""
WORDS = 30
SERIES = 8
"""Lines that dashes, markers and colours tell apart."""
CURVE_HEIGHT = 240
"""Pixels; so is the height of a curve's label, 15."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What one figure may take of a page, so that many pairs make no much heavier page than one.

    ``notes``: characters of a grid's notes with their markup; ``word_rows``: rows of a table of words.
    """

    notes: int = PAGE_NOTES
    word_rows: int = WORD_ROWS


def page_budget(claims: Iterable[Mapping[str, Json]]) -> Budget:
    """The page's notes and rows of words, shared out evenly over its grids with notes and its tables of words."""
    held = (claim.get("figures") for claim in claims)
    listed_ones = [figure for figures in held if isinstance(figures, list | tuple) for figure in figures]
    known = [figure for figure in listed_ones if isinstance(figure, Mapping)]
    noted = sum(bool(figure.get("notes")) for figure in known)
    worded = sum(figure.get("kind") == "words" for figure in known)
    rows = max(WORD_ROWS_LEAST, PAGE_WORD_ROWS // max(1, worded))
    return Budget(notes=PAGE_NOTES // max(1, noted), word_rows=min(WORD_ROWS, rows))


def figure_views(figures: Json, budget: Budget | None = None) -> list[View]:
    """The figures of a claim as their templates show them; one that cannot be has ``kind`` "" and a ``reason``."""
    budget = budget or Budget()
    if figures is None:
        return []
    if not isinstance(figures, list | tuple):
        return [{"kind": "", "title": "", "reason": f"figures is {described(figures)}; a list is needed"}]
    layouts: dict[str, Layout] = {
        "grid": partial(grid, notes_left=budget.notes),
        "dots": dots,
        "curves": curves,
        "words": partial(words, row_limit=budget.word_rows),
    }
    return [figure_view(figure, place, layouts) for place, figure in enumerate(figures, start=1)]


def figure_view(figure: Json, place: int, layouts: Mapping[str, Layout]) -> View:
    """One figure, or the reason why there is none."""
    view: View = {"kind": "", "title": f"figure {place}"}
    try:
        if not isinstance(figure, Mapping):
            raise ValueError(f"it is {described(figure)}; an object with a kind is needed")
        view["title"] = label(figure.get("title"), 200) or view["title"]
        kind = figure.get("kind")
        if not isinstance(kind, str) or kind not in layouts:
            got = repr(label(kind)) if isinstance(kind, str) else described(kind)
            raise ValueError(f"its kind is {got}; this version draws {', '.join(layouts)}")
        layout = layouts[kind](figure)
        words = {name: label(figure.get(name), 600) for name in ("caption", "unit")}
        return {**view, **words, **layout, "kind": kind}
    except Exception as error:  # a run record may come from elsewhere; its verdicts must be readable all the same
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        return {**view, "kind": "", "reason": label(reason, 300)}


def dots(figure: Mapping[str, Json]) -> View:
    """Rows gathered by group, marks and whiskers as one path per kind of point, and every point for the table."""
    rows = [dot_row(row) for row in listed(figure, "rows")]
    if not rows:
        raise ValueError("it has no rows")
    groups = list(dict.fromkeys(row["group"] for row in rows))
    rows.sort(key=lambda row: groups.index(row["group"]))
    shown = rows[:DOT_ROWS]
    arms = list(dict.fromkeys(name for row in rows for name in row["points"]))
    reference = real(figure.get("reference"))
    reach = [point[name] for row in shown for point in row["points"].values() for name in ("value", "low", "high")]
    scale = axis([*reach, reference])
    step = max(22, 11 * max(len(row["points"]) for row in shown) + 4)
    lines = dot_lines(shown, headed=any(groups))
    return {
        "axis": scale,
        "reference": reference,
        "reference_at": None if reference is None else scale.at(reference),
        "step": step,
        "lines": lines,
        "marks": [dot_marks(lines, arm, scale, step) for arm in arms],
        "arms": arms if len(arms) > 1 or any(arms) else [],
        "grouped": any(groups),
        "hidden": len(rows) - len(shown),
        "heads": [f"{arm or 'value'}{' [interval]' if bounded(rows, arm) else ''}" for arm in arms],
        "table": [(row, [dot_text(row["points"].get(arm)) for arm in arms]) for row in rows],
        "summary": dot_summary(rows, arms, reference),
    }


def dot_row(row: Json) -> View:
    """A row with its points by label, as numbers. Raises ValueError for anything malformed."""
    if not isinstance(row, Mapping):
        raise ValueError(f"a row is {described(row)}; an object is needed")
    points: dict[str, View] = {}
    for point in listed(row, "points"):
        if not isinstance(point, Mapping):
            raise ValueError(f"a point is {described(point)}; an object is needed")
        name = label(point.get("label"))
        if name in points:
            raise ValueError(f"row {label(row.get('label'))!r} has two points labelled {name!r}")
        points[name] = {key: real(point.get(key)) for key in ("value", "low", "high", "n")}
    return {"label": label(row.get("label")), "group": label(row.get("group")), "points": points}


def dot_lines(rows: Sequence[View], headed: bool) -> list[View]:
    """What stands beside the plot from top to bottom, one line each: rows with their values, and heads of groups."""
    lines: list[View] = []
    group = None
    for row in rows:
        if headed and row["group"] != group:
            group = row["group"]
            lines.append({"head": True, "text": group or "others", "value": "", "points": {}})
        values = " → ".join(number(point["value"]) for point in list(row["points"].values())[:3])
        lines.append({"head": False, "text": row["label"], "value": values, "points": row["points"]})
    return lines


def dot_marks(lines: Sequence[View], arm: str, scale: Axis, step: int) -> View:
    """Paths of one kind of point in a box of 100 by the height in pixels: dots without length, and whiskers."""
    marks, whiskers = [], []
    for k, line in enumerate(lines):
        point = line["points"].get(arm)
        if point is None or point["value"] is None:
            continue
        y = step * (k + 0.5) + 11 * (list(line["points"]).index(arm) - (len(line["points"]) - 1) / 2)
        marks.append(f"M{scale.at(point['value']):g} {y:g}h0")
        if point["low"] is not None and point["high"] is not None:
            whiskers.append(f"M{scale.at(point['low']):g} {y:g}H{scale.at(point['high']):g}")
    return {"marks": "".join(marks), "whiskers": "".join(whiskers)}


def bounded(rows: Sequence[View], arm: str) -> bool:
    """Whether any point of that label has a bound."""
    points = (row["points"].get(arm) for row in rows)
    return any(point and (point["low"], point["high"]) != (None, None) for point in points)


def dot_text(point: View | None) -> tuple[str, str]:
    """A point's value with its bounds, and its n, for the table."""
    if point is None:
        return MISSING, MISSING
    return bounds_text(point["value"], point["low"], point["high"]), number(point["n"])


def bounds_text(value: Json, low: Json, high: Json) -> str:
    """A value, and its bounds where there are any."""
    return number(value) if low is None and high is None else f"{number(value)} [{number(low)}, {number(high)}]"


def dot_summary(rows: Sequence[View], arms: Sequence[str], reference: float | None) -> str:
    """What the rows say, in words: how many there are, and how many of each kind lie above the reference."""
    text = f"{len(rows)} rows"
    if reference is None:
        return text
    for arm in arms:
        known = [x for row in rows if arm in row["points"] and (x := row["points"][arm]["value"]) is not None]
        above = sum(x > reference for x in known)
        text += f"; {arm}{' ' if arm else ''}{above} of {len(known)} above {number(reference)}"
    return text


def curves(figure: Mapping[str, Json]) -> View:
    """Lines, bands and markers as paths in a 100 by 100 box, labels at the ends, and all values for the table."""
    x = [real(value) for value in listed(figure, "x")]
    points = [value for value in x if value is not None]
    if not x or len(points) < len(x):
        raise ValueError("x must be numbers, at least one")
    series = [curve_values(one, len(x)) for one in listed(figure, "series")]
    if not series:
        raise ValueError("it has no series")
    shown = series[:SERIES]
    across = axis(points)
    if all(float(value).is_integer() for value in points):
        across = replace(across, step=max(1.0, across.step))
    up = axis([value for one in shown for name in ("values", "low", "high") for value in one[name] or ()])
    lines = [curve_line(one, k, points, across, up) for k, one in enumerate(shown)]
    place_ends(lines)
    return {
        "x_name": label(figure.get("x_name")) or "x",
        "across": across,
        "up": [(round(100 - at, 2), text) for at, text in up.ticks],
        "zero": round(100 - up.at(0), 2) if up.low < 0 < up.high else None,
        "up_width": 10 + round(6.8 * max((len(text) for _, text in up.ticks), default=1)),
        "height": CURVE_HEIGHT,
        "lines": lines,
        "hidden": len(series) - len(shown),
        "names": [one["label"] for one in series],
        "banded": any(one["band"] for one in lines),
        "table": [(number(value), [curve_text(one, k) for one in series]) for k, value in enumerate(x)],
        "summary": "; ".join(curve_summary(one) for one in shown),
    }


def curve_values(one: Json, length: int) -> View:
    """A series with its values and bounds as numbers. Raises ValueError for anything malformed."""
    if not isinstance(one, Mapping):
        raise ValueError(f"a series is {described(one)}; an object is needed")
    found: View = {"label": label(one.get("label")), "values": [real(v) for v in listed(one, "values", length)]}
    for name in ("low", "high"):
        found[name] = None if one.get(name) is None else [real(v) for v in listed(one, name, length)]
    return found


def runs(known: Sequence[bool]) -> list[range]:
    """Stretches of neighbouring places that are known."""
    found, start = [], None
    for k, here in enumerate([*known, False]):
        if here and start is None:
            start = k
        elif not here and start is not None:
            found.append(range(start, k))
            start = None
    return found


def curve_line(one: View, k: int, x: Sequence[float], across: Axis, up: Axis) -> View:
    """One series: its line broken where a value is missing, its band, its markers and where it ends."""

    def place(at: int, values: Sequence[float]) -> str:
        return f"{round(across.at(x[at]), 1):g} {100 - up.at(values[at]):.1f}"

    values, low, high = one["values"], one["low"], one["high"]
    stretches = runs([v is not None for v in values])
    line = "".join("M" + "L".join(place(i, values) for i in stretch) for stretch in stretches)
    band = ""
    if low and high:
        for stretch in runs([a is not None and b is not None for a, b in zip(low, high, strict=True)]):
            edge = [place(i, low) for i in stretch] + [place(i, high) for i in reversed(stretch)]
            band += "M" + "L".join(edge) + "z"
    # Eight markers a line, shifted from line to line; a point without neighbours has no line to be seen by.
    every = math.ceil(len(x) / 8)
    marked = [i for s in stretches for i in s if len(s) == 1 or i % every == (k * every // 3) % every]
    marks = "".join(f"M{place(i, values)}h0" for i in marked)
    end = stretches[-1][-1] if stretches else None
    level = None if end is None else CURVE_HEIGHT * (1 - up.at(values[end]) / 100)
    return {"index": k, "label": one["label"], "line": line, "band": band, "marks": marks, "level": level}


def place_ends(lines: Sequence[View], apart: float = 15.0) -> None:
    """Give every line that has an end a label height in pixels, moved so that labels do not overlap."""
    ended = sorted((line for line in lines if line["level"] is not None), key=lambda line: float(line["level"]))
    below = 8.0 - apart
    for line in ended:
        line["label_at"] = below = max(line["level"], below + apart)
    above = CURVE_HEIGHT - 8.0 + apart
    for line in reversed(ended):
        line["label_at"] = above = min(line["label_at"], above - apart)
    for line in ended:
        line |= {"leader": f"M1 {line['level']:.1f}L11 {line['label_at']:.1f}", "text_at": pixels(line["label_at"] + 4)}


def curve_text(one: View, k: int) -> str:
    """A value with its bounds, for the table."""
    return bounds_text(one["values"][k], *(one[name][k] if one[name] else None for name in ("low", "high")))


def curve_summary(one: View) -> str:
    """A line in words: where it starts and ends."""
    known = [v for v in one["values"] if v is not None]
    return (
        f"{one['label']} from {number(known[0])} to {number(known[-1])}" if known else f"{one['label']} without values"
    )


def words(figure: Mapping[str, Json], row_limit: int = WORD_ROWS) -> View:
    """The table's heads and its first rows; a list becomes its first words and the number of the others."""
    heads = [label(head) for head in listed(figure, "columns")]
    rows = matrix(figure, "rows", len(listed(figure, "rows")), len(heads))
    if not heads or not rows:
        raise ValueError("it has no columns or no rows")
    table = [[word_cell(cell) for cell in row] for row in rows[:row_limit]]
    numeric = [k > 0 and all(row[k]["kind"] == "number" for row in table) for k in range(len(heads))]
    return {"heads": heads, "numeric": numeric, "table": table, "hidden": len(rows) - len(table)}


def word_cell(cell: Json) -> View:
    """A cell as text, number or words."""
    if isinstance(cell, list | tuple):
        shown = [label(word, TOKEN_LIMIT) for word in cell[:WORDS]]
        return {"kind": "words", "words": shown, "more": len(cell) - len(shown)}
    if isinstance(cell, str):
        return {"kind": "text", "text": label(cell, 300)}
    return {"kind": "number", "text": number(real(cell))}
