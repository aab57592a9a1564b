"""Which words of a vocabulary have tokens, and which."""

from __future__ import annotations

import numpy as np

from tuneshift.words.tokens import NO_TOKEN, SAME_TOKENS, UNKNOWN, word_rows


class Spelling:
    """A tokenizer by a table, text -> pieces; what is not in the table has no token."""

    def __init__(self, table, *, unknown=None):
        self.table, self.unk_token_id = table, unknown

    def __call__(self, texts, *, add_special_tokens):
        assert not add_special_tokens
        one = isinstance(texts, str)
        ids = [self.table.get(text, []) for text in ([texts] if one else texts)]
        return {"input_ids": ids[0] if one else ids}

    def convert_ids_to_tokens(self, ids):
        return [{90: "▁a", 91: "a"}.get(i, "?") for i in ids]


def test_a_word_is_spelled_after_a_space():
    found = word_rows(Spelling({" go": [5], "go": [6], "a": [91]}), ["go"])
    assert found.words == ("go",)
    assert found.ids.tolist() == [[5]]


def test_a_tokenizer_that_adds_the_space_itself_is_not_given_a_second_one():
    # SentencePiece: "go" is ▁go already, " go" would be ▁ and ▁go.
    found = word_rows(Spelling({" go": [1, 5], "go": [5], "a": [90]}), ["go"])
    assert found.ids.tolist() == [[5]]


def test_words_without_tokens_of_their_own_are_left_out_and_counted():
    table = {" a": [7], " b": [], " c": [7], " d": [3, 0], " e": [8, 7]}
    found = word_rows(Spelling(table, unknown=0), ["a", "b", "c", "d", "e"])
    assert found.words == ("a", "e")
    assert found.excluded == {NO_TOKEN: 1, SAME_TOKENS: 1, UNKNOWN: 1}


def test_ids_are_padded_sorted_and_masked():
    found = word_rows(Spelling({" ab": [9, 4, 9], " ba": [4, 9, 9], " c": [2]}), ["ab", "ba", "c"])
    # Another order is another word, with the same mean to the last bit.
    assert found.ids.tolist() == [[4, 9, 9], [4, 9, 9], [2, 0, 0]]
    assert found.mask.tolist() == [[True] * 3, [True] * 3, [True, False, False]]
    assert found.ids.dtype == np.int64


def test_no_words_give_no_rows():
    found = word_rows(Spelling({}), [])
    assert found.words == ()
    assert found.ids.shape == found.mask.shape == (0, 0)
