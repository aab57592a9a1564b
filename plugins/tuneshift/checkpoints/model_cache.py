"""What a model's cache can be used for: whose rows can be chosen, and whether going on from it gives what a whole pass
gives. Asked of the model itself on a probe, because class names do not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

PROBE = (9, 5)
"""Prompt tokens of the probe's two rows: of unequal length, so that one is padded."""
STEPS = 4
"""Tokens that are decoded after them: the first comes from the prompt's pass, the others from the cache."""
AGREEMENT = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.3}
"""Largest relative difference of logits, cached against whole passes. A wrong cache is off by the logits' own size."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How a model decodes so that its responses are those of whole passes.

    ``batched``: several prompts padded into one batch, or each alone; ``cached``: from a cache, or by a whole pass for
    each token.
    """

    batched: bool
    cached: bool


def keeps_rows(model: Any) -> bool:
    """Whether the model keeps keys and values of a text, and nothing else, so that rows of its cache can be chosen.

    State-space and hybrid models keep a state beside them, or their own kind of cache, or none; within a layer too
    (Falcon-H1), in a class derived from that of keys and values.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    if virtual_tokens(model):
        return False
    with torch.no_grad():
        made = model(**_inputs(model, [_tokens(model, 4, 0)]), use_cache=True)
    cache = getattr(made, "past_key_values", None)
    return type(cache) is DynamicCache and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers
    )


def decoding(model: Any) -> Decoding:
    """The fastest way of decoding that gives, on a probe, the logits of whole passes without a cache."""
    if keeps_rows(model):
        return Decoding(batched=True, cached=True)
    # PEFT hands no positions on for virtual tokens, so that padding would stand between them and the text.
    tried = (True, False) if not virtual_tokens(model) else (False,)
    for batched in tried:
        if _agrees(model, batched=batched):
            return Decoding(batched=batched, cached=True)
    return Decoding(batched=False, cached=False)


def switches_at(model: Any) -> int | None:
    """Length in tokens beyond which every position of a text is rotated otherwise (LongRoPE); None for most models.

    A text's numbers then depend on what shares its pass: shorter ones beside a longer one are rotated as that is.
    """
    text = model.config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    kinds = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    found = [
        kind.get("original_max_position_embeddings") or getattr(text, "original_max_position_embeddings", None)
        for kind in kinds
        if kind.get("rope_type", kind.get("type")) == "longrope"
    ]
    return min((int(length) for length in found if length), default=None)


def virtual_tokens(model: Any) -> int:
    """Number of learned tokens that PEFT puts before every text; 0 for most models."""
    config: Any = getattr(model, "active_peft_config", None)
    return int(config.num_virtual_tokens) if getattr(config, "is_prompt_learning", False) else 0


def _tokens(model: Any, count: int, start: int) -> list[int]:
    rows = model.get_input_embeddings().weight.shape[0]
    return [(7 * (start + i) + 3) % rows for i in range(count)]


def _inputs(model: Any, rows: list[list[int]]) -> dict[str, Tensor]:
    """Rows padded on the left, with what hides the padding, on the model's device."""
    longest = max(map(len, rows))
    ids = torch.zeros((len(rows), longest), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(rows):
        ids[row, longest - len(tokens) :] = torch.tensor(tokens)
        mask[row, longest - len(tokens) :] = 1
    device = model.get_input_embeddings().weight.device
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def _agrees(model: Any, *, batched: bool) -> bool:
    """Whether the logits of decoding from the cache are those of whole passes, the tokens being the same."""
    prompts = [_tokens(model, count, 20 * row) for row, count in enumerate(PROBE)]
    forced = _tokens(model, STEPS, 90)
    try:
        if batched:
            found = _decoded(model, prompts, forced)
        else:
            found = torch.cat([_decoded(model, [prompt], forced) for prompt in prompts])
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError, IndexError):
        return False
    with torch.no_grad():
        whole = torch.cat(
            [model(**_inputs(model, [p + forced[:-1]]), use_cache=False).logits[:, -STEPS:] for p in prompts]
        )
    difference = (found.double() - whole.double()).norm(dim=-1)
    return bool((difference <= AGREEMENT[whole.dtype] * whole.double().norm(dim=-1)).all())


def _decoded(model: Any, prompts: list[list[int]], forced: list[int]) -> Tensor:
    """Logits [row, step, vocab] of decoding the tokens ``forced`` after each prompt, through the model's own loop."""
    import transformers

    longest = max(map(len, prompts))

    def force(ids: Tensor, scores: Tensor) -> Tensor:
        chosen = torch.full_like(scores, -torch.inf)
        chosen[:, forced[ids.shape[1] - longest]] = 0.0
        return chosen

    configured: Any = transformers.GenerationConfig  # its constructor carries no types
    settings = configured(
        do_sample=False, num_beams=1, max_new_tokens=len(forced), pad_token_id=0, output_logits=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    with torch.no_grad():
        made = model.generate(**_inputs(model, prompts), generation_config=settings, logits_processor=[force])
    return torch.stack(made.logits, dim=1)
