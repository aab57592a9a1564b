"""Greedy decoding in batches that adapt to memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..errors import MeasureError
from .ends import end_tokens
from .loading import Checkpoint
from .memory import empty_cache, is_out_of_memory
from .quiet import quiet

Ids = npt.NDArray[np.int64]

FIRST_BATCH = 16
"""Prompts per batch to start with: halved whenever memory runs out, never raised again within a call."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Response:
    """What a model answered.

    ids: [token] int64, without the token that ended it. ``ended``: whether the model ended by itself, by one of its end
    tokens, and was not cut at the limit or at the end of the context. ``text``: decoded, without special tokens.
    """

    ids: Ids
    ended: bool
    text: str


def greedy_responses(
    checkpoint: Checkpoint,
    prompts: Sequence[Ids],
    *,
    max_new_tokens: int,
    ends: Sequence[int] | None = None,
    batch_size: int | None = None,
    processor: Callable[[list[int]], Any] | None = None,
) -> list[Response]:
    """Each prompt's greedy response, in the order given: at every step the token of highest logit, nothing else.

    prompts: per prompt [token] int64. At most ``max_new_tokens`` tokens each, fewer where the context ends before
    (``ended`` is False then). ``ends``: ids that end a response (`prompts.ends.response_ends`); None takes the
    checkpoint's own: those of its generation configuration, of the tokenizer and of the model's configuration. Every
    other setting of the generation configuration (temperature, top_p, repetition_penalty, forced or suppressed tokens)
    is ignored: greedy means the same for base and tuned.

    Prompts of similar length run together, padded on the left, ``batch_size`` at a time (None: 16); a batch that does
    not fit the memory is halved. In float32 the batching leaves the responses as they are, up to ties of logits: a
    model whose padded rows differ from single ones decodes prompts one by one, and one whose cache does not give what
    whole passes give decodes without (`model_cache.decoding`).

    ``processor`` is called once per batch with the indices of its prompts, in the order of its rows, and gives the
    transformers LogitsProcessor whose scores take the place of the logits (`measures.rule_adapter.RuleAdapter`).

    Raises ValueError for an empty prompt, one that leaves no room for a response (length + 1 > context length), and
    limits below 1; MeasureError where a single prompt exceeds the memory.
    """
    limits = _limits(checkpoint, prompts, max_new_tokens)
    size = FIRST_BATCH if batch_size is None else batch_size
    if size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    stops = loaded_ends(checkpoint) if ends is None else sorted(ends)
    responses: dict[int, Response] = {}
    ways = [_way(checkpoint, len(prompt), limit) for prompt, limit in zip(prompts, limits, strict=True)]
    # Only prompts with the same limit share a batch, so that none is carried beyond the context by a longer one.
    waiting = sorted(range(len(prompts)), key=lambda i: (ways[i], limits[i], len(prompts[i]), i))
    with plain_greedy(checkpoint.model), quiet():
        while waiting:
            way, limit = ways[waiting[0]], limits[waiting[0]]
            most = size if way.batched else 1
            batch = [i for i in waiting[:most] if (ways[i], limits[i]) == (way, limit)]
            processors = [] if processor is None else [processor(batch)]
            rows = _try_batch(checkpoint, [prompts[i] for i in batch], limit, stops, processors, cached=way.cached)
            if rows is None:
                size = _halved(checkpoint, len(batch), len(prompts[batch[-1]]))
                continue
            for i, row in zip(batch, rows, strict=True):
                responses[i] = _response(checkpoint, row, stops)
            waiting = waiting[len(batch) :]
    return [responses[i] for i in range(len(prompts))]


def _limits(checkpoint: Checkpoint, prompts: Sequence[Ids], max_new_tokens: int) -> list[int]:
    """New tokens that each prompt may get."""
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
    context = checkpoint.context_length
    for i, prompt in enumerate(prompts):
        if not 0 < len(prompt) < context:
            raise ValueError(
                f"prompt {i} has {len(prompt)} tokens; accepted are 1 to {context - 1}, which leaves one token of the "
                f"context of {context} for a response. Leave such prompts out before."
            )
    return [min(max_new_tokens, context - len(prompt)) for prompt in prompts]


def loaded_ends(checkpoint: Checkpoint) -> list[int]:
    """Ids that end the checkpoint's responses by itself, ascending: `ends.own_ends` of the model in memory."""
    model = checkpoint.model
    return end_tokens((model.generation_config, checkpoint.tokenizer, model.config.get_text_config()))


@contextmanager
def plain_greedy(model: Any, **settings: Any) -> Iterator[None]:
    """Takes the checkpoint's generation settings away for a while: `generate` fills gaps of a given one from them.

    ``settings`` stand in their place, beside greedy decoding.
    """
    own = model.generation_config
    model.generation_config = _settings(do_sample=False, num_beams=1, **settings)
    try:
        yield
    finally:
        model.generation_config = own


def _settings(**given: Any) -> Any:
    import transformers

    config: Any = transformers.GenerationConfig  # its constructor carries no types
    return config(**given)


def _try_batch(
    checkpoint: Checkpoint, prompts: Sequence[Ids], limit: int, ends: list[int], processors: list[Any], *, cached: bool
) -> list[Ids] | None:
    """New tokens per prompt with what follows the end token, or None where memory ran out."""
    pad = _pad_token(checkpoint, ends)
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), pad, dtype=torch.int64)  # [prompt, position], padded on the left
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.as_tensor(np.asarray(prompt, dtype=np.int64))
        mask[row, longest - len(prompt) :] = 1
    settings = _settings(
        do_sample=False,
        num_beams=1,
        max_new_tokens=limit,
        pad_token_id=pad,
        eos_token_id=ends or None,
        use_cache=cached,
    )
    try:
        made = checkpoint.model.generate(
            ids.to(checkpoint.device),
            attention_mask=mask.to(checkpoint.device),
            generation_config=settings,
            logits_processor=processors,
        )
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return None
        raise
    return [np.asarray(row, dtype=np.int64) for row in made[:, longest:].cpu().numpy()]


def _pad_token(checkpoint: Checkpoint, ends: list[int]) -> int:
    """Any id does where the mask hides it; the embedding must know it."""
    own = checkpoint.tokenizer.pad_token_id
    rows = checkpoint.model.get_input_embeddings().weight.shape[0]
    return next((int(i) for i in (own, *ends) if i is not None and i < rows), 0)


def _halved(checkpoint: Checkpoint, size: int, length: int) -> int:
    if size == 1:
        raise MeasureError(
            f"A prompt of {length} tokens does not fit the memory of {checkpoint.device} in {checkpoint.dtype}. Try "
            "--shift-dtype=bfloat16, another device, or fewer new tokens."
        )
    empty_cache()
    checkpoint.reduced["prompts decoded together"] = size // 2
    return size // 2


def _response(checkpoint: Checkpoint, row: Ids, ends: list[int]) -> Response:
    """The response of a row of new tokens: what stands before its first end token."""
    stops = np.flatnonzero(np.isin(row, ends))
    ids = row[: stops[0]] if len(stops) else row
    text = checkpoint.tokenizer.decode(ids.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Response(ids=ids.copy(), ended=bool(len(stops)), text=text)


@dataclass(frozen=True, kw_only=True, order=True)
class _Way:
    """How one prompt decodes, as `model_cache.Decoding`, and on which side of a rotation's switch; equal ones share
    batches."""

    beyond: bool
    batched: bool
    cached: bool


def _way(checkpoint: Checkpoint, length: int, limit: int) -> _Way:
    """How a prompt of ``length`` tokens decodes up to ``limit`` more.

    Where the rotation switches within the response (LongRoPE), cached keys would keep the rotation of before, and other
    prompts of a batch would switch with it.
    """
    beyond, known = False, checkpoint.decoding
    if checkpoint.switches_at is not None and length + limit > checkpoint.switches_at:
        beyond = length > checkpoint.switches_at
        if not beyond:
            return _Way(beyond=False, batched=False, cached=False)
    return _Way(beyond=beyond, batched=known.batched, cached=known.cached)
