"""Rows of points with intervals, and tables of words."""

from __future__ import annotations

import re

import pytest
from run_records import record
from sample_figures import VERBS, dots, part, shown, table, view, words

from tuneshift.report import figures
from tuneshift.report import values as display
from tuneshift.report.html import render_html


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


@pytest.mark.numerics
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
    assert found == [pytest.approx(mark, abs=0.01) for mark in expected]  # paths have two decimals
    whiskers = re.findall(r"M([\d.]+) ([\d.]+)H([\d.]+)", lower["whiskers"])
    assert [float(y) for _, y, _ in whiskers] == [expected[0][1], expected[2][1]]
    first = figure["rows"][0]["points"][0]
    assert (float(whiskers[0][0]), float(whiskers[0][2])) == pytest.approx(
        (at(first["low"]), at(first["high"])),
        abs=0.01,  # paths have two decimals
    )
    assert upper["marks"].count("M") == 2
    assert laid["reference_at"] == pytest.approx(at(0.5), abs=0.01)  # paths have two decimals


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


def test_lists_of_words_are_cut_and_say_so():
    figure = words(2)
    figure["rows"][0][2] = [f"word{k}" for k in range(40)]
    figure["rows"][1][3] = [f"word{k}" for k in range(30)]
    html = part(shown(figure))
    assert "<li>word29</li>" in html
    assert "word30" not in html
    assert html.count("and 10 more") == 1
    assert html.count('<li class="more">') == 1
    assert 'class="scroll tall taller" role="group"' in html
    assert re.search(r"\.tall thead th {[^}]*position: sticky", render_html(record([])))
    assert display.number(figure["rows"][0][1]) in html


def test_long_tables_of_words_are_cut_and_say_so():
    html = part(shown(words(130)))
    assert html.count("<tr>") == 1 + figures.WORD_ROWS
    assert "30 more rows are not shown; the run record holds them all." in html
