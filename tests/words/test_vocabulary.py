"""Word lists: wordfreq's order, words files with their mistakes, instruction and general verbs."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from tuneshift.errors import WordError
from tuneshift.plain import digest
from tuneshift.resources import fixture
from tuneshift.words.vocabulary import (
    Vocabulary,
    frequent_words,
    general_verbs,
    instruction_verbs,
    load_vocabulary,
    read_words,
    stop_words,
)

RELEASE = [
    "translate", "explain", "summarize", "retrieve", "revise", "generate", "describe", "classify", "create",
    "evaluate", "correct", "develop", "identify", "analyze", "compose", "demonstrate", "interpret", "design",
    "solve", "follow", "clarify", "say", "help", "act", "recommend", "estimate", "edit", "format", "repeat",
    "write", "give", "find", "create", "make", "describe", "design", "generate", "classify", "have", "explain",
    "tell", "identify", "output", "predict", "detect",
]  # fmt: skip


def written(folder, text, name="words.txt"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_frequent_words_are_wordfreqs_order_without_what_is_no_word():
    import wordfreq

    naive = [w for w in wordfreq.top_n_list("en", 3000) if re.fullmatch("[a-z]{2,}", w)][:2000]
    assert load_vocabulary("2000").words == tuple(naive)
    frequencies = [wordfreq.word_frequency(word, "en") for word in naive]
    assert frequencies == sorted(frequencies, reverse=True)
    assert "it's" not in naive
    assert "a" not in naive


def test_a_longer_vocabulary_begins_with_the_shorter_one_and_each_word_is_there_once():
    words = frequent_words(10_000)
    assert words[:500] == frequent_words(500)
    assert len(set(words)) == 10_000


def test_identity_is_the_words_in_their_order_and_not_the_name():
    one, two = Vocabulary(name="x", words=("cat", "dog")), Vocabulary(name="y", words=("cat", "dog"))
    assert one.sha256 == two.sha256 == digest(["cat", "dog"])
    assert one.sha256 != Vocabulary(name="x", words=("dog", "cat")).sha256


@pytest.mark.parametrize("spec", ["0", "-5", "+0"])
def test_a_number_below_one_is_refused(spec):
    with pytest.raises(WordError, match=f"vocabulary of {int(spec)} words.*positive number is accepted"):
        load_vocabulary(spec)


def test_more_words_than_there_are_says_how_many_there_are():
    with pytest.raises(WordError, match=r"5,000,000 words was asked for; wordfreq has 2\d\d,\d{3} words"):
        load_vocabulary("5000000")


def test_a_words_file_is_read_in_its_order(tmp_path):
    path = written(tmp_path, "\ufeff# animals\ncat\n  dog  # a friend\n\ncat\nLondon\r\ncafé\n")
    found = load_vocabulary(str(path))
    assert found.words == ("cat", "dog", "London", "café")
    assert found.name == "words.txt"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat\n\nhot dog # a dish\n", r"words\.txt:3: 2 words in one line \('hot dog # a dish'\); write one a line"),
        ("# nothing\n\n", r"words\.txt: no words in this file"),
        ("", r"words\.txt: no words in this file"),
        (b"cat\nd\xffg\n", r"words\.txt: byte 5 is not UTF-8"),
    ],
)
def test_a_malformed_words_file_is_named(tmp_path, text, message):
    with pytest.raises(WordError, match=message):
        load_vocabulary(str(written(tmp_path, text)))


def test_what_is_no_file_says_what_is_accepted(tmp_path):
    for spec in ("10,000", str(tmp_path), str(tmp_path / "none.txt")):
        with pytest.raises(WordError, match=r"is no readable file .*accepted is a number of words, or a file"):
            load_vocabulary(spec)


@pytest.mark.parametrize("header", ["", "3 2\n"])
def test_the_words_of_a_vector_file_are_taken_in_its_order(tmp_path, header):
    path = written(tmp_path, f"{header}red 1 0\nblue 0 1\ngreen 1 1\n", "space.txt")
    assert load_vocabulary(str(path)).words == ("red", "blue", "green")
    np.savez(tmp_path / "space.npz", words=np.array(["red", "blue"]), vectors=np.eye(2))
    assert load_vocabulary(str(tmp_path / "space.npz")).words == ("red", "blue")


def test_the_embedded_familys_words_are_a_vocabulary():
    words = load_vocabulary("embedded:micro/words.npz").words
    assert 1_000 < len(words) == len(set(words))
    assert words[0] == "the"
    assert {"cat", "lemon", "describe"} <= set(words)
    with pytest.raises(
        WordError, match=r"no embedded file of words 'micro/word\.npz'; did you mean 'micro/words\.npz'"
    ):
        load_vocabulary("embedded:micro/word.npz")


def test_instruction_verbs_are_the_releases_each_once():
    assert len(RELEASE) == 45
    assert instruction_verbs() == tuple(dict.fromkeys(RELEASE))
    assert len(instruction_verbs()) == 38
    lines = fixture("words/instruction-verbs.txt").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == RELEASE


def test_general_verbs_are_lemmas_by_frequency_without_the_lists():
    import wordfreq

    verbs = general_verbs()
    assert len(verbs) == len(set(verbs)) == 3000
    frequencies = [wordfreq.word_frequency(verb, "en") for verb in verbs]
    assert frequencies == sorted(frequencies, reverse=True)
    assert not set(verbs) & {*instruction_verbs(), *stop_words()}
    assert {"get", "know", "run", "eat", "bring", "discuss"} <= set(verbs)
    # Inflected forms, other parts of speech, words that only the guessing rules would take for verbs.
    assert not set(verbs) & {"running", "went", "found", "saw", "the", "beautiful", "gonna", "instagram", "would", "be"}
    assert general_verbs(10) == verbs[:10]


def test_stop_words_do_not_take_instruction_verbs_away_and_hold_no_content():
    assert stop_words() & set(instruction_verbs()) == {"have"}
    assert not stop_words() & {"like", "need", "let", "get", "make", "time", "go"}


def test_limits_of_general_verbs():
    with pytest.raises(ValueError, match="limit is 0; at least 1"):
        general_verbs(0)
    with pytest.raises(
        WordError, match=r"100,000 general verbs were asked for; wordfreq and lemminflect know \d,\d{3}"
    ):
        general_verbs(100_000)


@pytest.mark.parametrize(("package", "call"), [("wordfreq", frequent_words), ("lemminflect", general_verbs)])
def test_a_missing_package_says_what_to_install(monkeypatch, package, call):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(WordError, match=f"{package!r}, which is not installed; run: pip install wordfreq lemminflect"):
        call.__wrapped__(5)


def test_shipped_lists_hold_each_stop_word_once():
    lines = [line for line in fixture("words/stop-words.txt").read_text().splitlines() if line and line[0] != "#"]
    assert len(lines) == len(set(lines)) == len(read_words(fixture("words/stop-words.txt")))


def test_a_words_file_that_was_changed_is_read_again(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("one\ntwo\n")
    before = load_vocabulary(str(path))
    assert load_vocabulary(str(path)) is before
    path.write_text("one\ntwo\nthree\n")
    after = load_vocabulary(str(path))
    assert (after.words, after.sha256 != before.sha256) == (("one", "two", "three"), True)
