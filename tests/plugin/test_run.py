"""A run from end to end: verdicts, files, exit codes, and the same with workers."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from tuneshift.claims.claim_record import IDENTICAL
from tuneshift.store.store import Store

IDS = (
    "wu2023.density_marks_followed",
    "wu2023.instruction_density_rises",
    "wu2023.instructions_stay_important",
    "wu2023.prompt_middle_recovers",
)


@pytest.mark.numerics
def test_random_models_reproduce_nothing_and_every_claim_is_recorded(suites, record, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = suites("--shift-inconclusive=fail")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "tuneshift: pair tiny-base-tiny-tuned: *tiny-base -> *tiny-tuned",
            "tuneshift: device cpu, dtype float32, response own",
            "tuneshift: store *",
            "*= tuneshift verdicts =*",
            "finding * n * means * effect [[]interval[]] * verdict",
            "record: tuneshift-results/run.json",
            "report: tuneshift-results/report.html",
        ]
    )
    made = record()
    assert [c["finding"] for c in made["claims"]] == list(IDS)
    assert all(c["verdict"] != "reproduced" for c in made["claims"])
    density = made["claims"][1]
    assert density["n"] == 20
    assert density["clusters"] == 10
    assert density["level"] == pytest.approx(1 - 0.05 / 4)
    assert len(density["sensitivity"]) == 5
    assert {e["why"] for e in made["examples"]} >= {"largest gain", "largest loss"}


def test_a_checkpoint_against_itself_is_said_to_be_one_and_every_difference_is_0(
    suites, record, pytester, tiny_base, tiny_prompts
):
    result = suites(pair=("--base", tiny_base, "--tuned", tiny_base, "--shift-prompts", tiny_prompts))
    result.stdout.fnmatch_lines(["tuneshift: note: *tiny-base has the weights of its base, number for number: *"])
    claims = {claim["finding"]: claim for claim in record()["claims"]}
    alone = claims.pop("wu2023.density_marks_followed")  # of one checkpoint, which tells followed from not followed
    assert alone["reason"] != IDENTICAL
    assert {(c["verdict"], c["reason"], c["effect"]) for c in claims.values()} == {("not_applicable", IDENTICAL, 0.0)}
    result.stdout.fnmatch_lines([f"– {len(claims)} claims do not apply: {IDENTICAL} ({len(claims)})*"])
    assert result.ret == pytest.ExitCode.OK
    assert IDENTICAL in (pytester.path / "tuneshift-results" / "report.html").read_text(encoding="utf-8")
    assert IDENTICAL in (pytester.path / "tuneshift-results" / "summary.md").read_text(encoding="utf-8")


def test_equal_weights_asked_otherwise_are_tested_like_any_pair(suites, record, pytester, tiny_base, tiny_prompts):
    pairs = pytester.path / "pairs.toml"
    pairs.write_text(
        f'[pairs.asked]\nbase = {{ model = "{tiny_base}", chat_template = "none" }}\n'
        f'tuned = {{ model = "{tiny_base}", chat_template = "{{{{ messages[0].content }}}}!" }}\n'
        f'prompts = ["{tiny_prompts}"]\n'
    )
    result = suites("--finding=wu2023.instruction_density_rises", pair=("--pairs", pairs))
    result.stdout.fnmatch_lines(["tuneshift: note: *they can only differ by how they are asked"])
    (claim,) = record()["claims"]
    assert claim["reason"] != IDENTICAL
    assert claim["effect"] != 0


def test_two_workers_give_the_same_claims(suites, record, pytester):
    suites("--shift-inconclusive=fail")
    alone = record()["claims"]
    result = suites("-n", "2", "--shift-inconclusive=fail")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*= tuneshift verdicts =*"])
    assert record()["claims"] == alone


def test_a_second_run_with_a_warm_store_loads_no_weights(suites, monkeypatch):
    suites()

    def refuse(*args, **kwargs):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("tuneshift.checkpoints.loading.load", refuse)
    suites().stdout.fnmatch_lines(["*= tuneshift verdicts =*"])


def test_a_run_that_finds_all_in_the_store_loads_no_torch(suites, pytester):
    pytester.makepyfile(
        loaded="import sys\ndef pytest_unconfigure(): print('loaded', *{'torch', 'transformers'} & set(sys.modules))"
    )
    suites("-s", "-p", "loaded", suite="", new_process=True)
    warm = suites("-s", "-p", "loaded", suite="", new_process=True)
    assert [line for line in warm.outlines if line.startswith("loaded")] == ["loaded"]


def test_collect_only_names_the_pair_and_loads_no_model(suites, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("tuneshift.checkpoints.loading.load", refuse)
    result = suites("--collect-only", "-q")
    result.stdout.fnmatch_lines(["*::test_instruction_density_rises[[]pair:tiny-base-tiny-tuned]"])
    assert result.ret == 0


def test_junitxml_carries_the_claims(suites, pytester):
    suites("--junitxml=junit.xml")
    cases = ElementTree.parse(pytester.path / "junit.xml").iter("testcase")
    found = {}
    for case in cases:
        properties = {p.get("name"): p.get("value") for p in case.iter("property")}
        found[properties["tuneshift.finding"]] = properties
    assert set(found) == set(IDS)
    assert float(found["wu2023.instruction_density_rises"]["tuneshift.effect"]) != 0
    assert "tuneshift.interval_low" in found["wu2023.instruction_density_rises"]


@pytest.mark.numerics
def test_header_and_summary_say_what_the_families_do_not_control(suites, record):
    result = suites("-k", "density_rises")
    result.stdout.fnmatch_lines(
        [
            "tuneshift: error rate 0.05 for each family of findings on each pair, prompt set and group: 7 of these in "
            "a complete run, no more than 0.27 false decisions expected",
            "1 claim decided in 1 family (an error rate of 0.05 for each on each pair, prompt set and group); no more "
            "than 0.0125 false decisions are expected over all of them",
        ]
    )
    run = record()["run"]
    assert (run["families"], run["confirmatory_claims"]) == (1, 1)
    assert run["false_decisions_at_most"] == pytest.approx(0.05 / 4)


def test_nan_weights_fail_with_a_message_and_keep_the_other_checkpoints_evidence(
    suites, make_checkpoint, tiny_base, tiny_prompts, tmp_path
):
    from safetensors.torch import load_file, save_file

    broken = make_checkpoint("broken", seed=5)
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    result = suites(
        pair=("--base", tiny_base, "--tuned", broken, "--shift-prompts", tiny_prompts), store=tmp_path / "s"
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["*wu2023.instruction_density_rises on pair:tiny-base-broken: *model.layers.1.mlp.up_proj.weight*"]
    )
    result.stdout.no_fnmatch_line("*another exception*")
    kept = [found.measure for found in Store(tmp_path / "s").list() if found.complete]
    assert sorted(kept) == ["attribution", "attribution", "generation"]  # the base's: own response, reference


def test_other_pytest_runs_do_not_notice_the_plugin(pytester):
    pytester.makepyfile("def test_ok(): pass")
    result = pytester.runpytest("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    assert "tuneshift:" not in result.stdout.str()
    assert not (pytester.path / "tuneshift-results").exists()
