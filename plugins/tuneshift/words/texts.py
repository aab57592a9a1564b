"""Texts as vectors in a word space."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..errors import WordError
from ..plain import Json
from .spaces import load_word_space, space_identity

WORD = re.compile(r"\w+(?:['’]\w+)*")

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TextSpace:
    """Texts as vectors: MiniLM's sentence embedding, or in any other word space the mean of the words' vectors.

    ``spec`` as `load_word_space` takes it. MiniLM reads the first 512 tokens. Words are looked up as they are written,
    then in lower case. Vectors are remembered, so a text that is asked for again costs nothing.
    """

    spec: str = "minilm"
    _known: dict[str, Vector | None] = field(default_factory=dict, repr=False, compare=False)

    @property
    def identity(self) -> Mapping[str, Json]:
        """Which space it is, by content. Raises WordError as `space_identity`."""
        return space_identity(self.spec)

    def __call__(self, texts: Sequence[str]) -> list[Vector | None]:
        """Per text its unit vector, float32 [dim]; None where the space has none of its words.

        Raises WordError where the space cannot be had or has not one word of the first texts asked for.
        """
        clean = [encodable(text) for text in texts]
        if self.spec == "minilm":
            self._learn(clean)
            return [self._known[text] for text in clean]
        words = [WORD.findall(text) for text in clean]
        self._learn([form for listed in words for word in listed for form in (word, word.lower())])
        return [self._mean(listed) for listed in words]

    def _learn(self, names: Sequence[str]) -> None:
        """Put the vectors of new names in store; None for those that the space does not have."""
        # In order of length, as texts that MiniLM reads together are padded to the longest of them.
        new = sorted((name for name in dict.fromkeys(names) if name not in self._known), key=len)
        if not new:
            return
        found: dict[str, Vector] = {}
        try:
            space = load_word_space(self.spec, new)
            found = dict(zip(space.words, space.vectors, strict=True))
        except WordError:
            # A space that gave vectors before is sound: it only has none of these words.
            if all(vector is None for vector in self._known.values()):
                raise
        self._known.update({name: found.get(name) for name in new})

    def _mean(self, words: Sequence[str]) -> Vector | None:
        forms = [self._known[w] if self._known[w] is not None else self._known[w.lower()] for w in words]
        vectors = [vector for vector in forms if vector is not None]
        total = np.sum(vectors, axis=0, dtype=np.float64) if vectors else np.zeros(1)
        length = float(np.linalg.norm(total))
        return np.asarray(total / length, dtype=np.float32) if length > 0 else None


def encodable(text: str) -> str:
    """The text with lone surrogates, which JSON may hold and UTF-8 may not, as question marks."""
    return text.encode(errors="replace").decode()
