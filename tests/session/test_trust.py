"""Whose agreement with hand labels a run takes, and that nobody is asked who was not to be."""

from __future__ import annotations

import pytest

from tuneshift.annotators import agreement as annotators_agreement
from tuneshift.chat.endpoint import ChatEndpoint
from tuneshift.judges import agreement as judges_agreement
from tuneshift.judges.ifeval import IfevalJudge
from tuneshift.judges.registry import make_judge
from tuneshift.judges.verifier import VerifierJudge
from tuneshift.session.trust import JudgeAgreements, annotator_agreement

ENDPOINT = "openai:m@http://127.0.0.1:9/v1"


@pytest.fixture(autouse=True)
def nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setattr(ChatEndpoint, "ask_all", lambda *a, **k: pytest.fail("an endpoint was asked"))


@pytest.mark.numerics
def test_the_offline_annotator_is_measured_in_the_word_space_given() -> None:
    found = annotator_agreement("embedding", "embedded:micro/words.npz")
    assert found is not None
    assert found["levels"]["kappa"] == pytest.approx(0.44, abs=0.01)  # two decimals of the documented figure


def test_of_another_annotator_what_was_measured_before_counts(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(annotators_agreement, "cache_folder", lambda: tmp_path)
    assert annotator_agreement(ENDPOINT, "minilm") is None
    before = {"tasks": [], "levels": {}, "lists": 157}
    monkeypatch.setattr(annotators_agreement, "kept_agreement", lambda annotator: before)
    assert annotator_agreement(ENDPOINT, "minilm") == before


def test_a_judge_is_measured_once_and_only_an_offline_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    measured = judges_agreement.agreement
    monkeypatch.setattr(judges_agreement, "agreement", lambda judge: asked.append(judge) or measured(judge))
    known = JudgeAgreements()
    assert known(VerifierJudge()) is known(VerifierJudge())
    assert len(asked) == 1
    assert known(IfevalJudge()) is None
    assert known(make_judge(ENDPOINT)) is None
    assert len(asked) == 1
