"""Maps of rows by columns: every cell in its colour, values and notes in tables, many cells as a picture."""

from __future__ import annotations

import base64
import itertools
import math
import random
import re
import struct
import zlib

import pytest
from pages import Page
from run_records import claim, record
from sample_figures import dots, grid, part, shown, table, view

from tuneshift.report import figure_grid, figure_values, figures
from tuneshift.report import values as display
from tuneshift.report.html import render_html


def test_every_cell_is_drawn_once_in_the_colour_of_its_value():
    figure = grid(12, 9, values=None)
    source = random.Random(3)
    figure["values"] = [
        [source.choice([None, 0, 0.0, -1, 2.5, source.gauss(0, 3)]) for _ in range(9)] for _ in range(12)
    ]
    laid = view(figure)
    end = laid["legend"]["end"]
    drawn = {}
    for name, path in laid["paths"]:
        for x, y in re.findall(r"M([\d.]+) (\d+)h", path):
            if "below" not in name:
                assert drawn.setdefault((int(y), int(float(x))), name) == name
    assert len(drawn) == 12 * 9
    for (r, c), name in drawn.items():
        x = figure["values"][r][c]
        # By hand: zero is neutral, else sixths of the scale's end, the last one open.
        naive = (
            "missing"
            if x is None
            else "p0"
            if not x
            else f"{'n' if x < 0 else 'p'}{min(6, math.ceil(abs(x) / end * 6))}"
        )
        assert name == naive, x
    dashes = sum(path.count("M") for name, path in laid["paths"] if "below" in name)
    assert dashes == sum(x is not None and x < 0 for line in figure["values"] for x in line)


def test_steps_of_colour_are_odd_and_rise():
    values = [0.0, 1e-9, 0.1, 0.16, 0.17, 0.5, 0.9999, 1.0, 7.0]
    steps = [figure_grid.colour_step(x, 1.0) for x in values]
    assert steps == [0, 1, 1, 1, 2, 3, 6, 6, 6]
    assert [figure_grid.colour_step(-x, 1.0) for x in values] == [-s for s in steps]


def test_one_outlier_does_not_wash_out_a_map():
    quiet = [1.0] * 500 + [-0.7] * 500
    assert figure_grid.colour_end(quiet) == 1.0
    assert figure_grid.colour_end([*quiet, 900.0]) == 1.0
    assert figure_grid.colour_end([]) == figure_grid.colour_end([0, 0.0]) == 1.0
    for reach in (0.0123, 0.9, 7, 11, 4.2e9, 5e-324):
        end = figure_grid.colour_end([-reach])
        assert reach <= end * (1 + 1e-9)
        assert end <= 2 * reach
    figure = grid(20, 50, values=[[1.0] * 50 for _ in range(20)], notes=None)
    assert "≥" not in part(shown(figure))
    figure["values"][3][4] = 900.0
    assert "≤ −1" in part(shown(figure))
    assert "≥ 1<" in part(shown(figure))


def test_values_and_notes_of_a_map_are_in_its_tables():
    figure = grid(6, 7, seed=4)
    html = part(shown(figure))
    matrix = table(html, "matrix")
    assert matrix[0] == ["layer", *figure["columns"]]
    for k, line in enumerate(figure["values"]):
        assert matrix[k + 1] == [str(k), *(display.number(x) for x in line)]
    cells = [
        (abs(x), str(r), str(c), display.number(x), figure["notes"][r][c])
        for r, line in enumerate(figure["values"])
        for c, x in enumerate(line)
        if figure["notes"][r][c]
    ]
    noted = table(html, "sortable noted")[1:]
    assert sorted(map(tuple, noted)) == sorted(row[1:] for row in cells)
    sizes = [abs(float(row[2].replace("−", "-"))) for row in noted]
    assert sizes == sorted(sizes, reverse=True)
    # A row's place in reading order is what the script finds it by.
    for k, row in zip(re.findall(r'<tr data-k="(\d+)"', html), noted, strict=True):
        assert divmod(int(k), 7) == (int(row[0]), int(row[1]))
    low = min((x, r, c) for r, line in enumerate(figure["values"]) for c, x in enumerate(line) if x is not None)
    assert f"lowest {display.number(low[0])} at layer {low[1]}, head {low[2]}" in html


def test_notes_share_the_page_and_the_largest_values_keep_theirs():
    figure = grid(20, 20, seed=5)
    figure["notes"] = [["x" * 100 if value else "" for value in line] for line in figure["values"]]
    whole = figures.figure_views([figure])[0]
    cut = figures.figure_views([figure], figures.Budget(notes=1_800))[0]
    assert whole["unlisted"] == 0
    assert len(cut["cells"]) == 10
    assert cut["unlisted"] == len(whole["cells"]) - 10
    assert cut["cells"] == whole["cells"][:10]
    one, many = [claim(figures=[figure])], [claim(pair=f"p{k}", figures=[figure, dots()]) for k in range(300)]
    assert figures.page_budget(one).notes == 300 * figures.page_budget(many).notes + figures.PAGE_NOTES % 300
    assert figures.page_budget([claim(), claim(figures="x"), claim(figures=[None, 3])]).notes == figures.PAGE_NOTES
    html = render_html(record(many[:20]))
    assert "others are in the run record" in html
    assert "data-cut" in html
    long = grid(1, 1, values=[[1]], notes=[["w" * 10_000]])
    assert len(view(long)["cells"][0]["note"]) == figure_grid.NOTE_LIMIT


def decoded(uri):
    """Rows of (r, g, b, alpha) of a palette PNG, and a check of every checksum."""
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"), validate=True)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(name + body)
        chunks[name] = body
        at += 12 + size
    assert list(chunks) == [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"]
    width, height, *form = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert form == [8, 3, 0, 0, 0]
    raw = zlib.decompress(chunks[b"IDAT"])
    lines = [raw[k * (width + 1) : (k + 1) * (width + 1)] for k in range(height)]
    assert all(len(line) == width + 1 and line[0] == 0 for line in lines)
    return [[(*chunks[b"PLTE"][3 * i : 3 * i + 3], chunks[b"tRNS"][i]) for i in line[1:]] for line in lines]


def test_more_than_ten_thousand_cells_become_one_picture():
    assert view(grid(100, 100))["picture"] is None
    figure = grid(137, 73, seed=9)
    laid = view(figure)
    assert not laid["paths"]
    assert not laid["table"]
    pixels = decoded(laid["picture"])
    assert (len(pixels), len(pixels[0])) == (137, 73)
    for line, values in zip(pixels, figure["values"], strict=True):
        for (r, g, b, alpha), x in zip(line, values, strict=True):
            if x is None:
                assert alpha == 0
                continue
            step = figure_grid.colour_step(x, laid["legend"]["end"])
            assert (r, g, b) == figure_grid.PICTURE[(x > 0) - (x < 0)]
            assert abs(alpha / 255 - (0.1 + 0.15 * abs(step))) < 0.01
    # The legend is drawn with the same palette.
    assert [p[3] for p in decoded(laid["ladder"])[0]] == [round(255 * (0.1 + 0.15 * abs(k))) for k in range(-6, 7)]


def test_a_picture_lists_its_five_hundred_largest_values():
    source = random.Random(2)
    values = [[source.gauss(0, 1) for _ in range(201)] for _ in range(50)]
    html = shown(grid(50, 201, values=values, notes=None))
    rows = table(part(html), "sortable")[1:]
    sizes = sorted((abs(x) for line in values for x in line), reverse=True)
    assert [display.number(abs(float(row[2].replace("−", "-")))) for row in rows] == [
        display.number(x) for x in sizes[:500]
    ]
    assert "The 500 largest of 10,050 values" in html
    assert "9,550 others are in the run record" in html
    page = Page(html)
    assert {a["src"][:22] for a in page.all("img")} == {"data:image/png;base64,"}
    assert all("alt" in a for a in page.all("img"))
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "img-src data:" in policy
    assert "default-src 'none'" in policy


@pytest.mark.parametrize(("names", "count"), [("{}", 32), ("{}", 100), ("a long name {}", 6), ("a long name {}", 40)])
def test_labels_along_a_map_do_not_overlap_on_a_phone(names, count):
    labels = [names.format(k) for k in range(count)]
    laid = view(grid(count, count, rows=labels, columns=labels, values=[[1] * count] * count, notes=None))
    across = laid["column_ticks"]
    if across["upright"]:
        assert [text for _, text in across["at"]] == labels
    else:
        widths = [6.6 * len(text) for _, text in across["at"]]
        places = [at * figure_values.NARROW / 100 for at, _ in across["at"]]
        for (a, w), (b, v) in itertools.pairwise(zip(places, widths, strict=True)):
            assert b - a > (w + v) / 2
    down = [float(y) for y, _ in laid["row_ticks"]]
    assert all(b - a >= 13.9 for a, b in itertools.pairwise(down))
    assert down[-1] <= laid["height"] + 4
