"""How architectures name their parts: the only file that knows. A fast path reads models through it, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

FAST_FAMILIES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
"""model_type -> prefix of the class names in transformers, for the models whose forward was read line by line."""


@dataclass(frozen=True, kw_only=True)
class Projection:
    """A linear map x -> x weight^T + bias; ``weight`` is [out, in]."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Norm:
    """A root-mean-square norm x -> weight * x / sqrt(mean(x^2) + eps) over the last axis."""

    weight: Tensor
    eps: float


@dataclass(frozen=True, kw_only=True)
class LlamaLayer:
    """One pre-norm block: attention, then a gated MLP.

    ``q_norm`` and ``k_norm`` act on each head before the rotation (Qwen3); ``window`` is the number of last keys, the
    query's own included, that a query sees, None for all.
    """

    norm: Norm
    q: Projection
    k: Projection
    v: Projection
    o: Projection
    q_norm: Norm | None
    k_norm: Norm | None
    window: int | None
    mlp_norm: Norm
    gate: Projection
    up: Projection
    down: Projection


@dataclass(frozen=True, kw_only=True)
class LlamaBlocks:
    """The tensors of a Llama-family model, shared with the model and not copied.

    ``embedding`` [vocab, d_model]; ``rotary(x, positions)`` gives cos and sin [1, position, d_head] in x's dtype, each
    with two equal halves; ``scaling`` multiplies query-key products; the MLP is down(silu(gate(x)) * up(x)).
    """

    embedding: Tensor
    layers: tuple[LlamaLayer, ...]
    norm: Norm
    head: Projection
    rotary: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    n_heads: int
    n_kv_heads: int
    d_head: int
    scaling: float

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.embedding.shape[1]

    @property
    def d_mlp(self) -> int:
        """Width of the gated MLP."""
        return self.layers[0].gate.weight.shape[0]

    @property
    def parameters_in_blocks(self) -> int:
        """Number of weights in the blocks' linear maps: half the FLOPs of one pass over one position."""
        return sum(p.weight.numel() for layer in self.layers for p in _projections(layer))


@dataclass(frozen=True, kw_only=True)
class NotLlama:
    """The model is not one that ``llama_blocks`` knows exactly; ``reason`` says what differs."""

    reason: str


class _UnknownPartError(Exception):
    """A part differs from what the family's forward was read with."""


def llama_blocks(model: nn.Module) -> LlamaBlocks | NotLlama:
    """The parts of a Llama, Mistral, Qwen2 or Qwen3 causal language model, or the reason why it is not one.

    Knows multi-head and grouped-query attention, biases, norms on queries and keys, sliding windows, tied embeddings
    and every rotary variant that turns the whole head. Every module must be of the very class whose forward is assumed:
    a quantised or adapted linear layer, a subclass, a hook or weights on several devices are all reasons to decline.
    """
    try:
        return _read(model)
    except _UnknownPartError as error:
        return NotLlama(reason=str(error))
    except AttributeError as error:
        return NotLlama(reason=f"a part is missing: {error}")


def _read(model: Any) -> LlamaBlocks:
    kind = getattr(getattr(model, "config", None), "model_type", None)
    prefix = FAST_FAMILIES.get(str(kind))
    if prefix is None:
        raise _UnknownPartError(f"model_type {kind!r} is none of {', '.join(FAST_FAMILIES)}")
    _check_class(model, f"{prefix}ForCausalLM")
    _check_hooks(model)
    _check_devices(model)
    config, body = model.config, model.model
    _check_class(body, f"{prefix}Model")
    _check_class(body.rotary_emb, f"{prefix}RotaryEmbedding")
    if config.hidden_act not in ("silu", "swish"):
        raise _UnknownPartError(f"the MLP's activation is {config.hidden_act!r}, not 'silu'")
    attention = body.layers[0].self_attn
    blocks = LlamaBlocks(
        embedding=_embedding(body.embed_tokens),
        layers=tuple(_layer(layer, prefix, config) for layer in body.layers[: config.num_hidden_layers]),
        norm=_norm(body.norm, prefix),
        head=_projection(model.lm_head),
        rotary=body.rotary_emb,
        n_heads=config.num_attention_heads,
        n_kv_heads=config.num_key_value_heads,
        d_head=attention.head_dim,
        scaling=float(attention.scaling),
    )
    _check_rotary(blocks)
    return blocks


def _layer(layer: Any, prefix: str, config: Any) -> LlamaLayer:
    _check_class(layer, f"{prefix}DecoderLayer")
    attention, mlp = layer.self_attn, layer.mlp
    _check_class(attention, f"{prefix}Attention")
    _check_class(mlp, f"{prefix}MLP")
    window = config.sliding_window if prefix == "Mistral" else getattr(attention, "sliding_window", None)
    normed = prefix == "Qwen3"
    return LlamaLayer(
        norm=_norm(layer.input_layernorm, prefix),
        q=_projection(attention.q_proj),
        k=_projection(attention.k_proj),
        v=_projection(attention.v_proj),
        o=_projection(attention.o_proj),
        q_norm=_norm(attention.q_norm, prefix) if normed else None,
        k_norm=_norm(attention.k_norm, prefix) if normed else None,
        window=window,
        mlp_norm=_norm(layer.post_attention_layernorm, prefix),
        gate=_projection(mlp.gate_proj),
        up=_projection(mlp.up_proj),
        down=_projection(mlp.down_proj),
    )


def _projections(layer: LlamaLayer) -> Iterator[Projection]:
    yield from (layer.q, layer.k, layer.v, layer.o, layer.gate, layer.up, layer.down)


def _embedding(module: Any) -> Tensor:
    if type(module) is not nn.Embedding or module.max_norm is not None:
        raise _UnknownPartError(f"the token embedding is a {type(module).__name__}, not a plain nn.Embedding")
    return module.weight


def _projection(module: Any) -> Projection:
    if type(module) is not nn.Linear:
        raise _UnknownPartError(f"a projection is a {type(module).__name__}, not a plain nn.Linear")
    return Projection(weight=module.weight, bias=module.bias)


def _norm(module: Any, prefix: str) -> Norm:
    _check_class(module, f"{prefix}RMSNorm")
    return Norm(weight=module.weight, eps=float(module.variance_epsilon))


def _check_class(module: Any, name: str) -> None:
    """transformers' own class, not a user's subclass nor a remote-code class of the same name."""
    kind = type(module)
    if kind.__name__ != name or not kind.__module__.startswith("transformers.models."):
        raise _UnknownPartError(f"{kind.__module__}.{kind.__qualname__} stands where transformers' {name} is known")


def _check_hooks(model: nn.Module) -> None:
    """A hook or a patched forward on an instance changes what a module computes; reading its weights misses that."""
    for name, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            raise _UnknownPartError(f"{name or 'the model'} carries a forward hook or a patched forward")


def _check_devices(model: nn.Module) -> None:
    devices = {str(parameter.device) for parameter in model.parameters()}
    if len(devices) > 1 or devices == {"meta"}:
        raise _UnknownPartError(f"the weights lie on {', '.join(sorted(devices))}, not on one device")


def _check_rotary(blocks: LlamaBlocks) -> None:
    """The rotation must turn the whole head, in two equal halves, by cos and sin of the same angles."""
    positions = torch.arange(2, device=blocks.embedding.device)[None]
    cos, sin = blocks.rotary(blocks.embedding[:1], positions)
    half = blocks.d_head // 2
    if cos.shape != (1, 2, blocks.d_head) or blocks.d_head % 2:
        raise _UnknownPartError(f"the rotation turns {cos.shape[-1]} of {blocks.d_head} dimensions of a head")
    for turn in (cos, sin):
        if not torch.equal(turn[..., :half], turn[..., half:]):
            raise _UnknownPartError("the halves of the rotation differ")
