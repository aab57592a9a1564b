"""A pair's evidence as a finding's test reads it: item-aligned, through one choice of reading."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..errors import TuneshiftError
from ..measures.attribution.density import Attribution, Levels, Mask, importance_levels
from ..pairs import ModelPair
from ..plain import Json
from ..prompts.prompt import Prompt
from ..prompts.tokens import context_mask, nonspace_mask, token_mask
from ..prompts.verifiers import followed, verify
from ..statistics.statistic import Arm, Span, Statistic
from ..store.evidence import EvidenceItem

TEMPLATE_LEFT_OUT = "importance of tokens beside the user's text was left out; --shift-attribute-template=yes takes it"

Score = Callable[[Attribution], float | None]
Cut = Callable[[Attribution, Attribution], tuple[Attribution, Attribution]]
"""Base and tuned attribution of a prompt -> both as they are scored."""
Items = Callable[[str, str], Mapping[str, EvidenceItem] | None]
"""(role, need) -> evidence items by the id of their prompt or layer; None where a recorded checkpoint has none such."""
EvidenceName = Callable[[str, str], str | None]
"""(role, need) -> what names the piece of evidence, by content: its key in the store. None where nothing does."""


class NotApplicable(TuneshiftError):
    """The finding says nothing about this pair and prompt set; the message says why, and ``figures`` show it."""

    def __init__(self, message: str, *, figures: Sequence[Mapping[str, Json]] = ()) -> None:
        super().__init__(message)
        self.figures = tuple(figures)


@dataclass(frozen=True, kw_only=True)
class Lens:
    """A choice of how importance is read; the deciding one has the defaults.

    ``scale``: the prompt tokens that levels and density are scaled over: the user's ``text``, ``all`` (a reading only
    where there are others), or the text's tokens that hold a non-space character (``nonspace``). With ``all`` the
    others are context. ``contrast``: the other kind of response (shared where own decides). ``release_epsilon``: the
    release's absolute constant in the levels. ``thoughts``: the response with the thoughts before it; a reading only
    where there are any. ``plain_base``: the base asked in a plain format; only where the run asks it so.
    """

    name: str = "decides"
    scale: Literal["text", "all", "nonspace"] = "text"
    contrast: bool = False
    release_epsilon: bool = False
    thoughts: bool = False
    plain_base: bool = False


OWN_RESPONSE = "generation.local"
"""The need of the responses that attributions are taken of: those of our own passes, whatever the run's backend."""

LENSES = (
    Lens(name="{own}, over all prompt tokens", scale="all"),
    Lens(name="{contrast}", contrast=True),
    Lens(name="{contrast}, over all prompt tokens", contrast=True, scale="all"),
    Lens(name="{own}, rescaled without white space", scale="nonspace"),
    Lens(name="{own}, the release's epsilon", release_epsilon=True),
    Lens(name="{own}, with the thoughts before it", thoughts=True),
    Lens(name="{own}, base asked in a plain format", plain_base=True),
)
"""Names are filled in with the run's kind of response and the other kind."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A pair's evidence on one group of prompts, read through one lens.

    ``level`` is the coverage that intervals must have here, ``family_size`` how many findings share its error rate,
    ``seed`` the seed for whatever is resampled, ``evidence_name`` tells pieces of evidence apart.
    """

    pair: ModelPair
    prompts: tuple[Prompt, ...]
    items: Items
    level: float
    seed: int
    family_size: int = 1
    evidence_name: EvidenceName = lambda role, need: None
    lens: Lens = field(default_factory=Lens)
    by_topic: bool = False
    """Whether prompts count together by topic alone, not by cluster: a reading, which holds the clusters fixed."""
    excluded: Counter[str] = field(default_factory=Counter)
    """Why prompts were left out, counted over the scores that were asked for."""
    _attributions: dict[str, dict[str, Attribution]] = field(default_factory=dict)

    @property
    def deciding_level(self) -> float:
        """Coverage of the interval that decides the claim."""
        return 1 - (1 - self.level) / self.family_size

    @property
    def clusters(self) -> dict[str, str]:
        """Prompt id -> the label of what counts as one independent draw."""
        return {p.id: p.subject if self.by_topic else p.unit for p in self.prompts}

    def same_evidence(self, first: tuple[str, str], second: tuple[str, str]) -> bool:
        """Whether two (role, need) are read from one piece of evidence, so that what is made of them agrees by
        necessity: one key in the store, which holds weights, tokenizer, end tokens, template and prompts."""
        names = [self.evidence_name(*source) for source in (first, second)]
        return names[0] is not None and names[0] == names[1]

    def attributions(self, role: str) -> dict[str, Attribution]:
        """The role's attributions by prompt id, in prompt order. Raises NotApplicable where none were recorded."""
        if role not in self._attributions:
            self._attributions[role] = self._read(role)
        return self._attributions[role]

    def _read(self, role: str) -> dict[str, Attribution]:
        variant = ".contrast" if self.lens.contrast else ".thoughts" if self.lens.thoughts else ""
        if self.lens.plain_base and role == "base":
            variant += ".plain"
        found = self.items(role, f"attribution{variant}")
        if found is None:
            raise NotApplicable("the recorded evidence has attributions for one kind of response only")
        result = {}
        for prompt in self.prompts:
            item = found[prompt.id]
            if item.left_out:
                self.excluded[f"{role}: {item.left_out}"] += 1
            else:
                result[prompt.id] = self._attribution(prompt, item)
        return result

    def _attribution(self, prompt: Prompt, item: EvidenceItem) -> Attribution:
        text, offsets = prompt.prompt, item.arrays["offsets"]
        user = offsets[:, 0] >= 0
        scope = {"text": user, "all": np.ones_like(user), "nonspace": nonspace_mask(text, offsets)}[self.lens.scale]
        context = context_mask(text, offsets, prompt.instruction_spans)
        return Attribution(
            id=prompt.id,
            levels=self._levels(item, scope),
            instruction=token_mask(text, offsets, prompt.instruction_spans),
            context=context | ~user if self.lens.scale == "all" else context,
            user=user,
            scope=scope,
            tokens=tuple(item.values["tokens"]),
            response_tokens=tuple(item.values["response_tokens"]),
            response=item.values.get("response") or "",
            ended=item.values.get("ended"),
            importance=item.arrays.get("importance"),
            thinned_from=item.values.get("thinned_from"),
        )

    def _levels(self, item: EvidenceItem, scope: Mask) -> Levels:
        """Levels scaled over ``scope`` [prompt token]. Recorded ones, whose prompts have no template, are as they are:
        NotApplicable where the lens scales otherwise."""
        if "importance" in item.arrays:
            if np.isnan(item.arrays["importance"][scope]).any():
                raise NotApplicable(f"not measured: {TEMPLATE_LEFT_OUT}")
            epsilon = self.lens.release_epsilon
            return importance_levels(item.arrays["importance"], scope=scope, release_epsilon=epsilon)
        if self.lens.release_epsilon:
            raise NotApplicable("recorded levels already hold the release's epsilon")
        if self.lens.scale == "nonspace":
            raise NotApplicable("recorded levels are scaled with white space, and cannot be without importance")
        return np.asarray(item.arrays["levels"])

    @property
    def beyond_text(self) -> bool:
        """Whether any of the attributions read so far has prompt tokens beside the user's text."""
        return any(not a.user.all() for read in self._attributions.values() for a in read.values())

    def largest_beyond_text(self) -> dict[str, float | str]:
        """Per role read so far, the share of response tokens whose largest importance lies beside the user's text, in
        the chat template or in thoughts; of those that any token has importance for. Empty without such tokens; in
        words where importance was not taken for them."""
        return {role: _largest_beyond_text(read.values()) for role, read in self._attributions.items()
                if any(not a.user.all() and a.importance is not None for a in read.values())}  # fmt: skip

    @property
    def thinks(self) -> bool:
        """Whether any of the attributions read so far is of a response after thoughts."""
        read = (self.items(role, "attribution") or {} for role in self._attributions)
        return any("thoughts" in item.values for items in read for item in items.values())

    def levels_moved(self, other: View) -> float:
        """Share of the levels, over all prompts of the roles that both views have read, that the other lens changes."""
        cells = moved = 0
        for role in self._attributions.keys() & other._attributions.keys():
            for i, mine in self._attributions[role].items():
                cells += mine.levels.size
                moved += int(np.sum(mine.levels != other._attributions[role][i].levels))
        return moved / cells if cells else 0.0

    def paired(
        self, score: Score, *, undefined: str, span: Span | None = None, cut: Cut | None = None
    ) -> tuple[Arm, Arm, tuple[str, ...]]:
        """Base arm, tuned arm and clusters, over the prompts that have a score on both sides.

        ``undefined`` says, for the report, when the score has no value; ``span`` is the range that it cannot leave;
        ``cut`` makes of both attributions those that are scored, None for themselves.
        """
        base, tuned = self.attributions("base"), self.attributions("tuned")
        clusters = self.clusters
        rows: list[tuple[str, float, float]] = []
        for i in (p.id for p in self.prompts if p.id in base and p.id in tuned):
            both = (base[i], tuned[i]) if cut is None else cut(base[i], tuned[i])
            low, high = map(score, both)
            if low is None or high is None:
                self.excluded[undefined] += 1
            else:
                rows.append((i, low, high))
        ids = tuple(row[0] for row in rows)
        arms = [Arm(label=label, ids=ids, values=np.array([row[k] for row in rows], dtype=np.float64), span=span)
                for k, label in ((1, "base"), (2, "tuned"))]  # fmt: skip
        return arms[0], arms[1], tuple(clusters[i] for i in ids)

    def followed_arms(self, score: Score, *, min_tokens: int) -> tuple[Arm, Arm, dict[str, str]]:
        """Scores of the tuned model's prompts that it did not follow and that it followed, and each id's cluster.

        Labels come from the pair's ratings, else from the prompts' verifiers. Raises NotApplicable without labels.
        """
        tuned = self.attributions("tuned")
        followed_by_id, own = self._followed(), self.items("tuned", OWN_RESPONSE)
        sides: dict[bool, list[tuple[str, float]]] = {False: [], True: []}
        for prompt in (p for p in self.prompts if p.id in tuned):
            label, value = followed_by_id[prompt.id], score(tuned[prompt.id])
            if label is None:
                self.excluded["without a rating or a verifier"] += 1
            elif _own_length(tuned[prompt.id], own) < min_tokens:
                self.excluded[f"response under {min_tokens} tokens"] += 1
            elif value is not None:
                sides[label].append((prompt.id, value))
        low, high = (
            Arm(label=name, ids=tuple(i for i, _ in rows), values=np.array([x for _, x in rows], dtype=np.float64))
            for name, rows in (("not followed", sides[False]), ("followed", sides[True]))
        )
        return low, high, self.clusters

    def _followed(self) -> dict[str, bool | None]:
        """Per prompt, whether the tuned model's own response follows it: its rating, else its verifier's word."""
        if self.pair.ratings is not None:
            labels = {p.id: followed(p, self.pair.ratings) for p in self.prompts}
        else:
            own = self.items("tuned", OWN_RESPONSE)
            labels = {p.id: _verified(p, own[p.id]) if own else None for p in self.prompts}
        if all(label is None for label in labels.values()):
            raise NotApplicable(
                "no prompt has a rating or a verifier; set `ratings` in the pair file or `verify` in the prompt set"
            )
        return labels


def _own_length(attribution: Attribution, own: Mapping[str, EvidenceItem] | None) -> int:
    return len(own[attribution.id].arrays["response_ids"]) if own else attribution.response_length


def _largest_beyond_text(attributions: Iterable[Attribution]) -> float | str:
    """Share of response tokens with any positive importance whose largest is of a token outside ``user``."""
    beyond = tokens = 0
    for found in (a for a in attributions if a.importance is not None and a.importance.size):
        assert found.importance is not None
        if np.isnan(found.importance).any():
            return "not measured"
        positive = found.importance.max(axis=0) > 0
        tokens += int(positive.sum())
        beyond += int((positive & ~found.user[found.importance.argmax(axis=0)]).sum())
    return beyond / tokens if tokens else 0.0


def cut_while_thinking(response: EvidenceItem) -> bool:
    """Whether a response ended, or was cut, before its thoughts did: it has not answered, so it has not followed."""
    thoughts = response.values.get("thoughts")
    return thoughts is not None and not thoughts["ended"]


def _verified(prompt: Prompt, own: EvidenceItem) -> bool | None:
    if prompt.verify is None or own.left_out:
        return None
    if cut_while_thinking(own):
        return False
    return verify(prompt.verify, own.values["response"], ended=own.values["ended"]).correct


Quantity = Callable[[View], Statistic]
"""What a claim is decided by: a statistic of a view."""

Figure = Callable[[View], dict[str, Json] | None]
"""What the report shows of a view beside the verdict, as plain JSON of a kind that it knows; None for nothing."""
