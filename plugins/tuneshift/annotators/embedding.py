"""The offline annotator: prototypes of the tasks in a word space, and what a list has more of than random lists."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..errors import WordError
from ..plain import Json
from ..words.spaces import load_word_space, space_identity
from ..words.vocabulary import load_vocabulary
from .base import TASKS, Label, Lists
from .spelling import categories, morphological, phonological, spelling_identity, syntactic

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Features = Callable[[str], frozenset[str]]

VERSION = 1
REFERENCE = 3000
"""Most frequent words that random lists are drawn from: as many as the papers' word-space thresholds rest on."""
FEWEST_REFERENCE = 100
FEWEST_WORDS = 4
"""Words that a list must have, and that the space must know of it, before anything is said of it or its meaning."""
FEWEST_SHARING = 3
"""Words that must share a feature: a pair of relatives among a dozen words is chance and holds no list together."""
FEWEST_SEEDS = 5
"""Seed words that the space must know for a category to have a prototype."""
RANDOM_LISTS = 400
"""Per length; their 95th percentile then has a standard error of about a tenth of its distance to the median."""
HIGHEST_COSINE = 1 - 1e-9
TASK_THRESHOLD = 3.5
LEVEL_THRESHOLDS = {"phonology": 2.5, "morphology": 1.5, "syntax": 2.5, "semantics": 2.5}
"""Both from the calibration half of the labelled lists: the task threshold with the largest mean kappa in steps of one
half, and for levels the median of the combinations within 0.6 points of the best accuracy (docs/annotators.md)."""
SPELLED: Mapping[str, Features] = {"phonology": phonological, "morphology": morphological, "syntax": syntactic}


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """How far one list stands out from random lists of its length.

    ``tasks``: per task, standard deviations by which the list's cosine to its prototype exceeds the random lists', both
    by Fisher's transform; NaN where the space lacks the words. ``levels``: per level, in units of the distance from the
    random lists' median to their 95th percentile, so that 1 is what one random list in twenty reaches. Without the
    levels, or the tasks, that nothing can be said of.
    """

    tasks: Mapping[str, float]
    levels: Mapping[str, float]

    def label(self) -> Label:
        """Every task above its threshold; the level that is furthest above its own, or none."""
        above = {level: value / LEVEL_THRESHOLDS[level] for level, value in self.levels.items()}
        best = max((level for level in above if above[level] > 1), key=lambda level: above[level], default=None)
        return Label(tasks=frozenset(t for t, z in self.tasks.items() if z > TASK_THRESHOLD), level=best)


@dataclass(frozen=True)
class EmbeddingAnnotator:
    """Labels lists by a word space and by spelling, offline and without drawing: one seed.

    Tasks: the mean of the list's word vectors against prototypes, the mean vectors of each category's seed words
    (fixtures/annotation/categories.toml), all after the vocabulary's mean vector is taken off. Assigned where the
    cosine (by Fisher's transform) exceeds that of random lists of the same length by ``TASK_THRESHOLD`` standard
    deviations; several may hold.

    Levels: shared sounds, shared affixes or lemmas, and shared parts of speech by the binomial tail probability of the
    most surprising feature; meaning by the mean pairwise cosine. Each is put in units of what random lists of the same
    length reach; the one furthest beyond its threshold wins, and none abstains. Thresholds were chosen on the
    calibration half of fixtures/annotation/labelled.jsonl.

    Raises WordError where the word space cannot be had or knows too few words to draw random lists from.
    """

    word_vectors: str = "minilm"
    _vectors: dict[str, Floats | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    _random: dict[tuple[str, int, int], Floats] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def identity(self) -> Mapping[str, Json]:
        """Everything that a label depends on, by content."""
        return {
            "annotator": "embedding",
            "version": VERSION,
            "space": space_identity(self.word_vectors),
            "vocabulary": load_vocabulary(_vocabulary(self.word_vectors)).sha256,
            **spelling_identity(),
            "settings": [
                REFERENCE,
                FEWEST_WORDS,
                FEWEST_SHARING,
                FEWEST_SEEDS,
                RANDOM_LISTS,
                TASK_THRESHOLD,
                LEVEL_THRESHOLDS,
            ],
        }

    @property
    def seeds(self) -> tuple[int, ...]:
        return (0,)

    def notes(self) -> list[str]:
        """The tasks that this word space can never assign, with the reason."""
        missing = [task for task in TASKS if task not in self._prototypes]
        if not missing:
            return []
        return [
            f"The word space {self.word_vectors} knows fewer than {FEWEST_SEEDS} seed words of {', '.join(missing)}: "
            "no list is ever said to suit them."
        ]

    def annotate(self, lists: Lists, seed: int) -> list[Label | None]:
        """A label per list; None for an empty one. ``seed`` changes nothing but the random lists' draw."""
        return [strengths.label() if strengths is not None else None for strengths in self.strengths(lists, seed)]

    def strengths(self, lists: Lists, seed: int = 0) -> list[Strengths | None]:
        """What `annotate` decides by, per list; None for an empty one."""
        given = [list(dict.fromkeys(words)) for words in lists]
        self._look_up({word for words in given for word in words})
        return [self._strengths(words, seed) if words else None for words in given]

    def _strengths(self, words: list[str], seed: int) -> Strengths:
        vectors = self._known(words)
        if len(words) < FEWEST_WORDS:
            return Strengths(tasks={}, levels={})
        levels = {kind: self._stands_out(kind, len(words), seed, self._surprise(kind, words)) for kind in SPELLED}
        if len(vectors) >= FEWEST_WORDS:
            levels["semantics"] = self._stands_out("semantics", len(vectors), seed, _mean_cosine(vectors))
        return Strengths(tasks=self._task_scores(vectors, seed), levels=levels)

    def _task_scores(self, vectors: Floats, seed: int) -> dict[str, float]:
        if len(vectors) < FEWEST_WORDS:
            return dict.fromkeys(self._prototypes, math.nan)
        found = {}
        for task, prototype in self._prototypes.items():
            drawn = self._drawn(task, len(vectors), seed)
            found[task] = (_fisher(vectors.mean(axis=0), prototype) - drawn.mean()) / drawn.std()
        return found

    def _stands_out(self, kind: str, length: int, seed: int, value: float) -> float:
        median, high = np.quantile(self._drawn(kind, length, seed), [0.5, 0.95])
        # Random lists too short to share anything all score 0: there the unit is a probability ten times smaller.
        unit = max(high - median, 1.0) if kind in SPELLED else high - median
        return float((value - median) / unit)

    def _drawn(self, kind: str, length: int, seed: int) -> Floats:
        """The score of each random list, for a task or a level: worked out once per length."""
        key = (kind, length, seed)
        if key not in self._random:
            vectors = self._known(self._reference)

            def score(rows: Rows) -> float:
                if kind in SPELLED:
                    return self._surprise(kind, [self._reference[i] for i in rows])
                if kind in self._prototypes:
                    return _fisher(vectors[rows].mean(axis=0), self._prototypes[kind])
                return _mean_cosine(vectors[rows])

            self._random[key] = np.array([score(rows) for rows in self._draws(length, seed)])
        return self._random[key]

    def _draws(self, length: int, seed: int) -> list[Rows]:
        """Rows of the reference words of each random list, no word twice."""
        rng = np.random.default_rng([seed, length])
        size = min(length, len(self._reference))
        return [rng.choice(len(self._reference), size=size, replace=False) for _ in range(RANDOM_LISTS)]

    def _surprise(self, kind: str, words: Sequence[str]) -> float:
        """-log10 of the binomial tail probability of the most surprising feature that words share."""
        from scipy.special import bdtrc

        features = SPELLED[kind]
        counts = Counter(f for word in words for f in features(word))
        shared = [(n, self._rate(kind, f)) for f, n in counts.items() if n >= FEWEST_SHARING]
        if not shared:
            return 0.0
        n, p = np.array(shared).T
        tails = np.maximum(bdtrc(n - 1, len(words), p), 1e-300)
        return float(-np.log10(tails.min()))

    def _rate(self, kind: str, feature: str) -> float:
        """Share of the reference words with a feature; one more is counted, so that none is impossible."""
        return (self._counts[kind][feature] + 1) / (len(self._reference) + 2)

    @cached_property
    def _counts(self) -> dict[str, Counter[str]]:
        return {kind: Counter(f for w in self._reference for f in features(w)) for kind, features in SPELLED.items()}

    @cached_property
    def _reference(self) -> tuple[str, ...]:
        words = load_vocabulary(_vocabulary(self.word_vectors)).words
        words = tuple(w for w in words if w.isalpha())[:REFERENCE]
        seeds = {w for text in categories()["tasks"].values() for w in text.split()}
        space = load_word_space(self.word_vectors, tuple(dict.fromkeys([*words, *sorted(seeds)])))
        vectors = space.vectors.astype(np.float64)
        known = dict(zip(space.words, vectors, strict=True))
        self._vectors.update(dict.fromkeys(seeds | set(words)))
        self._vectors.update(known)
        reference = tuple(w for w in words if w in known)
        if len(reference) < FEWEST_REFERENCE:
            raise WordError(
                f"the word space {self.word_vectors} knows {len(reference)} of the {len(words)} words that random "
                f"lists are drawn from; the embedding annotator needs {FEWEST_REFERENCE}. Name a larger word space."
            )
        return reference

    @cached_property
    def _centre(self) -> Floats:
        return np.asarray(np.mean(self._raw(self._reference), axis=0), dtype=np.float64)

    @cached_property
    def _prototypes(self) -> dict[str, Floats]:
        """Per task with enough seed words in the space, their centred mean vector."""
        self._look_up(set())
        found = {}
        for task in TASKS:
            vectors = self._known(categories()["tasks"][task].split())
            if len(vectors) >= FEWEST_SEEDS:
                found[task] = np.asarray(vectors.mean(axis=0), dtype=np.float64)
        return found

    def _known(self, words: Sequence[str]) -> Floats:
        """Centred vectors [word, dim] of those words that the space has."""
        found = self._raw(words)
        return np.asarray(found, dtype=np.float64).reshape(-1, len(self._centre)) - self._centre

    def _raw(self, words: Sequence[str]) -> list[Floats]:
        return [vector for word in words if (vector := self._vectors[word]) is not None]

    def _look_up(self, words: set[str]) -> None:
        """Have the space's vectors of words that were not asked for before."""
        anchor = self._reference[0]  # a space that knows none of the words is no error here
        new = sorted(words - set(self._vectors))
        if new:
            space = load_word_space(self.word_vectors, [anchor, *new])
            self._vectors.update(dict.fromkeys(new))
            self._vectors.update(zip(space.words, space.vectors.astype(np.float64), strict=True))


def _vocabulary(word_vectors: str) -> str:
    """Where random lists come from: a file's own words, else the most frequent English ones."""
    return str(REFERENCE) if word_vectors in ("minilm", "glove") else word_vectors


def _fisher(a: Floats, b: Floats) -> float:
    """Fisher's transform of the cosine, artanh: unlike the cosine it has no ceiling that random lists come near."""
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return math.atanh(float(np.clip(a @ b / size, -HIGHEST_COSINE, HIGHEST_COSINE))) if size > 0 else 0.0


def _unit(vectors: Floats) -> Floats:
    """Rows [word, dim] of length 1; a row of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0), dtype=np.float64)


def _mean_cosine(vectors: Floats) -> float:
    """Mean cosine over all pairs of rows [word, dim]."""
    unit, n = _unit(vectors), len(vectors)
    return float((np.sum(unit.sum(axis=0) ** 2) - np.sum(unit**2)) / (n * (n - 1))) if n > 1 else 0.0
