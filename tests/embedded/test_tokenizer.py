"""The tokenizer's promises: shared word tokens, tags that never merge, a seam between prompt and response."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from tuneshift.embedded.corpus import documents
from tuneshift.embedded.recipe import load_recipe
from tuneshift.embedded.siblings import chat_ids, response_ids
from tuneshift.embedded.tasks import Workbook
from tuneshift.embedded.tokenizer import train_tokenizer

VOCABULARY = 900


@pytest.fixture(scope="module")
def texts(book: Workbook) -> list[str]:
    return list(islice(documents(book, load_recipe().corpus["mix"], seed="0", transcripts=0.0), 1500))


@pytest.fixture(scope="module")
def tokenizer(texts: list[str]) -> Any:
    return train_tokenizer(texts, VOCABULARY)


def test_size_and_special_tokens(tokenizer: Any) -> None:
    assert len(tokenizer) == VOCABULARY
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token) == ("<pad>", "<s>", "</s>")


def test_every_document_comes_back_unchanged(tokenizer: Any, texts: list[str]) -> None:
    for text in texts[:300]:
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_a_word_has_one_token_at_the_start_of_a_line_and_inside_it(tokenizer: Any) -> None:
    ids = tokenizer("word\nword, word\n\nword", add_special_tokens=False)["input_ids"]
    words = [token for token in tokenizer.convert_ids_to_tokens(ids) if "or" in token]
    assert words == ["Ġword"] * 4


def test_the_tags_never_merge(tokenizer: Any) -> None:
    for token in tokenizer.get_vocab():
        marks = [mark for mark in token.strip("Ġ") if mark in "<|>"]
        assert len(marks) <= 1 or token in tokenizer.all_special_tokens, token
    tokens = tokenizer.convert_ids_to_tokens(chat_ids(tokenizer, "Name a bird."))
    assert [mark for token in tokens[1:5] if (mark := token.strip("Ġ"))][:2] == ["<", "|"]


def test_prompt_and_response_meet_without_a_seam(tokenizer: Any) -> None:
    turns = [{"role": "user", "content": "Name a bird.\nowl, dog"}, {"role": "assistant", "content": "An owl.\nYes."}]
    whole = tokenizer(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False)["input_ids"]
    parts = chat_ids(tokenizer, "Name a bird.\nowl, dog") + response_ids(tokenizer, "An owl.\nYes.")
    assert whole[: len(parts)] == parts
    assert tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True, return_dict=False) == chat_ids(
        tokenizer, "Name a bird.\nowl, dog"
    )


def test_offsets_name_each_word_in_the_original_text(tokenizer: Any) -> None:
    text = "owl, dog\nName the bird."
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    covered = {i for start, end in encoding["offset_mapping"] for i in range(start, end)}
    assert covered == set(range(len(text)))
    for token, (start, end) in zip(encoding.tokens(), encoding["offset_mapping"], strict=True):
        assert token.strip("ĠĊ") in text[start:end]
