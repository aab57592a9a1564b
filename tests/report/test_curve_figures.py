"""Lines over a common axis."""

from __future__ import annotations

import itertools
import re

import pytest
from run_records import record
from sample_figures import curves, part, shown, table, view

from tuneshift.report import figures
from tuneshift.report import values as display
from tuneshift.report.html import render_html


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
    expected = [round(laid["across"].at(k), 1) for k in sorted({*range(0, 40, 5), 23})]
    assert [float(x) for x in re.findall(r"M([\d.]+) ", laid["lines"][0]["marks"])] == expected


@pytest.mark.numerics
def test_lines_stand_at_their_values():
    figure = curves(5, ("a", "b"))
    laid = view(figure)
    values = [v for one in figure["series"] for name in ("values", "low", "high") for v in one[name] or ()]
    low, high = min(values), max(values)
    for one, line in zip(figure["series"], laid["lines"], strict=True):
        points = [tuple(map(float, p.split())) for p in line["line"].removeprefix("M").split("L")]
        naive = [(2 + 24 * k, 98 - 96 * (v - low) / (high - low)) for k, v in enumerate(one["values"])]
        assert points == [pytest.approx(p, abs=0.06) for p in naive]  # paths have one decimal


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
