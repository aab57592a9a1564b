"""The token ids of the words of a vocabulary, as a checkpoint's tokenizer spells them. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

NO_TOKEN = "no token"
UNKNOWN = "unknown to the tokenizer"
SAME_TOKENS = "same tokens as an earlier word"
SENTENCEPIECE_SPACE = "▁"


@dataclass(frozen=True, kw_only=True)
class WordRows:
    """Words that have tokens of their own, in the vocabulary's order, and which rows of an embedding they are.

    ``ids`` [word, token], padded with 0 where ``mask`` [word, token] is False; a word's ids stand in rising order, so
    that words of the same tokens have the same mean to the last bit. ``excluded``: why words were dropped -> how many.
    """

    words: tuple[str, ...]
    ids: npt.NDArray[np.int64]
    mask: npt.NDArray[np.bool_]
    excluded: Mapping[str, int]


def word_rows(tokenizer: Any, words: Sequence[str]) -> WordRows:
    """The tokens of each word as it stands within a sentence, after one space.

    Left out are words without a token, with the unknown token, and with the token sequence of an earlier word. A
    SentencePiece tokenizer puts that space there itself; a second one would give every word the same extra token.
    """
    space = "" if _adds_space(tokenizer) else " "
    texts = [space + word for word in words]
    sequences = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    unknown = tokenizer.unk_token_id
    excluded: Counter[str] = Counter()
    kept: dict[tuple[int, ...], str] = {}
    for word, sequence in zip(words, sequences, strict=True):
        tokens = tuple(int(t) for t in sequence)
        if not tokens:
            excluded[NO_TOKEN] += 1
        elif unknown is not None and unknown in tokens:
            excluded[UNKNOWN] += 1
        elif tokens in kept:
            excluded[SAME_TOKENS] += 1
        else:
            kept[tokens] = word
    width = max(map(len, kept), default=0)
    ids = np.zeros((len(kept), width), dtype=np.int64)
    mask = np.zeros((len(kept), width), dtype=np.bool_)
    for row, tokens in enumerate(kept):
        ids[row, : len(tokens)] = sorted(tokens)
        mask[row, : len(tokens)] = True
    return WordRows(words=tuple(kept.values()), ids=ids, mask=mask, excluded=dict(excluded))


def _adds_space(tokenizer: Any) -> bool:
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("a", add_special_tokens=False)["input_ids"])
    return bool(tokens) and tokens[0].startswith(SENTENCEPIECE_SPACE)
