"""Task types: their number, keys, spans and rules, each tested both ways."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from tuneshift.embedded.tasks import TASKS, Exercise, Workbook, word
from tuneshift.prompts.verifiers import check_spec, verify


def exercises(book: Workbook, task: str, count: int = 12) -> list[Exercise]:
    rng = Random(f"tests-{task}")
    wording = book.wordings[task]
    keys = [*book.keys[task][0], *book.keys[task][1]]
    return [book.exercise(task, key, rng, wording.phrasings + wording.held_out) for key in rng.sample(keys, count)]


def right(exercise: Exercise, response: str) -> bool:
    return verify(exercise.verify, response, ended=True).correct


def test_the_promised_breadth(book: Workbook) -> None:
    assert set(TASKS) == set(book.wordings)
    assert len(TASKS) >= 30
    with_context = [task for task, wording in book.wordings.items() if "{context}" in wording.phrasings[0]]
    assert len(with_context) >= 15
    verbs = {
        phrasing.split("{context}")[-1].strip(" \n:").split()[0] if phrasing[0] == "{" else phrasing.split()[0]
        for wording in book.wordings.values()
        for phrasing in wording.phrasings + wording.held_out
    }
    questions = {"What", "Which", "Where", "Who", "How", "Does", "Is", "Can", "Of", "In", "With", "That", "Here", "{x}"}
    assert len(verbs - questions) >= 40, sorted(verbs - questions)


@pytest.mark.parametrize("task", TASKS)
def test_keys_and_phrasings_suffice_and_held_out_ones_are_apart(book: Workbook, task: str) -> None:
    open_keys, held = book.keys[task]
    assert len(open_keys) + len(held) >= 60
    assert len(held) >= 10
    assert not set(open_keys) & set(held)
    wording = book.wordings[task]
    assert len(wording.phrasings) >= 5
    assert len(wording.held_out) >= 2
    assert not set(wording.phrasings) & set(wording.held_out)


@pytest.mark.parametrize("task", TASKS)
def test_the_reference_is_right_in_every_phrasing_and_the_spans_are_all_but_the_context(
    book: Workbook, task: str
) -> None:
    wording = book.wordings[task]
    rng = Random(1)
    for phrasing in wording.phrasings + wording.held_out:
        key = rng.choice(book.keys[task][1])
        draw = book.draw(task, key, rng)
        prompt, spans = word(phrasing, draw)
        assert "{" not in prompt
        assert "  " not in prompt
        said = " ".join(prompt[start:end] for start, end in spans)
        expected = phrasing.replace("{context}", " ").format(**draw.slots)
        assert said.split() == expected.split()
        assert all(prompt[start:end].strip() == prompt[start:end] != "" for start, end in spans)
        if draw.context is not None:
            assert draw.context in prompt
        assert verify(draw.verify, draw.answer, ended=True).correct


@pytest.mark.parametrize("task", TASKS)
def test_right_answers_pass_and_near_misses_fail(book: Workbook, task: str) -> None:
    drawn = exercises(book, task)
    for one, two in pairwise(drawn):
        check_spec(one.verify)
        assert right(one, one.answer), one
        assert right(one, one.answer.upper())
        assert not right(one, ""), one
        assert not right(one, "I do not know."), one
        if one.answer != two.answer and not right(two, one.answer):
            assert not right(one, two.answer), (one, two.answer)
            assert not right(one, f"{one.answer} {two.answer} {one.answer}"), one


CRAFTED = [
    ("kind", "owl", "An owl is a fish."),
    ("colour", "lemon", "A lime is yellow."),
    ("opposite", "hot", "The opposite of hot is warm."),
    ("plural", "mouse", "The plural of mouse is mouses."),
    ("past", "catch", "The past tense of catch is catched."),
    ("capital", "Malta", "The capital of Cyprus is Valletta."),
    ("continent", "Malta", "Mongolia is in Europe."),
    ("bigger", "bee/cow", "A bee is bigger than a cow."),
    ("bigger", "bee/cow", "A cow or a bee."),
    ("add", "3+4", "Three plus four is seventy."),
    ("add", "3+4", "Seven plus four is eleven."),
    ("next_number", "41", "After forty one comes forty."),
    ("numeral", "36", "The number 36 is thirty seven in words."),
    ("spell", "sock", "The word sock is spelled s-o-c-k-s."),
    ("spell", "sock", "The word sock is spelled s-o-k."),
    ("first_letter", "bear", "The word bear begins with d."),
    ("sentence", "owl", "An owl is a bird. An owl is brown."),
    ("sentence", "owl", "An owl is pink."),
    ("describe", "owl", "An owl is a bird. An owl is pink."),
    ("list", "bird/2", "Two birds: owl and owl."),
    ("list", "bird/2", "Two birds: crow, hen and owl."),
    ("list", "bird/2", "Two birds: owl and trout."),
]


@pytest.mark.parametrize(("task", "key", "wrong"), CRAFTED)
def test_crafted_near_misses_fail(book: Workbook, task: str, key: str, wrong: str) -> None:
    draw = book.draw(task, key, Random(0))
    assert verify(draw.verify, draw.answer, ended=True).correct
    assert not verify(draw.verify, wrong, ended=True).correct


def test_a_wrong_value_is_on_task_and_another_subject_is_not(book: Workbook) -> None:
    rule = book.draw("colour", "lemon", Random(0)).verify
    assert verify(rule, "A lemon is green.", ended=True).on_task
    assert not verify(rule, "A lemon is a fruit.", ended=True).on_task


def test_answers_vary_in_length(book: Workbook) -> None:
    lengths = {len(e.answer.split()) for task in TASKS for e in exercises(book, task, 4)}
    assert min(lengths) <= 4
    assert max(lengths) >= 30
