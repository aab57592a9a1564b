"""The page as a file: well formed, self-contained, small, deaf to what models write, whole on disk."""

from __future__ import annotations

import itertools
import json
import re
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from pages import Page
from run_records import claim, compared_record, example, full_record, hollow, hostile_record, record

from tuneshift.errors import RecordError, UsageError
from tuneshift.report import values as display
from tuneshift.report.claims import finding_views
from tuneshift.report.html import render_html, write_report
from tuneshift.report.markdown import render_summary
from tuneshift.run_record import RunRecord, make_record


def test_the_page_is_well_formed_and_every_claim_is_in_it() -> None:
    held = full_record()
    page = Page(render_html(held))
    assert page.faults == []
    assert page.open == []
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert [i for i, n in Counter(ids).items() if n > 1] == []
    targets = [(a["href"] or "")[1:] for a in page.all("a") if (a.get("href") or "").startswith("#")]
    assert set(targets) <= set(ids)
    referred = [name for _, a in page.elements for name in (a.get("aria-labelledby") or "").split()]
    assert referred
    assert set(referred) <= set(ids)
    assert sum("data-claim" in a for a in page.all("tr")) == len(held.claims)
    assert sum((a.get("class") or "") == "claim" for a in page.all("details")) == len(held.claims)
    for row in held.claims:
        assert row["finding"] in ids
        assert row["title"] in page.text
        assert display.estimate(row["effect"], row["interval"]) in page.text
        assert row["verdict"].replace("_", " ") in page.text
        assert row["reason"] in page.text


def test_anchors_stay_unique_where_names_differ_in_signs_only() -> None:
    claims = [claim(pair=pair) for pair in ("a b", "a/b", "a-b", "a-b", "a-b-2")]
    anchors = [c["anchor"] for f in finding_views(claims) for c in [f, *f["claims"]]]
    assert len(set(anchors)) == 6
    assert not any(re.search(r"[\s/]", anchor) for anchor in anchors)


def test_headings_descend_in_order() -> None:
    page = Page(render_html(full_record()))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_tables_have_captions_and_scopes_and_figures_have_names() -> None:
    page = Page(render_html(full_record()))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(a.get("scope") in ("col", "row", "rowgroup") for a in page.all("th"))
    images = [a for a in page.all("svg") if a.get("role") == "img"]
    assert len(images) > 5
    assert all(a.get("aria-label") or a.get("aria-labelledby") for a in images)


def test_nothing_is_loaded_and_only_our_script_may_run() -> None:
    html = render_html(full_record())
    page = Page(html)
    for tag, attributes in page.elements:
        for name in ("src", "srcset", "data", "action", "poster"):
            assert name not in attributes, (tag, attributes)
        if tag in ("use", "link", "image"):
            assert (attributes.get("href") or "").startswith("#")
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    script = html[html.rindex("<script>") + 8 : html.rindex("</script>")]
    assert [a.get("type") for a in page.all("script")] == ["application/json", None]
    assert 1_000 < len(script.encode()) < 20_000
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy


def test_hostile_text_stays_text() -> None:
    html = render_html(hostile_record())
    page = Page(html)
    assert page.faults == []
    assert [a.get("type") for a in page.all("script")] == ["application/json", None]
    assert page.all("img") == []
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    assert "{{ 7 * 7 }}" in page.text
    for character in "\u202e\u202c\u200b\ufeff\x00\x07\u2028\ud800":
        assert character not in html
        assert f"‹U+{ord(character):04X}›" in html
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    assert len(html) < 3_000_000


def test_nulls_and_nans_show_as_dashes() -> None:
    held = full_record()
    empty = RunRecord(
        schema=1,
        run=hollow(dict(held.run)),
        pairs=hollow(list(held.pairs)),
        claims=hollow(list(held.claims)),
        examples=hollow(list(held.examples)),
    )
    for page in (Page(render_html(empty)), Page(render_html(RunRecord(**json.loads(json.dumps({**vars(empty)})))))):
        assert page.faults == []
        # "None of the claims" is a sentence; a bare None, nan or Undefined is a leak.
        words = set(re.findall(r"\b(?:nan|NaN|None|Undefined|inf)\b", page.text.replace("None of the", "")))
        assert words == set()
        assert "–" in page.text
    assert "nan" not in render_summary(empty)


def test_ten_pairs_of_300_prompts_stay_below_3_mb() -> None:
    names = [f"pair-{k}" for k in range(10)]
    findings = [f"wu2023.finding_{k}" for k in range(4)]
    claims = [claim(f, n=150, pair=p, group=g) for f in findings for p in names for g in ("a", "b")]
    html = render_html(record(claims, [example(pair=p) for p in names], names))
    page = Page(html)
    assert page.faults == []
    assert sum("data-claim" in a for a in page.all("tr")) == 80
    assert "across 10 pairs" in page.text
    assert "8 more pairs, listed under" in page.text
    assert any(a.get("id") == "filter" for a in page.all("input"))
    # Long findings start closed.
    assert not any("open" in a for a in page.all("details") if a.get("class") == "claim")
    assert len(html.encode()) < 3_000_000


def test_a_foreign_schema_is_refused() -> None:
    with pytest.raises(RecordError, match="schema 2"):
        render_html(RunRecord(schema=2, run={}, pairs=[], claims=[]))


def test_writing_replaces_whole_files_and_names_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    out = tmp_path / "new" / "report.html"
    assert write_report(record([claim()]), out) == out
    first = out.read_text(encoding="utf-8")
    write_report(record([]), out)
    assert out.read_text(encoding="utf-8") != first
    assert [p.name for p in out.parent.iterdir()] == ["report.html"]
    reference = tmp_path / "ordinary"
    reference.touch()
    assert stat.S_IMODE(out.stat().st_mode) == stat.S_IMODE(reference.stat().st_mode)
    with pytest.raises(UsageError, match="ordinary"):
        write_report(record([]), reference / "report.html")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(UsageError, match=r"folder\.html"):
        write_report(record([]), tmp_path / "folder.html")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.html", "new", "ordinary"]


def test_importing_the_report_loads_no_heavy_library() -> None:
    heavy = ("torch", "transformers", "scipy", "pytest")
    code = f"import sys, tuneshift.report.html; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_baselines_without_numbers_show_as_dashes() -> None:
    held = compared_record()
    empty = RunRecord(schema=1, run=held.run, pairs=held.pairs, claims=hollow(list(held.claims)))
    page = Page(render_html(empty))
    assert page.faults == []
    assert set(re.findall(r"\b(?:nan|NaN|None|Undefined|inf)\b", page.text.replace("None of the", ""))) == set()
    assert "nan" not in render_summary(empty)


STRANGE = (None, "text", 7, True, [], {}, ["x"], {"outcome": "exploded"}, {"outcome": None, "interval": "wide"})


@pytest.mark.parametrize("value", STRANGE, ids=repr)
@pytest.mark.parametrize("name", ["comparison", "noise_floor", "p_decides", "adjusted_p", "q"])
def test_strange_fields_of_a_claim_never_cost_the_report(name: str, value: object) -> None:
    held = record([claim(**{name: value}), claim("x2024.other")])
    assert Page(render_html(held)).faults == []
    assert "x2024.other" in render_summary(held)


@pytest.mark.parametrize("value", STRANGE, ids=repr)
@pytest.mark.parametrize("name", ["baseline", "runs", "command", "versions", "host"])
def test_strange_fields_of_a_run_never_cost_the_report(name: str, value: object) -> None:
    held = record([claim()])
    strange = RunRecord(schema=1, run={**held.run, name: value}, pairs=held.pairs, claims=held.claims)
    assert Page(render_html(strange)).faults == []
    assert "instruction_density_rises" in render_summary(strange)


def test_why_a_claim_could_not_be_made_takes_the_whole_width() -> None:
    error = {"finding": "f.x", "pair": "p", "prompts": "s", "group": "all", "message": "It broke <down>."}
    page = render_html(make_record({"alpha": 0.05, "command": "pytest suites"}, [], [], [error]))
    section = page[page.index('id="errors"') :].partition("</section>")[0]
    assert "<b>f.x</b> on p · s: It broke &lt;down&gt;.</li>" in section
    assert "<table" not in section  # a last column, which a narrow screen cuts off
