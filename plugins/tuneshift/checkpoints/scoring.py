"""Log-probabilities of responses in batches that share their prompts' cache and adapt to memory."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import MeasureError
from .loading import Checkpoint
from .memory import empty_cache, is_out_of_memory
from .quiet import quiet

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

Request = tuple[Ids, Sequence[Ids]]
"""A context and the responses after it, as token ids."""

BATCH_TOKENS = 2048
"""Positions of a forward pass to start with: halved whenever memory runs out, never raised again within a call."""
BATCH_LOGITS = 2**28
"""Most logits of a forward pass: 1 GB in float32."""
CACHED_PER_TOKEN = 4
"""Positions that a pass may attend to in the cache for each of its own: long prefixes must not outgrow the memory."""


def response_logprobs(
    checkpoint: Checkpoint, requests: Sequence[Request], *, batch_tokens: int | None = None
) -> list[Floats]:
    """Log-probability in nats of each response after its context: per request [response] float64, in the order given.

    requests: (context [token] int64, its responses, each [token] int64). A response's tokens are summed over; an empty
    one has 0. Each context runs once: its keys and values are kept and its responses continue from them. Models that
    keep more than these (state-space and hybrid ones), and texts beyond the length at which LongRoPE switches, are
    scored by one whole pass for each context and response. Requests of similar length share a forward pass of at most
    ``batch_tokens`` positions (None: 2048, and at most 2**28 logits), which is halved where memory runs out. In float32
    the batching moves a sum by less than 1e-4. Softmax and sum are taken in float32 and float64 whatever the
    checkpoint's dtype.

    Raises ValueError for an empty context and for one that does not fit with its responses (context + response - 1
    tokens, since nothing follows the last); MeasureError where a single response exceeds the memory.
    """
    _check(checkpoint, requests)
    whole = [i for i, request in enumerate(requests) if not _shares_a_prefix(checkpoint, request)]
    shared = [i for i in range(len(requests)) if i not in set(whole)]
    budget = batch_tokens or usual_batch_tokens(checkpoint)
    with torch.no_grad(), quiet():
        found = _in_batches(
            checkpoint, [requests[i] for i in shared], budget, _batch, [len(requests[i][0]) for i in shared]
        )
        rows = [(requests[i][0], [response]) for i in whole for response in requests[i][1]]
        sums = _in_batches(checkpoint, rows, budget, _whole_batch, [_passed(c, r) for c, (r,) in rows])
    parts = np.split(np.concatenate([np.zeros(0), *sums]), np.cumsum([len(requests[i][1]) for i in whole])[:-1])
    by_request = dict(zip(shared, found, strict=True)) | dict(zip(whole, parts if whole else [], strict=True))
    return [by_request[i] for i in range(len(requests))]


def usual_batch_tokens(checkpoint: Checkpoint) -> int:
    """Positions of a forward pass to start with."""
    return max(1, min(BATCH_TOKENS, BATCH_LOGITS // int(checkpoint.model.config.get_text_config().vocab_size)))


def _check(checkpoint: Checkpoint, requests: Sequence[Request]) -> None:
    for i, (context, responses) in enumerate(requests):
        longest = max(map(len, responses), default=0)
        if len(context) == 0 or len(context) + longest - 1 > checkpoint.context_length:
            raise ValueError(
                f"request {i} has a context of {len(context)} and responses of up to {longest} tokens; accepted are at "
                f"least 1 and {checkpoint.context_length + 1} in all. Leave such requests out before."
            )


def _try_batch(
    checkpoint: Checkpoint,
    requests: Sequence[Request],
    budget: int,
    batch_of: Callable[[Checkpoint, Sequence[Request], int], list[Floats]],
) -> list[Floats] | None:
    """Sums per request, or None where memory ran out."""
    try:
        return batch_of(checkpoint, requests, budget)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return None
        raise


def _halved(checkpoint: Checkpoint, budget: int, request: Request) -> int:
    if budget == 1:
        raise MeasureError(
            f"A prompt of {len(request[0])} tokens with a response of up to {max(map(len, request[1]), default=0)} "
            f"does not fit the memory of {checkpoint.device} in {checkpoint.dtype}. Try --shift-dtype=bfloat16 or "
            "another device."
        )
    empty_cache()
    checkpoint.reduced["positions scored together"] = budget // 2
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


def _batch(checkpoint: Checkpoint, requests: Sequence[Request], budget: int) -> list[Floats]:
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
    longest = max(map(len, contexts))
    ids = torch.zeros((len(contexts), longest), dtype=torch.int64)  # [context, position], padded on the left
    mask = torch.zeros_like(ids)
    for row, context in enumerate(contexts):
        ids[row, longest - len(context) :] = torch.from_numpy(context)
        mask[row, longest - len(context) :] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits, cache = _forward(checkpoint, ids, mask, positions, None, keep=1)
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
    # Padding may lie beyond the last position that the model knows, or turn LongRoPE over; nothing reads what comes out
    # there.
    last = min(checkpoint.context_length, checkpoint.switches_at or checkpoint.context_length) - 1
    positions = (prefixes.lengths[chosen, None] + torch.arange(longest)).clamp(max=last)
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
    checkpoint: Checkpoint, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any, *, keep: int, caching: bool = True
) -> tuple[Tensor, Any]:
    """Logits of the last ``keep`` positions, [row, keep, vocab], and the cache, None without ``caching``.

    Takes tensors on the CPU.
    """
    known = inspect.signature(checkpoint.model.forward).parameters
    options: dict[str, Any] = {"position_ids": positions.to(checkpoint.device), "logits_to_keep": keep}
    if caching:
        options["past_key_values"] = cache
    made = checkpoint.model(
        input_ids=ids.to(checkpoint.device),
        attention_mask=mask.to(checkpoint.device),
        use_cache=caching,
        **{name: value for name, value in options.items() if name in known or name == "past_key_values"},
    )
    return made.logits[:, -keep:], made.past_key_values if caching else None


def _passed(context: Ids, response: Ids) -> int:
    """Tokens that a model is given to score a response: nothing follows the last."""
    return len(context) + max(len(response) - 1, 0)


def _shares_a_prefix(checkpoint: Checkpoint, request: Request) -> bool:
    """Whether a request's responses may continue from its context's keys and values."""
    longest = max((_passed(request[0], response) for response in request[1]), default=len(request[0]))
    return checkpoint.keeps_rows and (checkpoint.switches_at is None or longest <= checkpoint.switches_at)


def _in_batches(
    checkpoint: Checkpoint,
    requests: Sequence[Request],
    budget: int,
    batch_of: Callable[[Checkpoint, Sequence[Request], int], list[Floats]],
    lengths: Sequence[int],
) -> list[Floats]:
    """Sums per request, in batches of similar ``lengths`` that are halved where memory runs out."""

    def side(i: int) -> bool:
        return checkpoint.switches_at is not None and lengths[i] > checkpoint.switches_at

    # The longest first: what does not fit the memory shows at once. What LongRoPE turns otherwise goes apart.
    waiting = sorted(range(len(requests)), key=lambda i: (-lengths[i], i))
    found: dict[int, Floats] = {}
    while waiting:
        batch = waiting[: max(1, budget // lengths[waiting[0]])]
        batch = [i for i in batch if side(i) == side(batch[0])]
        sums = _try_batch(checkpoint, [requests[i] for i in batch], budget, batch_of)
        if sums is None:
            budget = _halved(checkpoint, budget, requests[batch[0]])
            continue
        found.update(zip(batch, sums, strict=True))
        waiting = waiting[len(batch) :]
    return [found[i] for i in range(len(requests))]


def _whole_batch(checkpoint: Checkpoint, requests: Sequence[Request], budget: int) -> list[Floats]:
    """Sums of requests of one response each, by one pass over context and response: what follows a token, padding on
    the right included, does not reach it."""
    fed = [np.concatenate([context, response[:-1]]) for context, (response,) in requests]
    longest = max(map(len, fed))
    ids = torch.zeros((len(fed), longest), dtype=torch.int64)  # [row, position], padded on the right
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(fed):
        ids[row, : len(tokens)] = torch.from_numpy(tokens)
        mask[row, : len(tokens)] = 1
    keep = longest - min(len(context) for context, _ in requests) + 1
    positions = torch.arange(longest).expand_as(ids)
    logits, _ = _forward(checkpoint, ids, mask, positions, None, keep=keep, caching=False)
    sums = []
    for row, (context, (response,)) in enumerate(requests):
        first = len(context) - 1 - (longest - keep)
        said = logits[row, first : first + len(response)].float()  # [token, vocab]
        targets = torch.from_numpy(response)[:, None].to(said.device)
        logprobs = said.gather(1, targets)[:, 0] - said.logsumexp(1)
        sums.append(np.array([float(logprobs.double().sum())]))
    return sums
