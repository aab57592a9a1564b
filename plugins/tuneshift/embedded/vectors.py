"""The embedded family's own word vectors: which words of its small world stand near which, counted in its corpus.

They come from the text that the bases are trained on, but from none of the models, so a model's heads can be held
against them.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

WORDS = "words.npz"
"""The vectors' file in a family's folder."""
DIM = 64
WINDOW = 5
# Below this a word's row of counts is chance: with window 5 it has seen at most 250 neighbours.
SEEN = 25
WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
OUTSIDE = -1


def word_vectors(documents: Iterable[str], *, words: int) -> tuple[tuple[str, ...], npt.NDArray[np.float16]]:
    """Words by falling frequency, and float16 [word, dim] of unit length, from the first ``words`` words of the text.

    Positive pointwise mutual information of the words at most five places apart in a document, factorised to the
    square root of its ``dim`` largest singular values (Levy, Goldberg and Dagan 2015, section 3.3; no shift, no
    smoothing). ``dim`` is 64, or less where there are fewer words. Words are two or more letters that the text writes
    in lower case at least 25 times; names, which it always writes with a capital, are none.
    Raises ValueError where fewer than three words are that frequent.
    """
    texts = _first(documents, words)
    counted = Counter(word for text in texts for word in text)
    kept = sorted((word for word, count in counted.items() if _is_word(word, count)), key=lambda w: (-counted[w], w))
    if len(kept) < 3:
        raise ValueError(f"only {len(kept)} words are there {SEEN} times; give more text than {words} words.")
    vectors = _factorise(_ppmi(_cooccurrences(texts, {word: row for row, word in enumerate(kept)})))
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = np.flatnonzero(lengths > 0)  # a word that never meets another more often than by chance has no place
    return tuple(kept[row] for row in rows), (vectors[rows] / lengths[rows]).astype(np.float16)


def words_npz(documents: Iterable[str], *, words: int) -> bytes:
    """`word_vectors` as the bytes of an npz file with arrays ``words`` and ``vectors``.

    Uncompressed and with numpy's fixed time stamp: the same vectors give the same bytes, whatever zlib is installed.
    """
    names, vectors = word_vectors(documents, words=words)
    content = io.BytesIO()
    np.savez(content, words=np.array(names, dtype=np.bytes_), vectors=vectors)
    return content.getvalue()


def _first(documents: Iterable[str], words: int) -> list[list[str]]:
    """Words of as many documents as hold ``words`` of them."""
    texts: list[list[str]] = []
    total = 0
    for document in documents:
        if total >= words:
            break
        texts.append(WORD.findall(document))
        total += len(texts[-1])
    return texts


def _is_word(word: str, count: int) -> bool:
    return len(word) > 1 and word.isalpha() and word.islower() and count >= SEEN


def _cooccurrences(texts: Iterable[list[str]], ids: dict[str, int]) -> npt.NDArray[np.float64]:
    """How often two words stand at most WINDOW places apart in a document: [word, word], symmetric."""
    gap = [OUTSIDE] * WINDOW
    stream = np.array(
        [i for text in texts for i in (*(ids.get(w.lower(), OUTSIDE) for w in text), *gap)], dtype=np.int64
    )
    size = len(ids)
    counts = np.zeros(size * size)
    for distance in range(1, WINDOW + 1):
        left, right = stream[:-distance], stream[distance:]
        both = (left != OUTSIDE) & (right != OUTSIDE)
        counts += np.bincount(left[both] * size + right[both], minlength=size * size)
    square = counts.reshape(size, size)
    return square + square.T


def _ppmi(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """max(0, log p(a, b) / (p(a) p(b))); 0 where two words never meet."""
    alone = counts.sum(axis=1)
    expected = np.outer(alone, alone) / max(alone.sum(), 1.0)
    ratio = np.divide(counts, expected, out=np.ones_like(counts), where=counts > 0)
    return np.asarray(np.log(np.maximum(ratio, 1.0)))


def _factorise(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Left singular vectors, each times the root of its singular value, the largest first."""
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import svds

    size = len(matrix)
    sparse: Any = csr_array(matrix)  # its product runs on one thread, whatever the machine has
    left, values, _ = svds(sparse, k=min(DIM, size - 1), v0=np.ones(size))
    largest = np.argmax(np.abs(left), axis=0)
    left = left * np.sign(left[largest, np.arange(left.shape[1])])  # a singular vector's sign is free: fix it
    return np.asarray((left * np.sqrt(values))[:, ::-1])
