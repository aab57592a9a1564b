"""Verifiers: for every kind right answers pass and near misses fail; malformed rules name what is accepted."""

from __future__ import annotations

import itertools
import re
import time
from typing import Any

import pytest

from tuneshift.errors import PromptError
from tuneshift.prompts import verifiers
from tuneshift.prompts.verifiers import KINDS, LONGEST, check_spec, fold, items, sentences, verify

CASES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "exact": (
        {"kind": "exact", "answers": ["Anna baked a cake.", "Baked"]},
        ["Anna baked a cake.", " anna  baked a cake\n", "baked"],
        ["Anna bakes a cake.", "Anna baked a cake and a bun.", "", "Anna baked"],
    ),
    "contains_all": (
        {"kind": "contains_all", "answers": ["cold", "hot"], "none": ["warm"]},
        ["The opposite of hot is cold.", "COLD, not hot"],
        ["The opposite of hot is colder.", "cold", "hot, warm, cold"],
    ),
    "contains_any": (
        {"kind": "contains_any", "answers": ["red", "dark red"], "none": ["blue"]},
        ["It is red.", "Red!"],
        ["It is reddish.", "It is red or blue.", "It is green."],
    ),
    "regex": (
        {"kind": "regex", "pattern": r"(?m)^- \w+: [A-Z]\w+$"},
        ["- name: Iris", "Here it is.\n- name: Iris\nDone."],
        ["- name: iris", "- NAME: iris", "Here it is. - name: Iris Done.", "-  name: Iris"],
    ),
    "sequence": (
        {"kind": "sequence", "answers": ["ant", "bee", "cow"], "none": ["dog"]},
        ["In order: ant, bee and cow.", "ant bee cow"],
        ["In order: ant, cow and bee.", "ant, bee", "ant, bee, dog, cow", "ants, bee, cow"],
    ),
    "set": (
        {"kind": "set", "members": ["hen", "owl", "hens", "owls", "crow"], "count": 2},
        ["Two birds: hen and owl.", "hen, owl", "- hens\n- crow", "1. A hen\n2. An owl"],
        ["hen", "hen, owl and crow", "hen and hen", "hen and fox", "Two birds"],
    ),
    "sentences": (
        {"kind": "sentences", "count": 2, "each": ["owl"]},
        ["An owl is a bird. An owl eats mice.", "What is an owl? It is an owl!"],
        [
            "An owl is a bird.",
            "An owl is a bird. It eats mice.",
            "An owl is a bird. An owl is a bird.",
            "An owl is a bird. An owl eats mice. An owl is brown.",
            "An owl is a bird. An owl eats mice. An owl",
        ],
    ),
    "all": (
        {"kind": "all", "of": [{"kind": "contains_all", "answers": ["owl"]}, {"kind": "sentences", "count": 1}]},
        ["The owl sleeps."],
        ["The owl sleeps. The owl eats.", "The hen sleeps."],
    ),
    "any": (
        {
            "kind": "any",
            "of": [{"kind": "exact", "answers": ["yes"]}, {"kind": "regex", "fold": True, "pattern": "^sure"}],
        },
        ["Yes.", "Sure, I can."],
        ["No.", "I am sure."],
    ),
}


def test_every_kind_has_cases() -> None:
    assert set(CASES) == set(KINDS)


@pytest.mark.parametrize("kind", CASES)
def test_right_answers_pass_and_near_misses_fail(kind: str) -> None:
    spec, right, wrong = CASES[kind]
    for response in right:
        assert verify(spec, response, ended=True).correct, response
    for response in wrong:
        assert not verify(spec, response, ended=True).correct, response


def test_sentences_of_members_admit_no_other_sentence() -> None:
    spec = {"kind": "sentences", "count": 2, "members": ["An owl is a bird.", "An owl is brown.", "An owl eats mice."]}
    assert verify(spec, "An owl eats mice. An owl is a bird.", ended=True).correct
    assert not verify(spec, "An owl eats mice. An owl is a fish.", ended=True).correct


def test_a_response_beyond_max_words_is_wrong() -> None:
    spec = {"kind": "contains_all", "answers": ["cold"], "max_words": 3}
    assert verify(spec, "It is cold", ended=True).correct
    assert not verify(spec, "It is very cold", ended=True).correct


def test_on_task_is_implied_by_correct_and_decided_by_its_own_rule_otherwise() -> None:
    spec = {"kind": "exact", "answers": ["red"], "on_task": {"kind": "contains_any", "answers": ["blue"]}}
    assert verify(spec, "red", ended=False).on_task
    wrong = verify(spec, "It is blue.", ended=False)
    assert (wrong.correct, wrong.on_task) == (False, True)
    assert not verify(spec, "It is round.", ended=False).on_task
    assert not verify({"kind": "exact", "answers": ["red"]}, "blue", ended=False).on_task


@pytest.mark.parametrize("ended", [True, False])
def test_ended_is_passed_through_and_changes_nothing_else(ended: bool) -> None:
    found = verify({"kind": "exact", "answers": ["red"]}, "red", ended=ended)
    assert found.ended is ended
    assert found.correct


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("exact", "a JSON object"),
        ({}, "kind None is unknown; accepted are all, any, contains_all"),
        ({"kind": "exakt", "answers": ["x"]}, "'exakt' is unknown"),
        ({"kind": "exact"}, "lacks answers; it needs answers"),
        ({"kind": "exact", "answer": ["x"], "answers": ["x"]}, "has the unknown answer"),
        ({"kind": "exact", "answers": []}, "a list that is not empty"),
        ({"kind": "exact", "answers": "x"}, "a list that is not empty"),
        ({"kind": "exact", "answers": [1]}, "a list that is not empty"),
        ({"kind": "exact", "answers": ["x"], "max_words": True}, "a whole number"),
        ({"kind": "set", "members": ["x"], "count": "2"}, "a whole number"),
        ({"kind": "regex", "pattern": "("}, "no regular expression"),
        ({"kind": "regex", "pattern": "(" * 1500}, "no regular expression"),
        ({"kind": "regex", "pattern": "a{99999999999999999999}"}, "too large"),
        ({"kind": "regex", "pattern": "((a{1000}){1000}){1000}"}, "too large"),
        ({"kind": "regex", "pattern": "a" * 2001}, "too large"),
        ({"kind": "regex", "pattern": "a", "fold": 1}, "true or false"),
        ({"kind": "all", "of": ["x"]}, "for 'of': of rules"),
        ({"kind": "all", "of": [{"kind": "exakt"}]}, "'exakt' is unknown"),
        ({"kind": "exact", "answers": ["x"], "on_task": {"kind": "exact"}}, "lacks answers"),
        ({"kind": "exact", "answers": ["x"], "on_task": "yes"}, "a rule, that is a JSON object"),
    ],
)
def test_a_malformed_rule_says_what_is_accepted(spec: Any, said: str) -> None:
    with pytest.raises(PromptError, match=said.replace("(", r"\(")):
        check_spec(spec)
    with pytest.raises(PromptError):
        verify(spec, "x", ended=True)


def test_items_leave_out_bullets_numbers_and_articles() -> None:
    assert items("1. A hen\n2. the owl, and two crows.") == ["hen", "owl", "two crows"]


def test_sentences_need_an_end_mark() -> None:
    assert sentences("One. Two? Three! four") == ["One.", "Two?", "Three!"]


@pytest.mark.parametrize("text", ["red", "Infrared red.", "a b", "xa b", "c++ and C++11", "É!", "don't", "", "i̇"])
def test_phrases_are_found_where_the_pattern_finds_them(text):
    for phrase in ("red", "a  b", "C++", "é", "don't", "", " ", ".", "İ"):
        found = bool(re.search(rf"(?<!\w){re.escape(fold(phrase))}(?!\w)", fold(text)))
        assert verify({"kind": "contains_any", "answers": [phrase]}, text, ended=True).correct == found


def test_a_folded_pattern_sees_neither_case_nor_line_breaks() -> None:
    spec = {"kind": "regex", "fold": True, "pattern": r"(^|\bis )twenty\W*$"}
    for response in ("Twenty.", "Nine plus eleven\n is   TWENTY."):
        assert verify(spec, response, ended=True).correct
        assert not verify({**spec, "fold": False}, response, ended=True).correct
    assert not verify(spec, "Twenty is nine plus eleven.", ended=True).correct


def test_sentences_are_those_of_the_definition() -> None:
    """Against the definition written as a pattern, on short texts: it is cubic, so it is no way to work."""
    naive = re.compile(r"[^.!?]*[^.!?\s][^.!?]*[.!?]")
    for letters in itertools.product(" a.?\n", repeat=6):
        text = "".join(letters)
        assert sentences(text) == [match.group().strip() for match in naive.finditer(text)]


HOSTILE = ("a" * 90_000, " " * 90_000, "\n" * 90_000, "\n1" * 45_000, ". " * 45_000, "a. " * 30_000, "- " * 45_000)


@pytest.mark.parametrize("kind", sorted(set(CASES) - {"regex", "any"}))
def test_no_kind_takes_longer_than_its_response_is_long(kind: str) -> None:
    """Responses of a broken checkpoint: the cubic pattern took 2.9 s for 1,000 characters, so 90,000 would not end."""
    for response in HOSTILE:
        before = time.process_time()
        verify(CASES[kind][0], response, ended=True)
        sentences(response)
        assert time.process_time() - before < 5, response[:10]


def test_a_response_beyond_the_length_that_is_read_is_wrong() -> None:
    spec = {"kind": "contains_any", "answers": ["red"]}
    assert verify(spec, "red " + "x" * (LONGEST - 4), ended=True).correct
    assert not verify(spec, "red " + "x" * (LONGEST - 3), ended=True).correct


def test_a_pattern_that_takes_exponential_time_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifiers, "SECONDS", 0.1)
    spec = {"kind": "regex", "pattern": "(a|aa)+$"}
    with pytest.raises(PromptError, match=r"takes longer than 0.1 s on a response of 5001 characters"):
        verify(spec, "a" * 5000 + "b", ended=True)
