"""``--shift-plan``: what would be measured; no weights, no tests."""

from __future__ import annotations


def test_the_plan_names_tasks_counts_and_store(suites, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("tuneshift.checkpoints.loading.load", refuse)
    result = suites("--shift-plan", store=tmp_path / "empty")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*= tuneshift plan =*",
            "4 claims on 1 pair",
            "4 claims to decide in 1 family (an error rate of 0.05 for each on each pair, prompt set and group); no "
            "more than 0.05 false decisions are expected over all of them",
            "  *tiny-base: generation, tiny, 0/20 stored, *",
            "  *tiny-base: attribution to own response, tiny, 0/20 stored, *",
            "  *tiny-base: attribution to reference response, tiny, 0/20 stored, *",
            "  *tiny-tuned: generation, tiny, 0/20 stored, *",
            "120 of 120 items to measure; store *empty",
        ]
    )
    assert not (tmp_path / "empty").exists()


def test_the_plan_needs_no_workers(suites, tmp_path):
    result = suites("--shift-plan", "-n", "2", store=tmp_path / "empty")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["120 of 120 items to measure*"])


def test_after_a_run_nothing_is_left(suites):
    suites()
    suites("--shift-plan").stdout.fnmatch_lines(["0 of 120 items to measure*"])


def test_what_can_hardly_be_decided_is_said_in_the_plan_and_before_measuring(suites, tmp_path):
    line = "wu2023.lower_layers_gain_most on pair:tiny-base-tiny-tuned can hardly be decided: 2 layers; at this level *"
    select = {"suite": "test_verb_relations.py", "store": tmp_path / "store"}
    suites("--shift-plan", **select).stdout.fnmatch_lines([f"  {line}", "* items to measure*"])
    suites("--shift-inconclusive=pass", **select).stdout.fnmatch_lines([f"tuneshift: {line}", "*= tuneshift verdicts*"])
