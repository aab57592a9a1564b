"""Findings that judge responses: who judges, and what is said where a sibling is missing."""

from __future__ import annotations

import json

import pytest

from tuneshift.cli import main

FOLLOWING = "test_implicit_following.py"


@pytest.fixture
def judged_prompts(tmp_path):
    """Prompts with a reference and a rule that a random model never meets."""
    rows = [
        {
            "id": f"p{i}",
            "prompt": f"Say what time it is, number {i}.",
            "instruction_spans": [[0, 8]],
            "reference": f"the time is good {i}",
            "verify": {"kind": "exact", "answers": [f"the time is good {i}"]},
        }
        for i in range(12)
    ]
    path = tmp_path / "judged.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_missing_sibling_is_said_with_the_command_that_makes_it_and_takes_no_share(suites, record):
    result = suites("-rs", "-k", "tuning or single", suite=FOLLOWING)
    claims = {c["finding"]: c for c in record()["claims"]}
    for kind, role in (("response", "response_tuned"), ("single-task", "single_task_tuned")):
        text = (
            f"the pair names no {role} checkpoint; `tuneshift tune BASE --how {kind} --data FILE --out DIR` makes one"
        )
        assert any(c["reason"] == text and c["verdict"] == "not_applicable" for c in claims.values())
        result.stdout.fnmatch_lines([f"SKIPPED*{role} checkpoint; `tuneshift tune BASE --how {kind}*"])
    applicable = [c for c in claims.values() if c["verdict"] != "not_applicable"]
    assert record()["run"]["confirmatory_claims"] == len(applicable)


def test_the_verifier_judges_where_prompts_have_rules_and_random_models_follow_nothing(suites, record, judged_prompts):
    suites("-k", "tuned_follows or rules", "--shift-prompts", judged_prompts, suite=FOLLOWING)
    claims = [c for c in record()["claims"] if c["prompts"] == "judged"]
    assert len(claims) == 2
    for claim in claims:
        assert claim["details"]["judge"] == {"judge": "verifier"}
        assert [arm["mean"] for arm in claim["arms"]] == [0.0, 0.0]
        assert claim["verdict"] == "inconclusive"  # ten prompts without a difference are not certainty


def test_several_judges_decide_in_their_order(suites, record, judged_prompts, tiny_words):
    suites(
        "-k", "tuned_follows", "--shift-prompts", judged_prompts, "--shift-judge", "similarity", "--shift-judge",
        "verifier", suite=FOLLOWING,
    )  # fmt: skip
    (claim,) = (c for c in record()["claims"] if c["prompts"] == "judged")
    assert claim["details"]["judge"]["judge"] == "similarity"
    assert [row["name"] for row in claim["sensitivity"]] == [
        "by flipping signs",
        "base asked in a plain format",
        "base asked in the tags of arXiv:2409.14254",
        "judged by verifier",
    ]
    # Wins are no share of prompts followed; of both judges it stands beside how far they can be believed.
    assert claim["unit"] == "wins over base less losses, a share of prompts"
    assert set(claim["scores"]) == {"base", "tuned"}
    assert {name: known["all"]["n"] for name, known in claim["details"]["judge_agreement"].items()} == {
        "similarity": 69, "verifier": 150
    }  # fmt: skip
    assert "How far the judge can be trusted" in [figure["title"] for figure in claim["figures"]]


def test_an_unknown_judge_ends_the_run_before_it_starts(suites):
    result = suites("--shift-judge", "similarty", suite=FOLLOWING)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no judge is called 'similarty'*similarity*"])


def test_stored_responses_are_written_as_alpacaeval_reads_them(
    suites, tiny_base, tiny_tuned, judged_prompts, warm_store, tmp_path, capsys
):
    out = tmp_path / "outputs.json"
    asked = ["outputs", "--base", str(tiny_base), "--tuned", str(tiny_tuned), "--prompts", str(judged_prompts),
             "--max-new-tokens", "12", "--store", str(tmp_path / "store"), "--out", str(out)]  # fmt: skip
    (tmp_path / "store").mkdir()
    assert main(asked) == 4
    assert "0 of 12 responses of tiny-tuned to judged are stored" in capsys.readouterr().err
    suites("-k", "tuned_follows", "--shift-prompts", judged_prompts, store=tmp_path / "store", suite=FOLLOWING)
    assert main(asked) == 0
    rows = json.loads(out.read_text())
    assert len(rows) == 12
    assert rows[3]["instruction"] == "Say what time it is, number 3."
    assert {(row["generator"], row["dataset"]) for row in rows} == {("tiny-tuned", "judged")}
    assert all(isinstance(row["output"], str) for row in rows)
    assert main([*asked, "--role", "response_tuned"]) == 4
    assert "the pair names base, tuned" in capsys.readouterr().err


def test_prompts_in_ifevals_form_are_judged_by_lm_evals_rules(suites, record, tmp_path):
    pytest.importorskip("langdetect", reason="lm-eval's rules for IFEval need the extra `ifeval`")
    rows = [
        {"key": i, "prompt": f"Write {i}.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
        for i in range(10)
    ]
    path = tmp_path / "ifeval.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = ("-k", "tuned_follows", "--shift-prompts", path, "--shift-judge", "ifeval")
    # In processes of their own: lm-eval brings pyarrow's extension types, which register once in a process.
    suites(*chosen, suite=FOLLOWING, new_process=True)
    (claim,) = (c for c in record()["claims"] if c["prompts"] == "ifeval")
    assert claim["details"]["judge"]["judge"] == "ifeval"
    assert claim["n"] == 10
    rows[0]["instruction_id_list"] = ["length_constraints:number_sentences"]
    rows[0]["kwargs"] = [{"num_sentences": 2, "relation": "at least"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = suites(*chosen, suite=FOLLOWING, new_process=True)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*punkt_tab*"])
