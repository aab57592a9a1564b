"""Several pairs and several records in one report: the matrix, the small multiples, merging."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from pages import Page
from run_records import claim, compared, example, many_pairs_record, model_ref, not_applicable, record

from tuneshift.errors import RecordError
from tuneshift.report import values as display
from tuneshift.report.claims import finding_views
from tuneshift.report.html import render_html
from tuneshift.report.pairs import NAMED_ROWS, matrix_rows, small_multiples
from tuneshift.report.several_runs import merged
from tuneshift.run_record import RunRecord


def test_one_pair_has_no_matrix_and_draws_its_effects_in_the_table() -> None:
    page = Page(render_html(record([claim()])))
    assert not [a for a in page.all("table") if a.get("class") == "pairs"]
    assert len([a for a in page.all("td") if a.get("class") == "drawn"]) == 1


def test_the_matrix_has_a_cell_for_every_finding_and_pair() -> None:
    claims = [
        claim("x2024.one", pair="a", group="g"),
        claim("x2024.one", pair="a", group="h"),
        claim("x2024.one", pair="b"),
        not_applicable(finding="x2024.two", pair="b"),
    ]
    rows = matrix_rows(finding_views(claims))
    assert [(f["id"], [len(cell) for cell in cells]) for f, cells in rows] == [
        ("x2024.one", [2, 1]),
        ("x2024.two", [0, 1]),
    ]
    html = render_html(record(claims, pairs=["a", "b"]))
    matrix = html[html.index('<table class="pairs">') : html.index("</table>")]
    page = Page(matrix + "</table>")
    targets = {(a["href"] or "")[1:] for a in page.all("a")}
    ids = {a.get("id") for _, a in Page(html).elements}
    assert targets <= ids
    assert len(targets) == 2 + len(claims)
    assert Counter(re.findall("reproduced|inconclusive", page.text)) == Counter(c["verdict"] for c in claims[:3])
    assert "not applicable" in page.text


def test_a_change_shows_in_its_cell() -> None:
    claims = [claim(pair="a", comparison=compared("regressed")), claim(pair="b", comparison=compared("held"))]
    html = render_html(record(claims, pairs=["a", "b"]))
    matrix = html[html.index('<table class="pairs">') : html.index("</table>")]
    assert matrix.count("▼</span>") == 1
    assert ", regressed</span>" in matrix
    assert "held" not in matrix


@pytest.mark.parametrize(("pairs", "named"), [(2, True), (NAMED_ROWS, True), (NAMED_ROWS + 1, False), (50, False)])
def test_a_panel_draws_every_claim_at_its_effect(pairs: int, named: bool) -> None:
    claims = [claim(shift=0.1 * (k % 7), pair=f"p{k}") for k in range(pairs)]
    (panel,) = small_multiples(finding_views(claims))
    scale = panel["finding"]["axis"]
    assert [row["at"] for row in panel["rows"]] == [scale.at(c["effect"]) for c in claims]
    assert [row["whisker"] for row in panel["rows"]] == [tuple(map(scale.at, c["interval"])) for c in claims]
    assert bool(panel["names"]) == named
    heights = [float(row["y"]) for row in panel["rows"]]
    assert all(0 < y < panel["height"] for y in heights)
    assert heights == sorted(set(heights))
    html = render_html(record(claims, pairs=[f"p{k}" for k in range(pairs)]))
    panels = html[html.index('<div class="panels">') : html.index('<section id="claims"')]
    whiskers = re.findall(r'<line class="ci" x1="([\d.]+)%" x2="([\d.]+)%"', panels)
    drawn = [tuple(display.number(scale.at(x)) for x in c["interval"]) for c in claims]
    assert whiskers == drawn
    marks = re.findall(r'<svg x="([\d.]+)%"', panels)
    assert marks == [display.number(scale.at(c["effect"])) for c in claims]


@pytest.mark.parametrize("pairs", [1, 2, 50])
def test_from_one_to_fifty_pairs_the_page_is_well_formed(pairs: int) -> None:
    names = [f"pair-{k}" for k in range(pairs)]
    claims = [claim(f, n=12, pair=p) for f in ("x2024.one", "x2024.two") for p in names]
    page = Page(render_html(record(claims, [example(pair=p) for p in names], names)))
    assert page.faults == []
    assert sum("data-claim" in a for a in page.all("tr")) == 2 * pairs
    assert sum((a.get("class") or "") == "panel" for a in page.all("figure")) == (2 if pairs > 1 else 0)


def test_records_of_other_pairs_stand_side_by_side() -> None:
    first = record([claim(pair="a")], [example(pair="a")], ["a"])
    second = record([claim(pair="b")], [example(pair="b")], ["b"])
    both = merged([first, second])
    assert [p["name"] for p in both.pairs] == ["a", "b"]
    assert [c["pair"] for c in both.claims] == ["a", "b"]
    assert [e["pair"] for e in both.examples] == ["a", "b"]
    assert both.run["runs"] == [first.run, second.run]
    assert merged([first]) is first


def test_a_claim_that_was_tested_again_counts_once_as_it_came_out_last() -> None:
    both = merged([record([claim(), claim(group="MT-bench")]), record([claim(reason="again")])])
    assert len(both.pairs) == 1
    assert [(c["group"], c["reason"]) for c in both.claims if c["group"] == "Self-Instruct"] == [
        ("Self-Instruct", "again")
    ]
    assert len(both.claims) == 2


def test_another_checkpoint_under_the_same_name_is_another_pair() -> None:
    older, newer, newest = (record([claim()], [example()]) for _ in range(3))
    newer.pairs[0]["tuned"] = model_ref("ckpt-1400")
    newest.pairs[0]["tuned"] = model_ref("ckpt-1400") | {"dtype": "bfloat16"}
    newest.pairs[0]["base"] = model_ref("other-base")
    both = merged([older, newer, newest])
    mark = model_ref("ckpt-1400")["fingerprint"][:8]
    names = ["llama-vicuna", f"llama-vicuna @{mark}", f"llama-vicuna @{mark} (2)"]
    assert [p["name"] for p in both.pairs] == names
    assert [c["pair"] for c in both.claims] == names
    assert [e["pair"] for e in both.examples] == names


def test_a_prompt_set_is_named_where_its_pair_has_several() -> None:
    claims = [
        claim(pair="a", prompts="one"),
        claim(pair="a", prompts="two"),
        claim(pair="b", prompts="three"),
        claim("x2024.weights", pair="b", prompts="weights", group="all"),
    ]
    places = [c["where"] for f in finding_views(claims) for c in f["claims"]]
    assert places == ["one · Self-Instruct", "two · Self-Instruct", "Self-Instruct", "weights"]


def test_nothing_to_merge_and_other_schemas_are_refused() -> None:
    with pytest.raises(RecordError, match=r"name at least one run\.json"):
        merged([])
    with pytest.raises(RecordError, match="schemas 1, 2"):
        merged([record([]), RunRecord(schema=2, run={}, pairs=[], claims=[])])


def test_every_run_is_in_the_provenance() -> None:
    first, second = record([claim(pair="a")], [], ["a"]), record([claim(pair="b")], [], ["b"])
    second = RunRecord(
        schema=1, run={**second.run, "command": "pytest suites --pair b"}, pairs=second.pairs, claims=second.claims
    )
    text = Page(render_html(merged([first, second]))).text
    provenance = text[text.rindex("Provenance") :]
    assert "pytest suites --pairs pairs.toml --pair llama-vicuna" in provenance
    assert "pytest suites --pair b" in provenance


def test_many_pairs_have_their_filter_and_closed_claims() -> None:
    page = Page(render_html(many_pairs_record()))
    assert any(a.get("id") == "filter" for a in page.all("input"))
    assert not any("open" in a for a in page.all("details") if a.get("class") == "claim")


def test_an_error_stays_until_a_run_makes_its_claim() -> None:
    def run(claims: list[str], errors: list[str]) -> RunRecord:
        place = {"pair": "p", "prompts": "s", "group": "all"}
        return RunRecord(
            schema=1,
            run={},
            pairs=[{"name": "p"}],
            claims=[{**place, "finding": name} for name in claims],
            errors=[{**place, "finding": name, "message": "no memory"} for name in errors],
        )

    both = merged([run(["a"], ["b"]), run(["b"], ["a", "c"])])
    assert [claim["finding"] for claim in both.claims] == ["a", "b"]
    assert [error["finding"] for error in both.errors] == ["c"]
