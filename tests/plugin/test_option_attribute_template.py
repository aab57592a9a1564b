"""``--shift-attribute-template``: whether importance is taken of the chat template's tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

ALL = "each model's own response, over all prompt tokens"
SAYS = "importance of tokens beside the user's text was left out; --shift-attribute-template=yes takes it"


@pytest.fixture
def chatting(suites, tiny_base: Path, tiny_tuned: Path, tiny_prompts: Path, tmp_path: Path):
    """``chatting(*options)``: the suites on the tiny pair, asked in a chat template."""
    template = "{% for m in messages %}<u>{{ m.content }}</u>{% endfor %}<a>"
    path = tmp_path / "pairs.toml"
    path.write_text(f'''
[pairs.chat]
base = "{tiny_base}"
tuned = {{ model = "{tiny_tuned}", chat_template = "{template}" }}
prompts = ["{tiny_prompts}"]
''')
    return lambda *options, **more: suites(*options, pair=("--pairs", path), **more)


def deciding(made: dict) -> list[dict]:
    """What claims say without the readings over all prompt tokens, and what names evidence and options."""
    return [
        {name: value for name, value in claim.items() if name not in ("evidence", "sensitivity", "details")}
        | {"rows": [row for row in claim["sensitivity"] if "all prompt tokens" not in row["name"]]}
        for claim in made["claims"]
    ]


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.nightly)], ids=["alone", "two"])
def test_without_it_the_reading_over_all_tokens_is_not_measured_and_no_verdict_is_another(
    chatting, record, pytester, tmp_path, workers
):
    result = chatting(*workers, store=tmp_path / "no")
    result.stdout.fnmatch_lines([f"not measured, a reading of * claims ({ALL}; *): {SAYS}"])
    page = (pytester.path / "tuneshift-results" / "report.html").read_text()
    assert "not measured: importance of tokens beside the user" in page
    text = record()
    assert text["run"]["settings"]["attribute_template"] == "no"
    result = chatting("--shift-attribute-template=yes", *workers, store=tmp_path / "yes")
    result.stdout.no_fnmatch_line("not measured*")
    every = record()
    assert deciding(text) == deciding(every)
    for mine, theirs in zip(text["claims"], every["claims"], strict=True):
        rows = [{row["name"]: row for row in claim["sensitivity"]}.get(ALL) for claim in (mine, theirs)]
        if rows[0] is not None:
            assert (rows[0]["verdict"], rows[0]["note"]) == ("not_applicable", f"not measured: {SAYS}")
            assert mine["details"]["largest_beyond_text"] == dict.fromkeys(
                theirs["details"]["largest_beyond_text"], "not measured"
            )
        if rows[1] is not None and theirs["effect"] is not None:
            assert rows[1]["effect"] is not None
    assert any(row["name"] == ALL for claim in every["claims"] for row in claim["sensitivity"])


def test_a_store_with_all_rows_serves_both(chatting, record, monkeypatch, tmp_path):
    store, one = tmp_path / "store", ("-k", "density_rises")
    chatting(*one, "--shift-attribute-template=yes", store=store)
    every = record()["claims"][0]
    monkeypatch.setattr("tuneshift.checkpoints.loading.load", lambda *_, **__: pytest.fail("weights were loaded"))
    chatting(*one, store=store)
    text = record()["claims"][0]
    assert text["values"] == every["values"]
    assert text["sensitivity"] == every["sensitivity"]  # rows that are there are read


def test_another_word_lists_the_known(suites):
    result = suites("--shift-attribute-template=maybe")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no*yes*"])
