"""Where thoughts end and the answer begins."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import AutoTokenizer

from tuneshift.checkpoints.refs import ModelRef
from tuneshift.prompts.thinking import Thoughts, thinking_tags, thoughts_in
from tuneshift.readings import Readings

TAGS = ("<think>", "</think>")


@pytest.fixture(scope="module")
def folder(make_checkpoint):
    return make_checkpoint("thinking", extra_tokens=TAGS)


@pytest.mark.parametrize(
    ("after_user", "response", "thoughts", "ended"),
    [
        ("", "red", None, None),
        ("", "<think>a</think>red", 3, True),
        ("", "<think></think>red", 2, True),
        ("", "<think>red or", 7, False),
        ("<think>", "ab</think>red", 3, True),  # the template opens the thoughts
        ("<think>", "ab red", 6, False),  # and they never end
        ("<think></think>", "red", None, None),  # or it has none thought
        ("", "<think>a</think>b<think>c</think>red", 7, True),
        ("", "<think>a</think>b<think>c", 6, False),  # it thinks again, and does not come back
        ("", "", None, None),
        ("<think>", "", 0, False),
    ],
)
def test_thoughts_run_to_the_last_end_of_thinking(folder, after_user, response, thoughts, ended):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    before, said = (
        np.array(tokenizer(t, add_special_tokens=False)["input_ids"], dtype=np.int64) for t in (after_user, response)
    )
    expected = None if thoughts is None else Thoughts(tokens=thoughts, ended=ended)
    assert thoughts_in(said, before, tokenizer, TAGS) == expected
    assert thoughts_in(said, before, tokenizer, None) is None


def test_tags_that_a_tokenizer_has_no_token_for_are_found_as_they_are_spelled(make_checkpoint):
    tokenizer = AutoTokenizer.from_pretrained(make_checkpoint("spelled"))
    said = np.array(tokenizer("[a]x[b]red", add_special_tokens=False)["input_ids"], dtype=np.int64)
    assert thoughts_in(said, said[:0], tokenizer, ("[a]", "[b]")) == Thoughts(tokens=7, ended=True)


def test_tags_are_detected_from_an_added_token(folder, tiny_base, tmp_path):
    kept = Readings(tmp_path / "readings.json")
    for _ in range(2):
        assert thinking_tags(ModelRef(name="t", model=str(folder)), kept) == TAGS
        assert thinking_tags(ModelRef(name="b", model=str(tiny_base)), kept) is None
