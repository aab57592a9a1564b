"""The corpus: same seed same text, the chat format never in it, transcripts only where asked for."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

import numpy as np
import pytest

from tuneshift.embedded import corpus as module
from tuneshift.embedded.corpus import build_corpus, documents
from tuneshift.embedded.prose import FORMS
from tuneshift.embedded.recipe import load_recipe
from tuneshift.embedded.tasks import Workbook
from tuneshift.embedded.tokenizer import train_tokenizer

MIX = load_recipe().corpus["mix"]


def texts(book: Workbook, count: int, *, seed: str = "0", transcripts: float = 0.15) -> list[str]:
    return list(islice(documents(book, MIX, seed=seed, transcripts=transcripts), count))


def test_the_mix_names_every_form(book: Workbook) -> None:
    assert {*MIX, "transcript"} == set(FORMS)
    assert all(weight > 0 for weight in MIX.values())


def test_a_seed_fixes_the_text(book: Workbook) -> None:
    assert texts(book, 200) == texts(book, 200)
    assert texts(book, 200) != texts(book, 200, seed="1")


def test_the_chat_format_is_never_seen(book: Workbook) -> None:
    everything = "\n".join(texts(book, 4000))
    assert "<|" not in everything
    assert "|>" not in everything
    assert not re.search(r"\b(assistant|user)\b", everything, re.IGNORECASE)


def test_base_far_sees_no_transcript(book: Workbook, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> str:
        raise AssertionError("a transcript was drawn")

    monkeypatch.setattr(module, "FORMS", {**FORMS, "transcript": refuse})
    texts(book, 1000, transcripts=0.0)
    with pytest.raises(AssertionError, match="a transcript was drawn"):
        texts(book, 1000)


def test_windows_hold_whole_documents_between_bos_and_eos(book: Workbook) -> None:
    tokenizer = train_tokenizer(texts(book, 500), 600)
    built = build_corpus(book, tokenizer, MIX, tokens=20_000, window=100, seed="0", transcripts=0.15)
    again = build_corpus(book, tokenizer, MIX, tokens=20_000, window=100, seed="0", transcripts=0.15)
    assert built.windows.shape == (200, 100)
    assert built.sha256 == again.sha256
    assert np.array_equal(built.windows, again.windows)
    flat = built.windows.ravel()
    ends = np.flatnonzero(flat[:-1] == tokenizer.eos_token_id)
    inside = ends[(ends + 1) % 100 != 0]
    assert len(inside) > 100
    assert (flat[inside + 1] == tokenizer.bos_token_id).all()
