"""Log-likelihoods of responses, an instruction's own and others': what response ranking rests on (arXiv:2409.14254).

Everything is scored on token ids. An instruction's prefix runs once, and all its responses continue from its cache.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..checkpoints import Checkpoint
from ..errors import MeasureError, PromptError
from ..memory import empty_cache, is_out_of_memory
from ..records import EvidenceItem, Json, Prompt
from ..tokens import bare_ids, encode, end_token, response_ids
from ..weights import quiet
from .backend_model import BackendModel
from .catalogue import Take

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Pair = tuple[str | None, str]
"""Whose prompt stands before (None: the prompt that asks nothing), and whose reference is the response."""

BATCH_TOKENS = 2048
"""Positions of a forward pass to start with: halved whenever memory runs out, never raised again within a call."""
BATCH_LOGITS = 2**28
"""Most logits of a forward pass: 1 GB in float32."""
CACHED_PER_TOKEN = 4
"""Positions that a pass may attend to in the cache for each of its own: long prefixes must not outgrow the memory."""


def draws(prompts: Sequence[Prompt], *, k: int, seed: int) -> dict[str, tuple[str, ...]]:
    """For each prompt with a reference, ``k`` others at random whose responses and instructions stand beside its own.

    Never one of its own cluster, nor one with the same reference text; as many as there are where they are fewer. Each
    prompt has its own generator, of ``seed`` and its id, and prompts are drawn in the order of their ids: the order of
    the file does not matter. Raises PromptError where no prompt has another, ValueError for k < 1.
    """
    if k < 1:
        raise ValueError(f"k, the number of other responses, must be at least 1, got {k}")
    able = sorted((p for p in prompts if _has_reference(p)), key=lambda p: p.id)
    # Two prompts may be drawn for one another unless their codes agree in a column.
    clusters = np.unique([p.cluster or p.id for p in able], return_inverse=True)[1]
    texts = np.unique([(p.reference or "").strip() for p in able], return_inverse=True)[1]
    found: dict[str, tuple[str, ...]] = {}
    for i, prompt in enumerate(able):
        others = np.flatnonzero((clusters != clusters[i]) & (texts != texts[i]))
        generator = np.random.default_rng([seed, int(hashlib.sha256(prompt.id.encode()).hexdigest()[:15], 16)])
        drawn = generator.choice(others, size=min(k, len(others)), replace=False)
        found[prompt.id] = tuple(able[j].id for j in drawn)
    if not any(found.values()):
        raise PromptError(
            f"responses cannot be ranked: of {len(prompts)} prompts {len(able)} have a reference response, and none of "
            "them another prompt of another cluster with another reference. Give the prompt set `reference` fields, "
            "and `cluster` only where prompts belong together."
        )
    return found


def likelihood(checkpoint: Checkpoint | BackendModel, params: Mapping[str, Json], sources: Mapping[str, Json]) -> Take:
    """Log-likelihoods of responses as evidence, in nats, summed over the response's tokens and its end token.

    ``params``: ``chat_template``, ``k`` and ``seed`` of `draws`. ``sources["population"]``: the whole prompt set, from
    which others are drawn, a list of [id, prompt, reference, cluster]. ``params["batch"]``: positions of a forward pass
    against the usual number.

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
    template = params["chat_template"]
    texts = _Texts(
        checkpoint=checkpoint,
        chat_template=template,
        by_id={p.id: p for p in population},
        end=end_token(checkpoint.tokenizer, template),
        batch_tokens=_batch_tokens(checkpoint, params),
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


def response_logprobs(
    checkpoint: Checkpoint, requests: Sequence[tuple[Ids, Sequence[Ids]]], *, batch_tokens: int | None = None
) -> list[Floats]:
    """Log-probability in nats of each response after its context: per request [response] float64, in the order given.

    requests: (context [token] int64, its responses, each [token] int64). A response's tokens are summed over; an empty
    one has 0. Each context runs once: its keys and values are kept and its responses continue from them. Requests of
    similar length share a forward pass of at most ``batch_tokens`` positions (None: 2048, and at most 2**28 logits),
    which is halved where memory runs out. In float32 the batching moves a sum by less than 1e-4. Softmax and sum are
    taken in float32 and float64 whatever the checkpoint's dtype.

    Raises ValueError for an empty context and for one that does not fit with its responses (context + response - 1
    tokens, since nothing follows the last); MeasureError where a single response exceeds the memory, and for models
    that do not keep keys and values.
    """
    _check(checkpoint, requests)
    budget = batch_tokens or usual_batch_tokens(checkpoint)
    # The longest first: what does not fit the memory shows at once.
    waiting = sorted(range(len(requests)), key=lambda i: (-len(requests[i][0]), i))
    found: dict[int, Floats] = {}
    with torch.no_grad(), quiet():
        while waiting:
            batch = waiting[: max(1, budget // len(requests[waiting[0]][0]))]
            sums = _try_batch(checkpoint, [requests[i] for i in batch], budget)
            if sums is None:
                budget = _halved(checkpoint, budget, requests[batch[0]])
                continue
            found.update(zip(batch, sums, strict=True))
            waiting = waiting[len(batch) :]
    return [found[i] for i in range(len(requests))]


def usual_batch_tokens(checkpoint: Checkpoint) -> int:
    """Positions of a forward pass to start with."""
    return max(1, min(BATCH_TOKENS, BATCH_LOGITS // int(checkpoint.model.config.get_text_config().vocab_size)))


@dataclass(frozen=True, kw_only=True)
class _Texts:
    """Token ids of a population's prompts and responses, each worked out once."""

    checkpoint: Checkpoint | BackendModel
    chat_template: str | None
    by_id: Mapping[str, Prompt]
    end: int | None
    batch_tokens: int | None
    _contexts: dict[str | None, Ids] = field(default_factory=dict)
    _responses: dict[str, Ids] = field(default_factory=dict)

    def context(self, key: str | None) -> Ids:
        """Ids before a response: a prompt's, or those of the prompt that asks nothing."""
        if key not in self._contexts:
            tokenizer = self.checkpoint.tokenizer
            self._contexts[key] = (
                bare_ids(tokenizer, self.chat_template)
                if key is None
                else encode(self.by_id[key].prompt, tokenizer, self.chat_template).ids
            )
        return self._contexts[key]

    def response(self, key: str) -> Ids:
        """Ids of a prompt's reference, with the end token where there is one."""
        if key not in self._responses:
            prompt = self.by_id[key]
            ids = response_ids(prompt.reference or "", prompt.prompt, self.checkpoint.tokenizer, self.chat_template)
            self._responses[key] = ids if self.end is None else np.append(ids, self.end)
        return self._responses[key]

    def fits(self, pair: Pair) -> bool:
        """Whether the response can be scored: there is something before it, and nothing is cut."""
        before, tokens = len(self.context(pair[0])), len(self.response(pair[1]))
        return before > 0 and before + tokens <= self.scored_length

    @property
    def scored_length(self) -> int:
        """Tokens that a context and its response may have together; nothing follows the last, so it needs no place."""
        asked = self.checkpoint
        return asked.scored_length if isinstance(asked, BackendModel) else asked.context_length + 1

    def logprobs(self, requests: Sequence[tuple[Ids, Sequence[Ids]]]) -> list[Floats]:
        """Sums per request, by our own passes or the checkpoint's backend."""
        asked = self.checkpoint
        return (
            asked.response_logprobs(requests)
            if isinstance(asked, BackendModel)
            else response_logprobs(asked, requests, batch_tokens=self.batch_tokens)
        )


def _batch_tokens(checkpoint: Checkpoint | BackendModel, params: Mapping[str, Json]) -> int | None:
    """Positions of our own forward passes, where the parameters want others than usual."""
    if isinstance(checkpoint, BackendModel) or "batch" not in params:
        return None
    return max(1, int(usual_batch_tokens(checkpoint) * params["batch"]))


def _has_reference(prompt: Prompt) -> bool:
    return bool(prompt.reference and prompt.reference.strip())


def _reason(texts: _Texts, prompt: Prompt, drawn: Mapping[str, Sequence[str]]) -> str | None:
    """Why a prompt is left out, or None."""
    if not _has_reference(prompt):
        return "it has no reference response"
    if prompt.id not in drawn:
        raise ValueError(f"prompt {prompt.id!r} is not in the population, which has {len(texts.by_id)} prompts")
    if not texts.fits((prompt.id, prompt.id)):
        return f"it does not fit the context of {texts.checkpoint.context_length} tokens"
    return None if drawn[prompt.id] else "no prompt of another cluster has another reference"


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
    sums = texts.logprobs(requests)
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


def _check(checkpoint: Checkpoint, requests: Sequence[tuple[Ids, Sequence[Ids]]]) -> None:
    for i, (context, responses) in enumerate(requests):
        longest = max(map(len, responses), default=0)
        if len(context) == 0 or len(context) + longest - 1 > checkpoint.context_length:
            raise ValueError(
                f"request {i} has a context of {len(context)} and responses of up to {longest} tokens; accepted are at "
                f"least 1 and {checkpoint.context_length + 1} in all. Leave such requests out before."
            )


def _try_batch(
    checkpoint: Checkpoint, requests: Sequence[tuple[Ids, Sequence[Ids]]], budget: int
) -> list[Floats] | None:
    """Sums per request, or None where memory ran out."""
    try:
        return _batch(checkpoint, requests, budget)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return None
        raise


def _halved(checkpoint: Checkpoint, budget: int, request: tuple[Ids, Sequence[Ids]]) -> int:
    if budget == 1:
        raise MeasureError(
            f"A prompt of {len(request[0])} tokens with a response of up to {max(map(len, request[1]), default=0)} "
            f"does not fit the memory of {checkpoint.device} in {checkpoint.dtype}. Try --shift-dtype bfloat16 or "
            "another device."
        )
    empty_cache()
    return budget // 2


@dataclass(frozen=True, kw_only=True, eq=False)
class _Prefixes:
    """Contexts that have run: their cache, their mask [context, position], lengths and what each expects next.

    ``logprobs``: float32 [context, vocab], log-probabilities of the first token of a response.
    """

    cache: Any
    mask: Tensor
    lengths: Tensor
    logprobs: Tensor


def _batch(checkpoint: Checkpoint, requests: Sequence[tuple[Ids, Sequence[Ids]]], budget: int) -> list[Floats]:
    """Sums of requests whose contexts share one forward pass; responses of similar length then share others."""
    prefixes = _prefixes(checkpoint, [context for context, _ in requests])
    rows = [(c, r) for c, (_, responses) in enumerate(requests) for r in responses]
    sums = np.zeros(len(rows))
    started = [i for i, (_, r) in enumerate(rows) if len(r)]
    firsts = prefixes.logprobs[[rows[i][0] for i in started], [int(rows[i][1][0]) for i in started]]
    sums[started] = firsts.double().cpu().numpy()
    waiting = sorted((i for i in started if len(rows[i][1]) > 1), key=lambda i: (-len(rows[i][1]), i))
    width = prefixes.mask.shape[1]
    while waiting:
        longest = len(rows[waiting[0]][1]) - 1
        count = min(budget // longest, CACHED_PER_TOKEN * budget // (width + longest))
        batch = waiting[: max(1, count)]
        sums[batch] += _continued(checkpoint, prefixes, [rows[i] for i in batch])
        waiting = waiting[len(batch) :]
    return np.split(sums, np.cumsum([len(responses) for _, responses in requests])[:-1])


def _prefixes(checkpoint: Checkpoint, contexts: Sequence[Ids]) -> _Prefixes:
    from transformers import DynamicCache

    longest = max(map(len, contexts))
    ids = torch.zeros((len(contexts), longest), dtype=torch.int64)  # [context, position], padded on the left
    mask = torch.zeros_like(ids)
    for row, context in enumerate(contexts):
        ids[row, longest - len(context) :] = torch.from_numpy(context)
        mask[row, longest - len(context) :] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits, cache = _forward(checkpoint, ids, mask, positions, None, keep=1)
    if not isinstance(cache, DynamicCache):
        raise MeasureError(
            f"{type(checkpoint.model).__name__} keeps no keys and values of a prefix ({type(cache).__name__} where "
            "DynamicCache is needed), so its responses cannot be scored; ranking needs an attention model."
        )
    return _Prefixes(cache=cache, mask=mask, lengths=mask.sum(1), logprobs=logits[:, 0].float().log_softmax(-1))


def _continued(checkpoint: Checkpoint, prefixes: _Prefixes, rows: Sequence[tuple[int, Ids]]) -> Floats:
    """Per (context, response) the log-probabilities of all tokens but the first, summed: [row] float64."""
    longest = max(len(response) for _, response in rows) - 1
    ids = torch.zeros((len(rows), longest + 1), dtype=torch.int64)  # [row, position], padded on the right
    scored = torch.zeros((len(rows), longest), dtype=torch.bool)
    for row, (_, response) in enumerate(rows):
        ids[row, : len(response)] = torch.from_numpy(response)
        scored[row, : len(response) - 1] = True
    chosen = torch.tensor([context for context, _ in rows])
    mask = torch.cat([prefixes.mask[chosen], torch.ones_like(scored, dtype=torch.int64)], dim=1)
    # Padding may lie beyond the last position that the model knows; nothing reads what comes out there.
    positions = (prefixes.lengths[chosen, None] + torch.arange(longest)).clamp(max=checkpoint.context_length - 1)
    cache = _selected(prefixes.cache, chosen)
    logits, _ = _forward(checkpoint, ids[:, :-1], mask, positions, cache, keep=longest)
    logits = logits.float()  # [row, position, vocab]
    targets = ids[:, 1:, None].to(logits.device)
    logprobs = logits.gather(2, targets)[:, :, 0] - logits.logsumexp(2)
    return np.asarray(torch.where(scored, logprobs.double().cpu(), 0.0).sum(1).numpy())


def _selected(cache: Any, rows: Tensor) -> Any:
    """The cache's rows as a cache of their own; the given one stays as it is."""
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]
    chosen.batch_select_indices(rows)
    return chosen


def _forward(
    checkpoint: Checkpoint, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any, *, keep: int
) -> tuple[Tensor, Any]:
    """Logits of the last ``keep`` positions, [row, keep, vocab], and the cache. Takes tensors on the CPU."""
    known = inspect.signature(checkpoint.model.forward).parameters
    options: dict[str, Any] = {"position_ids": positions.to(checkpoint.device), "logits_to_keep": keep}
    made = checkpoint.model(
        input_ids=ids.to(checkpoint.device),
        attention_mask=mask.to(checkpoint.device),
        past_key_values=cache,
        use_cache=True,
        **{name: value for name, value in options.items() if name in known},
    )
    return made.logits[:, -keep:], made.past_key_values
