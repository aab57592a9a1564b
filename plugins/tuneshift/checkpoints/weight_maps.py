"""Which tensors architectures call queries, keys, down-projections: what measures of weights read, layer by layer.

Wider and laxer than ``architectures``: it names weights and assumes nothing about the rest of a forward pass, so that
most causal language models of transformers are covered. What it does not know it refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import MeasureError, NotMeasurableError

Split = Callable[[Any, "_Sizes"], tuple[Tensor, Tensor]]
"""(attention module, sizes) -> query and key weights [n_heads, d_head, d_model], [n_kv_heads, d_head, d_model]."""


@dataclass(frozen=True, kw_only=True)
class AttentionMap:
    """One layer's maps from its normed input to queries and keys, without biases and before any rotation.

    ``q`` [n_heads, d_head, d_model]; ``k`` [n_kv_heads, d_head, d_model], key head i belongs to the i-th run of
    n_heads / n_kv_heads query heads; ``norm`` [d_model], the scale of the norm before attention, ones where there is
    none, and then ``note`` says so. All in the checkpoint's dtype; views of the weights wherever the layout allows it.
    """

    norm: Tensor
    q: Tensor
    k: Tensor
    note: str = ""


def n_layers(model: nn.Module) -> int:
    """Number of layers. Raises MeasureError for an architecture that this module does not know."""
    return len(_layers(model))


def attends(model: nn.Module, index: int) -> bool:
    """Whether the layer with this index has attention: in hybrid models some have a convolution or a linear recurrence
    in its place. Raises as `attention_map`."""
    family, layer = _family(model), _layer(model, index)
    return not any(hasattr(layer, other) for other in family.instead)


def attention_map(model: nn.Module, index: int) -> AttentionMap:
    """The query and key maps of the layer with this index, from 0.

    Raises NotMeasurableError for an unknown architecture and a layer that does not attend; MeasureError where a weight
    is missing, quantised, offloaded or of another shape than the config says; IndexError for a layer that is not there.
    """
    family, layer, sizes = _family(model), _layer(model, index), _sizes(model)
    if not attends(model, index):
        raise NotMeasurableError(f"layer {index} of {_name(model)} has no attention, so it has no heads")
    q, k = family.split(_part(model, layer, family.attention), sizes)
    for name, tensor, heads in (("query", q, sizes.heads), ("key", k, sizes.kv_heads)):
        if tensor.shape[0] != heads or tensor.shape[2] != sizes.d_model:
            raise MeasureError(
                f"layer {index} of {_name(model)} has a {name} map of shape {tuple(tensor.shape)} (head, d_head, "
                f"d_model); its config says {heads} heads and d_model {sizes.d_model}"
            )
    norm, note = _norm_scale(model, layer, family, q)
    return AttentionMap(norm=norm, q=q, k=k, note=note)


def down_projection(model: nn.Module, index: int) -> Tensor:
    """The last map of a layer's feed-forward block, [d_model, d_mlp]: its columns are what the block writes.

    Raises as `attention_map`, and NotMeasurableError for a mixture of experts, which has as many of them as experts.
    """
    family, layer, sizes = _family(model), _layer(model, index), _sizes(model)
    if family.down is None:
        raise NotMeasurableError(
            f"{_name(model)} is a mixture of experts: layer {index} has no one down-projection, and no published "
            "finding says how experts' should be joined. This measure is taken from dense models only."
        )
    weight = _weight(model, _part(model, layer, family.down))
    if weight.shape[0] != sizes.d_model:
        raise MeasureError(
            f"the down-projection of layer {index} of {_name(model)} writes {weight.shape[0]} dimensions, d_model is "
            f"{sizes.d_model}"
        )
    return weight


def input_embedding(model: nn.Module) -> Tensor:
    """The input embedding [vocab, d_model], rows for padding included. Raises MeasureError as `output_embedding`."""
    return _embedding(model, "input", model.get_input_embeddings())  # type: ignore[operator]


def output_embedding(model: nn.Module) -> Tensor:
    """The output embedding [vocab, d_model], the input's where they are tied; rows for padding included.

    Raises MeasureError where it is missing, quantised or offloaded, or where a map stands between it and the layers
    (OPT-350m), so that its rows are no directions of the residual stream.
    """
    return _embedding(model, "output", model.get_output_embeddings())  # type: ignore[operator]


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    heads: int
    kv_heads: int
    d_model: int


@dataclass(frozen=True, kw_only=True)
class _Family:
    """Where an architecture keeps its parts: paths from the model to the layers and from a layer to the rest.

    ``norm`` has paths to try in turn, none for a model that norms elsewhere; ``offset`` is added to the norm's weight;
    ``down`` None: a mixture of experts; ``instead``: what stands in a hybrid model's layers that do not attend.
    """

    layers: str = "model.layers"
    norm: tuple[str, ...] = ("input_layernorm",)
    offset: float = 0.0
    attention: str = "self_attn"
    split: Split
    down: str | None = "mlp.down_proj"
    instead: tuple[str, ...] = ()


def _separate(attention: Any, sizes: _Sizes) -> tuple[Tensor, Tensor]:
    q, k = _weight(attention, attention.q_proj), _weight(attention, attention.k_proj)
    return _by_head(q, sizes.heads), _by_head(k, sizes.kv_heads)


def _gated(attention: Any, sizes: _Sizes) -> tuple[Tensor, Tensor]:
    """Each head's query, then the gate on what it writes, in one matrix (Qwen3.5)."""
    fused = _by_head(_weight(attention, attention.q_proj), sizes.heads)
    k = _weight(attention, attention.k_proj)
    return fused[:, : fused.shape[1] // 2], _by_head(k, sizes.kv_heads)


def _stacked(name: str) -> Split:
    """All queries, then all keys, then all values, in one matrix."""

    def split(attention: Any, sizes: _Sizes) -> tuple[Tensor, Tensor]:
        fused = _by_head(_weight(attention, getattr(attention, name)), sizes.heads + 2 * sizes.kv_heads)
        return fused[: sizes.heads], fused[sizes.heads : sizes.heads + sizes.kv_heads]

    return split


def _per_head(attention: Any, sizes: _Sizes) -> tuple[Tensor, Tensor]:
    """Query, key and value of the first head, then of the second, and so on."""
    heads = _per_role(_weight(attention, attention.query_key_value), sizes.heads)
    return heads[:, 0], heads[:, 1]


def _falcon(attention: Any, sizes: _Sizes) -> tuple[Tensor, Tensor]:
    """Falcon's three layouts: groups of query heads with their key and value, one key for all, or one per head."""
    if not attention.new_decoder_architecture and not attention.multi_query:
        return _per_head(attention, sizes)
    groups = attention.num_kv_heads
    fused = _by_head(_weight(attention, attention.query_key_value), sizes.heads + 2 * groups)
    grouped = fused.view(groups, sizes.heads // groups + 2, *fused.shape[1:])
    return grouped[:, :-2].flatten(0, 1), grouped[:, -2]


def _bigcode(attention: Any, sizes: _Sizes) -> tuple[Tensor, Tensor]:
    if attention.multi_query:
        return _stacked("c_attn")(attention, sizes)
    heads = _per_role(_weight(attention, attention.c_attn), sizes.heads)
    return heads[:, 0], heads[:, 1]


_LLAMA = _Family(split=_separate)
_EXPERTS = _Family(split=_separate, down=None)
_GEMMA = _Family(split=_separate, offset=1.0)
_POST_NORM = _Family(split=_separate, norm=())
_BLOCKS = "transformer.h"

_FAMILIES: Mapping[str, _Family] = {
    **dict.fromkeys(
        ("llama", "mistral", "qwen2", "qwen3", "cohere", "granite", "olmo", "smollm3", "stablelm"), _LLAMA
    ),
    "starcoder2": _Family(split=_separate, down="mlp.c_proj"),
    **dict.fromkeys(("mixtral", "olmoe", "qwen2_moe", "qwen3_moe"), _EXPERTS),
    **dict.fromkeys(("gemma", "gemma2", "gemma3_text"), _GEMMA),
    "qwen3_5_text": _Family(split=_gated, offset=1.0, instead=("linear_attn",)),
    "lfm2": _Family(
        norm=("operator_norm",), split=_separate, down="feed_forward.w2", instead=("conv",)
    ),
    "gemma3": _Family(layers="model.language_model.layers", split=_separate, offset=1.0),
    **dict.fromkeys(("olmo2", "olmo3"), _POST_NORM),
    "phi": _Family(split=_separate, down="mlp.fc2"),
    "phi3": _Family(split=_stacked("qkv_proj")),
    "opt": _Family(layers="model.decoder.layers", norm=("self_attn_layer_norm",), split=_separate, down="fc2"),
    "gpt2": _Family(layers=_BLOCKS, norm=("ln_1",), attention="attn", split=_stacked("c_attn"), down="mlp.c_proj"),
    "gptj": _Family(layers=_BLOCKS, norm=("ln_1",), attention="attn", split=_separate, down="mlp.fc_out"),
    "gpt_neo": _Family(
        layers=_BLOCKS, norm=("ln_1",), attention="attn.attention", split=_separate, down="mlp.c_proj"
    ),
    "gpt_bigcode": _Family(layers=_BLOCKS, norm=("ln_1",), attention="attn", split=_bigcode, down="mlp.c_proj"),
    "gpt_neox": _Family(
        layers="gpt_neox.layers", attention="attention", split=_per_head, down="mlp.dense_4h_to_h"
    ),
    "bloom": _Family(layers=_BLOCKS, attention="self_attention", split=_per_head, down="mlp.dense_4h_to_h"),
    "falcon": _Family(
        layers=_BLOCKS, norm=("ln_attn", "input_layernorm"), attention="self_attention", split=_falcon,
        down="mlp.dense_4h_to_h",
    ),
    "mpt": _Family(
        layers="transformer.blocks", norm=("norm_1",), attention="attn", split=_stacked("Wqkv"), down="ffn.down_proj"
    ),
}  # fmt: skip
"""By transformers' model_type, for the models whose attention was read and is compared in
tests/checkpoints/test_weight_maps.py."""


def _family(model: Any) -> _Family:
    kind = str(getattr(getattr(model, "config", None), "model_type", None))
    if kind not in _FAMILIES:
        raise NotMeasurableError(
            f"the weights of {_name(model)} cannot be named: model_type {kind!r} is not among "
            f"{', '.join(sorted(_FAMILIES))}. Please report it with the model's name; an architecture is one line in "
            "tuneshift/checkpoints/weight_maps.py and its test."
        )
    return _FAMILIES[kind]


def _layers(model: Any) -> Any:
    return _part(model, model, _family(model).layers)


def _layer(model: Any, index: int) -> Any:
    layers = _layers(model)
    if not 0 <= index < len(layers):
        raise IndexError(f"{_name(model)} has layers 0 to {len(layers) - 1}; got {index}")
    return layers[index]


def _sizes(model: Any) -> _Sizes:
    config = model.config.get_text_config()
    heads = int(config.num_attention_heads)
    if config.model_type == "falcon":
        shared = config.multi_query and not config.new_decoder_architecture
        kv_heads = 1 if shared else int(config.num_kv_heads) if config.new_decoder_architecture else heads
    elif config.model_type == "gpt_bigcode":
        kv_heads = 1 if config.multi_query else heads
    else:
        kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    return _Sizes(heads=heads, kv_heads=kv_heads, d_model=int(config.hidden_size))


def _norm_scale(model: Any, layer: Any, family: _Family, like: Tensor) -> tuple[Tensor, str]:
    """Scale [d_model] of the norm before attention, or ones and why."""
    module = next((found for path in family.norm if (found := getattr(layer, path, None)) is not None), None)
    # OPT-350m norms after each block, with modules of the same names.
    late = getattr(layer, "do_layer_norm_before", True) is False
    if module is None or late:
        if family.norm and not late:
            raise MeasureError(f"layer {type(layer).__name__} of {_name(model)} lacks {' and '.join(family.norm)}")
        note = f"{type(layer).__name__} has no norm before attention; its scale is taken as 1"
    elif getattr(module, "weight", None) is None:
        note = f"{type(module).__name__} has no weight; its scale is 1"
    else:
        weight = _weight(model, module)
        return (weight.float() + family.offset if family.offset else weight), ""
    return torch.ones(like.shape[2], dtype=like.dtype, device=like.device), note


def _part(model: Any, start: Any, path: str) -> Any:
    found = start
    for name in path.split("."):
        found = getattr(found, name, None)
        if found is None:
            raise MeasureError(
                f"{_name(model)} has no {path!r} in its {type(start).__name__}, where transformers' model of this type "
                "keeps it: another version's or a remote class under a known name. Please report it."
            )
    return found


def _by_head(weight: Tensor, heads: int) -> Tensor:
    """[heads * d_head, d_model] -> [heads, d_head, d_model], a view."""
    if weight.shape[0] % heads:
        raise MeasureError(f"an attention weight of shape {tuple(weight.shape)} does not split into {heads} heads")
    return weight.view(heads, weight.shape[0] // heads, weight.shape[1])


def _per_role(weight: Tensor, heads: int) -> Tensor:
    """[heads * 3 * d_head, d_model] -> [heads, 3 (query, key, value), d_head, d_model], a view."""
    fused = _by_head(weight, 3 * heads)
    return fused.view(heads, 3, *fused.shape[1:])


def _weight(owner: Any, module: Any) -> Tensor:
    """A module's weight, [out, in] for a linear map. Conv1D, GPT-2's linear layer, keeps it the other way round."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        raise MeasureError(
            f"a {type(module).__name__} of {type(owner).__name__} holds no plain weights, of which this measure is "
            "taken; name the checkpoint that was quantised"
        )
    if weight.is_meta:
        raise MeasureError(
            f"a weight of {type(owner).__name__} is offloaded; measures of weights need them in memory, on one device "
            "or several"
        )
    return weight.detach().T if type(module).__name__ == "Conv1D" else weight.detach()


def _embedding(model: Any, side: str, module: Any) -> Tensor:
    if module is None:
        raise MeasureError(f"{_name(model)} has no {side} embedding")
    weight = _weight(model, module)
    d_model = int(model.config.get_text_config().hidden_size)
    if weight.shape[1] != d_model:
        raise MeasureError(
            f"the {side} embedding of {_name(model)} has {weight.shape[1]} dimensions and its layers {d_model}: a map "
            "stands between them, and its rows are no directions of the residual stream"
        )
    return weight


def _name(model: Any) -> str:
    return type(model).__name__
