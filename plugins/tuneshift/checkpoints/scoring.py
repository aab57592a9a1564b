"""Log-probabilities of responses in batches that share their prompts' cache and adapt to memory."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
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

BATCH_TOKENS = 2048
"""Positions of a forward pass to start with: halved whenever memory runs out, never raised again within a call."""
BATCH_LOGITS = 2**28
"""Most logits of a forward pass: 1 GB in float32."""
CACHED_PER_TOKEN = 4
"""Positions that a pass may attend to in the cache for each of its own: long prefixes must not outgrow the memory."""


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
