"""Judges: which of two responses to a prompt follows it, by the prompt's own rule, its reference or a language model.

``docs/following.md`` has what each can tell and how to write one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .errors import UsageError, WordError
from .prompts import options
from .records import Json, Prompt
from .verifiers import verify
from .word_vectors import load_word_space, space_identity

VERIFIER, SIMILARITY, IFEVAL, OPENAI, HF = "verifier", "similarity", "ifeval", "openai:", "hf:"
DEFAULT = VERIFIER
TIE = 1e-6
"""Cosines of float32 vectors are exact to about this; closer ones do not say which is nearer."""
WORD = re.compile(r"\w+(?:['’]\w+)*")

Scores = tuple[float, float]
"""Of the first and the second response, each 0, 0.5 or 1."""
Tell = Callable[[int, int], None]
"""Called with the number of questions answered and of all."""
Vector = npt.NDArray[np.float32]
FIRST, TIED, SECOND = (1.0, 0.0), (0.5, 0.5), (0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two responses to one prompt. ``first_ended``, ``second_ended``: whether the model itself ended it, if known."""

    prompt: Prompt
    first: str
    second: str
    first_ended: bool | None = None
    second_ended: bool | None = None


class Judge(Protocol):
    """What scores pairs of responses.

    ``identity`` is JSON: whatever changes a score changes it. ``pairwise``: a response's score depends on the other
    one, so that it is a win (1), a tie (0.5) or a loss (0); otherwise it says whether the response follows its prompt.
    ``unjudged`` says, for the report, when there is no score.
    """

    @property
    def identity(self) -> Mapping[str, Json]: ...

    @property
    def pairwise(self) -> bool: ...

    @property
    def unjudged(self) -> str: ...

    def scores(self, items: Sequence[Comparison]) -> list[Scores | None]:
        """The scores per comparison, in order; None where it is not judged.

        Raises a TuneshiftError where it cannot work at all: a server that is down, a checkpoint that does not load.
        """


def make_judge(
    spec: str, word_vectors: str = "minilm", *, cache: Path | None = None, tell: Tell = lambda done, total: None
) -> Judge:
    """The judge that ``spec`` names.

    ``verifier`` (each prompt's own rule), ``ifeval`` (lm-eval's rules for prompts in IFEval's form), ``similarity``
    (offline: nearer to the reference; ``word_vectors`` is the space that it measures in), ``openai:MODEL@URL`` (any
    OpenAI-compatible endpoint; answers are kept below ``cache``, by default the user's cache folder) or
    ``hf:CHECKPOINT`` (a local folder, ``embedded:NAME`` or hub id of an instruction-tuned checkpoint). ``tell`` follows
    the endpoint. Raises UsageError for anything else.
    """
    if spec == VERIFIER:
        return VerifierJudge()
    if spec == SIMILARITY:
        return SimilarityJudge(TextSpace(word_vectors))
    if spec == IFEVAL:
        from .judges_ifeval import IfevalJudge

        return IfevalJudge()
    if spec.startswith(OPENAI):
        from .judges_prompted import endpoint_judge

        return endpoint_judge(spec, cache=cache, tell=tell)
    if spec.startswith(HF) and spec != HF:
        from .judges_prompted import CheckpointJudge

        return CheckpointJudge(spec.removeprefix(HF))
    known = (VERIFIER, IFEVAL, SIMILARITY, "openai:MODEL@URL", "hf:CHECKPOINT")
    raise UsageError(f"no judge is called {spec!r}; {options(spec, known)}.")


@dataclass(frozen=True)
class VerifierJudge:
    """Scores each response by its prompt's own rule, 1 where it is correct and 0 where not, whatever the other is.

    Raises PromptError for a malformed rule.
    """

    @property
    def identity(self) -> Mapping[str, Json]:
        return {"judge": VERIFIER}

    @property
    def pairwise(self) -> bool:
        return False

    @property
    def unjudged(self) -> str:
        return "without a verifier"

    def scores(self, items: Sequence[Comparison]) -> list[Scores | None]:
        return [_verified(item) for item in items]


def _verified(item: Comparison) -> Scores | None:
    rule = item.prompt.verify
    if rule is None:
        return None
    sides = (item.first, item.first_ended), (item.second, item.second_ended)
    first, second = (float(verify(rule, text, ended=bool(ended)).correct) for text, ended in sides)
    return first, second


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


@dataclass(frozen=True)
class SimilarityJudge:
    """Which response is nearer to the prompt's reference, by the cosine of their vectors; ties half.

    A response without a vector has cosine 0. Nearness in topic is all that it sees: a wrong answer in the reference's
    words beats a right one in others.
    """

    space: TextSpace = field(default_factory=TextSpace)

    @property
    def identity(self) -> Mapping[str, Json]:
        return {"judge": SIMILARITY, **self.space.identity}

    @property
    def pairwise(self) -> bool:
        return True

    @property
    def unjudged(self) -> str:
        return "without a reference, or with one that has no vector"

    def scores(self, items: Sequence[Comparison]) -> list[Scores | None]:
        asked = [(item, item.prompt.reference) for item in items if item.prompt.reference is not None]
        texts = [text for item, reference in asked for text in (reference, item.first, item.second)]
        known = dict(zip(texts, self.space(texts), strict=True)) if texts else {}
        return [self._nearer(item, known) for item in items]

    def _nearer(self, item: Comparison, known: Mapping[str, Vector | None]) -> Scores | None:
        reference = None if item.prompt.reference is None else known[item.prompt.reference]
        if reference is None:
            return None
        ahead = _cosine(reference, known[item.first]) - _cosine(reference, known[item.second])
        if item.first == item.second or abs(ahead) < TIE:
            return TIED
        return FIRST if ahead > 0 else SECOND


def _cosine(reference: Vector, vector: Vector | None) -> float:
    return 0.0 if vector is None else float(reference.astype(np.float64) @ vector.astype(np.float64))


def encodable(text: str) -> str:
    """The text with lone surrogates, which JSON may hold and UTF-8 may not, as question marks."""
    return text.encode(errors="replace").decode()
