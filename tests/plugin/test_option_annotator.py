"""``--shift-annotator``: who sorts the concepts of the feed-forward layers."""

from __future__ import annotations

import pytest

TASKS = ("-k", "user_tasks")
FFN = "test_ffn_rotation.py"


def test_the_default_is_offline_and_its_agreement_stands_beside_the_verdict(suites, record):
    suites(*TASKS, suite=FFN)
    (claim,) = record()["claims"]
    # The tiny models' vectors are drawn at random, so that it sees nothing of the labelled lists.
    assert claim["verdict"] == "not_applicable"
    assert claim["reason"].startswith("the annotator cannot see this category: for any, ")
    assert [figure["title"] for figure in claim["figures"]] == ["How far the annotator can be trusted"]


def test_beside_a_verdict_of_an_annotator_that_sees_stands_its_agreement(suites, record):
    suites(*TASKS, "--shift-word-vectors", "embedded:micro/words.npz", suite=FFN)
    (claim,) = record()["claims"]
    assert claim["details"]["annotator"]["annotator"] == "embedding"
    assert claim["details"]["annotator_errors"]["positives"] == 49
    assert "How far the annotator can be trusted" in [figure["title"] for figure in claim["figures"]]
    assert "as the annotator counts" in [row["name"] for row in claim["sensitivity"]]
    blind = [row["name"] for row in claim["secondary"] if "cannot see" in (row.get("note") or "")]
    assert blind == ["coding", "translation"]


def test_an_unknown_annotator_is_named_before_anything_is_measured(suites):
    result = suites(*TASKS, "--shift-annotator", "embeding", suite=FFN)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no annotator is called 'embeding'*embedding*"])


def test_an_annotator_that_is_down_fails_its_findings_only(suites, monkeypatch, record):
    # Tries against a port that nobody listens on need no pause between them.
    client = pytest.importorskip("openai._base_client", reason="the extra `openai` is not installed")
    monkeypatch.setattr(client.BaseClient, "_calculate_retry_timeout", lambda *_, **__: 0.0)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    result = suites("-k", "user_tasks or rotates", "--shift-annotator", "openai:m@http://127.0.0.1:9/v1", suite=FFN)
    text = result.stdout.str()
    assert "127.0.0.1:9" in text
    assert [c["finding"] for c in record()["claims"]] == ["wu2023.ffn_rotates_knowledge"]
