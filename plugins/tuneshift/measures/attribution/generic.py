"""I[n, m] written only in terms of a transformers forward (the generic path, for any decoder-only model).

Three facts about every such model save work. Its weights are frozen, so no weight gradient is formed. The probability
of y_m depends on the last hidden state of one position only, so one backward pass through the head serves all
responses. And what comes after a position does not reach it: the forward pass runs in segments that hand on a key-value
cache, so that the backward pass of a response stops at its segment's end and meets the last block at that segment only.

E[x_n] is what the input embedding module returns for the token and what enters the model as ``inputs_embeds``. A
constant factor inside that module (Gemma) or a linear map after it (OPT's projection) leaves the inner product as it
is; position embeddings are added later (GPT-2, OPT) and are not part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from ...errors import MeasureError

SEGMENT = 16
"""Least number of responses in a segment: products over fewer rows are bound by reading the weights."""

SEGMENTS = 6
"""Most segments that the responses are cut into: they waste a twelfth of the work behind the prompt."""


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode without weight gradients, restored afterwards."""
    training = [module for module in model.modules() if module.training]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in learning:
            parameter.requires_grad_(True)


def importance(
    model: Any,
    prompt: Tensor,
    response: Tensor,
    *,
    batch: int,
    segmented: bool,
    first: int = 0,
    response_tokens: Tensor | None = None,
) -> Tensor:
    """I[n, m] of token ids prompt and response, float32 or wider: of prompt[first:], and of ``response_tokens`` [m],
    rising, or all of the response.

    ``batch`` backward passes share one call; ``segmented`` needs a key-value cache that can be differentiated through,
    and then what comes before ``first`` is context that no backward pass reaches.
    Everything runs in the model's own dtype but the softmax over the vocabulary, which is never below float32.
    """
    n = len(prompt)
    wanted = torch.arange(len(response), device=response.device) if response_tokens is None else response_tokens
    response = response[: int(wanted[-1]) + 1]  # nothing later reaches what is asked for
    columns = []
    with frozen(model), torch.enable_grad():
        tokens = torch.cat([prompt, response[:-1]])[None]
        embeds = model.get_input_embeddings()(tokens).detach()
        leaf = embeds[:, first:n].clone().requires_grad_(True)
        inputs = torch.cat([embeds[:, :first], leaf, embeds[:, n:]], dim=1)
        done = 0
        for hidden, logits in _segments(model, inputs, n - 1 + wanted, n, first, segmented=segmented):
            wide = torch.promote_types(logits.dtype, torch.float32)
            chosen = response[wanted[done : done + logits.shape[1]]]
            probabilities, pulled = log_probability_cotangents(logits.detach()[0].to(wide), chosen)
            (cotangents,) = torch.autograd.grad(logits, hidden.head, pulled[None].to(logits.dtype))
            for low in range(0, len(chosen), batch):
                rows = torch.arange(low, min(low + batch, len(chosen)), device=prompt.device)
                gradients = _gradients(hidden.body, leaf, cotangents, rows).to(wide)
                inner = torch.einsum("bnd,nd->nb", gradients, leaf.detach()[0].to(wide))
                columns.append(inner * probabilities[rows])
            done += len(chosen)
    return torch.cat(columns, dim=1)


def log_probability_cotangents(logits: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """p(y_m) [m] and d log p(y_m) / d logits, 1[v = y] - p_v, [m, vocab], for logits [m, vocab] and tokens chosen [m].

    Derivatives are carried of the logarithm and multiplied by p(y_m) at the end: those of a small probability would
    underflow in half precision. Where the model is sure of y, 1 - p_y is a small difference of rounded numbers:
    automatic differentiation and the plain formula then lose three digits in float32, and one level in a hundred of a
    confident model's S moves. Summing the other probabilities instead loses none.
    """
    probabilities, column = logits.softmax(-1), chosen[:, None]
    others = probabilities.scatter(-1, column, 0.0)
    return probabilities.gather(-1, column)[:, 0], others.neg().scatter(-1, column, others.sum(-1, keepdim=True))


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """Last hidden states [1, position, d] as the body gave them and, cut off from it, as the head received them."""

    body: Tensor
    head: Tensor


def _segments(
    model: Any, inputs: Tensor, at: Tensor, n: int, first: int, *, segmented: bool
) -> Iterator[tuple[Hidden, Tensor]]:
    """Hidden states and logits at the positions ``at``, which predict the response tokens, segment by segment."""
    length = inputs.shape[1]
    if not segmented:
        yield _forward(model, inputs, at)
        return
    cache, unread = DynamicCache(config=model.config), at.new_zeros(1)
    first = min(first, n - 1)
    if first:
        with torch.no_grad():
            _forward(model, inputs[:, :first], unread, cache)
    if n - 1 > first:
        _forward(model, inputs[:, first : n - 1], unread, cache)
    size = max(SEGMENT, -(-(length - n + 1) // SEGMENTS))
    for start in range(n - 1, length, size):
        here = at[(at >= start) & (at < start + size)] - start
        found = _forward(model, inputs[:, start : start + size], here if len(here) else unread, cache)
        if len(here):
            yield found


def _forward(model: Any, inputs: Tensor, keep: Tensor, cache: DynamicCache | None = None) -> tuple[Hidden, Tensor]:
    """The model's forward; the head sees the positions ``keep`` only, as a leaf of their own."""
    kept: list[Hidden] = []

    def cut(_module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        body = arguments[0][:, keep]
        kept.append(Hidden(body=body, head=body.detach().requires_grad_(True)))
        return (kept[-1].head, *arguments[1:])

    head = model.get_output_embeddings()
    if head is None:
        raise MeasureError(
            f"{type(model).__name__} has no output embeddings; attribution needs a causal language model with a head"
        )
    handle = head.register_forward_pre_hook(cut)
    try:
        options = {"use_cache": False} if cache is None else {"use_cache": True, "past_key_values": cache}
        logits = model(inputs_embeds=inputs, **options).logits
    finally:
        handle.remove()
    return kept[-1], logits


def _gradients(hidden: Tensor, leaf: Tensor, cotangents: Tensor, rows: Tensor) -> Tensor:
    """Gradients [row, n, d] of <hidden, cotangents> taken at one row each."""
    if len(rows) == 1:
        (gradient,) = torch.autograd.grad(hidden[:, rows], leaf, cotangents[:, rows], retain_graph=True)
        return gradient
    chosen = torch.zeros(len(rows), *hidden.shape, dtype=hidden.dtype, device=hidden.device)
    chosen[torch.arange(len(rows), device=rows.device), 0, rows] = cotangents[0, rows]
    (gradients,) = torch.autograd.grad(hidden, leaf, chosen, retain_graph=True, is_grads_batched=True)
    return gradients[:, 0]
