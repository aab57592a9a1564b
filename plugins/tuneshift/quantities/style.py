"""Style of a single task: what a sibling keeps of it, near the task and far from it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..claims.view import NotApplicable, Quantity, View
from ..pairs import ModelPair
from ..prompts.prompt import Prompt
from ..statistics.estimates import jackknife_statistic, weighted_spearman
from ..statistics.statistic import Arm, Statistic
from ..tuning.data import read_examples
from ..words.texts import TextSpace, Vector
from .following import LeaveOut, Source, clusters_of, outside, responses, source_label, within

Floats = npt.NDArray[np.float64]
TextVectors = Callable[[Sequence[str]], Sequence[Vector | None]]
"""Texts -> unit vectors [dim], None where a text has none: a `texts.TextSpace`, say."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a set of responses is written, as far as counting shows it; `likeness` compares one response with it."""

    words: Floats
    """Number of words of each response, [response]."""
    openings: Counter[str]
    punctuation: Counter[str]
    trigrams: Counter[str]

    @classmethod
    def of(cls, responses: Sequence[str]) -> Style:
        """The style of responses taken together. Raises ValueError for none."""
        if not responses:
            raise ValueError("a style is that of one response or more; got none")
        return cls(
            words=np.array([len(text.split()) for text in responses], dtype=np.float64),
            openings=Counter(_opening(text) for text in responses),
            punctuation=sum((_punctuation(text) for text in responses), Counter()),
            trigrams=sum((_trigrams(text) for text in responses), Counter()),
        )

    def likeness(self, response: str) -> dict[str, float]:
        """How like these responses another one is, each in 0..1.

        ``length``: mean over them of the smaller number of words over the larger, both plus 1; ``opening``: share of
        them that begin with the same two words; ``punctuation`` and ``trigrams``: cosine of counts of punctuation
        marks and line ends (1 where neither side has any), and of character trigrams, letters in lower case.
        """
        here, there = len(response.split()) + 1, self.words + 1
        return {
            "length": float(np.mean(np.minimum(here, there) / np.maximum(here, there))),
            "opening": self.openings[_opening(response)] / self.openings.total(),
            "punctuation": _counts_cosine(self.punctuation, _punctuation(response)),
            "trigrams": _counts_cosine(self.trigrams, _trigrams(response)),
        }


def _opening(text: str) -> str:
    return " ".join(text.casefold().split()[:2])


def _punctuation(text: str) -> Counter[str]:
    return Counter(re.findall(r"[^\w\s]|\n", text))


def _trigrams(text: str) -> Counter[str]:
    folded = f" {' '.join(text.casefold().split())} "
    return Counter(folded[i : i + 3] for i in range(len(folded) - 2))


def _counts_cosine(a: Counter[str], b: Counter[str]) -> float:
    if not a or not b:
        return float(not a and not b)
    lengths = [math.sqrt(sum(count**2 for count in counts.values())) for counts in (a, b)]
    return min(1.0, sum(count * a[name] for name, count in b.items()) / (lengths[0] * lengths[1]))


def style_fades(
    source: Source, *, domain: Sequence[tuple[str, str]], vectors: TextVectors, leave_out: LeaveOut | None = None
) -> Quantity:
    """Spearman's correlation over prompts of nearness to a domain with style likeness to its responses, in -1..1.

    ``domain`` holds (instruction, response) of the single task. A prompt's nearness is the mean cosine of its vector
    with those of the domain's instructions; its response's likeness the mean of the four of `Style.likeness`. A
    positive correlation: the style fades as instructions leave the domain. The interval leaves out one cluster at a
    time, on Fisher's z.
    Details: ``features``, the correlation of each feature alone; ``domain``, the number of examples.

    Raises NotApplicable for recorded evidence without responses and where fewer than three prompts are left, and
    ValueError for a domain without an instruction that has a vector.
    """
    style = Style.of([response for _, response in domain])
    label = source_label(source)

    def quantity(view: View) -> Statistic:
        kept = outside(view, leave_out)
        found = responses(kept, source, label)
        near = _nearness([p for p in kept.prompts if p.id in found], [text for text, _ in domain], vectors)
        view.excluded.update(["no vector of the instruction"] * (len(found) - len(near)))
        if len(near) < 3:
            raise NotApplicable(f"a correlation needs three prompts or more with a response and a vector; {len(near)}")
        ids = tuple(near)
        features = [style.likeness(found[i].values["response"]) for i in ids]
        likeness = np.array([list(row.values()) for row in features])  # [prompt, feature]
        x, y = np.array(list(near.values())), likeness.mean(axis=1)
        statistic = jackknife_statistic(
            weighted_spearman(x, y),
            arms=(Arm(label="nearness", ids=ids, values=x), Arm(label="style", ids=ids, values=y)),
            clusters=clusters_of(view, ids), level=view.level, span=(-1.0, 1.0), name="spearman",
        )  # fmt: skip
        one = np.ones((1, len(ids)))
        alone = {name: float(weighted_spearman(x, likeness[:, k])(one)[0]) for k, name in enumerate(features[0])}
        return replace(statistic, details={**statistic.details, "features": alone, "domain": len(domain)})

    return quantity


def _nearness(prompts: Sequence[Prompt], instructions: Sequence[str], vectors: TextVectors) -> dict[str, float]:
    """Mean cosine of each prompt that has a vector to the instructions that have one, by id."""
    found = vectors([*instructions, *(p.prompt for p in prompts)])
    known = [vector for vector in found[: len(instructions)] if vector is not None]
    if not known:
        raise ValueError(f"none of the domain's {len(instructions)} instructions has a vector")
    centre = np.mean(known, axis=0, dtype=np.float64)
    cosines = {
        p.id: float(centre @ v) for p, v in zip(prompts, found[len(instructions) :], strict=True) if v is not None
    }
    # float32 is exact to about 1e-7: what differs by less is a tie.
    return {i: round(cosine, 6) for i, cosine in cosines.items()}


def outside_single_task(pair: ModelPair) -> LeaveOut | None:
    """Which prompts are of the pair's single task and do not count; None where the pair does not say."""
    return within(pair.single_task.prompts) if pair.single_task else None


def single_task_style_fades(source: Source, word_vectors: str) -> Quantity:
    """`style_fades` for the pair's own single task, in the word space ``word_vectors``.

    Raises NotApplicable where the pair names no examples of the task; UsageError for a file of examples that is not in
    the form of ``docs/tuning.md``.
    """

    def quantity(view: View) -> Statistic:
        task = view.pair.single_task
        if task is None:
            raise NotApplicable("the pair does not say what its single task was; set `single_task` in the pair file")
        rows = read_examples(task.examples, "single-task").rows
        domain = [(row.prompt[-1]["content"], row.response) for row in rows]
        return style_fades(source, domain=domain, vectors=TextSpace(word_vectors))(view)

    return quantity
