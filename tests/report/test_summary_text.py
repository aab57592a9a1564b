"""The Markdown summary: changes first, a row a claim, nothing that a forge would act on."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from run_records import HOSTILE, claim, compared_record, full_record, hostile_record, record

from tuneshift.errors import UsageError
from tuneshift.report.html import render_html
from tuneshift.report.markdown import CELL_LIMIT, ROWS, markdown, render_summary, write_summary


def table_rows(text: str) -> list[list[str]]:
    """Cells of the table rows, split at the pipes that no backslash precedes."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_conclusion_comes_first_then_a_row_a_claim() -> None:
    held = full_record()
    text = render_summary(held)
    assert text.startswith("**1 of 5 claims is reproduced on llama-vicuna; 1 contradicted, 2 inconclusive and 1 not")
    assert "2 outcomes were declared beforehand; 1 came out otherwise." in text.splitlines()[1]
    head, rule, *rows = table_rows(text)
    assert head == ["finding", "on", "n", "means", "effect [interval]", "verdict", "known outcome"]
    assert len(rule) == len(head)
    assert len(rows) == len(held.claims)
    assert {len(row) for row in rows} == {len(head)}
    assert rows[0][:3] == ["wu2023.instruction_density_rises", "llama-vicuna · Self-Instruct", "40"]
    assert rows[0][-2:] == ["● reproduced", "–"]
    assert rows[1][-2:] == ["◆ contradicted", "declared reproduced"]
    arms = held.claims[3]["arms"]
    assert rows[3][3].startswith(f"not followed {arms[0]['mean']:.3f} → followed {arms[1]['mean']:.2f}")


def test_items_that_share_clusters_are_said_with_them() -> None:
    claims = [claim("x2024.one"), {**claim("x2024.two"), "clusters": 8}]
    rows = table_rows(render_summary(record(claims)))[2:]
    assert [row[2] for row in rows] == ["40", "40 in 8"]
    assert render_html(record(claims)).count('data-label="n =">40 <span class="quiet">in 8</span>') == 1


def test_changes_against_the_baseline_come_before_the_verdicts() -> None:
    text = render_summary(compared_record())
    assert "Against baseline good: 1 regressed, 1 improved, 1 inconclusive, 1 held, 1 not compared." in text
    changes, verdicts = (table_rows(part) for part in text.split("\n\n")[1:3])
    assert [row[:2] for row in changes[2:]] == [["▼ regressed", "x2024.regressed"], ["▲ improved", "x2024.improved"]]
    assert changes[2][3] == "−0.200 \\[−0.300, −0.100\\]"
    assert verdicts[0][-1] == "baseline"
    assert [row[-1] for row in verdicts[2:]] == [
        "▼ regressed",
        "▲ improved",
        "= held",
        "○ inconclusive",
        "– not compared",
    ]


def test_what_the_gate_says_and_what_is_missing_are_in_the_summary() -> None:
    held = compared_record()
    absent = {"finding": "x2024.gone", "pair": "P", "prompts": "s", "group": "all", "reason": "`its` test *failed*"}
    gate = {
        "conclusion": "the gate is red: 1 missing",
        "sees_text": "what it can see: a loss of 0.085",
        "missing": [absent],
    }
    text = render_summary(replace(held, run={**held.run, "gate": gate}))
    assert "The gate is red: 1 missing. What it can see: a loss of 0.085." in text
    assert "| ✘ missing | x2024.gone | P | – | – | \\`its\\` test \\*failed\\* |" in text
    assert "| ✘ missing" not in render_summary(held)


def test_what_models_write_stays_text() -> None:
    text = render_summary(hostile_record())
    assert "<" not in text
    head, _, *rows = table_rows(text)
    assert len(rows) == len(HOSTILE)
    assert {len(row) for row in rows} == {len(head)}
    for character in "\u202e\u200b\ufeff\x00\x07\u2028\ud800":
        assert character not in text
    assert len(text) < 65_536


@pytest.mark.parametrize(
    ("given", "escaped"),
    [
        ("a|b", "a\\|b"),
        ("[x](http://y)", "\\[x\\](http&#58;//y)"),
        ("@all see #7", "&#64;all see &#35;7"),
        ("`code` *bold* ~~gone~~", "\\`code\\` \\*bold\\* \\~\\~gone\\~\\~"),
        ("_soft_ but wu2023.base_ranks", "\\_soft\\_ but wu2023.base_ranks"),
        ("two\nlines\r\nand\u2028more", "two lines and‹U+2028›more"),
        ("<img src=x> &lt;", "&lt;img src=x&gt; &amp;lt;"),
        (None, "–"),
    ],
)
def test_markdown_is_escaped(given: object, escaped: str) -> None:
    assert markdown(given) == escaped


def test_long_cells_and_long_tables_are_cut_and_say_so() -> None:
    assert len(markdown("x" * 10_000)) == CELL_LIMIT
    text = render_summary(record([claim(f"x2024.n{k}") for k in range(ROWS + 7)]))
    assert "7 more claims are in the report." in text
    assert len(table_rows(text)) == 2 + ROWS
    assert len(text) < 65_536


def test_it_is_written_whole_or_the_place_is_named(tmp_path: Path) -> None:
    out = write_summary(record([claim()]), tmp_path / "new" / "summary.md")
    assert out.read_text(encoding="utf-8") == render_summary(record([claim()]))
    (tmp_path / "taken").write_text("")
    with pytest.raises(UsageError, match=r"Cannot write the summary to .*taken"):
        write_summary(record([]), tmp_path / "taken" / "summary.md")
