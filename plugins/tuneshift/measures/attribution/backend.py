"""I[n, m], the importance of prompt token n for response token m: exact, by the fastest path that fits the model.

I[n, m] = < d p(y_m | x, y_<m) / d E[x_n], E[x_n] >, the first-order change in the probability of the m-th response
token when the n-th prompt embedding is removed (arXiv:2310.00492, section 3.1; probability, not log-probability).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ...checkpoints.llama import LlamaBlocks, NotLlama, llama_blocks
from ...checkpoints.memory import empty_cache, is_out_of_memory
from ...checkpoints.model_cache import switches_at
from ...errors import MeasureError
from . import generic as attribution_generic
from .llama import LlamaAttribution

PROBE = (7, 5)
"""Prompt and response tokens of the probe on which the two paths must agree."""
AGREEMENT = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.3}
"""Largest relative difference (Frobenius) of two paths on a probe. In float32 they agree to some 1e-5; in half
precision the generic path errs by about a tenth, so there only a wrong path is caught."""
TINY = torch.finfo(torch.float32).tiny
ROWS = 4096
"""Derivatives times positions in a batch of the fast path, before memory says otherwise."""
TANGENT_BYTES = 2 * 2**30
"""Stored tangents of the fast path, before memory says otherwise. A GPU may take a quarter of what it has free."""
BATCH = 8
"""Backward passes in one call of the generic path, before memory says otherwise: measured best of 1, 4, 8, 16, 32."""


class Backend(Protocol):
    """Takes I of one prompt and response: ``backend(prompt_ids [n], response_ids [m])`` -> [n, m], float32 or wider.

    With ``prompt_tokens`` [k] and ``response_tokens`` [j], rising places in them, of these alone: [k, j].
    ``saves_rows``: whether prompt tokens that are not asked for save work.
    """

    model: Any
    name: str
    reason: str
    saves_rows: bool

    @property
    def size(self) -> int:
        """Derivatives that are taken at once."""

    def __call__(
        self,
        prompt: Tensor,
        response: Tensor,
        *,
        prompt_tokens: Tensor | None = None,
        response_tokens: Tensor | None = None,
    ) -> Tensor: ...

    def halve(self) -> None:
        """Take half as many derivatives at once, at least one."""


def importance(model: Any, prompt: Tensor, response: Tensor) -> Tensor:
    """I[n, m] of token ids prompt [n] and response [m], float32 or wider, on the model's device.

    Raises ValueError for an empty prompt or response, MeasureError where weights give NaN or one derivative at a time
    does not fit into memory.
    """
    return choose_backend(model)(prompt, response)


def choose_backend(model: Any) -> Backend:
    """The fast path for a Llama-family model, once it agreed with the generic path on a probe; else the generic path.

    A disagreement is warned about: it means that the model is not what its class says.
    """
    blocks = llama_blocks(model)
    if isinstance(blocks, NotLlama):
        return GenericBackend(model=model, reason=blocks.reason)
    fast = LlamaBackend(model=model, blocks=blocks)
    generator = torch.Generator().manual_seed(0)
    n, m = PROBE
    tokens = torch.randint(model.get_input_embeddings().weight.shape[0], (n + m,), generator=generator)
    expected = _whole(model, *_on_device(model, tokens[:n], tokens[n:]))
    error = float((fast(tokens[:n], tokens[n:]) - expected).norm() / expected.norm().clamp_min(TINY))
    accepted = _accepted(model)
    if error <= accepted:
        return fast
    reason = f"the fast path differs by {error:.2g} on a probe"
    warnings.warn(
        f"{type(model).__name__}: {reason}, where {accepted:g} is accepted; the generic path measures instead.",
        stacklevel=2,
    )
    return GenericBackend(model=model, reason=reason)


@contextmanager
def in_float32(backend: Backend) -> Iterator[Backend]:
    """A way to take the same I in float32 from a model in half precision, for as long as the block lasts.

    The fast path casts each weight where it is used and needs no copy. Any other model's weights are widened, so that
    they take twice their memory, and put back on leaving. Parameters only: buffers such as rotary frequencies never
    were in half precision.
    """
    if isinstance(backend, LlamaBackend):
        exact = copy.copy(backend)  # with what memory has left of its batches
        exact.dtype = torch.float32
        yield exact
        return
    model = backend.model
    stored = [(parameter, parameter.data) for parameter in model.parameters()]
    try:
        for parameter, data in stored:
            parameter.data = data.float()
        yield GenericBackend(model=model)
    finally:
        for parameter, data in stored:
            parameter.data = data


@dataclass(kw_only=True)
class GenericBackend:
    """Any decoder-only model, through its own forward. ``batch`` and ``segmented`` shrink to what the model allows.

    A text beyond the length at which LongRoPE turns over is taken in one pass: the cache of its beginning would keep
    the rotation of before.
    """

    model: Any
    name: str = "generic"
    reason: str = "asked for"
    saves_rows: bool = field(init=False)
    """One backward pass gives a response token's derivatives by all prompt tokens; it need not reach those before the
    first that is asked for, where they can be run into a cache."""
    batch: int = BATCH
    segmented: bool = field(init=False)
    _switch: int | None = field(init=False)

    def __post_init__(self) -> None:
        self.segmented = self.saves_rows = _cache_is_differentiable(self.model)
        self._switch = switches_at(self.model)

    def __call__(
        self,
        prompt: Tensor,
        response: Tensor,
        *,
        prompt_tokens: Tensor | None = None,
        response_tokens: Tensor | None = None,
    ) -> Tensor:
        """I[n, m]; halves the batch where memory runs out, and keeps the smaller one."""
        prompt, response = _on_device(self.model, prompt, response)
        rows, columns = _placed(prompt, prompt_tokens), _placed(prompt, response_tokens)
        segmented = self.segmented and (self._switch is None or len(prompt) + len(response) - 1 <= self._switch)
        first = int(rows[0]) if rows is not None and segmented else 0
        while True:
            try:
                found = attribution_generic.importance(
                    self.model,
                    prompt,
                    response,
                    batch=self.batch,
                    segmented=segmented,
                    first=first,
                    response_tokens=columns,
                )
                return _finite(found if rows is None else found[rows - first])
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.batch == 1:
                    raise MeasureError(_no_memory(prompt, response)) from error
                self.halve()
            empty_cache()

    @property
    def size(self) -> int:
        """Backward passes in one call."""
        return self.batch

    def halve(self) -> None:
        """Half as many backward passes in one call."""
        self.batch = max(1, self.batch // 2)


@dataclass(kw_only=True)
class LlamaBackend:
    """The Llama family, by layer products written by hand.

    Derivatives are carried in ``dtype``, None for the weights' own. The forward pass is in float32 even for
    half-precision weights, which are loaded by the user's choice only (``--shift-dtype``): a forward in half precision
    would cost ten times as much accuracy as the derivatives do (5-13 % of I against 0.6-0.8 %).
    """

    model: Any
    blocks: LlamaBlocks
    dtype: torch.dtype | None = None
    name: str = "llama"
    reason: str = "agreed with the generic path on a probe"
    saves_rows: bool = True
    rows: int = ROWS
    tangent_bytes: int = TANGENT_BYTES

    def __post_init__(self) -> None:
        device = self.blocks.embedding.device
        if device.type == "cuda":
            self.rows *= 8  # to fill it
            self.tangent_bytes = max(self.tangent_bytes, torch.cuda.mem_get_info(device)[0] // 4)

    def __call__(
        self,
        prompt: Tensor,
        response: Tensor,
        *,
        prompt_tokens: Tensor | None = None,
        response_tokens: Tensor | None = None,
    ) -> Tensor:
        """I[n, m]; halves batch and stored tangents where memory runs out, and keeps the smaller ones."""
        prompt, response = _on_device(self.model, prompt, response)
        rows, columns = _placed(prompt, prompt_tokens), _placed(prompt, response_tokens)
        engine = LlamaAttribution(self.blocks, self.dtype or self.model.get_input_embeddings().weight.dtype)
        while True:
            try:
                found = engine.importance(
                    prompt,
                    response,
                    rows=self.rows,
                    tangent_bytes=self.tangent_bytes,
                    prompt_tokens=rows,
                    response_tokens=columns,
                )
                return _finite(found)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.rows == 1:
                    raise MeasureError(_no_memory(prompt, response)) from error
                self.halve()
            empty_cache()

    @property
    def size(self) -> int:
        """Derivatives times positions in a batch."""
        return self.rows

    def halve(self) -> None:
        """Half as many derivatives in a batch, and half the stored tangents."""
        self.rows, self.tangent_bytes = max(1, self.rows // 2), self.tangent_bytes // 2


def _cache_is_differentiable(model: Any) -> bool:
    """Whether a forward in segments through a key-value cache gives what one whole forward gives, on a probe."""
    # Not from token 0: where that pads, its embedding is 0, and at the first position so are all its layers, in which
    # every norm then multiplies derivatives by 1 / sqrt(eps).
    tokens = torch.arange(5, attribution_generic.SEGMENT + 10) % model.get_input_embeddings().weight.shape[0]
    prompt, response = _on_device(model, tokens[:3], tokens[3:])
    whole = _whole(model, prompt, response)
    try:
        pieces = attribution_generic.importance(model, prompt, response, batch=BATCH, segmented=True)
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError):
        return False
    return bool((pieces - whole).norm() <= _accepted(model) * whole.norm())


def _whole(model: Any, prompt: Tensor, response: Tensor) -> Tensor:
    """I[n, m] of a probe by one plain forward: what every other way must agree with."""
    return _finite(attribution_generic.importance(model, prompt, response, batch=BATCH, segmented=False))


def _accepted(model: Any) -> float:
    return AGREEMENT[model.get_input_embeddings().weight.dtype]


def _on_device(model: Any, prompt: Tensor, response: Tensor) -> tuple[Tensor, Tensor]:
    if len(prompt) == 0 or len(response) == 0:
        raise ValueError(f"attribution needs a prompt and a response; got {len(prompt)} and {len(response)} tokens")
    device = model.get_input_embeddings().weight.device
    return prompt.to(device), response.to(device)


def _placed(prompt: Tensor, places: Tensor | None) -> Tensor | None:
    return None if places is None else places.to(prompt.device)


def _finite(found: Tensor) -> Tensor:
    if not torch.isfinite(found).all():
        raise MeasureError(
            "the model gives NaN or infinite derivatives; its weights or the chosen dtype do not hold (try float32)"
        )
    return found


def _no_memory(prompt: Tensor, response: Tensor) -> str:
    return (
        f"not enough memory for one derivative at a time at {len(prompt)} prompt and {len(response)} response tokens; "
        "use a larger device, --shift-dtype=bfloat16 or a smaller --shift-max-new-tokens"
    )
