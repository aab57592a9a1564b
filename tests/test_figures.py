"""Figures of a claim in the report: values are where they belong; nothing malformed or hostile costs the page."""

import base64
import colorsys
import copy
import itertools
import math
import random
import re
import struct
import zlib
from collections import Counter

import pytest
import test_report
from test_report import CHROMIUM, HOSTILE, Page, claim, contrast, example, hollow, in_chromium, palettes, record

from tuneshift import display, figure_grid, figure_values, figures
from tuneshift.report import render_html
from tuneshift.resources import data_folder

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


# Records


def test_records_without_figures_render_as_before():
    bare = render_html(record([claim()]))
    assert bare == shown() == render_html(record([claim(figures=None)]))
    assert '<figure class="measured">' not in bare


def test_the_page_around_figures_is_well_formed_and_named():
    page = Page(render_html(record([claim(figures=realistic()), claim("x.y", figures=realistic(1))], [example()])))
    assert page.faults == []
    assert page.open == []
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert [i for i, n in Counter(ids).items() if n > 1] == []
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(a.get("scope") in ("col", "row", "rowgroup") for a in page.all("th"))
    images = [a for a in page.all("svg") if a.get("role") == "img"]
    assert sum(bool(a.get("aria-label")) for a in images) >= 6
    assert all(a.get("aria-label") or a.get("aria-labelledby") for a in images)
    regions = [a for _, a in page.elements if "scroll" in (a.get("class") or "").split()]
    assert regions
    assert all(a.get("role") == "region" and a.get("aria-label") and a.get("tabindex") == "0" for a in regions)
    for title in ("Relations gained", "Win rate per verb", "Overlap of the subspaces", "Concepts that moved"):
        assert page.text.count(title) >= 2


COORDINATES = {"x", "y", "x1", "x2", "y1", "y2", "width", "height", "d", "viewbox"}


def test_coordinates_are_never_formatted_for_readers():
    # A y of 1005.5 printed as a reader's number is "1,006", which browsers drop.
    tall = [dots([f"verb {k}" for k in range(60)]), grid(400, 20), curves(1500), grid(1500, 20)]
    page = Page(part(shown(*tall, *realistic())))
    seen = Counter()
    for tag, attributes in page.elements:
        for name in COORDINATES & set(attributes):
            if tag in ("svg", "line", "path", "text", "rect", "img"):
                seen[name] += 1
                assert re.fullmatch(r"[-MLHhz\d. %]*", attributes[name]), (tag, name, attributes[name][:80])
    assert min(seen[name] for name in ("x", "y", "x1", "d", "viewbox")) > 5


# Grid


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
    cut = figures.figure_views([figure], notes=1_800)[0]
    assert whole["unlisted"] == 0
    assert len(cut["cells"]) == 10
    assert cut["unlisted"] == len(whole["cells"]) - 10
    assert cut["cells"] == whole["cells"][:10]
    one, many = [claim(figures=[figure])], [claim(pair=f"p{k}", figures=[figure, dots()]) for k in range(300)]
    assert figures.note_budget(one) == 300 * figures.note_budget(many) + figures.PAGE_NOTES % 300
    assert figures.note_budget([claim(), claim(figures="x"), claim(figures=[None, 3])]) == figures.PAGE_NOTES
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


# Dots


def test_rows_keep_their_order_within_groups_and_groups_theirs():
    figure = dots()
    laid = view(figure)
    first = [v for k, v in enumerate(VERBS) if k % 6 != 5]
    second = [v for k, v in enumerate(VERBS) if k % 6 == 5]
    assert [line["text"] for line in laid["lines"]] == ["instruction", *first, "general", *second]
    assert [line["text"] for line in laid["lines"] if line["head"]] == ["instruction", "general"]
    alone = dots(VERBS[:3])
    for row in alone["rows"]:
        row["group"] = ""
    assert [line["text"] for line in view(alone)["lines"]] == VERBS[:3]


def test_marks_and_whiskers_stand_at_their_values():
    figure = dots(VERBS[:3])
    figure["rows"][1]["points"][0] |= {"low": None, "high": None}
    figure["rows"][2]["points"][1] |= {"value": None}
    laid = view(figure)
    low = min(p["low"] for row in figure["rows"] for p in row["points"] if p["low"] is not None)
    high = max(p["high"] for row in figure["rows"] for p in row["points"] if p["high"] is not None)

    def at(value):
        return 2 + 96 * (value - low) / (high - low)

    lower, upper = laid["marks"]
    found = [tuple(map(float, mark)) for mark in re.findall(r"M([\d.]+) ([\d.]+)h0", lower["marks"])]
    # One heading, then rows 26 pixels apart; the first of two points stands 5.5 above the middle.
    expected = [(at(row["points"][0]["value"]), 26 * (k + 1.5) - 5.5) for k, row in enumerate(figure["rows"])]
    assert found == [pytest.approx(mark, abs=0.01) for mark in expected]
    whiskers = re.findall(r"M([\d.]+) ([\d.]+)H([\d.]+)", lower["whiskers"])
    assert [float(y) for _, y, _ in whiskers] == [expected[0][1], expected[2][1]]
    first = figure["rows"][0]["points"][0]
    assert (float(whiskers[0][0]), float(whiskers[0][2])) == pytest.approx(
        (at(first["low"]), at(first["high"])), abs=0.01
    )
    assert upper["marks"].count("M") == 2
    assert laid["reference_at"] == pytest.approx(at(0.5), abs=0.01)


def test_every_point_is_in_the_table_with_its_n():
    figure = dots()
    figure["rows"][0]["points"].pop()
    rows = table(part(shown(figure)), "sortable")
    assert rows[0] == ["Row", "Group", "lower layers [interval]", "n", "upper layers [interval]", "n"]
    assert len(rows) == 46
    for row in figure["rows"]:
        texts = [
            f"{display.number(p['value'])} [{display.number(p['low'])}, {display.number(p['high'])}]"
            for p in row["points"]
        ]
        line = [row["label"], row["group"], texts[0], str(row["points"][0]["n"])]
        line += [texts[1], str(row["points"][1]["n"])] if len(texts) > 1 else ["–", "–"]
        assert line in rows


def test_more_than_sixty_rows_are_cut_with_a_note_and_whole_in_the_table():
    html = part(shown(dots([f"verb {k}" for k in range(75)])))
    names = re.search(r'<div class="names".*?</div>', html, flags=re.S)[0]
    assert names.count("verb ") - names.count('title="verb ') == 60
    assert "15 more rows are not drawn; the table holds all." in html
    assert len(table(html, "sortable")) == 76
    assert "not drawn" not in part(shown(dots([f"verb {k}" for k in range(60)])))


# Curves


def test_a_missing_value_breaks_its_line_and_band():
    values = [1.0, 2.0, None, 4.0, None, None, 7.0, 8.0]
    one = {"label": "a", "values": values, "low": [0, 1, None, 3, 3, 3, None, 7], "high": [9] * 8}
    laid = view(curves(8, series=[one]))
    line = laid["lines"][0]
    assert [len(run.split("L")) for run in line["line"].split("M")[1:]] == [2, 1, 2]
    # Bands need both edges: places 0-1, 3-5 and 7.
    assert [len(run.split("L")) for run in line["band"].split("M")[1:]] == [4, 6, 2]
    # A point without neighbours is marked, since a line of one point is not seen; of a long line every eighth part is.
    alone = [1.0 if k != 22 and k != 24 else None for k in range(40)]
    laid = view(curves(40, series=[{"label": "a", "values": alone, "low": None, "high": None}]))
    expected = [laid["across"].at(k) for k in sorted({*range(0, 40, 5), 23})]
    assert [float(x) for x in re.findall(r"M([\d.]+) ", laid["lines"][0]["marks"])] == expected


def test_lines_stand_at_their_values():
    figure = curves(5, ("a", "b"))
    laid = view(figure)
    values = [v for one in figure["series"] for name in ("values", "low", "high") for v in one[name] or ()]
    low, high = min(values), max(values)
    for one, line in zip(figure["series"], laid["lines"], strict=True):
        points = [tuple(map(float, p.split())) for p in line["line"].removeprefix("M").split("L")]
        naive = [(2 + 24 * k, 98 - 96 * (v - low) / (high - low)) for k, v in enumerate(one["values"])]
        assert points == [pytest.approx(p, abs=0.011) for p in naive]


def test_an_axis_of_whole_numbers_has_whole_ticks():
    assert [text for _, text in view(curves(3))["across"].ticks] == ["0", "1", "2"]
    assert [text for _, text in view(curves(32))["across"].ticks] == ["0", "10", "20", "30"]
    assert [text for _, text in view(curves(3, x=[0, 0.5, 1]))["across"].ticks][1] == "0.2"


@pytest.mark.parametrize("levels", [[0.5] * 8, [0.0] * 8, [1.0] * 8, [k / 7 for k in range(8)], [0, 0, 0.5, 1, 1]])
def test_labels_at_line_ends_never_overlap_nor_leave_the_figure(levels):
    frame = {"label": "frame", "values": [0.0, 1.0, None], "low": None, "high": None}
    series = [{"label": f"s{k}", "values": [0.5, 0.5, v], "low": None, "high": None} for k, v in enumerate(levels)]
    laid = view(curves(3, series=[*series[:7], frame]))
    places = sorted(line["label_at"] for line in laid["lines"])
    assert all(b - a >= 15 - 1e-9 for a, b in itertools.pairwise(places))
    assert places[0] >= 0
    assert places[-1] <= figures.CURVE_HEIGHT
    assert [line["label_at"] for line in laid["lines"]] != [line["level"] for line in laid["lines"]] or len(levels) < 3


def test_lines_are_told_apart_without_colour():
    css = render_html(record([]))
    dashes = {k: re.search(rf"\.curve\.c{k} {{ stroke-dasharray: ([\d ]+)", css) for k in range(figures.SERIES)}
    texts = [found[1] if found else "solid" for found in dashes.values()]
    assert len(set(texts)) == figures.SERIES
    html = part(shown(curves(12, [f"line {k}" for k in range(11)])))
    assert "3 more lines are not drawn; the table holds all." in html
    head = table(html, "sortable")[0]
    assert head == ["layer", *(f"line {k}" for k in range(11))]
    legend = re.search(r'<p class="legend">.*?</p>', html, flags=re.S)[0]
    # A legend entry shows the dash, and one of four markers: filled or hollow, round or square.
    assert legend.count('<line class="curve') == 8
    assert legend.count("hollowed") == 4


def test_curve_tables_hold_values_with_bounds():
    figure = curves(4)
    rows = table(part(shown(figure)), "sortable")
    first, second = figure["series"][:2]
    for k in range(4):
        bounds = f"[{display.number(first['low'][k])}, {display.number(first['high'][k])}]"
        assert rows[k + 1][:3] == [
            str(k),
            f"{display.number(first['values'][k])} {bounds}",
            display.number(second["values"][k]),
        ]


# Words


def test_lists_of_words_are_cut_and_say_so():
    figure = words(2)
    figure["rows"][0][2] = [f"word{k}" for k in range(40)]
    figure["rows"][1][3] = [f"word{k}" for k in range(30)]
    html = part(shown(figure))
    assert "<li>word29</li>" in html
    assert "word30" not in html
    assert html.count("and 10 more") == 1
    assert html.count('<li class="more">') == 1
    assert 'class="scroll tall taller" role="region"' in html
    assert re.search(r"\.tall thead th {[^}]*position: sticky", render_html(record([])))
    assert display.number(figure["rows"][0][1]) in html


def test_long_tables_of_words_are_cut_and_say_so():
    html = part(shown(words(130)))
    assert html.count("<tr>") == 1 + figures.WORD_ROWS
    assert "30 more rows are not shown; the run record holds them all." in html


# What cannot be shown


MALFORMED = [
    ({"kind": "pie", "title": "T"}, "(<bdi>T</bdi>): its kind is 'pie'; this version draws grid, dots, curves, words"),
    ({"title": "T"}, "its kind is null"),
    ({"kind": ["grid"]}, "(<bdi>figure 1</bdi>): its kind is a list"),
    (None, "it is null; an object with a kind is needed"),
    ("grid", "it is a text; an object with a kind is needed"),
    (grid(values=[[1]]), "values has 1 entries, not 4"),
    (grid(values=[[1]] * 4), "entry 0 of values has 1 values; a list of 5 is needed"),
    (grid(values=[None] * 4), "entry 0 of values is null; a list of 5 is needed"),
    (grid(values=[["1"] * 5] * 4), "a value is a text; a number or null is needed"),
    (grid(rows=[]), "it has 0 cells; 1 to 1,000,000 can be shown"),
    (grid(rows=list(range(2_000)), columns=list(range(501))), "it has 1,002,000 cells"),
    (grid(notes=[["a"]]), "notes has 1 entries, not 4"),
    (grid(rows={"a": 1}), "rows is an object; a list is needed"),
    (dots(rows=[]), "it has no rows"),
    (dots(rows=[{"label": "a"}]), "points is null; a list is needed"),
    (dots(rows=[{"label": "a", "points": [{"value": 1}, {"value": 2}]}]), "row 'a' has two points labelled ''"),
    (dots(reference="half"), "a value is a text"),
    (curves(x=[1, None, 3]), "x must be numbers, at least one"),
    (curves(3, series=[]), "it has no series"),
    (curves(3, x=[1, 2]), "values has 3 entries, not 2"),
    (words(columns=[]), "entry 0 of rows has 4 values; a list of 0 is needed"),
    (words(rows=[]), "it has no columns or no rows"),
    (words(1, rows=[["a", True, [], []]]), "a value is a truth value"),
    (words(1, rows=[["a", {"b": 1}, [], []]]), "a value is an object"),
]


@pytest.mark.parametrize(("figure", "reason"), MALFORMED, ids=[reason[:40] for _, reason in MALFORMED])
def test_a_figure_that_cannot_be_shown_is_named_and_the_others_are_shown(figure, reason):
    html = shown(figure, curves())
    assert Page(html).faults == []
    notes = re.findall(r"<p class=\"note\">A figure could not be shown.*?</p>", html)
    assert len(notes) == 1
    assert reason in notes[0].replace("&#39;", "'")
    assert html.count('<figure class="measured">') == 1


@pytest.mark.parametrize("held", [{"kind": "grid"}, "grid", 7, True])
def test_figures_that_are_no_list_are_named(held):
    html = render_html(record([claim(figures=held)]))
    assert html.count("A figure could not be shown: figures is") == 1


def replaced(value, path, new):
    """A copy of a JSON value with the part at the path replaced."""
    if not path:
        return new
    held = copy.copy(value)
    held[path[0]] = replaced(value[path[0]], path[1:], new)
    return held


def paths(value):
    """Paths of every part of a JSON value, the value itself first."""
    yield ()
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        for rest in paths(inner):
            yield (key, *rest)


STRANGE = [
    None,
    "x",
    {},
    [],
    [[]],
    {"label": []},
    float("nan"),
    float("-inf"),
    1.7e308,
    5e-324,
    -0.0,
    10**400,
    True,
    "9" * 9_000,
]


def test_no_part_of_a_figure_that_is_strange_costs_the_report():
    figure_list = [grid(2, 2), dots(VERBS[:2]), curves(3), words(1)]
    broken = [replaced(f, path, new) for f in figure_list for path in paths(f) for new in STRANGE]
    assert len(broken) > 1_000
    html = shown(*broken)
    page = Page(html)
    assert page.faults == []
    drawn, missing = html.count('<figure class="measured">'), html.count("A figure could not be shown")
    assert drawn + missing == len(broken)
    assert min(drawn, missing) > 200
    assert not re.search(r"\b(?:nan|NaN|None|Undefined|inf)\b", page.text.replace("None of the", ""))


def test_figures_without_numbers_show_dashes():
    html = shown(*(hollow(figure) for figure in [grid(), dots(VERBS[:4]), words(2)]))
    page = Page(html)
    assert page.faults == []
    # Notes and words stay; x of a curve cannot be missing, so that one is named.
    assert html.count('<figure class="measured">') == 3
    assert not re.search(r"\b(?:nan|NaN|None|inf)\b", page.text.replace("None of the", ""))
    assert "A figure could not be shown" in shown(hollow(curves()))


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


def test_hostile_text_stays_text():
    html = shown(*hostile_figures(), pair=HOSTILE[2], group=HOSTILE[0])
    page = Page(html)
    assert page.faults == []
    assert html.count('<figure class="measured">') == 5 * len(HOSTILE)
    assert len(page.all("script")) == 1
    assert all(a["src"].startswith("data:image/png;base64,") for a in page.all("img"))
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    assert "{{ 7 * 7 }}" in page.text
    for character in "\u202e\u202c\u200b\ufeff\x00\x07\u2028\ud800":
        assert character not in html
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    assert "w" * 700 not in html


# Size and looks


def test_ten_pairs_with_all_figures_stay_below_3_mb():
    names = [f"pair-{k}" for k in range(10)]
    rows = [claim(f"wu2023.f{k}", n=150, pair=p, group=g) for k in range(4) for p in names for g in ("a", "b")]
    for k, row in enumerate(rows[:20:2]):
        row["figures"] = realistic(k)
    html = render_html(record(rows, [example(pair=p) for p in names], names))
    assert html.count('<figure class="measured">') == 40
    assert len(html.encode()) < 3_000_000


def mixed(one, other, share):
    """#rrggbb of two colours mixed in sRGB."""
    pairs = [(int(one[k : k + 2], 16), int(other[k : k + 2], 16)) for k in (1, 3, 5)]
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in pairs)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_read_in_both_schemes(scheme):
    colours = palettes()[scheme]
    full = {name: f"#{c[1:]}" if len(c) == 7 else "#" + "".join(2 * d for d in c[1:]) for name, c in colours.items()}
    lines = ("base", "tuned", *(f"line{k}" for k in range(3, 9)))
    assert {n: contrast(full[n], full["bg"]) for n in lines if contrast(full[n], full["bg"]) < 3} == {}
    # Words on chips, and the note of a cut list on the page.
    assert contrast(full["text"], full["band"]) >= 4.5
    css = (data_folder("reports") / "templates" / "style.css").read_text(encoding="utf-8")
    assert "color-mix(in srgb, var(--gain) {{ 4 + 16 * k }}%, var(--still))" in css
    for name in ("gain", "loss"):
        ladder = [mixed(full[name], full["still"], (4 + 16 * k) / 100) for k in range(1, figure_grid.STEPS + 1)]
        against = [contrast(c, full["still"]) for c in ladder]
        # Each step is farther from zero than the one before; the last is a mark that can be seen on the page.
        assert all(b > a for a, b in itertools.pairwise([1.0, *against]))
        assert contrast(ladder[-1], full["bg"]) >= 3
        # The dash that says "below zero" without colour.
        dashes = [contrast(c, full["text" if k <= 3 else "bg"]) for k, c in enumerate(ladder, start=1)]
        assert min(dashes) >= 2.5
    parts = [int(full["still"][k : k + 2], 16) / 255 for k in (1, 3, 5)]
    assert colorsys.rgb_to_hsv(*parts)[1] < 0.25, "zero is neutral"
    for sign in (-1, 1):
        assert contrast("#" + bytes(figure_grid.PICTURE[sign]).hex(), full["bg"]) >= 3


PROBE = """<!doctype html><title>waiting</title><iframe id=f style="width:1280px;height:900px" src="{url}"></iframe>
<script>
f.onload = () => {{
  const w = f.contentWindow, d = f.contentDocument, seen = {{}};
  const maps = [...d.querySelectorAll(".map")], map = maps[0], out = map.closest("figure").querySelector(".readout");
  seen.before = [out.hidden, out.textContent];
  const at = (plane, r, c, rows, columns) => {{
    const box = plane.getBoundingClientRect();
    const [clientX, clientY] = [box.left + box.width * (c + 0.5) / columns, box.top + box.height * (r + 0.5) / rows];
    plane.dispatchEvent(new w.PointerEvent("pointermove", {{ clientX, clientY, bubbles: true }}));
  }};
  at(map.querySelector(".plane"), 3, 5, 32, 32);
  seen.pointed = out.textContent;
  const [cursor, plane] = [".cursor", ".plane"].map((name) => map.querySelector(name).getBoundingClientRect());
  seen.cursor = [(cursor.left - plane.left) / plane.width * 32, (cursor.top - plane.top) / plane.height * 32];
  const key = (key) => map.dispatchEvent(new w.KeyboardEvent("keydown", {{ key, bubbles: true, cancelable: true }}));
  seen.kept = [key("ArrowDown"), key("ArrowLeft"), key("x")];
  seen.moved = out.textContent;
  for (let k = 0; k < 40; k++) key("ArrowUp");
  seen.edge = out.textContent;
  key("Escape");
  seen.left = [out.textContent, map.querySelectorAll(".cursor").length];
  const sort = map.closest("figure").querySelector("table.sortable");
  d.querySelectorAll("details").forEach((part) => {{ part.open = true; }});
  sort.tHead.rows[0].cells[0].firstChild.click();
  seen.sorted = [...sort.tBodies[0].rows].map((row) => Number(row.cells[0].textContent));
  at(map.querySelector(".plane"), 3, 5, 32, 32);
  seen.again = out.textContent;
  const big = maps[maps.length - 1];
  at(big.querySelector(".plane"), 0, 0, 101, 100);
  seen.big = big.closest("figure").querySelector(".readout").textContent;
  seen.images = [...d.images].map((image) => [image.naturalWidth, image.naturalHeight]);
  seen.overflow = {{}};
  for (const width of [320, 390, 700, 900, 1280]) {{
    f.style.width = `${{width}}px`;
    seen.overflow[width] = d.documentElement.scrollWidth - d.documentElement.clientWidth;
  }}
  document.title = "done";
  document.body.textContent = JSON.stringify(seen);
}};
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: the figures were not opened in a browser")
def test_in_a_browser_a_map_tells_its_cells_by_pointer_and_by_keys(tmp_path, monkeypatch):
    monkeypatch.setattr(test_report, "PROBE", PROBE)
    figure = grid(32, 32)
    figure["values"][3][5], figure["values"][4][4], figure["values"][0][4] = 42, -7.5, None
    figure["notes"][3][5] = "write <b>– compose"
    seen, console = in_chromium(tmp_path, record([claim(figures=[figure, dots(), curves(), words(), grid(101, 100)])]))
    assert console == ""
    assert seen["before"] == [False, "Point at a cell, or reach the map with Tab and move with the arrow keys."]
    assert seen["pointed"] == seen["again"] == "layer 3, head 5: 42. write <b>– compose"
    assert seen["cursor"] == pytest.approx([5, 3], abs=0.05)
    # Arrow keys move the cell and not the page; other keys do what they always do.
    assert seen["kept"] == [False, False, True]
    assert seen["moved"].startswith("layer 4, head 4: −7.50")
    assert seen["edge"].startswith("layer 0, head 4: –")
    assert seen["left"] == [seen["before"][1], 0]
    assert seen["sorted"] == sorted(seen["sorted"])
    assert seen["big"].startswith("layer ")
    assert seen["images"] == [[13, 1], [100, 101]]
    assert {width: by for width, by in seen["overflow"].items() if by > 0} == {}


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: the figures were not opened in a browser")
@pytest.mark.parametrize("hostile", [False, True])
def test_in_a_browser_nothing_breaks(tmp_path, hostile):
    held = record([claim(figures=hostile_figures() if hostile else realistic())], [example()])
    seen, console = in_chromium(tmp_path, held)
    assert console == ""
    assert seen["title"].startswith("tuneshift: ")
    assert {width: by for width, by in seen["overflow"].items() if by > 0} == {}
    assert seen["printing"] == [True, True, True]
