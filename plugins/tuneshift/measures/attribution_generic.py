"""I[n, m] written only in terms of a transformers forward (the generic path, for any decoder-only model).

Three facts about every such model save work. Its weights are frozen, so no weight gradient is formed. The probability of y_m
depends on the last hidden state of one position only, so one backward pass through the head serves all responses. And
what comes after a position does not reach it: the forward pass runs in segments that hand on a key-value cache, so that the
backward pass of a response stops at its segment's end and meets the last block at that segment only.

E[x_n] is what the input embedding module returns for the token and what enters the model as ``inputs_embeds``. A constant
factor inside that module (Gemma) or a linear map after it (OPT's projection) changes neither side of the inner product's
value; position embeddings are added later (GPT-2, OPT) and are not part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

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


def importance(model: Any, prompt: Tensor, response: Tensor, *, batch: int, segmented: bool) -> Tensor:
    """I[n, m] for token ids prompt[n] and response[m], in the model's dtype.

    ``batch`` backward passes share one call; ``segmented`` needs a model whose key-value cache can be differentiated.
    """
    n, m = len(prompt), len(response)
    result = torch.zeros(n, m, device=prompt.device)
    with frozen(model), torch.enable_grad():
        tokens = torch.cat([prompt, response[:-1]])[None]
        embeds = model.get_input_embeddings()(tokens).detach()
        leaf = embeds[:, :n].clone().requires_grad_(True)
        inputs = torch.cat([leaf, embeds[:, n:]], dim=1)
        outputs = 0
        for hidden, probabilities in _segments(model, inputs, response, n, segmented=segmented):
            (cotangents,) = torch.autograd.grad(probabilities.sum(), hidden)
            for low in range(0, len(probabilities), batch):
                high = min(low + batch, len(probabilities))
                gradients = _gradients(hidden.source, leaf, cotangents, low, high)
                result[:, outputs + low : outputs + high] = torch.einsum("bnd,nd->nb", gradients, embeds[0, :n]).float()
            outputs += len(probabilities)
    return result
