"""``--shift-response``: whose response importance is attributed to."""

from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize("mode", ["reference", "tuned"])
def test_the_record_says_which_and_the_contrast_turns_round(suites, record, mode):
    suites("-k", "density_rises", "--shift-response", mode)
    made = record()
    assert made["run"]["response"] == mode
    names = [row["name"] for row in made["claims"][0]["sensitivity"]]
    assert names[2] == "each model's own response"


def test_on_a_shared_response_both_models_are_read_on_the_same_text(suites, record):
    suites("-k", "density_rises", "--shift-response", "tuned")
    for example in record()["examples"]:
        base, tuned = example["models"]
        assert base["response"] == tuned["response"]


def test_a_shared_reference_is_what_own_shows_as_sensitivity(suites, record):
    suites("-k", "density_rises")
    beside = record()["claims"][0]["sensitivity"][2]
    suites("-k", "density_rises", "--shift-response", "reference")
    decided = record()["claims"][0]
    assert beside["name"] == "the reference as shared response"
    assert (beside["effect"], beside["interval"]) == (decided["effect"], decided["interval"])


def test_an_unknown_mode_lists_the_known(suites):
    result = suites("--shift-response", "mine")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*own*reference*tuned*"])


def test_one_group_without_references_makes_the_tuned_response_the_shared_one_for_all(suites, record, tmp_path):
    rows = [
        {"id": f"{group}{i}", "prompt": f"Say it {i}.", "instruction_spans": [[0, 6]], "group": group}
        | ({"reference": "it"} if group == "a" else {})
        for group in "ab"
        for i in range(10)
    ]
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    suites("-k", "density_rises", "--shift-prompts", path)
    (claim,) = (c for c in record()["claims"] if (c["prompts"], c["group"]) == ("mixed", "a"))
    assert claim["sensitivity"][2]["name"] == "the tuned model's response, shared"
