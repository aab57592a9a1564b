"""Log-likelihoods of responses, an instruction's own and others': what response ranking rests on (arXiv:2409.14254).

Everything is scored on token ids. An instruction's prefix runs once, and all its responses continue from its cache,
where the model has one that allows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends.model import BackendModel
from ..checkpoints.loading import Checkpoint
from ..checkpoints.scoring import Ids, response_logprobs, usual_batch_tokens
from ..plain import Json
from ..prompts.chat import ChatFormat, bare_ids, chat_of, end_token
from ..prompts.prompt import Prompt
from ..prompts.tokens import encode, response_ids
from ..store.evidence import EvidenceItem
from .catalogue import Take
from .draws import draws, has_reference

if TYPE_CHECKING:
    from ..checkpoints.scoring import Floats, Request

Pair = tuple[str | None, str]
"""Whose prompt stands before (None: the prompt that asks nothing), and whose reference is the response."""


def likelihood(checkpoint: Checkpoint | BackendModel, params: Mapping[str, Json], sources: Mapping[str, Json]) -> Take:
    """Log-likelihoods of responses as evidence, in nats, summed over the response's tokens and its end token.

    ``params``: the chat format (`chat_params`), ``k`` and ``seed`` of `draws`. ``sources["population"]``: the whole
    prompt set, from which others are drawn, a list of [id, prompt, reference, topic]. ``params["batch"]``: positions
    of a forward pass against the usual number.

    Arrays, for prompt x with reference r and ``k`` others x_j with r_j: ``own`` float64 [] log p(r | x); ``others``
    float64 [k] log p(r_j | x); ``swapped`` float64 [k] log p(r | x_j); ``unconditional`` float64 [1 + k] log p(r) and
    log p(r_j) after a prompt that asks nothing (`tokens.bare_ids`), NaN where the tokenizer has none; ``lengths`` int64
    [1 + k], the tokens summed over. NaN in ``others`` and ``swapped`` for those that do not fit the context. Values:
    ``others`` (their ids), ``unfit`` (the ids among them with such a NaN), ``ended`` (whether an end token was
    appended), ``end_token`` (its text or None).

    A response has the same tokens wherever it stands: those that follow its own prompt. Behind a backend the same token
    ids are scored by it; responses that its own generated token leaves no room for do not fit. Raises PromptError as
    `draws`.
    """
    rows: Iterable[Sequence[Any]] = sources["population"]
    population = [Prompt(id=i, prompt=p, instruction_spans=(), reference=r, cluster=c) for i, p, r, c in rows]
    drawn = draws(population, k=int(params["k"]), seed=int(params["seed"]))
    chat = chat_of(params)
    texts = _Texts(
        checkpoint=checkpoint,
        chat=chat,
        by_id={p.id: p for p in population},
        end=end_token(checkpoint.tokenizer, chat),
        batch_share=params.get("batch", 1),
    )
    unconditional: dict[Pair, float] = {}

    def take(prompts: Sequence[Prompt], inputs: Sequence[EvidenceItem | None]) -> Iterator[EvidenceItem]:
        reasons = {p.id: _reason(texts, p, drawn) for p in prompts}
        wanted = (pair for p in prompts if not reasons[p.id] for pair in _pairs(p.id, drawn[p.id]))
        scores = _scored(texts, [pair for pair in dict.fromkeys(wanted) if pair not in unconditional])
        unconditional.update({pair: score for pair, score in scores.items() if pair[0] is None})
        scores |= unconditional
        for prompt in prompts:
            reason = reasons[prompt.id]
            if reason:
                yield EvidenceItem(id=prompt.id, left_out=reason)
            else:
                yield _item(texts, prompt.id, drawn[prompt.id], scores)

    return take


@dataclass(frozen=True, kw_only=True)
class _Texts:
    """Token ids of a population's prompts and responses, each worked out once."""

    checkpoint: Checkpoint | BackendModel
    chat: ChatFormat | None
    by_id: Mapping[str, Prompt]
    end: int | None
    batch_share: float
    _contexts: dict[str | None, Ids] = field(default_factory=dict)
    _responses: dict[str, Ids] = field(default_factory=dict)

    def context(self, key: str | None) -> Ids:
        """Ids before a response: a prompt's, or those of the prompt that asks nothing."""
        if key not in self._contexts:
            tokenizer = self.checkpoint.tokenizer
            self._contexts[key] = (
                bare_ids(tokenizer, self.chat)
                if key is None
                else encode(self.by_id[key].prompt, tokenizer, self.chat).ids
            )
        return self._contexts[key]

    def response(self, key: str) -> Ids:
        """Ids of a prompt's reference, with the end token where there is one."""
        if key not in self._responses:
            prompt = self.by_id[key]
            ids = response_ids(prompt.reference or "", prompt.prompt, self.checkpoint.tokenizer, self.chat)
            self._responses[key] = ids if self.end is None else np.append(ids, self.end)
        return self._responses[key]

    def fits(self, pair: Pair) -> bool:
        """Whether the response can be scored: there is something before it, and nothing is cut."""
        before, tokens = len(self.context(pair[0])), len(self.response(pair[1]))
        return before > 0 and before + tokens <= scored_length(self.checkpoint)


def scored_length(asked: Checkpoint | BackendModel) -> int:
    """Tokens that a context and its response may have together; nothing follows the last, so it needs no place."""
    return asked.scored_length if isinstance(asked, BackendModel) else asked.context_length + 1


def logprobs(asked: Checkpoint | BackendModel, requests: Sequence[Request], *, batch_share: float) -> list[Floats]:
    """Sums per request, [response] float64 in nats, by our own passes or the checkpoint's backend."""
    if isinstance(asked, BackendModel):
        return asked.response_logprobs(requests, batch_share=batch_share)
    positions = max(1, int(usual_batch_tokens(asked) * batch_share))
    return response_logprobs(asked, requests, batch_tokens=positions)


def _reason(texts: _Texts, prompt: Prompt, drawn: Mapping[str, Sequence[str]]) -> str | None:
    """Why a prompt is left out, or None."""
    if not has_reference(prompt):
        return "it has no reference response"
    if prompt.id not in drawn:
        raise ValueError(f"prompt {prompt.id!r} is not in the population, which has {len(texts.by_id)} prompts")
    if not texts.fits((prompt.id, prompt.id)):
        return f"it does not fit the context of {texts.checkpoint.context_length} tokens"
    return None if drawn[prompt.id] else "no prompt of another topic has another reference"


def _pairs(own: str, others: Sequence[str]) -> list[Pair]:
    """What is scored for one prompt."""
    responses = (own, *others)
    return [*((own, r) for r in responses), *((None, r) for r in responses), *((x, own) for x in others)]


def _scored(texts: _Texts, pairs: Sequence[Pair]) -> dict[Pair, float]:
    """Log-likelihood of each pair that fits; all responses after one prompt go together."""
    by_context: dict[str | None, list[str]] = {}
    for context, response in filter(texts.fits, pairs):
        by_context.setdefault(context, []).append(response)
    requests = [(texts.context(c), [texts.response(r) for r in responses]) for c, responses in by_context.items()]
    sums = logprobs(texts.checkpoint, requests, batch_share=texts.batch_share)
    return {
        (context, response): float(value)
        for (context, responses), values in zip(by_context.items(), sums, strict=True)
        for response, value in zip(responses, values, strict=True)
    }


def _item(texts: _Texts, own: str, others: Sequence[str], scores: Mapping[Pair, float]) -> EvidenceItem:
    def array(pairs: Iterable[Pair]) -> Floats:
        return np.array([scores.get(pair, np.nan) for pair in pairs], dtype=np.float64)

    responses = (own, *others)
    end = texts.end
    return EvidenceItem(
        id=own,
        arrays={
            "own": np.array(scores[own, own], dtype=np.float64),
            "others": array((own, r) for r in others),
            "unconditional": array((None, r) for r in responses),
            "swapped": array((x, own) for x in others),
            "lengths": np.array([len(texts.response(r)) for r in responses], dtype=np.int64),
        },
        values={
            "others": list(others),
            "unfit": [i for i in others if not (texts.fits((own, i)) and texts.fits((i, own)))],
            "ended": end is not None,
            "end_token": None if end is None else str(texts.checkpoint.tokenizer.convert_ids_to_tokens(end)),
        },
    )
