"""A grid of values around zero, laid out for its template: colours by step, notes, or one picture for many cells."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence

from ..plain import Json
from .figure_values import NARROW, View, label, listed, matrix, pixels, real
from .values import number

CELL_LIMIT = 10_000
"""Cells of a grid that are drawn one by one; a larger grid becomes one picture."""
PIXEL_LIMIT = 1_000_000
"""Cells of the largest picture, about 0.5 MB of page; what is larger says more when it is summed up first."""
LISTED = 500
"""Cells of a picture that its data table lists."""
NOTE_LIMIT = 240
"""Characters of one note."""
STEPS = 6
"""Colours on either side of zero; style.css has as many."""
PICTURE = {-1: (0xC4, 0x66, 0x00), 0: (0x80, 0x88, 0x90), 1: (0x2F, 0x78, 0xD2)}
"""Colours below, at and above zero with at least 3:1 against both backgrounds; steps differ in opacity."""


def colour_end(values: Iterable[float]) -> float:
    """The magnitude from which on colour no longer grows: a round number that 99 % of the nonzero cells do not pass."""
    sizes = sorted(abs(x) for x in values if x)
    if not sizes:
        return 1.0
    reach = sizes[math.ceil(0.99 * len(sizes)) - 1]
    power = 10.0 ** math.floor(math.log10(reach))
    return next((m * power for m in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if m * power >= reach * (1 - 1e-9)), reach)


def colour_step(value: float, end: float) -> int:
    """Step of colour, -STEPS..STEPS; 0 for zero alone."""
    return int(math.copysign(min(STEPS, max(1, math.ceil(abs(value) / end * STEPS - 1e-9))), value)) if value else 0


def step_class(step: int) -> str:
    """Class of the style sheet: n6..n1 below zero, p0 for zero, p1..p6 above."""
    return f"{'n' if step < 0 else 'p'}{abs(step)}"


def grid(figure: Mapping[str, Json], notes_left: int) -> View:
    """Cells as one path per colour, or all as one picture; values as a table and the cells with notes as a list."""
    rows, columns = ([label(x) for x in listed(figure, name)] for name in ("rows", "columns"))
    size = len(rows) * len(columns)
    if not 0 < size <= PIXEL_LIMIT:
        raise ValueError(f"it has {size:,} cells; 1 to {PIXEL_LIMIT:,} can be shown")
    values = [[real(x) for x in line] for line in matrix(figure, "values", len(rows), len(columns))]
    notes = matrix(figure, "notes", len(rows), len(columns)) if figure.get("notes") else None
    known = [x for line in values for x in line if x is not None]
    end = colour_end(known)
    steps = [[None if x is None else colour_step(x, end) for x in line] for line in values]
    pictured, ladder = size > CELL_LIMIT, range(-STEPS, STEPS + 1)
    names = {name: label(figure.get(name)) or name.split("_")[0] for name in ("row_name", "column_name")}
    cells = noted_cells(rows, columns, values, notes, pictured, notes_left)
    return {
        **names,
        **cells,
        **map_frame(rows, columns),
        "summary": grid_summary(rows, columns, values, names),
        "paths": [] if pictured else cell_paths(steps),
        "picture": picture(steps) if pictured else None,
        "legend": {"end": end, "beyond": any(abs(x) > end for x in known), "missing": len(known) < size},
        "steps": [step_class(k) for k in ladder],
        "ladder": picture([ladder]) if pictured else None,
        "table": [] if pictured else list(zip(rows, [[number(x) for x in line] for line in values], strict=True)),
    }


def map_frame(rows: Sequence[str], columns: Sequence[str]) -> View:
    """Sizes of a map in pixels and the labels along its sides: at most 640 high, 1,200 where rows are many."""
    height = min(22.0, max(640.0, min(3.0 * len(rows), 1200.0)) / len(rows))
    return {
        "rows": len(rows),
        "columns": len(columns),
        "height": round(height * len(rows)),
        "width": round(len(columns) * max(22.0, min(56.0, 480 / len(columns)))),
        "least_width": 4 * len(columns) if len(rows) * len(columns) <= CELL_LIMIT else 0,
        "row_ticks": row_ticks(rows, height),
        "row_width": 8 + round(6.6 * min(24, max(map(len, rows)))),
        "column_ticks": column_ticks(columns),
        "column_labels": columns,
    }


def grid_summary(rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[Json]], names: View) -> str:
    """What a map says, in words: its size and its two ends."""
    known = [(x, r, c) for r, line in enumerate(values) for c, x in enumerate(line) if x is not None]
    text = f"{names['row_name']} by {names['column_name']}, {len(rows)} by {len(columns)} cells"
    if not known:
        return f"{text}, none with a value"
    for which, (x, r, c) in (("lowest", min(known)), ("highest", max(known))):
        text += f"; {which} {number(x)} at {names['row_name']} {rows[r]}, {names['column_name']} {columns[c]}"
    return text


def cell_paths(steps: Sequence[Sequence[int | None]]) -> list[tuple[str, str]]:
    """(class, path) in a box of columns by rows: a cell is a stroke, with a dash below zero; a missing one is a dot."""
    strokes: dict[str, list[str]] = {}
    dashes: dict[str, list[str]] = {}
    for r, line in enumerate(steps):
        for c, step in enumerate(line):
            if step is None:
                strokes.setdefault("missing", []).append(f"M{c}.4 {r}h.1")
                continue
            strokes.setdefault(step_class(step), []).append(f"M{c} {r}h.9")
            if step < 0:
                dashes.setdefault("below" if -step <= STEPS / 2 else "below deep", []).append(f"M{c}.22 {r}h.46")
    return [(name, "".join(parts)) for held in (strokes, dashes) for name, parts in sorted(held.items())]


def noted_cells(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[Json]],
    notes: Sequence[Sequence[Json]] | None,
    pictured: bool,
    left: int,
) -> View:
    """The cells to list, largest magnitude first: those with a note, or the largest of a picture.

    Notes take turns until ``left`` characters, markup included, are spent.
    """
    found = []
    for r, line in enumerate(values):
        for c, x in enumerate(line):
            note = label(notes[r][c], NOTE_LIMIT) if notes else ""
            if note or (pictured and x is not None):
                found.append((-abs(x) if x is not None else 0.0, r, c, note))
    found.sort()
    shown = []
    for _, r, c, note in found[: LISTED if pictured else None]:
        left -= len(note) + 80
        if left < 0 and not pictured:
            break
        row = {"k": r * len(columns) + c, "row": rows[r], "column": columns[c], "value": number(values[r][c])}
        shown.append({**row, "note": note if left >= 0 else ""})
    return {"cells": shown, "noted": any(cell["note"] for cell in shown), "unlisted": len(found) - len(shown)}


def row_ticks(rows: Sequence[str], height: float) -> list[tuple[str, str]]:
    """(baseline in pixels, label) of every k-th row, 14 pixels apart at least."""
    every = label_step(math.ceil(14 / height))
    return [(pixels((r + 0.5) * height + 4), label(rows[r], 24)) for r in range(0, len(rows), every)]


def column_ticks(columns: Sequence[str]) -> View:
    """Labels of every k-th column at percent of the width; a few long ones stand upright instead."""
    longest = max(map(len, columns))
    every = label_step(math.ceil((6.6 * min(longest, 24) + 8) * len(columns) / NARROW))
    upright = every > 1 and len(columns) <= 16
    at = range(0, len(columns), 1 if upright else every)
    return {"upright": upright, "at": [(round(100 * (c + 0.5) / len(columns), 2), label(columns[c], 24)) for c in at]}


def label_step(least: int) -> int:
    """The first of 1, 2, 4, 5 times a power of ten that is not below ``least``."""
    power = 1
    while 5 * power < least:
        power *= 10
    return next(m * power for m in (1, 2, 4, 5) if m * power >= least)


def picture(steps: Sequence[Sequence[int | None]]) -> str:
    """The cells as a PNG, one pixel each, in a data URI: a palette of steps in rising opacity on transparent ground."""
    colours = [PICTURE[0] + (0,)]
    for step in range(-STEPS, STEPS + 1):
        red, green, blue = PICTURE[(step > 0) - (step < 0)]
        colours.append((red, green, blue, round(255 * (0.1 + 0.9 * abs(step) / STEPS))))
    lines = [bytes(0 if step is None else step + STEPS + 1 for step in line) for line in steps]
    return "data:image/png;base64," + base64.b64encode(png(lines, colours)).decode()


def heat_picture(levels: Sequence[Sequence[int]]) -> str:
    """Levels 0..10 as a PNG in a data URI: one colour in rising opacity on transparent ground."""
    colours = [(*PICTURE[-1], round(255 * level / 10)) for level in range(11)]
    return "data:image/png;base64," + base64.b64encode(png([bytes(line) for line in levels], colours)).decode()


def png(lines: Sequence[bytes], colours: Sequence[tuple[int, int, int, int]]) -> bytes:
    """A PNG (ISO/IEC 15948) of indices into RGBA colours, one byte a pixel."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", len(lines[0]), len(lines), 8, 3, 0, 0, 0)
    palette, opacity = b"".join(bytes(c[:3]) for c in colours), bytes(c[3] for c in colours)
    body = zlib.compress(b"".join(b"\0" + line for line in lines), 9)
    parts = ((b"IHDR", header), (b"PLTE", palette), (b"tRNS", opacity), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in parts)
