"""How architectures name their parts: the only file that knows. A fast path reads models through it, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Rotary = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(x, positions [1, p]) -> cos and sin [1, p, r] in x's dtype, r of a head's dimensions, each with two equal halves."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """How a family's forward differs from Llama's.

    ``prefix`` of its class names in transformers; ``norms``: names of the norms before and after attention, before and
    after the MLP; ``head_norms``: norms on queries and keys; ``fused``: query, key and value in one projection, gate
    and up in another; ``centred``: norms multiply by 1 + weight, embeddings are scaled and logits may be capped;
    ``rotary_by_type``: local and global layers turn by other angles; ``capped``: attention scores are capped.
    """

    prefix: str
    norms: tuple[str | None, str | None, str | None, str | None] = (
        "input_layernorm", None, "post_attention_layernorm", None,
    )  # fmt: skip
    head_norms: bool = False
    fused: bool = False
    centred: bool = False
    rotary_by_type: bool = False
    capped: bool = False


_AFTER = (None, "post_attention_layernorm", None, "post_feedforward_layernorm")
_AROUND = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")

FAST_FAMILIES = {
    "llama": Family(prefix="Llama"),
    "mistral": Family(prefix="Mistral"),
    "qwen2": Family(prefix="Qwen2"),
    "qwen3": Family(prefix="Qwen3", head_norms=True),
    "gemma2": Family(prefix="Gemma2", norms=_AROUND, centred=True, capped=True),
    "gemma3_text": Family(prefix="Gemma3", norms=_AROUND, head_norms=True, centred=True, rotary_by_type=True),
    "olmo2": Family(prefix="Olmo2", norms=_AFTER, head_norms=True),
    "olmo3": Family(prefix="Olmo3", norms=_AFTER, head_norms=True, rotary_by_type=True),
    "phi3": Family(prefix="Phi3", fused=True),
    "smollm3": Family(prefix="SmolLM3"),
    "granite": Family(prefix="Granite"),
}
"""model_type -> family, for the models whose forward was read line by line."""

ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
"""transformers' names of the activations whose derivative is known."""


@dataclass(frozen=True, kw_only=True)
class Projection:
    """A linear map x -> x weight^T + bias; ``weight`` is [out, in]."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Norm:
    """A root-mean-square norm x -> (offset + weight) * x / sqrt(mean(x^2) + eps) over the last axis."""

    weight: Tensor
    eps: float
    offset: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LlamaLayer:
    """One block: attention, then a gated MLP, each added to its input.

    ``norm`` and ``mlp_norm`` stand before them, ``out_norm`` and ``mlp_out_norm`` after them, before the sum.
    ``q_norm`` and ``k_norm`` act before the rotation, on each head or on all together, as wide as their weights are.
    ``rotary`` is None where keys have no position; ``window`` is the number of last keys, the query's own included,
    that a query sees, None for all.
    """

    norm: Norm | None
    q: Projection
    k: Projection
    v: Projection
    o: Projection
    q_norm: Norm | None
    k_norm: Norm | None
    rotary: Rotary | None
    window: int | None
    out_norm: Norm | None
    mlp_norm: Norm | None
    gate: Projection
    up: Projection
    down: Projection
    mlp_out_norm: Norm | None


@dataclass(frozen=True, kw_only=True)
class LlamaBlocks:
    """The tensors of a Llama-family model, shared with the model and not copied.

    ``embedding`` [vocab, d_model], multiplied by ``embedding_scale``; ``scaling`` multiplies query-key products, which
    x -> cap tanh(x / cap) then bounds by ``score_cap``, and logits, divided by ``logit_divisor``, by ``logit_cap``;
    the MLP is down(activation(gate(x)) * up(x)), "silu" or "gelu_tanh"; what attention and MLP add to the residual
    stream is multiplied by ``residual_scale``.
    """

    embedding: Tensor
    embedding_scale: float
    layers: tuple[LlamaLayer, ...]
    norm: Norm
    head: Projection
    n_heads: int
    n_kv_heads: int
    d_head: int
    scaling: float
    score_cap: float | None
    activation: str
    residual_scale: float
    logit_divisor: float
    logit_cap: float | None

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
    """The parts of a causal language model of ``FAST_FAMILIES``, or the reason why it is not one.

    Knows multi-head and grouped-query attention, biases, norms on queries and keys, sliding windows, tied embeddings
    and every rotary variant that turns the head's first dimensions. Every module must be of the very class whose
    forward is assumed: a quantised or adapted linear layer, a subclass, a hook or weights on several devices are all
    reasons to decline.
    """
    try:
        return _read(model)
    except _UnknownPartError as error:
        return NotLlama(reason=str(error))
    except AttributeError as error:
        return NotLlama(reason=f"a part is missing: {error}")


def _read(model: Any) -> LlamaBlocks:
    kind = getattr(getattr(model, "config", None), "model_type", None)
    family = FAST_FAMILIES.get(str(kind))
    if family is None:
        raise _UnknownPartError(f"model_type {kind!r} is none of {', '.join(FAST_FAMILIES)}")
    _check_class(model, f"{family.prefix}ForCausalLM")
    _check_hooks(model)
    _check_devices(model)
    config, body = model.config, model.model
    _check_class(body, f"{family.prefix}{'TextModel' if kind == 'gemma3_text' else 'Model'}")
    _check_class(body.rotary_emb, f"{family.prefix}RotaryEmbedding")
    activation = config.hidden_activation if family.centred else config.hidden_act
    if activation not in ACTIVATIONS:
        raise _UnknownPartError(f"the MLP's activation is {activation!r}, none of {', '.join(ACTIVATIONS)}")
    attention, granite = body.layers[0].self_attn, kind == "granite"
    embedding, scale = _embedding(body.embed_tokens, family)
    rotaries = _rotaries(body.rotary_emb, config, family)
    blocks = LlamaBlocks(
        embedding=embedding,
        embedding_scale=float(config.embedding_multiplier) if granite else scale,
        layers=tuple(
            _layer(layer, index, family, config, rotaries)
            for index, layer in enumerate(body.layers[: config.num_hidden_layers])
        ),
        norm=_norm(body.norm, family),
        head=_projection(model.lm_head),
        n_heads=config.num_attention_heads,
        n_kv_heads=config.num_key_value_heads,
        d_head=attention.head_dim,
        scaling=float(attention.scaling),
        score_cap=config.attn_logit_softcapping if family.capped else None,
        activation=ACTIVATIONS[activation],
        residual_scale=float(config.residual_multiplier) if granite else 1.0,
        logit_divisor=float(config.logits_scaling) if granite else 1.0,
        logit_cap=config.final_logit_softcapping if family.centred else None,
    )
    for rotary in rotaries.values():
        _check_rotary(blocks, rotary)
    return blocks


def _rotaries(module: Any, config: Any, family: Family) -> dict[str | None, Rotary]:
    """By the type of a layer, or under None where all layers share one."""
    if not family.rotary_by_type:
        return {None: module}
    return {kind: partial(module, layer_type=kind) for kind in dict.fromkeys(config.layer_types)}


def _layer(layer: Any, index: int, family: Family, config: Any, rotaries: dict[str | None, Rotary]) -> LlamaLayer:
    _check_class(layer, f"{family.prefix}DecoderLayer")
    attention, mlp = layer.self_attn, layer.mlp
    _check_class(attention, f"{family.prefix}Attention")
    _check_class(mlp, f"{family.prefix}MLP")
    if not attention.is_causal:
        raise _UnknownPartError("attention looks ahead")
    # Masks follow the layers' types; without types the configuration's window is every layer's.
    kind = None if getattr(config, "layer_types", None) is None else config.layer_types[index]
    rotary = rotaries[kind if family.rotary_by_type else None]
    norms = [None if name is None else _norm(getattr(layer, name), family) for name in family.norms]
    q, k, v, gate, up = _fused(attention, mlp, config) if family.fused else _apart(attention, mlp)
    return LlamaLayer(
        norm=norms[0],
        q=q,
        k=k,
        v=v,
        o=_projection(attention.o_proj),
        q_norm=_norm(attention.q_norm, family) if family.head_norms else None,
        k_norm=_norm(attention.k_norm, family) if family.head_norms else None,
        rotary=rotary if getattr(attention, "use_rope", True) else None,
        window=getattr(config, "sliding_window", None) if kind in (None, "sliding_attention") else None,
        out_norm=norms[1],
        mlp_norm=norms[2],
        gate=gate,
        up=up,
        down=_projection(mlp.down_proj),
        mlp_out_norm=norms[3],
    )


def _apart(attention: Any, mlp: Any) -> tuple[Projection, ...]:
    """Query, key, value, gate and up."""
    modules = (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj)
    return tuple(_projection(module) for module in modules)


def _fused(attention: Any, mlp: Any, config: Any) -> tuple[Projection, ...]:
    """The same, as views of the two projections that hold them."""
    keys = config.num_key_value_heads * attention.head_dim
    sizes = (config.num_attention_heads * attention.head_dim, keys, keys)
    both = _projection(mlp.gate_up_proj)
    return *_split(_projection(attention.qkv_proj), sizes), *_split(both, (len(both.weight) // 2,) * 2)


def _split(projection: Projection, sizes: tuple[int, ...]) -> list[Projection]:
    if projection.bias is not None:
        raise _UnknownPartError("a fused projection has a bias")
    return [Projection(weight=weight, bias=None) for weight in torch.split(projection.weight, list(sizes))]


def _projections(layer: LlamaLayer) -> Iterator[Projection]:
    yield from (layer.q, layer.k, layer.v, layer.o, layer.gate, layer.up, layer.down)


def _embedding(module: Any, family: Family) -> tuple[Tensor, float]:
    """The token embedding and the factor that its module multiplies it by."""
    if module.max_norm is not None:
        raise _UnknownPartError("the token embedding has a largest norm")
    if family.centred:
        _check_class(module, f"{family.prefix}TextScaledWordEmbedding")
        return module.weight, float(module.embed_scale.to(module.weight.dtype))
    if type(module) is not nn.Embedding:
        raise _UnknownPartError(f"the token embedding is a {type(module).__name__}, not a plain nn.Embedding")
    return module.weight, 1.0


def _projection(module: Any) -> Projection:
    if type(module) is not nn.Linear:
        raise _UnknownPartError(f"a projection is a {type(module).__name__}, not a plain nn.Linear")
    return Projection(weight=module.weight, bias=module.bias)


def _norm(module: Any, family: Family) -> Norm:
    _check_class(module, f"{family.prefix}RMSNorm")
    eps = module.eps if family.centred else module.variance_epsilon
    return Norm(weight=module.weight, eps=float(eps), offset=1.0 if family.centred else 0.0)


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


def _check_rotary(blocks: LlamaBlocks, rotary: Rotary) -> None:
    """The rotation must turn the first dimensions of a head, in two equal halves, by cos and sin of the same angles."""
    positions = torch.arange(2, device=blocks.embedding.device)[None]
    cos, sin = rotary(blocks.embedding[:1], positions)
    turned = cos.shape[-1]
    if cos.shape != sin.shape or cos.shape[:2] != (1, 2) or turned % 2 or turned > blocks.d_head:
        raise _UnknownPartError(f"the rotation turns {turned} of {blocks.d_head} dimensions of a head")
    half = turned // 2
    for turn in (cos, sin):
        if not torch.equal(turn[..., :half], turn[..., half:]):
            raise _UnknownPartError("the halves of the rotation differ")
