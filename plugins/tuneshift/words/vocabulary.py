"""Lists of English words, most frequent first: a head's vocabulary, the instruction verbs, the general verbs."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import WordError
from ..files import cache_folder
from ..plain import digest
from ..readings import Readings
from ..resources import fixture
from .spaces import file_words, holds_vectors, word_file

COMMENT = "#"


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Different words, most frequent first (or in their file's order). ``name`` is for people."""

    name: str
    words: tuple[str, ...]

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the words in their order: the vocabulary's identity, whatever it is called."""
        return digest(list(self.words))


def load_vocabulary(spec: str) -> Vocabulary:
    """The vocabulary that ``spec`` names.

    A number N: the N most frequent English words of wordfreq (`frequent_words`). A path or ``embedded:FAMILY/FILE``: a
    words file (UTF-8, one word a line, ``#`` begins a comment; a word that comes again is counted once), or a file of
    word vectors (``.npz`` or word2vec text), whose words are taken in file order.
    Raises WordError for a missing, malformed or empty file, a number that is not positive and a missing package.
    """
    if re.fullmatch(r"[+-]?\d+", spec):
        return Vocabulary(name=f"wordfreq's {int(spec):,} most frequent", words=frequent_words(int(spec)))
    path = word_file(spec, "a number of words, or a file of words or word vectors")
    status = path.stat()
    return _read_vocabulary(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _read_vocabulary(path: Path, size: int, changed: int) -> Vocabulary:
    """A file's vocabulary, read again when its size or time changes: keys of evidence ask for it again and again."""
    words = file_words(path) if holds_vectors(path) else read_words(path)
    return Vocabulary(name=path.name, words=words)


def read_words(path: Path) -> tuple[str, ...]:
    """Different words of a words file, in file order. Raises WordError with file and line."""
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except OSError as error:
        raise WordError(f"{path}: cannot be read ({error.strerror}); name a text file with one word a line.") from error
    except UnicodeDecodeError as error:
        raise WordError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8, one word a line.") from error
    found: dict[str, None] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.partition(COMMENT)[0].split()
        if len(fields) > 1:
            raise WordError(f"{path}:{number}: {len(fields)} words in one line ({line.strip()!r}); write one a line.")
        found |= dict.fromkeys(fields)
    if not found:
        raise WordError(f"{path}: no words in this file; write one a line ({COMMENT} begins a comment).")
    return tuple(found)


@functools.cache
def frequent_words(n: int) -> tuple[str, ...]:
    """wordfreq's ``n`` most frequent English words of at least two ASCII letters, in lower case.

    wordfreq's own list also holds contractions, numbers and single letters; they are passed over, so ``n`` words come
    back and not fewer. Raises WordError where the list has not that many, or the package is missing.
    """
    if n < 1:
        raise WordError(f"a vocabulary of {n} words was asked for; a positive number is accepted (10000).")
    words = []
    for word in _english():
        words.append(word)
        if len(words) == n:
            return tuple(words)
    raise WordError(f"a vocabulary of {n:,} words was asked for; wordfreq has {len(words):,} words of letters alone.")


def _english() -> Iterator[str]:
    """Words of wordfreq's English list by falling frequency, of two or more ASCII letters."""
    every = 1_000_000  # more than any of wordfreq's lists holds
    for word in _package("wordfreq").top_n_list("en", every):
        if len(word) > 1 and word.isascii() and word.isalpha() and word.islower():
            yield word


@functools.cache
def instruction_verbs() -> tuple[str, ...]:
    """The instruction verbs of arXiv:2310.00492 in the spellings that its release lists, each once (38 of 45)."""
    return read_words(fixture("words/instruction-verbs.txt"))


@functools.cache
def stop_words() -> frozenset[str]:
    """Function words, auxiliaries and modals: this project's own list."""
    return frozenset(read_words(fixture("words/stop-words.txt")))


@functools.cache
def general_verbs(limit: int = 3000) -> tuple[str, ...]:
    """The ``limit`` most frequent English verb lemmas, most frequent first, without instruction verbs and stop words.

    A word counts as a verb lemma when lemminflect's dictionary gives the word itself as its first verb lemma ("run",
    but not "found", whose first is "find"); its guesses for words outside the dictionary are not asked. wordfreq counts
    spellings and not parts of speech, so a word that is mostly a noun ("water") is here by all its uses.
    Raises ValueError for a limit below 1, WordError where the lists have not that many or a package is missing.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}; at least 1 is accepted.")
    excluded = sorted(stop_words() | set(instruction_verbs()))
    packages = ("wordfreq", "lemminflect")
    for name in packages:
        _package(name)
    readings = Readings(cache_folder() / "readings.json")
    return tuple(readings.read([limit, excluded], lambda: _general_verbs(limit, frozenset(excluded)), packages))


def _general_verbs(limit: int, excluded: frozenset[str]) -> list[str]:
    lemmas = _package("lemminflect").getLemma
    verbs: list[str] = []
    for word in _english():
        if len(verbs) == limit:
            break
        if word not in excluded and lemmas(word, upos="VERB", lemmatize_oov=False)[:1] == (word,):
            verbs.append(word)
    if len(verbs) < limit:
        raise WordError(f"{limit:,} general verbs were asked for; wordfreq and lemminflect know {len(verbs):,}.")
    return verbs


def _package(name: str) -> Any:
    """A package that only word lists need; Any, because it need not be installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise WordError(
            f"word lists need the package {name!r}, which is not installed; run: pip install wordfreq lemminflect."
        ) from error
