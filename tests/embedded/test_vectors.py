"""The family's word vectors: counts against the naive definition, the same bytes twice, neighbours of one kind."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import torch
from tolerances import rounding

from tuneshift.embedded import vectors as module
from tuneshift.embedded.corpus import documents
from tuneshift.embedded.recipe import FAMILY, load_recipe
from tuneshift.embedded.vectors import WORDS, word_vectors, words_npz
from tuneshift.resources import fixture

pytestmark = pytest.mark.numerics

HALF = float(np.finfo(np.float16).eps)
TEXTS = ["The cat saw a cat's dog.", "Dog, cat! Anna SAW it; the end", "end"] * 30


def source(book, seed="0-trunk"):
    return documents(book, load_recipe().corpus["mix"], seed=seed, transcripts=0.0)


@pytest.fixture(scope="module")
def small(book):
    return word_vectors(source(book), words=150_000)


def test_words_are_those_written_in_lower_case_often_enough():
    names, vectors = word_vectors(TEXTS, words=10_000)
    # "cat's" is no word, Anna a name, "a" a letter; "The" and "SAW" are counted only where they are in lower case.
    assert names == ("cat", "end", "dog", "it", "saw", "the")
    assert vectors.dtype == np.float16
    assert np.linalg.norm(vectors.astype(float), axis=1) == pytest.approx(np.ones(6), abs=HALF)


def test_cooccurrences_are_the_naive_count():
    texts = [module.WORD.findall(text) for text in TEXTS[:3]]
    ids = {"cat": 0, "dog": 1, "end": 2, "saw": 3}
    naive = np.zeros((4, 4))
    for text in texts:
        for i, one in enumerate(text):
            for j, other in enumerate(text):
                if i != j and abs(i - j) <= 5 and one.lower() in ids and other.lower() in ids:
                    naive[ids[one.lower()], ids[other.lower()]] += 1
    assert naive.sum() > 8
    assert np.array_equal(module._cooccurrences(texts, ids), naive)


def test_ppmi_is_its_definition():
    counts = np.array([[0.0, 6, 2], [6, 0, 1], [2, 1, 4]])
    p = counts / counts.sum()
    for i in range(3):
        for j in range(3):
            naive = max(0.0, np.log(p[i, j] / (p[i].sum() * p[j].sum()))) if p[i, j] else 0.0
            assert module._ppmi(counts)[i, j] == pytest.approx(naive)


def test_factors_give_back_a_matrix_of_their_rank():
    """For a positive semi-definite matrix of rank below DIM, the vectors' products are the matrix."""
    made = np.abs(np.random.default_rng(0).normal(size=(90, 20)))
    matrix = made @ made.T
    left = module._factorise(matrix)
    assert left.shape == (90, 64)
    assert left @ left.T == pytest.approx(matrix, abs=rounding(90 * 90, torch.float64) * matrix.max())
    column = left[:, :20]  # beyond the rank there is only rounding
    assert (column[np.argmax(np.abs(column), axis=0), np.arange(20)] > 0).all()  # the free signs are fixed
    lengths = np.linalg.norm(column, axis=0)
    assert (np.diff(lengths) < 0).all()


def test_a_seed_gives_the_same_bytes_with_a_fixed_time_stamp(book):
    one, two, other = (words_npz(source(book, seed), words=60_000) for seed in ("0-trunk", "0-trunk", "1-trunk"))
    assert one == two != other
    with zipfile.ZipFile(io.BytesIO(one)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_no_more_text_is_read_than_asked_for():
    read = []
    word_vectors((read.append(text) or text for text in TEXTS * 5), words=400)
    count = sum(len(module.WORD.findall(text)) for text in read)
    assert 400 <= count < 400 + 2 * 7  # the document that fills it, and the one that finds it full


def mean_rank(names, vectors, kinds):
    """Mean rank in [0, 1] of a noun's own kind among all nouns by similarity; 0.5 by chance."""
    rows = {name: row for row, name in enumerate(names)}
    nouns = [name for members in kinds.values() for name in members if name in rows]
    kind_of = {name: kind for kind, members in kinds.items() for name in members}
    unit = vectors[[rows[name] for name in nouns]].astype(float)
    ranks = []
    for i, name in enumerate(nouns):
        order = [j for j in np.argsort(-unit @ unit[i]) if j != i]
        ranks += [at / (len(order) - 1) for at, j in enumerate(order) if kind_of[nouns[j]] == kind_of[name]]
    return float(np.mean(ranks)), len(nouns)


def test_neighbours_are_of_one_kind(book, small):
    names, vectors = small
    rank, nouns = mean_rank(names, vectors, book.world.kinds)
    assert nouns > 150
    assert rank < 0.1
    shuffled = np.random.default_rng(0).permutation(vectors)
    assert mean_rank(names, shuffled, book.world.kinds)[0] == pytest.approx(0.5, abs=0.05)  # ranks of random vectors


def test_the_shipped_file_is_small_and_sound(book):
    path = fixture(FAMILY) / WORDS
    assert path.stat().st_size < 400_000
    with np.load(path, allow_pickle=False) as file:
        names, vectors = file["words"].astype(str).tolist(), file["vectors"]
    assert vectors.shape == (len(names), 64)
    assert all(name.isalpha() and name.islower() and len(name) > 1 for name in names)
    assert np.linalg.norm(vectors.astype(float), axis=1) == pytest.approx(np.ones(len(names)), abs=HALF)
    assert mean_rank(names, vectors, book.world.kinds)[0] < 0.1


def test_too_little_text_is_refused():
    with pytest.raises(ValueError, match="only 0 words are there 25 times; give more text than 10 words"):
        word_vectors(TEXTS[:3], words=10)
