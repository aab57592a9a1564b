"""The HTML report and the Markdown summary: what they say, and that no model output can act on the page."""

from __future__ import annotations

import colorsys
import itertools
import json
import os
import random
import re
import shutil
import stat
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tuneshift import display, report
from tuneshift.errors import RecordError, UsageError
from tuneshift.records import RunRecord
from tuneshift.report import render_html, render_summary, write_report
from tuneshift.resources import data_folder

Row = dict[str, Any]


def model_ref(name: str) -> Row:
    """A checkpoint as the run record holds it."""
    return {
        "name": name,
        "model": f"example/{name}",
        "revision": "main",
        "fingerprint": (name.encode().hex() * 40)[:64],
        "dtype": "float32",
        "device": "cpu",
        "parameters": 6_738_415_616,
        "chat_template": "none",
    }


def claim(finding: str = "wu2023.instruction_density_rises", n: int = 40, shift: float = 0.2, **changed: Any) -> Row:
    """A paired claim with seeded values and everything that a claim can hold."""
    source = random.Random(ascii((finding, n, shift, changed.get("group"))))
    ids = [f"task_{k}" for k in range(n)]
    base = [max(0.0, source.gauss(0.94, 0.48)) for _ in ids]
    tuned = [max(0.0, b + source.gauss(shift, 0.5)) for b in base]
    effect = (sum(tuned) - sum(base)) / n
    half = 1.2 / n**0.5
    verdict = "reproduced" if effect - half > 0.05 else "contradicted" if effect + half < -0.05 else "inconclusive"
    row: Row = {
        "finding": finding,
        "title": f"Title of {finding}",
        "claim": "The tuned model weighs instruction words more than the base model does.",
        "how": "Importance density of instruction tokens per prompt, tuned minus base, on the same prompts.",
        "deviations": "Groups are tested apart; the paper pools them.",
        "source": "arXiv:2310.00492, section 4.1, table 2",
        "unit": "importance density",
        "direction": "greater",
        "pair": "llama-vicuna",
        "prompts": "wu2023",
        "group": "Self-Instruct",
        "n": n,
        "clusters": n,
        "left_out": {"longer than the context": 2},
        "base": {"mean": sum(base) / n, "sd": 0.48, "n": n},
        "tuned": {"mean": sum(tuned) / n, "sd": 0.55, "n": n},
        "arms": [
            {"label": "base", "mean": sum(base) / n, "sd": 0.48, "n": n},
            {"label": "tuned", "mean": sum(tuned) / n, "sd": 0.55, "n": n},
        ],
        "effect": effect,
        "interval": [effect - half, effect + half],
        "level": 0.9875,
        "p": 2.1e-5,
        "method": "paired t",
        "seed": 0,
        "sesoi": 0.05,
        "sesoi_reason": "A tenth of the published standard deviation.",
        "verdict": verdict,
        "reason": f"The interval decides: {verdict}.",
        "n_needed": 412 if verdict == "inconclusive" else None,
        "expected": None,
        "sensitivity": [
            {"name": "user turn only", "effect": 0.1, "interval": [-0.02, 0.22], "verdict": "inconclusive", "n": n}
            | {"note": "density normalised over the user turn"},
            {"name": "shared response", "effect": 0.15, "interval": [0.06, 0.24], "verdict": "reproduced", "n": n},
        ],
        "secondary": [{"name": "d_z", "effect": 0.3, "interval": None, "p": None, "n": n}],
        "details": {"d_z": 0.3, "fifths": {"base": [0.41, 0.44], "tuned": [0.51, 0.52]}},
        "values": {"base": {"ids": ids, "x": base}, "tuned": {"ids": ids, "x": tuned}},
    }
    return row | changed


def not_applicable(**changed: Any) -> Row:
    """A claim that could not be tested: nothing but its words."""
    nothing: Row = dict.fromkeys(("base", "tuned", "effect", "interval", "p", "level", "seed", "n_needed", "expected"))
    empty: Row = {"arms": [], "values": {}, "sensitivity": [], "secondary": [], "details": {}, "left_out": {}}
    words = {"verdict": "not_applicable", "reason": "No prompt of this group is rated.", "n": 0, "clusters": 0}
    return claim(**changed) | nothing | empty | words


def two_samples(**changed: Any) -> Row:
    """A claim that compares followed with unfollowed prompts of one model."""
    source = random.Random(1)
    sides = {
        "not followed": [source.gauss(0.89, 0.48) for _ in range(20)],
        "followed": [source.gauss(1.23, 0.5) for _ in range(60)],
    }
    arms = [{"label": k, "mean": sum(x) / len(x), "sd": 0.5, "n": len(x)} for k, x in sides.items()]
    values = {k: {"ids": [f"{k}{i}" for i in range(len(x))], "x": x} for k, x in sides.items()}
    return claim("wu2023.density_marks_followed", base=None, tuned=None, arms=arms, values=values, **changed)


def example(tokens: list[str] | None = None, response: str = "Here is a shorter sentence.", **changed: Any) -> Row:
    """One prompt under two models."""
    tokens = tokens or ["<s>", "▁Re", "write", "▁the", "▁sentence", ".", "<0x0A>", "▁It", "▁rains", "."]
    models = [
        {
            "label": label,
            "name": f"{label} model",
            "tokens": tokens,
            "density": [((k * 7 + shift) % 11) / 10 for k in range(len(tokens))],
            "instruction": [1 <= k <= 5 for k in range(len(tokens))],
            "template": [k == 0 for k in range(len(tokens))],
            "response": response,
            "score": 0.9 + shift / 10,
        }
        for shift, label in enumerate(("base", "tuned"))
    ]
    row = {"pair": "llama-vicuna", "prompt_set": "wu2023", "id": "task_0", "group": "Self-Instruct", "prompt": "Re"}
    return row | {"models": models} | changed


def record(claims: list[Row], examples: list[Row] | None = None, pairs: list[str] | None = None) -> RunRecord:
    """A run record around claims and examples."""
    run = {
        "started": "2026-11-21T07:05:00+00:00",
        "finished": "2026-11-21T07:06:12+00:00",
        "duration_s": 72.4,
        "versions": {"tuneshift": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "transformers": "5.23.0"},
        "command": "pytest suites --pairs pairs.toml --pair llama-vicuna",
        "host": {"platform": "Linux-6.1-x86_64", "cpus": 2, "device": "cpu"},
        "exit_code": 1,
        "alpha": 0.05,
        "confirmatory_claims": 4,
        "store": "/home/me/.cache/tuneshift",
    }
    named = [
        {"name": name, "base": model_ref("llama-7b"), "tuned": model_ref("vicuna-7b")}
        | {"prompts": [{"name": "wu2023", "n": 332, "sha256": "0f" * 32}]}
        for name in (["llama-vicuna"] if pairs is None else pairs)
    ]
    return RunRecord(schema=1, run=run, pairs=named, claims=claims, examples=examples or [])


VOID = {"meta", "br", "input", "link", "img", "hr"}
SVG_LEAVES = {"circle", "line", "path", "rect", "use"}


class Page(HTMLParser):
    """A page as lists of elements; every element must be closed by its own end tag."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.faults: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in SVG_LEAVES:
            self.faults.append(f"<{tag}/>")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(t for tag, t in self.texts if tag not in ("script", "style")).split())


HOSTILE = (
    "<script>document.title='owned'</script>",
    "</p></td></script></style><img src=x onerror=\"document.title='owned'\">",
    '"><svg onload="document.title=`owned`">',
    "{{ 7 * 7 }}{% raw %}",
    "\u202eright to left\u202c",
    "zero\u200bwidth\ufeff",
    "nul\x00 bell\x07 lone \ud800",
    "line\nbreak\r\nand\u2028more",
    "w" * 100_000,
    "&lt;b&gt; &amp; javascript:document.title='owned'",
)


def full_record() -> RunRecord:
    """Every kind of claim, with known outcomes of both kinds, and an example."""
    claims = [
        claim(),
        claim(group="MT-bench", shift=-0.9, expected={"verdict": "reproduced", "reason": "the paper says so"}),
        claim("wu2023.instructions_stay_important", n=9, shift=0.0, sesoi=0.002)
        | {"expected": {"verdict": "inconclusive", "reason": "nine prompts"}},
        two_samples(),
        not_applicable(finding="wu2023.prompt_middle_recovers"),
    ]
    return record(claims, [example()])


def hostile_record() -> RunRecord:
    """A record in which everything that a model, a prompt or a user named is hostile."""
    claims = []
    for k, text in enumerate(HOSTILE):
        ids = [f"{text}{i}" for i in range(3)] if len(text) < 1000 else ["a", "b", "c"]
        values = {side: {"ids": ids, "x": [0.1, 0.5, 0.2 + k]} for side in ("base", "tuned")}
        named = claim(
            n=3, pair=text[:500], group=text[:500], prompts=text[:90], method=text, reason=text, values=values
        )
        named |= {"title": text[:300], "unit": text[:90], "claim": text, "source": text, "left_out": {text[:200]: 1}}
        claims.append(named)
    examples = [example([*HOSTILE, "plain"], response=text, id=text[:200], group=text[:90]) for text in HOSTILE]
    examples.append(example([*HOSTILE], response="\n".join(HOSTILE)))
    held = record(claims, examples, pairs=[text[:200] for text in HOSTILE])
    held.pairs[0]["base"]["chat_template"] = HOSTILE[1]
    held.pairs[0]["tuned"]["name"] = HOSTILE[1]
    return RunRecord(
        schema=1,
        run={**held.run, "command": HOSTILE[0], "versions": {HOSTILE[0]: HOSTILE[1]}},
        pairs=held.pairs,
        claims=claims,
        examples=examples,
    )


def many_pairs_record() -> RunRecord:
    """Two findings on eight pairs, of which every other reproduces."""
    names = [f"pair-{k}" for k in range(8)]
    findings = ("x2024.one", "x2024.two")
    claims = [claim(f, n=60, shift=(k % 2) * 0.9, pair=p) for f in findings for k, p in enumerate(names)]
    return record(claims, [example(pair=names[0])], names)


def hollow(value: Any) -> Any:
    """The same JSON value with every number gone: NaN for floats, None for ints."""
    if isinstance(value, dict):
        return {k: hollow(v) for k, v in value.items()}
    if isinstance(value, list):
        return [hollow(v) for v in value]
    if isinstance(value, float):
        return float("nan")
    return None if isinstance(value, int) and not isinstance(value, bool) else value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.94, "0.940"),
        (1.1305, "1.13"),
        (9.996, "10.0"),
        (-0.05, "−0.0500"),
        (0, "0"),
        (0.0, "0"),
        (-0.0, "0"),
        (1234.5, "1,234"),
        (252, "252"),
        (6_738_415_616, "6,738,415,616"),
        (2.1e-5, "2.10 × 10⁻⁵"),
        (-3e9, "−3.00 × 10⁹"),
        (float("nan"), "–"),
        (float("inf"), "–"),
        (None, "–"),
        ("12", "–"),
        (True, "–"),
    ],
)
def test_numbers_have_three_significant_digits(value: Any, text: str) -> None:
    assert display.number(value) == text


@pytest.mark.parametrize(
    ("effect", "interval", "text"),
    [
        (0.1904, [0.0812, 0.2998], "0.190 [0.081, 0.300]"),
        (-0.1074, [-0.1829, -0.0320], "−0.107 [−0.183, −0.032]"),
        (-0.0001, [-0.1, 0.1002], "0.000 [−0.100, 0.100]"),
        (0.3, None, "0.300"),
        (0.3, [None, None], "0.300"),
        (None, None, "–"),
        (float("nan"), [float("nan"), 1.0], "–"),
    ],
)
def test_estimates_share_the_places_of_effect_and_bounds(effect: Any, interval: Any, text: str) -> None:
    assert display.estimate(effect, interval) == text


def test_p_values_and_shares() -> None:
    assert [display.p_value(p) for p in (0.5, 0.0332, 2.1e-5, None)] == ["0.50", "0.033", "< 0.0001", "–"]
    assert [display.percent(x) for x in (0.95, 0.9875, None)] == ["95 %", "98.75 %", "–"]
    assert [display.plain(x) for x in (0.05, -0.125, 2, None)] == ["0.05", "−0.125", "2", "–"]


@pytest.mark.parametrize("reach", [(0.0, 1.0), (-0.183, 0.02), (1e-9, 3e-9), (-5e7, 2.0), (4.0, 4.0), (0.0, 0.0)])
def test_axes_hold_their_values_and_label_round_ones(reach: tuple[float, float]) -> None:
    scale = display.axis(reach)
    assert scale.at(scale.low) == 2
    assert scale.at(scale.high) == 98
    assert all(2 <= scale.at(x) <= 98 for x in reach)
    assert 1 <= len(scale.ticks) <= 12
    assert len({label for _, label in scale.ticks}) == len(scale.ticks)


def test_a_histogram_counts_every_value_once_and_has_an_edge_at_zero() -> None:
    values = [-0.31, -0.3, -0.05, 0.0, 0.05, 0.1, 0.1, 0.29]
    scale = display.padded(display.axis(values), 0.1)
    bars = display.histogram(values, scale, 0.1)
    # Heights by hand: bins from -0.4 hold 1, 1, 0, 1, 2, 2, 1 values.
    assert bars["peak"] == 2
    heights = [100 - float(y) for y in re.findall(r"V([\d.]+)H", bars["path"])]
    assert heights == [50, 50, 50, 100, 100, 50]
    assert f"M{scale.at(0.0):g} 100" in bars["path"]


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
    anchors = [c["anchor"] for f in report.finding_views(claims) for c in [f, *f["claims"]]]
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


def test_a_verdict_that_depends_on_the_reading_is_marked_on_the_first_screen() -> None:
    rows = [{"name": "other", "effect": 0.0, "interval": [-0.1, 0.1], "verdict": "inconclusive", "n": 40, "note": ""}]
    marked = render_html(record([claim(sensitivity=rows)]))
    steady = render_html(record([claim(sensitivity=[{**rows[0], "verdict": "reproduced"}])]))
    assert "depends on the reading" in marked
    assert "† Read otherwise" in marked
    assert "†" not in steady


def test_the_conclusion_counts_verdicts_and_known_outcomes() -> None:
    page = Page(render_html(full_record()))
    verdicts = Counter(c["verdict"] for c in full_record().claims)
    assert verdicts == {"reproduced": 1, "contradicted": 1, "inconclusive": 2, "not_applicable": 1}, "the builder moved"
    conclusion = "1 of 5 claims is reproduced on llama-vicuna ; 1 contradicted, 2 inconclusive and 1 not applicable."
    assert conclusion in page.text
    assert "2 outcomes were declared beforehand; 1 came out otherwise." in page.text
    assert "1 claim fails without having been declared." in page.text
    assert "declared reproduced" in page.text
    assert "As declared beforehand: nine prompts" in page.text
    for fact in ("pytest suites --pairs pairs.toml", "torch 2.13.0", "example/llama-7b", "2026-11-21 07:06 UTC"):
        assert fact in page.text


@pytest.mark.parametrize(
    ("verdicts", "sentence"),
    [
        ("", "No claim was tested in this run."),
        ("r", "The one claim that was tested is reproduced on P."),
        ("rr", "All 2 claims are reproduced on P."),
        ("ci", "None of the 2 claims is reproduced on P; 1 contradicted and 1 inconclusive."),
        ("rrn", "2 of 3 claims are reproduced on P; 1 not applicable."),
    ],
)
def test_headlines(verdicts: str, sentence: str) -> None:
    words = {"r": "reproduced", "c": "contradicted", "i": "inconclusive", "n": "not_applicable"}
    assert report.headline([{"verdict": words[v], "pair": "P"} for v in verdicts]) == sentence


def test_the_sections_tell_how_a_claim_was_tested() -> None:
    page = Page(render_html(record([claim()])))
    for words in ("Groups are tested apart", "A tenth of the published", "user turn only", "d_z", "fifths.base"):
        assert words in page.text
    assert "Left out: 2 longer than the context." in page.text
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


def test_unpaired_arms_get_no_paired_differences() -> None:
    page = Page(render_html(record([two_samples()])))
    assert "on the same prompt, followed minus" not in page.text
    assert "Difference of the means, followed minus not followed" in page.text
    # The table of verdicts names the arms, since base and tuned are not what is compared.
    first, second = two_samples()["arms"]
    row = page.text[page.text.index("llama-vicuna · Self-Instruct 20 + 60") :]
    start = f"llama-vicuna · Self-Instruct 20 + 60 not followed {display.number(first['mean'])} ± 0.500 followed "
    assert row.startswith(start + display.number(second["mean"]))


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
    view = report.claim_view(claim(n=2, values=values), "anchor")
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
    scripts = [text for tag, text in page.texts if tag == "script"]
    assert len(page.all("script")) == 1
    assert len("".join(scripts).encode()) < 20_000
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy


def test_hostile_text_stays_text() -> None:
    html = render_html(hostile_record())
    page = Page(html)
    assert page.faults == []
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    assert "{{ 7 * 7 }}" in page.text
    for character in "\u202e\u202c\u200b\ufeff\x00\x07\u2028\ud800":
        assert character not in html
        assert f"‹U+{ord(character):04X}›" in html
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    assert len(html) < 3_000_000


def test_joiners_stay_in_text_but_show_in_tokens() -> None:
    family = "\U0001f468\u200d\U0001f469"
    assert display.visible(family) == family
    assert "‹U+200D›" in display.token_text(family)


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


def test_a_record_without_claims_says_so() -> None:
    for held in (record([]), RunRecord(schema=1, run={}, pairs=[], claims=[])):
        page = Page(render_html(held))
        assert page.faults == []
        assert "No claim was tested in this run." in page.text
        assert "pytest suites --base A --tuned B" in page.text
        assert render_summary(held).strip() == "No claim was tested in this run."


def test_a_claim_with_nothing_but_its_names_is_shown() -> None:
    page = Page(render_html(record([{"finding": "x.y", "pair": "p", "verdict": "not_applicable"}])))
    assert page.faults == []
    assert "x.y" in page.text


def test_ten_pairs_of_300_prompts_stay_below_3_mb() -> None:
    names = [f"pair-{k}" for k in range(10)]
    findings = [f"wu2023.finding_{k}" for k in range(4)]
    claims = [claim(f, n=150, pair=p, group=g) for f in findings for p in names for g in ("a", "b")]
    html = render_html(record(claims, [example(pair=p) for p in names], names))
    page = Page(html)
    assert page.faults == []
    assert sum("data-claim" in a for a in page.all("tr")) == 80
    assert "across 10 pairs" in page.text
    assert "7 more pairs, listed under" in page.text
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


def test_the_summary_is_one_row_per_claim() -> None:
    held = full_record()
    lines = render_summary(held).splitlines()
    assert len(lines) == 4 + len(held.claims)
    assert len({line.count("|") for line in lines[2:]}) == 1
    assert "| wu2023.instruction_density_rises | llama-vicuna | Self-Instruct | 40 |" in lines[4]
    assert "● reproduced | – |" in lines[4]
    assert "◆ contradicted | declared reproduced |" in lines[5]
    hostile = render_summary(hostile_record())
    assert "<script" not in hostile
    rows = hostile.splitlines()[2:]
    assert len(rows) == 2 + len(HOSTILE)
    assert markdown_pipes(render_summary(record([claim(group="a|b")])).splitlines()[4]) == 10


def markdown_pipes(line: str) -> int:
    """Cell borders: the pipes that no backslash precedes."""
    return len(re.findall(r"(?<!\\)\|", line))


def palettes() -> dict[str, dict[str, str]]:
    """The colours of both schemes as the style sheet sets them."""
    css = (data_folder("reports") / "templates" / "style.css").read_text(encoding="utf-8")
    blocks = {name: re.search(rf"{{% set {name} %}}(.*?){{% endset %}}", css, re.S) for name in ("light", "dark")}
    return {name: dict(re.findall(r"--([\w]+):(#\w+)", block[1])) for name, block in blocks.items() if block}


def luminance(colour: str) -> float:
    """Relative luminance of #rgb or #rrggbb, 0..1 (WCAG 2.2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio, 1..21 (WCAG 2.2)."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_aa_in_both_schemes(scheme: str) -> None:
    colours = palettes()[scheme]
    assert set(colours) == set(palettes()["light"])
    words = ("text", "muted", "dim", "accent", "reproduced", "contradicted", "inconclusive", "not_applicable")
    low = {w: contrast(colours[w], colours["bg"]) for w in words if contrast(colours[w], colours["bg"]) < 4.5}
    assert low == {}
    # The strongest colour of a strip lies under instruction, template and cut-off notes.
    for word in ("text", "dim"):
        assert contrast(colours[word], colours["heat"]) >= 4.5, word
    for mark in ("base", "tuned"):
        assert contrast(colours[mark], colours["bg"]) >= 3, mark
    hue = {v: colorsys.rgb_to_hls(*(int(colours[v][k : k + 2], 16) / 255 for k in (1, 3, 5)))[0] for v in words[4:7]}
    assert len({round(h, 1) for h in hue.values()}) == 3


def test_both_schemes_follow_the_system_and_the_reader() -> None:
    html = render_html(record([]))
    assert "@media (prefers-color-scheme: dark)" in html
    assert ':root[data-theme="dark"]' in html
    assert "@media print" in html
    used = set(re.findall(r"var\(--(\w+)", html)) - {"v", "k"}
    assert used <= set(palettes()["light"])


def test_importing_the_report_loads_no_heavy_library() -> None:
    heavy = ("torch", "transformers", "scipy", "pytest")
    code = f"import sys, tuneshift.report; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PROBE = """<!doctype html><title>waiting</title><iframe id=f style="width:390px;height:800px" src="{url}"></iframe>
<script>
f.onload = () => {{
  const w = f.contentWindow, d = f.contentDocument, seen = {{}};
  const button = d.getElementById("theme");
  seen.title = d.title;
  seen.button = !button.hidden;
  const before = w.getComputedStyle(d.body).backgroundColor;
  button.click();
  seen.themes = [before, w.getComputedStyle(d.body).backgroundColor];
  for (const part of d.querySelectorAll("details")) part.open = true;
  seen.overflow = {{}};
  for (const width of [320, 390, 700, 760, 900, 1090, 1280]) {{
    f.style.width = `${{width}}px`;
    seen.overflow[width] = d.documentElement.scrollWidth - d.documentElement.clientWidth;
  }}
  seen.sort = d.querySelectorAll("table.sortable th button").length;
  const first = d.querySelector("table.sortable");
  const column = () => [...first.tBodies[0].rows].map((r) => parseFloat(r.cells[1].textContent));
  first.tHead.rows[0].cells[1].firstChild.click();
  seen.sorted = column().every((x, k, all) => !k || all[k - 1] <= x);
  const closed = () => d.querySelectorAll("details.claim:not([open]), details.example:not([open])").length;
  d.querySelectorAll("details[open]").forEach((part) => {{ part.open = false; }});
  seen.printing = [closed() > 0];
  w.dispatchEvent(new w.Event("beforeprint"));
  seen.printing.push(closed() === 0);
  w.dispatchEvent(new w.Event("afterprint"));
  seen.printing.push(closed() > 0);
  const filter = d.getElementById("filter");
  if (filter) {{
    filter.value = "PAIR-3 reproduced";
    filter.dispatchEvent(new w.Event("input"));
    const rows = [...d.querySelectorAll("tr[data-claim]")].filter((row) => row.checkVisibility());
    seen.filtered = rows.map((row) => row.textContent);
  }}
  w.location.hash = d.querySelector("details.claim").id;
  setTimeout(() => {{
    seen.revealed = d.querySelector("details.claim").open;
    document.title = "done";
    document.body.textContent = JSON.stringify(seen);
  }}, 200);
}};
</script>"""


def in_chromium(folder: Path, held: RunRecord) -> tuple[Row, str]:
    """What a frame around the report saw in headless Chromium, and the browser's console."""
    assert CHROMIUM is not None
    page = write_report(held, folder / "report.html")
    probe = folder / "probe.html"
    probe.write_text(PROBE.format(url=page.as_uri()), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={folder / 'profile'}", "--allow-file-access-from-files", "--enable-logging=stderr"]
    command += ["--virtual-time-budget=20000", "--dump-dom", probe.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(folder)})
    found = re.search(r"<body[^>]*>(.*?)</body>", done.stdout, re.S)
    assert found, done.stderr[-2000:]
    assert "<title>done</title>" in done.stdout, done.stdout[-500:] + done.stderr[-2000:]
    console = "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)
    return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")), console


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: the report was not opened in a browser")
@pytest.mark.parametrize("build", [full_record, hostile_record, many_pairs_record])
def test_in_a_browser_nothing_breaks(tmp_path: Path, build: Any) -> None:
    seen, console = in_chromium(tmp_path, build())
    assert console == ""
    assert seen["title"].startswith("tuneshift: ")
    assert seen["button"], "our own script did not run: is its hash in the policy?"
    assert seen["themes"][0] != seen["themes"][1]
    assert {width: by for width, by in seen["overflow"].items() if by > 0} == {}
    assert seen["sort"] > 0
    assert seen["sorted"]
    assert seen["revealed"]
    assert seen["printing"] == [True, True, True]
    if build is many_pairs_record:
        assert len(seen["filtered"]) == 2
        assert all("pair-3" in text and "reproduced" in text for text in seen["filtered"])
