"""``--shift-vocabulary`` and ``--shift-word-vectors``: the words of the findings on weights, and what they resemble."""

from __future__ import annotations

import numpy as np
import pytest

WEIGHTS = ("-k", "instruction_verbs")
VERBS = "test_verb_relations.py"


def verbs(made) -> int:
    return sum(arm["n"] for arm in made["claims"][0]["arms"]) + sum(made["claims"][0]["left_out"].values())


def test_verbs_are_those_of_the_vocabulary(suites, record, tmp_path):
    suites(*WEIGHTS, suite=VERBS)
    all_words = verbs(record())
    assert record()["claims"][0]["details"]["word_vectors"].endswith("words.npz")
    few = tmp_path / "few.txt"
    few.write_text("translate\nexplain\nsummarize\nrun\nwalk\nsing\n")
    suites(*WEIGHTS, "--shift-vocabulary", few, suite=VERBS)
    assert 0 < verbs(record()) < all_words


def test_another_word_space_is_other_evidence(suites, tiny_words, tmp_path):
    def measured(*options: object) -> list[str]:
        lines = suites(*WEIGHTS, "--shift-plan", *options, suite=VERBS).outlines
        return [line.split(",")[-1] for line in lines if "relations, weights" in line]

    with np.load(tiny_words) as file:
        np.savez(tmp_path / "turned.npz", words=file["words"], vectors=file["vectors"][::-1])
    assert len(measured()) == 2
    assert measured() == measured("--shift-word-vectors", tiny_words)
    assert measured() != measured("--shift-word-vectors", tmp_path / "turned.npz")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--shift-vocabulary", "0", "*--shift-vocabulary: a number of words of at least 1 is wanted, got 0*"),
        ("--shift-vocabulary", "nowhere.txt", "*--shift-vocabulary: words file 'nowhere.txt' does not exist*"),
        ("--shift-word-vectors", "nowhere.npz", "*--shift-word-vectors: words file 'nowhere.npz' does not exist*"),
        ("--shift-word-vectors", "embedded:micro/no.npz", "*no embedded file 'embedded:micro/no.npz'*"),
    ],
)
def test_words_that_are_not_there_end_the_run_before_it_starts(suites, option, value, message):
    result = suites(*WEIGHTS, option, value, suite=VERBS)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_a_vocabulary_without_words_is_an_error_with_its_file(suites, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("# nothing yet\n")
    result = suites(*WEIGHTS, "--shift-vocabulary", empty, suite=VERBS)
    assert result.ret != 0
    assert "empty.txt" in result.stdout.str() + result.stderr.str()
