"""Reading a Llama-family model's parts: what is known, what is declined and why."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from tuneshift.checkpoints.llama import FAST_FAMILIES, LlamaBlocks, NotLlama, llama_blocks

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def llama(**options: Any) -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**SIZES, **options}))


def gemma3(**options: Any) -> Any:
    return Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, head_dim=4, **options))


def known(model: nn.Module) -> LlamaBlocks:
    blocks = llama_blocks(model)
    assert isinstance(blocks, LlamaBlocks), blocks.reason
    return blocks


def declined(model: nn.Module) -> str:
    blocks = llama_blocks(model)
    assert isinstance(blocks, NotLlama)
    return blocks.reason


def test_the_tensors_are_the_models_own_and_none_is_missing():
    model = llama()
    blocks = known(model)
    assert blocks.embedding is model.model.embed_tokens.weight
    assert blocks.head.weight is model.lm_head.weight
    assert blocks.layers[1].gate.weight is model.model.layers[1].mlp.gate_proj.weight
    norms = sum(p.numel() for name, p in model.named_parameters() if "norm" in name)
    outside = blocks.embedding.numel() + blocks.head.weight.numel()
    assert blocks.parameters_in_blocks + norms + outside == sum(p.numel() for p in model.parameters())
    assert (blocks.n_heads, blocks.n_kv_heads, blocks.d_head, blocks.d_model, blocks.d_mlp) == (4, 2, 4, 16, 24)


def test_tied_embeddings_share_one_tensor():
    blocks = known(llama(tie_word_embeddings=True))
    assert blocks.head.weight is blocks.embedding


def test_biases_are_found_where_the_family_has_them():
    plain, biased = known(llama()).layers[0], known(llama(attention_bias=True, mlp_bias=True)).layers[0]
    qwen = known(Qwen2ForCausalLM(Qwen2Config(**SIZES))).layers[0]
    assert (plain.q.bias, plain.o.bias, plain.gate.bias) == (None, None, None)
    assert all(p.bias is not None for p in (biased.q, biased.o, biased.gate, biased.down))
    assert qwen.v.bias is not None
    assert qwen.o.bias is None


def test_norms_on_queries_and_keys_are_as_wide_as_a_head_or_as_all():
    of_each = known(Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8))).layers[0]
    of_all = known(Olmo2ForCausalLM(Olmo2Config(**SIZES))).layers[0]
    assert of_each.q_norm is not None
    assert of_each.q_norm.weight.shape == (8,)
    assert of_all.q_norm is not None
    assert of_all.k_norm is not None
    assert (of_all.q_norm.weight.shape, of_all.k_norm.weight.shape) == ((16,), (8,))
    assert known(llama()).layers[0].q_norm is None


def test_norms_stand_before_attention_and_mlp_or_after_them_or_both():
    def norms(model: nn.Module) -> list[bool]:
        layer = known(model).layers[0]
        return [norm is not None for norm in (layer.norm, layer.out_norm, layer.mlp_norm, layer.mlp_out_norm)]

    assert norms(llama()) == [True, False, True, False]
    assert norms(Olmo2ForCausalLM(Olmo2Config(**SIZES))) == [False, True, False, True]
    assert norms(gemma3()) == [True, True, True, True]


def test_gemmas_norms_embeddings_and_caps():
    blocks = known(gemma3(final_logit_softcapping=5.0))
    assert blocks.norm.offset == 1.0
    assert blocks.embedding_scale == 4.0
    assert (blocks.activation, blocks.score_cap, blocks.logit_cap) == ("gelu_tanh", None, 5.0)
    capped = known(Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=4, attn_logit_softcapping=7.0)))
    assert (capped.score_cap, capped.logit_cap) == (7.0, 30.0)
    assert (known(llama()).embedding_scale, known(llama()).norm.offset) == (1.0, 0.0)


def test_local_and_global_layers_have_windows_and_rotations_of_their_own():
    layers = known(gemma3(layer_types=["sliding_attention", "full_attention"], sliding_window=5)).layers
    assert [layer.window for layer in layers] == [5, None]
    local, everywhere = (layer.rotary(torch.zeros(1, 1, 16), torch.tensor([[9]]))[0] for layer in layers)
    assert not torch.equal(local, everywhere)


def test_layers_without_positions_turn_nothing():
    layers = known(SmolLM3ForCausalLM(SmolLM3Config(**SIZES, pad_token_id=0, no_rope_layers=[1, 0]))).layers
    assert [layer.rotary is None for layer in layers] == [False, True]


def test_fused_projections_are_read_as_views():
    model = Phi3ForCausalLM(Phi3Config(**SIZES, pad_token_id=0))
    layer, attention, mlp = known(model).layers[1], model.model.layers[1].self_attn, model.model.layers[1].mlp
    assert [len(p.weight) for p in (layer.q, layer.k, layer.v, layer.gate, layer.up)] == [16, 8, 8, 24, 24]
    assert layer.v.weight.data_ptr() == attention.qkv_proj.weight[24:].data_ptr()
    assert layer.up.weight.data_ptr() == mlp.gate_up_proj.weight[24:].data_ptr()


def test_granites_multipliers():
    blocks = known(
        GraniteForCausalLM(
            GraniteConfig(
                **SIZES, embedding_multiplier=12.0, attention_multiplier=0.5, residual_multiplier=0.22, logits_scaling=8
            )
        )
    )
    assert (blocks.embedding_scale, blocks.scaling, blocks.residual_scale, blocks.logit_divisor) == (12, 0.5, 0.22, 8)


def test_attention_that_looks_ahead_is_declined():
    assert declined(gemma3(use_bidirectional_attention=True)) == "attention looks ahead"


def test_sliding_windows_are_per_layer():
    mistral = known(MistralForCausalLM(MistralConfig(**SIZES, sliding_window=7)))
    qwen = known(Qwen2ForCausalLM(Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=5, max_window_layers=1)))
    assert [layer.window for layer in mistral.layers] == [7, 7]
    assert [layer.window for layer in qwen.layers] == [None, 5]
    assert [layer.window for layer in known(llama()).layers] == [None, None]


def test_another_architecture_is_declined_by_name():
    model = CohereForCausalLM(CohereConfig(**SIZES))
    assert declined(model) == f"model_type 'cohere' is none of {', '.join(FAST_FAMILIES)}"


def test_what_is_not_a_language_model_is_declined():
    assert "model_type None" in declined(nn.Linear(2, 2))


def test_a_subclass_is_declined():
    class Changed(LlamaForCausalLM):
        pass

    assert "Changed stands where transformers' LlamaForCausalLM is known" in declined(Changed(LlamaConfig(**SIZES)))


def test_an_adapted_projection_is_declined():
    class Adapted(nn.Linear):
        pass

    model = llama()
    model.model.layers[1].self_attn.v_proj = Adapted(16, 8)
    assert declined(model) == "a projection is a Adapted, not a plain nn.Linear"


def test_another_activation_is_declined():
    assert "'gelu'" in declined(llama(hidden_act="gelu"))


@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook"])
def test_a_hook_is_declined_while_it_is_there(kind):
    model = llama()
    handle = getattr(model.model.layers[0].mlp, kind)(lambda *_: None)
    assert declined(model) == "model.layers.0.mlp carries a forward hook or a patched forward"
    handle.remove()
    known(model)


def test_a_patched_forward_is_declined():
    model = llama()
    norm = model.model.norm
    norm.forward = lambda x: x
    assert "model.norm carries a forward hook or a patched forward" in declined(model)


def test_weights_that_lie_nowhere_are_declined():
    with torch.device("meta"):
        model = llama()
    assert declined(model) == "the weights lie on meta, not on one device"


@pytest.mark.numerics
def test_rotations_are_read_from_the_models_own_module():
    scaled = llama(rope_parameters={"rope_type": "linear", "rope_theta": 100.0, "factor": 4.0})
    positions = torch.tensor([[8]])
    x = torch.zeros(1, 1, 16)
    there = known(scaled).layers[0].rotary(x, positions)[0]
    plain = known(llama(rope_parameters={"rope_type": "default", "rope_theta": 100.0})).layers[0]
    assert torch.allclose(there, plain.rotary(x, positions // 4)[0])
