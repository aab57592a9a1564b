"""Every architecture's named tensors against the model's own forward pass."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from tuneshift.checkpoints.weight_maps import (
    attends,
    attention_map,
    down_projection,
    input_embedding,
    n_layers,
    output_embedding,
)
from tuneshift.errors import MeasureError, NotMeasurableError

VOCAB, WIDTH = 40, 16
ROTARY = {"hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = {**ROTARY, "num_key_value_heads": 2}
WIDE_HEAD = {**GROUPED, "head_dim": 8}
OLD = {"n_embd": WIDTH, "n_layer": 2, "n_head": 4}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}

# name of the case -> model_type, config; grouped queries and heads wider than d_model / n_heads wherever a family can.
CASES = {
    "llama": ("llama", GROUPED),
    "mistral": ("mistral", WIDE_HEAD),
    "qwen2": ("qwen2", GROUPED),
    "qwen3": ("qwen3", WIDE_HEAD),
    "gemma": ("gemma", WIDE_HEAD),
    "gemma2": ("gemma2", WIDE_HEAD),
    "gemma3_text": ("gemma3_text", WIDE_HEAD),
    "cohere": ("cohere", GROUPED),
    "granite": ("granite", GROUPED),
    "olmo": ("olmo", GROUPED),
    "olmo2": ("olmo2", GROUPED),
    "olmo3": ("olmo3", GROUPED),
    "smollm3": ("smollm3", {**GROUPED, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}),
    "stablelm": ("stablelm", {**GROUPED, "partial_rotary_factor": 0.5}),
    "starcoder2": ("starcoder2", GROUPED),
    "phi": ("phi", GROUPED),
    "phi3": ("phi3", {**GROUPED, "pad_token_id": 0}),
    "opt": ("opt", {"hidden_size": WIDTH, "word_embed_proj_dim": WIDTH, "ffn_dim": 24, "num_hidden_layers": 2,
                    "num_attention_heads": 4}),
    "gpt2": ("gpt2", OLD),
    "gptj": ("gptj", {**OLD, "rotary_dim": 4}),
    "gpt_neo": ("gpt_neo", {"hidden_size": WIDTH, "num_layers": 2, "num_heads": 4,
                            "attention_types": [[["global", "local"], 1]]}),
    "gpt_bigcode": ("gpt_bigcode", OLD),
    "gpt_bigcode, a key per head": ("gpt_bigcode", {**OLD, "multi_query": False}),
    "gpt_neox": ("gpt_neox", ROTARY),
    "bloom": ("bloom", {"hidden_size": WIDTH, "n_layer": 2, "n_head": 4}),
    "falcon": ("falcon", {**ROTARY, "multi_query": True, "new_decoder_architecture": False}),
    "falcon, a key per head": ("falcon", {**ROTARY, "multi_query": False, "new_decoder_architecture": False}),
    "falcon, grouped": ("falcon", {**ROTARY, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "mpt": ("mpt", {"d_model": WIDTH, "n_layers": 2, "n_heads": 4}),
    "qwen3_5_text": ("qwen3_5_text", {**WIDE_HEAD, "layer_types": ["full_attention"] * 2}),
    "lfm2": ("lfm2", {**GROUPED, "layer_types": ["full_attention"] * 2, "block_auto_adjust_ff_dim": False}),
    "mixtral": ("mixtral", {**GROUPED, "num_local_experts": 4}),
    "olmoe": ("olmoe", {**GROUPED, **EXPERTS}),
    "qwen2_moe": ("qwen2_moe", {**GROUPED, **EXPERTS, "shared_expert_intermediate_size": 8}),
    "qwen3_moe": ("qwen3_moe", {**GROUPED, **EXPERTS}),
}  # fmt: skip
MOE = ("mixtral", "olmoe", "qwen2_moe", "qwen3_moe")
TOKENS = torch.arange(5) + 7


def AGAINST_ITSELF(test):
    """A model's own pass beside its named tensors: in double precision, where assert_close's own tolerance, 1e-7, is a
    million roundings of what these models sum."""
    return pytest.mark.numerics(pytest.mark.usefixtures("double")(test))


def make(case):
    kind, options = CASES[case]
    config = AutoConfig.for_model(kind, vocab_size=VOCAB, **options)
    config._experts_implementation = "eager"  # grouped matrix products exist in single precision alone
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    # Norms start as ones and biases as zeros, which would hide a scale or a bias that is left out.
    for parameter in model.parameters():
        parameter.normal_(0.3, 0.5)
    return model.float()


def forward_pass(model, monkeypatch):
    """Per layer what its forward pass on single tokens did: inputs, queries and keys, linear maps, the first norm.

    At position 0 every rotation is the identity, so queries and keys are seen as they were projected. Attention is
    caught where it multiplies them, below any architecture's own way of splitting heads.
    """
    rows, now = [], {}

    def start(module, args, kwargs):
        now.clear()
        now.update(layer=args[0] if args else kwargs["hidden_states"], linear=[])

    def attention_input(module, args, kwargs):
        # GPT-Neo wraps its attention in another; the inner one comes last and has the same input.
        now["attention"] = (module, args[0] if args else kwargs["hidden_states"])

    for index in range(2):
        layer = next(m for n, m in model.named_modules() if re.search(rf"(layers|h|blocks)\.{index}$", n))
        layer.register_forward_pre_hook(start, with_kwargs=True)
        layer.register_forward_hook(lambda *_: rows.append(dict(now)))
        for module in layer.modules():
            kind = type(module).__name__
            if kind.endswith("Attention"):
                module.register_forward_pre_hook(attention_input, with_kwargs=True)
            elif kind.endswith("Norm"):
                module.register_forward_hook(lambda m, *_: now.update(norm=now.get("norm", m)))
            elif kind.endswith(("Linear", "Conv1D")):
                module.register_forward_hook(lambda m, args, out: now["linear"].append((m, args[0], out.clone())))

    def catch(owner, name, read):
        real = getattr(owner, name)

        def caught(*args, **kwargs):
            found = read(*args, **kwargs)
            if found is not None and "linear" in now and "q" not in now:
                now["q"], now["k"] = found
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, caught)

    catch(nn.functional, "scaled_dot_product_attention", lambda q, k, *_, **__: (q, k))
    catch(torch, "matmul", lambda q, k: (q, k.transpose(-1, -2)) if q.dim() == 4 else None)
    catch(torch.Tensor, "baddbmm", lambda _, **o: (o["batch1"], o["batch2"].transpose(-1, -2)))
    model(input_ids=TOKENS[:, None], use_cache=False)
    return rows


def projected(weight, x, norm):
    """Activations [token, head, d_head] of a map on inputs [token, d_model], through the query or key norm if any."""
    found = torch.einsum("hdm,tm->thd", weight, x)
    if norm is None:
        return found
    per_head = norm.weight.shape[-1] == found.shape[-1]
    return norm(found) if per_head else norm(found.flatten(1)).view_as(found)


@AGAINST_ITSELF
@pytest.mark.parametrize("case", CASES)
def test_queries_and_keys_are_the_models_own(case, monkeypatch):
    model = make(case)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") and re.search(r"attn\.|attention\.|Attention\.", name):
            parameter.zero_()
    rows = forward_pass(model, monkeypatch)
    maps = [attention_map(model, i) for i in range(n_layers(model))]
    assert len(maps) == len(rows) == n_layers(model) == 2
    for found, row in zip(maps, rows, strict=True):
        module, x = row["attention"]
        x = x.reshape(len(TOKENS), WIDTH)
        assert found.q.shape[0] == 4
        norms = (getattr(module, f"{side}_norm", getattr(module, f"{side}_layernorm", None)) for side in "qk")
        q, k = (projected(part, x, norm) for part, norm in zip((found.q, found.k), norms, strict=True))
        if case == "opt":
            q = q * module.scaling
        group = 4 // found.k.shape[0]
        assert (group > 1) == grouped(case), "the case is there for its grouped queries"
        torch.testing.assert_close(row["q"].reshape(q.shape), q)
        seen = row["k"].reshape(len(TOKENS), -1, k.shape[-1])
        repeated = k.repeat_interleave(seen.shape[1] // k.shape[1], dim=1)
        torch.testing.assert_close(seen, repeated)


def grouped(case):
    return CASES[case][1].get("num_key_value_heads") == 2 or case in ("gpt_bigcode", "falcon", "falcon, grouped")


@AGAINST_ITSELF
@pytest.mark.parametrize("case", CASES)
def test_the_norms_scale_is_what_stands_before_attention(case, monkeypatch):
    model = make(case)
    rows = forward_pass(model, monkeypatch)
    for found, row in zip([attention_map(model, i) for i in range(n_layers(model))], rows, strict=True):
        h, x = (t.reshape(len(TOKENS), WIDTH) for t in (row["layer"], row["attention"][1]))
        assert found.norm.shape == (WIDTH,)
        if case in ("olmo2", "olmo3"):
            torch.testing.assert_close(x, h)
            assert torch.equal(found.norm, torch.ones(WIDTH))
            assert "no norm before attention" in found.note
            continue
        rms = "RMS" in type(row["norm"]).__name__
        h = h if rms else h - h.mean(dim=-1, keepdim=True)
        shift = getattr(row["norm"], "bias", None)
        norm = row["norm"]
        small = getattr(norm, "eps", getattr(norm, "variance_epsilon", 1e-5))  # OLMo's is a constant in its code
        size = (h.pow(2).mean(dim=-1, keepdim=True) + small).sqrt()
        torch.testing.assert_close(x, h / size * found.norm + (0 if shift is None else shift))
        assert ("has no weight" in found.note) == (case == "olmo")


@AGAINST_ITSELF
@pytest.mark.parametrize("case", [c for c in CASES if c not in MOE])
def test_down_projections_are_the_last_maps_of_the_models_mlp(case, monkeypatch):
    model = make(case)
    rows = forward_pass(model, monkeypatch)
    for found, row in zip([down_projection(model, i) for i in range(n_layers(model))], rows, strict=True):
        # Attention's output map also ends at d_model, so the MLP's last is the last that runs, wide input to d_model.
        module, given, out = [c for c in row["linear"] if c[1].shape[-1] != WIDTH and c[2].shape[-1] == WIDTH][-1]
        shift = getattr(module, "bias", None)
        assert found.shape[0] == WIDTH != found.shape[1]
        torch.testing.assert_close(out, given @ found.T + (0 if shift is None else shift))


@pytest.mark.parametrize(
    ("kind", "other", "options"),
    [
        ("lfm2", "conv", {}),
        ("qwen3_5_text", "linear_attention", {"head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 2,
                                              "linear_key_head_dim": 8, "linear_value_head_dim": 8}),
    ],
)  # fmt: skip
def test_a_hybrid_models_layers_without_attention_are_known_and_have_a_down_projection(kind, other, options):
    config = AutoConfig.for_model(kind, vocab_size=VOCAB, **GROUPED, layer_types=[other, "full_attention"], **options)
    model = AutoModelForCausalLM.from_config(config)
    assert [attends(model, index) for index in range(2)] == [False, True]
    assert attention_map(model, 1).q.shape[0] == 4
    with pytest.raises(NotMeasurableError, match=r"layer 0 of .* has no attention"):
        attention_map(model, 0)
    assert [down_projection(model, index).shape[0] for index in range(2)] == [WIDTH, WIDTH]


@pytest.mark.parametrize("case", MOE)
def test_a_mixture_of_experts_has_no_one_down_projection(case):
    with pytest.raises(NotMeasurableError, match="is a mixture of experts: layer 0 has no one down-projection"):
        down_projection(make(case), 0)


@pytest.mark.parametrize("case", ["llama", "gpt2", "gpt_neox", "falcon", "phi3"])
def test_the_maps_share_the_models_memory(case):
    model = make(case)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found = attention_map(model, 1)
    for tensor in (found.q, found.k, found.norm, down_projection(model, 0), output_embedding(model)):
        assert tensor.untyped_storage().data_ptr() in own
        assert not tensor.requires_grad


def test_embeddings_tied_and_not():
    tied, apart = make("gpt2"), make("llama")
    assert torch.equal(input_embedding(tied), output_embedding(tied))
    assert not torch.equal(input_embedding(apart), output_embedding(apart))
    assert output_embedding(apart).shape == (VOCAB, WIDTH)


def test_gemma3_with_a_vision_tower_is_read_through_its_text_model():
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 14, "patch_size": 14}  # fmt: skip
    config = AutoConfig.for_model("gemma3", text_config={**WIDE_HEAD, "vocab_size": VOCAB}, vision_config=vision)
    model = AutoModelForCausalLM.from_config(config)
    attention = model.model.language_model.layers[1].self_attn
    assert torch.equal(attention_map(model, 1).q.flatten(0, 1), attention.q_proj.weight)
    assert input_embedding(model).shape == (VOCAB, WIDTH)


def test_a_post_norm_opt_has_a_scale_of_ones_and_no_embedding_of_its_residual_stream():
    config = AutoConfig.for_model("opt", vocab_size=VOCAB, **{**CASES["opt"][1], "word_embed_proj_dim": 8},
                                  do_layer_norm_before=False)  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        model.model.decoder.layers[0].self_attn_layer_norm.weight.fill_(3.0)
    found = attention_map(model, 0)
    assert torch.equal(found.norm, torch.ones(WIDTH))
    assert "no norm before attention" in found.note
    for embedding in (input_embedding, output_embedding):
        with pytest.raises(MeasureError, match="has 8 dimensions and its layers 16: a map stands between"):
            embedding(model)


def test_bad_models_are_named():
    config = AutoConfig.for_model("mamba", vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=1, state_size=4)
    unknown = AutoModelForCausalLM.from_config(config)
    with pytest.raises(
        NotMeasurableError, match=r"MambaForCausalLM cannot be named: model_type 'mamba' .*llama.*report it"
    ):
        n_layers(unknown)
    with pytest.raises(IndexError, match="has layers 0 to 1; got 2"):
        attention_map(make("llama"), 2)

    renamed = make("llama")
    renamed.model.layers[0].self_attn, renamed.model.layers[0].attn = None, renamed.model.layers[0].self_attn
    with pytest.raises(MeasureError, match="has no 'self_attn' in its LlamaDecoderLayer"):
        attention_map(renamed, 0)

    reshaped = make("llama")
    reshaped.config.hidden_size = 24
    with pytest.raises(MeasureError, match=r"query map of shape \(4, 4, 16\).*config says 4 heads and d_model 24"):
        attention_map(reshaped, 0)

    quantised = make("llama")
    projection = quantised.model.layers[0].self_attn.q_proj
    projection.weight = nn.Parameter(torch.zeros(16, 16, dtype=torch.int8), requires_grad=False)
    with pytest.raises(MeasureError, match="Linear of LlamaAttention holds no plain weights, of which"):
        attention_map(quantised, 0)

    offloaded = make("llama")
    offloaded.model.layers[1].mlp.to("meta")
    with pytest.raises(MeasureError, match="is offloaded"):
        down_projection(offloaded, 1)
