"""What the spelling of a word shows: its sounds (roughly), its affixes and relatives, its parts of speech.

Features are strings; words that share one are alike in that respect. lemminflect's dictionary and the lists of
``fixtures/annotation/categories.toml`` are all that is asked.
"""

from __future__ import annotations

import functools
import importlib
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from ..errors import WordError
from ..plain import Json, digest
from ..resources import fixture

CATEGORIES = "annotation/categories.toml"
SHORTEST_STEM = 3
"""Letters that must remain of a word without its affix: "ring" is not "r" and "-ing"."""
_RHYME = re.compile(r"[aeiouy]+[^aeiouy]*e?$")
_ONSET = re.compile(r"[^aeiouy]+")
_ONSET_SOUNDS = {"kn": "n", "wr": "r", "ph": "f", "gn": "n", "ps": "s", "wh": "w"}
OPEN_CLASSES = ("NOUN", "VERB", "ADJ", "ADV")


@functools.cache
def categories() -> Mapping[str, Json]:
    """The tables of categories.toml: ``tasks``, ``closed_classes``, ``affixes`` and ``sounds``."""
    return tomllib.loads(fixture(CATEGORIES).read_text(encoding="utf-8"))


@functools.cache
def spelling_identity() -> dict[str, Json]:
    """What the features depend on, by content: the lists, and lemminflect's version."""
    return {"categories": digest(dict(categories())), "lemminflect": str(_lemminflect().__version__)}


@functools.cache
def phonological(word: str) -> frozenset[str]:
    """How a word begins and what it rhymes with, as far as spelling tells.

    A rhyme that lies within a suffix is not counted: "-ness" words are alike in form, not in sound alone.
    """
    word = word.lower()
    found = set()
    if onset := _ONSET.match(word):
        sound = _ONSET_SOUNDS.get(onset[0], onset[0])
        found |= {f"onset {sound}", f"initial {sound[0]}"}
    rhyme = _RHYME.search(word)
    suffixes = [f.removeprefix("suffix ") for f in morphological(word) if f.startswith("suffix ")]
    if rhyme and len(rhyme[0]) > 1 and not any(len(s) >= len(rhyme[0]) for s in suffixes):
        found |= {f"rhyme {sound}" for sound in _sounds().get(rhyme[0], (rhyme[0],))}
    return frozenset(found)


@functools.cache
def morphological(word: str) -> frozenset[str]:
    """A word's affixes, its lemmas and its family: what is left of it when all endings are taken off."""
    word = word.lower()
    found = {f"lemma {lemma}" for lemma in _lemmas(word)}
    suffixes, prefixes, _ = _affixes()
    found |= {f"suffix {s}" for s in suffixes if word.endswith(s) and _is_stem(word[: -len(s)])}
    found |= {f"prefix {p}" for p in prefixes if word.startswith(p) and _is_word(word[len(p) :])}
    found |= {f"family {root}" for root in _families(word)}
    return frozenset(found)


@functools.cache
def syntactic(word: str) -> frozenset[str]:
    """The closed classes (pronoun, preposition ...) that list a word, or the parts of speech that a dictionary gives.

    Closed classes rule the open ones out: that "can" may be a tin says nothing about a list of modals.
    """
    word = word.lower()
    closed = {f"class {name}" for name, words in _closed().items() if word in words}
    if closed:
        return frozenset(closed | {"class function word"})
    classes = _parts(word)
    found = {f"class {c}" for c in classes}
    # Words of one part of speech only: adverbs and adjectives stand out by it, nouns and verbs are often both.
    return frozenset(found | ({f"only {classes[0]}"} if len(classes) == 1 else set()) | _irregular(word))


@functools.cache
def _affixes() -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    table = categories()["affixes"]
    by_length = sorted(table["derivational"].split(), key=len, reverse=True)
    return tuple(table["suffixes"].split()), tuple(table["prefixes"].split()), tuple(by_length)


@functools.cache
def _closed() -> dict[str, frozenset[str]]:
    return {name: frozenset(words.split()) for name, words in categories()["closed_classes"].items()}


@functools.cache
def _sounds() -> dict[str, tuple[str, ...]]:
    """Ends of words to the sounds that they usually stand for; ``_`` marks a spelling's rarer sound."""
    found: dict[str, list[str]] = {}
    for line in categories()["sounds"]["ends"].split("\n"):
        spellings = line.split()
        for spelling in spellings:
            found.setdefault(spelling.rstrip("_"), []).append(spellings[0])
    return {spelling: tuple(sounds) for spelling, sounds in found.items()}


@functools.cache
def _lemmatised(word: str) -> Mapping[str, tuple[str, ...]]:
    """Part of speech -> lemmas, from lemminflect's dictionary; empty for a word that it does not have."""
    found: Mapping[str, tuple[str, ...]] = _lemminflect().getAllLemmas(word)
    return found


def _lemmas(word: str) -> set[str]:
    return {lemma for lemmas in _lemmatised(word).values() for lemma in lemmas} or {word}


def _parts(word: str) -> list[str]:
    found = _lemmatised(word)
    return [c for c in OPEN_CLASSES if c in found]


def _irregular(word: str) -> set[str]:
    """Past forms that no ending shows: "saw" and "broken" share a form, but no affix."""
    if word.endswith("ed"):
        return set()
    found = set()
    for lemma in _lemmatised(word).get("VERB", ()):
        if lemma != word:
            forms = _lemminflect().getAllInflections(lemma, upos="VERB")
            found |= {f"form {tag}" for tag in ("VBD", "VBN") if word in forms.get(tag, ())}
    return found


def _is_word(text: str) -> bool:
    return len(text) >= SHORTEST_STEM and bool(_lemmatised(text))


def _is_stem(text: str) -> bool:
    """Whether a word stands before a suffix: as it is, without its silent e, its y, or its doubled consonant."""
    if len(text) < SHORTEST_STEM:
        return False
    doubled = text[:-1] if text[-1] == text[-2] else text
    changed = f"{text[:-1]}y" if text[-1] == "i" else text
    return any(_is_word(form) for form in (text, f"{text}e", f"{text}y", doubled, changed))


def _families(word: str) -> set[str]:
    """What remains of a word and of its lemmas while endings and a prefix are taken off, every step of it."""
    forms = {word} | _lemmas(word)
    forms |= {
        form[len(p) :] for form in forms for p in _affixes()[1] if form.startswith(p) and _is_word(form[len(p) :])
    }
    return {root for form in forms for root in _roots(form)}


def _roots(form: str) -> set[str]:
    found = {_plain_end(form)}
    for ending in _affixes()[2]:
        if form.endswith(ending) and len(form) - len(ending) >= SHORTEST_STEM:
            shorter = form[: -len(ending)]
            return found | {_plain_end(shorter)} | _roots(shorter)
    return found


def _plain_end(form: str) -> str:
    """Without a doubled consonant, a silent e or a y, which endings change."""
    if len(form) > SHORTEST_STEM and form[-1] == form[-2]:
        return form[:-1]
    return form[:-1] if len(form) > SHORTEST_STEM and form[-1] in "eiy" else form


def _lemminflect() -> Any:
    try:
        return importlib.import_module("lemminflect")
    except ImportError as error:
        raise WordError(
            "the embedding annotator needs the package 'lemminflect', which is not installed; run: pip install "
            "lemminflect."
        ) from error
