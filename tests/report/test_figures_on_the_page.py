"""Figures of all kinds on the page: well formed, and neither malformed nor hostile ones cost the report."""

from __future__ import annotations

import copy
import re
from collections import Counter

import pytest
from pages import Page
from run_records import HOSTILE, claim, example, hollow, record
from sample_figures import VERBS, curves, dots, grid, hostile_figures, part, realistic, shown, words

from tuneshift.report.html import render_html


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
    assert all(a.get("role") == "group" and a.get("aria-label") and a.get("tabindex") == "0" for a in regions)
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
                assert re.fullmatch(r"[-MLHhvz\d. %]*", attributes[name]), (tag, name, attributes[name][:80])
    assert min(seen[name] for name in ("x", "y", "x1", "d", "viewbox")) > 5


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


def test_hostile_text_stays_text():
    html = shown(*hostile_figures(), pair=HOSTILE[2], group=HOSTILE[0])
    page = Page(html)
    assert page.faults == []
    assert html.count('<figure class="measured">') == 5 * len(HOSTILE)
    assert [a.get("type") for a in page.all("script")] == ["application/json", None]
    assert all(a["src"].startswith("data:image/png;base64,") for a in page.all("img"))
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    assert "{{ 7 * 7 }}" in page.text
    for character in "\u202e\u202c\u200b\ufeff\x00\x07\u2028\ud800":
        assert character not in html
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    assert "w" * 700 not in html


def test_ten_pairs_with_all_figures_stay_below_3_mb():
    names = [f"pair-{k}" for k in range(10)]
    rows = [claim(f"wu2023.f{k}", n=150, pair=p, group=g) for k in range(4) for p in names for g in ("a", "b")]
    for k, row in enumerate(rows[:20:2]):
        row["figures"] = realistic(k)
    html = render_html(record(rows, [example(pair=p) for p in names], names))
    assert html.count('<figure class="measured">') == 40
    assert len(html.encode()) < 3_000_000
