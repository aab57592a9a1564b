"""A finding and its claims, one by one: how it was tested, distributions, values, prompts, provenance."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from dataclasses import replace

import pytest
from pages import Page
from run_records import claim, compared, compared_record, example, model_ref, record, two_samples

from tuneshift.report import values as display
from tuneshift.report.claims import claim_view, finding_views
from tuneshift.report.html import MANY_CLAIMS, render_html
from tuneshift.report.prompts import MAPPED, levels_map


def test_the_sections_tell_how_a_claim_was_tested() -> None:
    page = Page(render_html(record([claim()])))
    for words in ("Groups are tested apart", "A tenth of the published", "user turn only", "d_z", "fifths.base"):
        assert words in page.text
    assert "Left out: longer than the context (2)." in page.text
    assert "98.75 % interval, p < 0.0001, n = 40, seed 0" in page.text
    assert {"href": "https://arxiv.org/abs/2310.00492", "rel": "noreferrer"} in page.all("a")
    assert "Difference on the same prompt, tuned minus base" in page.text


def test_directions_are_said_in_words() -> None:
    words = {"greater": "claimed: right of +0.05 →", "less": "claimed: ← left of −0.05"}
    words["equivalent"] = "claimed: inside the shade, within ± 0.05"
    for direction, said in words.items():
        page = Page(render_html(record([claim(direction=direction)])))
        assert said in page.text
        assert ("a claim of no difference" in page.text) == (direction == "equivalent")
        assert "a claim of no loss" not in page.text
    page = Page(render_html(record([claim(noninferior=True)])))
    assert "claimed: right of −0.05 →, no loss past it" in page.text
    assert "a claim of no loss, where it ends above the loss that matters" in page.text


def test_unpaired_arms_get_no_paired_differences() -> None:
    page = Page(render_html(record([two_samples()])))
    assert "on the same prompt, followed minus" not in page.text
    assert "Difference of the means, followed minus not followed" in page.text
    # The table of verdicts names the arms, since base and tuned are not what is compared.
    first, second = (display.number(arm["mean"]) for arm in two_samples()["arms"])
    assert f"20 + 60 not followed {first} → followed {second}" in page.text


def test_provenance_holds_every_checkpoint_whole() -> None:
    held = record([claim()])
    base, tuned = held.pairs[0]["base"], held.pairs[0]["tuned"]
    tuned |= {"model": None, "evidence": "published/vicuna.parquet", "chat_template": "{% for m in messages %}<|u|>"}
    held.pairs[0]["single_task_tuned"] = model_ref("sorter") | {"adapter": "adapters/sort"}
    page = Page(render_html(held))
    table = page.text[page.text.index("Checkpoints") :]
    for ref in (base, tuned, held.pairs[0]["single_task_tuned"]):
        assert ref["name"] in table
        assert ref["fingerprint"] in table
    assert "6,738,415,616" in table
    assert "published/vicuna.parquet (recorded evidence)" in table
    assert "single task tuned" in table
    assert "with adapter adapters/sort" in table
    assert "{% for m in messages %}<|u|>" in table
    assert "332 0f0f0f" in table


def test_differences_pair_values_by_id_whatever_their_order() -> None:
    values = {"base": {"ids": ["a", "b"], "x": [1.0, 2.0]}, "tuned": {"ids": ["b", "a"], "x": [2.5, 1.25]}}
    view = claim_view(claim(n=2, values=values), "anchor")
    assert view["distribution"]["difference"]["share_above"] == 1.0
    page = Page(render_html(record([claim(n=2, values=values)])))
    assert "a 1.00 1.25 0.250 b 2.00 2.50 0.500" in page.text


def test_a_token_strip_marks_density_instruction_and_template() -> None:
    page = render_html(record([claim()], [example()]))
    strip = re.findall(r'<p class="strip".*?</p>', page, flags=re.S)[0]
    assert '<span class="d0 tpl" title="0.00">&lt;s&gt;</span>' in strip
    assert re.search(
        r'<u><span class="d7" title="0.70">Re</span><span class="d3" title="0.30">write</span> <span', strip
    )
    # The instruction ends with the full stop; the newline after it is shown and breaks the line.
    assert re.search(r'>\.</span></u><span class="d9" title="0.90">↵</span>\n <span', strip)


def test_long_text_is_cut_with_a_note() -> None:
    page = Page(render_html(record([claim()], [example(["x" * 100_000, "y"], response="z" * 9_000)])))
    assert f"… {100_000 - display.TOKEN_LIMIT:,} more characters" in page.text.replace("99940", "99,940")
    assert f"{9_000 - display.TEXT_LIMIT:,} more characters are not shown" in page.text
    assert "x" * (display.TOKEN_LIMIT + 1) not in page.text


def test_a_claim_with_nothing_but_its_names_is_shown() -> None:
    page = Page(render_html(record([{"finding": "x.y", "pair": "p", "verdict": "not_applicable"}])))
    assert page.faults == []
    assert "x.y" in page.text


def test_corrected_error_rates_and_the_noise_floor_stand_with_the_method() -> None:
    text = Page(render_html(compared_record())).text
    assert "Over all claims of this run, deciding nothing: Holm's adjusted p = 0.012, q = 0.0065." in text
    assert "The verdict stands at any error rate for this claim down to 0.00030." in text
    floor = "Noise floor: 0.0130 importance density, the same checkpoint measured twice (batches of 8 and 16, float32"
    assert floor in text
    assert "The effect lies below it." not in text
    low = claim(effect=0.01, interval=[-0.1, 0.12], noise_floor={"floor": 0.02, "settings": None})
    assert "measured twice. The effect lies below it." in Page(render_html(record([low]))).text
    bare = Page(render_html(record([claim()]))).text
    for word in ("Holm", "Noise floor", "down to", ", q "):
        assert word not in bare


@pytest.mark.numerics
def test_a_comparison_is_told_in_words_and_drawn_as_a_bar() -> None:
    row = claim(effect=0.4, interval=[0.3, 0.5], comparison=compared("inconclusive"))
    html = render_html(record([row]))
    text = Page(html).text
    assert "the effect changed by 0.0100 [−0.0300, 0.0500] importance density (98.75 % interval, p = 0.0040, " in text
    assert "n = 38, margin 0.05)" in text
    assert "○ inconclusive against baseline good" in text
    assert (
        "A fresh set of 900 prompts (at least 240 if the truth lies at the interval's farther end) would decide it"
        in text
    )
    assert "Not in both: 2 prompts new, 1 prompts gone." in text
    view = finding_views([row])[0]
    assert view["claims"][0]["baseline_estimate"] == pytest.approx(0.39)
    at = display.number(view["axis"].at(0.39))
    assert html.count(f'<line class="baseline" x1="{at}%"') == 2
    assert 'class="baseline"' not in render_html(record([claim()]))


def test_two_answers_on_the_same_prompts_are_counted_by_kind() -> None:
    base = [1, 1, 0, 0, 0, 0, 1, 0]
    tuned = [1, 1, 1, 1, 1, 0, 0, 0]
    ids = [f"t{k}" for k in range(8)]
    row = claim(n=8, values={"base": {"ids": ids, "x": base}, "tuned": {"ids": ids, "x": tuned}})
    text = Page(render_html(record([row]))).text
    for told in ("both: 2", "tuned alone: 3", "base alone: 1", "neither: 2"):
        assert told in text
    cells = claim_view(row, "a")["agreement"]
    assert [cell["at"] for cell in cells] == [0, 25, 62.5, 75]
    assert sum(cell["width"] for cell in cells) == 100
    assert claim_view(claim(), "a")["agreement"] == []
    # Log-probabilities that moved nowhere are no answers of 0.
    still = {
        "base": {"ids": ids, "x": [0] * 8, "span": [0, 0]},
        "tuned": {"ids": ids, "x": [0] * 8, "span": [-0.5, 0.5]},
    }
    assert claim_view(claim(n=8, values=still), "a")["agreement"] == []
    assert claim_view(two_samples(), "a")["agreement"] == []


def test_values_are_kept_once_and_their_ends_are_in_the_page() -> None:
    ids = [f"task_{k}" for k in range(30)]
    base = [0.0] * 30
    tuned = [round((k - 15) / 7, 6) for k in range(30)]
    values = {"base": {"ids": ids, "x": base}, "tuned": {"ids": ids, "x": tuned}}
    html = render_html(record([claim(values=values), claim("x2024.other", values=values)]))
    held = json.loads(re.findall(r'<script type="application/json" id="values">(.*?)</script>', html, re.S)[0])
    assert held["ids"] == [ids]
    assert held["x"] == [[0] * 30, [float(f"{x:.4g}") for x in tuned]]
    assert [c["arms"] for c in held["claims"].values()] == [[["base", 0, 0], ["tuned", 0, 1]]] * 2
    rows = claim_view(claim(values=values), "a")["extremes"]
    assert [row["id"] for row in rows] == ["task_0", "task_1", "task_2", "task_27", "task_28", "task_29"]
    assert "the 6 of 30 prompts at the ends of the difference" in html
    short = claim_view(claim(n=12), "a")["extremes"]
    assert len(short) == 12


def test_a_page_with_many_claims_says_in_numbers_what_one_with_few_draws() -> None:
    few, many = ([claim(f"x2024.n{k}") for k in range(count)] for count in (3, MANY_CLAIMS + 1))
    assert "Histogram of base" in render_html(record(few))
    page = render_html(record(many))
    assert "Histogram of base" not in page
    assert "Histogram of the paired differences" in page
    assert page.count(", middle half ") == 2 * len(many)


LEVELS = ["05a", "900", "0a1"]


def mapped(**changed: object) -> dict:
    """An example whose models have levels of three prompt tokens by three response tokens."""
    row = example(["▁Re", "write", "."])
    held = {"response_tokens": ["▁Here", "▁it", "▁is"], "levels": LEVELS} | changed
    return row | {"models": [model | held for model in row["models"]]}


def test_levels_become_a_picture_with_a_pixel_a_cell() -> None:
    view = levels_map(mapped()["models"][0])
    assert view is not None
    data = base64.b64decode(view["picture"].removeprefix("data:image/png;base64,"))
    assert struct.unpack(">II", data[16:24]) == (3, 3)
    start = data.index(b"IDAT")
    lines = zlib.decompress(data[start + 4 : start + 4 + struct.unpack(">I", data[start - 4 : start])[0]])
    assert [list(lines[4 * k + 1 : 4 * k + 4]) for k in range(3)] == [[int(x, 11) for x in line] for line in LEVELS]
    assert view["summary"].endswith("the first of the highest levels, 10, at “Re” for “is”")
    assert json.loads(view["labels"]) == [["Re", "write", "."], ["Here", "it", "is"]]
    page = Page(render_html(record([claim()], [mapped()])))
    assert len(page.all("img")) == 2


def test_an_empty_token_has_a_name_in_table_and_map() -> None:
    row = mapped()
    row["models"] = [model | {"tokens": ["▁Re", "", "."]} for model in row["models"]]
    html = render_html(record([claim()], [row]))
    assert html.count('<th scope="row">(empty)</th>') == 1
    assert '<th scope="row"></th>' not in html
    assert "(empty)" in levels_map(row["models"][0])["labels"]


@pytest.mark.parametrize(
    "changed",
    [
        {"levels": None},
        {"levels": LEVELS[:2]},
        {"levels": ["05a", "900", "0a"]},
        {"levels": ["05a", "900", "0b1"]},
        {"levels": [5, 9, 0]},
        {"response_tokens": None},
        {"response_tokens": []},
    ],
)
def test_levels_that_do_not_fit_leave_the_map_out(changed: dict) -> None:
    page = Page(render_html(record([claim()], [mapped(**changed)])))
    assert page.faults == []
    assert page.all("img") == []


def test_pages_of_many_examples_have_strips_alone() -> None:
    few = render_html(record([claim()], [mapped(id=f"t{k}") for k in range(MAPPED)]))
    many = render_html(record([claim()], [mapped(id=f"t{k}") | {"id": f"t{k}"} for k in range(MAPPED + 1)]))
    assert few.count('class="picture"') == 2 * MAPPED
    assert many.count('class="picture"') == 0
    assert many.count('class="strip"') == 2 * (MAPPED + 1)


def test_each_pair_has_the_same_share_of_examples() -> None:
    names = [f"p{k}" for k in range(10)]
    claims = [claim(pair=p) for p in names]
    page = Page(render_html(record(claims, [example(pair=p, id=f"t{k}") for p in names for k in range(4)], names)))
    assert sum((a.get("class") or "") == "example" for a in page.all("details")) == 20
    assert "20 more prompts are in the run record." in page.text


def test_the_checkpoints_of_a_pair_are_its_checkpoints_alone() -> None:
    held = record([claim()])
    pairs = [{**pair, "settings": {"max_new_tokens": 300, "thinking": None}} for pair in held.pairs]
    page = Page(render_html(replace(held, pairs=pairs)))
    assert page.text == Page(render_html(held)).text


def test_a_further_statistic_that_does_not_apply_says_why() -> None:
    why = "the annotator cannot see this category"
    rows = [{"name": "coding", "effect": None, "interval": [None, None], "p": None, "n": 0, "note": why}]
    assert f"coding 0 {why}" in Page(render_html(record([claim(secondary=rows)]))).text
