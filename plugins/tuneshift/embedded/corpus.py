"""The pre-training corpus: documents drawn by the recipe's mix, as token windows with a hash of the text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from .prose import FORMS
from .tasks import Workbook


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Token windows [window, position] in training order, and the SHA-256 of the documents they were cut from."""

    windows: npt.NDArray[np.int32]
    sha256: str
    documents: int


def documents(book: Workbook, mix: Mapping[str, float], *, seed: str, transcripts: float) -> Iterator[str]:
    """Endless documents, a share ``transcripts`` of them transcripts, the others by the mix."""
    rng = Random(f"corpus-{seed}")
    forms, weights = list(mix), list(mix.values())
    while True:
        form = "transcript" if rng.random() < transcripts else rng.choices(forms, weights)[0]
        yield FORMS[form](book, rng)


def build_corpus(
    book: Workbook, tokenizer: Any, mix: Mapping[str, float], *, tokens: int, window: int, seed: str, transcripts: float
) -> Corpus:
    """A corpus of ``tokens`` tokens; every document begins with the BOS and ends with the EOS token."""
    source = documents(book, mix, seed=seed, transcripts=transcripts)
    pieces: list[npt.NDArray[np.int32]] = []
    digest, count, total = hashlib.sha256(), 0, 0
    while total < tokens:
        texts = [next(source) for _ in range(2000)]
        for text, ids in zip(texts, tokenizer(texts)["input_ids"], strict=True):
            digest.update(text.encode() + b"\0")
            pieces.append(np.array([*ids, tokenizer.eos_token_id], dtype=np.int32))
            total += len(pieces[-1])
            count += 1
    stream = np.concatenate(pieces)[: tokens // window * window]
    windows = stream.reshape(-1, window)
    order = np.random.default_rng(list(seed.encode())).permutation(len(windows))
    return Corpus(windows=windows[order], sha256=digest.hexdigest(), documents=count)
