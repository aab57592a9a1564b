"""Exact attribution: both paths against a naive double-precision loop, theorems, choice of path, memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tolerances import DoubleThroughout, likely_rounding, rounding, terms
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    Olmo3Config,
    Olmo3ForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from tuneshift.checkpoints.llama import FAST_FAMILIES
from tuneshift.errors import MeasureError
from tuneshift.measures.attribution import backend as attribution
from tuneshift.measures.attribution import generic as attribution_generic
from tuneshift.measures.attribution import llama_forward
from tuneshift.measures.attribution.backend import GenericBackend, LlamaBackend, choose_backend, importance
from tuneshift.measures.attribution.density import importance_levels, sparse_levels
from tuneshift.measures.attribution.generic import log_probability_cotangents

pytestmark = pytest.mark.numerics

VOCAB = 99
SIZES = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = {**SIZES, "intermediate_size": 48, "num_key_value_heads": 2, "initializer_range": 0.3}
GEMMA = {
    **LLAMA, "num_hidden_layers": 3, "head_dim": 12, "sliding_window": 6, "hidden_activation": "gelu_pytorch_tanh",
}  # fmt: skip
LOCAL_AND_GLOBAL = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    "full_attention": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 3.0},
}

FAST: dict[str, Callable[[], Any]] = {
    "llama-gqa": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA)),
    "llama-mha-bias-tied": lambda: LlamaForCausalLM(
        LlamaConfig(**{**LLAMA, "num_key_value_heads": 4}, attention_bias=True, mlp_bias=True, tie_word_embeddings=True)
    ),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**LLAMA, sliding_window=None)),
    "mistral-window": lambda: MistralForCausalLM(MistralConfig(**LLAMA, sliding_window=6)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**LLAMA)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**LLAMA, head_dim=8)),
    # Heads wider than d_model / heads, local layers and global ones, caps that some scores and logits come near.
    "gemma2": lambda: Gemma2ForCausalLM(
        Gemma2Config(
            **GEMMA,
            query_pre_attn_scalar=12,
            attn_logit_softcapping=2.0,
            final_logit_softcapping=3.0,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        )
    ),
    "gemma2-untied-uncapped": lambda: Gemma2ForCausalLM(
        Gemma2Config(
            **GEMMA,
            tie_word_embeddings=False,
            attn_logit_softcapping=None,
            final_logit_softcapping=None,
            attention_bias=True,
        )
    ),
    "gemma3": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(
            **GEMMA,
            query_pre_attn_scalar=12,
            rope_parameters=LOCAL_AND_GLOBAL,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        )
    ),
    "gemma3-untied-capped": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(
            **GEMMA,
            tie_word_embeddings=False,
            final_logit_softcapping=3.0,
            rope_parameters=LOCAL_AND_GLOBAL,
            layer_types=["full_attention", "sliding_attention", "full_attention"],
        )
    ),
    "olmo2": lambda: Olmo2ForCausalLM(Olmo2Config(**LLAMA, tie_word_embeddings=False)),
    "olmo2-tied-bias": lambda: Olmo2ForCausalLM(Olmo2Config(**LLAMA, tie_word_embeddings=True, attention_bias=True)),
    "olmo3": lambda: Olmo3ForCausalLM(
        Olmo3Config(**LLAMA, sliding_window=6, layer_types=["sliding_attention", "full_attention"])
    ),
    "phi3": lambda: Phi3ForCausalLM(Phi3Config(**LLAMA, pad_token_id=0)),
    "phi3-window-partly-turned-tied": lambda: Phi3ForCausalLM(
        Phi3Config(
            **LLAMA,
            pad_token_id=0,
            sliding_window=6,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5},
        )
    ),
    "smollm3": lambda: SmolLM3ForCausalLM(SmolLM3Config(**LLAMA, pad_token_id=0, no_rope_layers=[1, 0])),
    "smollm3-window-first-unturned": lambda: SmolLM3ForCausalLM(
        SmolLM3Config(
            **LLAMA,
            pad_token_id=0,
            no_rope_layers=[0, 1],
            use_sliding_window=True,
            sliding_window=6,
            layer_types=["sliding_attention", "full_attention"],
            tie_word_embeddings=False,
        )
    ),
    "granite": lambda: GraniteForCausalLM(
        GraniteConfig(
            **LLAMA, embedding_multiplier=3.0, attention_multiplier=0.3, residual_multiplier=0.4, logits_scaling=1.7
        )
    ),
}
OTHERS: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3)
    ),
    "gpt-neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, intermediate_size=48, initializer_range=0.3)),
    "opt": lambda: OPTForCausalLM(OPTConfig(**SIZES, ffn_dim=48, word_embed_proj_dim=32, init_std=0.3)),
}
SHAPES = [(9, 4), (4, 9), (6, 6), (1, 3), (5, 1), (12, 20)]
"""Prompt and response tokens: either longer, one alone, and several segments."""


def made(name: str) -> Any:
    torch.manual_seed(0)
    model = {**FAST, **OTHERS}[name]().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # norms start at 1 and biases at 0: then an error in them would not show
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def tokens(n: int, m: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(5, VOCAB, (n + m,), generator=generator)
    return drawn[:n], drawn[n:]


def naive(model: Any, prompt: Tensor, response: Tensor) -> Tensor:
    """The definition, for ``model.double()`` in double precision throughout: for each response token one backward pass
    to the prompt's embeddings."""
    model.set_attn_implementation("eager")
    ids = torch.cat([prompt, response])
    with DoubleThroughout():
        embeds = model.get_input_embeddings()(ids).detach().requires_grad_(True)
        probabilities = model(inputs_embeds=embeds[None], use_cache=False).logits[0].softmax(-1)
        assert probabilities.dtype == torch.float64
        columns = []
        for m, y in enumerate(response):
            (gradient,) = torch.autograd.grad(probabilities[len(prompt) - 1 + m, y], embeds, retain_graph=True)
            columns.append((gradient * embeds.detach())[: len(prompt)].sum(-1))
    return torch.stack(columns, dim=1)


def rounded(model: Any, n: int, m: int) -> float:
    """What float32 may move an attribution of a model by, of its norm: a derivative's roundings, of n + m positions."""
    return rounding(terms(model, n + m, passes=3))


def error(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("name", [*FAST, *OTHERS])
def test_the_generic_path_is_the_definition_on_every_architecture(name):
    model = made(name)
    backend = GenericBackend(model=model)
    found = [(backend(*tokens(n, m)), tokens(n, m)) for n, m in SHAPES]
    reference = made(name).double()
    for got, (prompt, response) in found:
        expected = naive(reference, prompt, response)
        assert got.shape == expected.shape
        assert error(got, expected) < rounded(model, len(prompt), len(response))


@pytest.mark.parametrize("name", ["llama-gqa", "gemma2", "granite"])
def test_a_head_that_works_in_pieces_gives_the_same(name, monkeypatch):
    model = made(name)
    whole = choose_backend(model)(*tokens(5, 11))
    monkeypatch.setattr(llama_forward, "LOGIT_BYTES", 3 * 4 * VOCAB)
    assert error(choose_backend(model)(*tokens(5, 11)), whole) < 2 * rounded(model, 5, 11)


@pytest.mark.parametrize("name", FAST)
def test_the_fast_path_is_chosen_and_is_the_definition(name):
    model = made(name)
    backend = choose_backend(model)
    assert backend.name == "llama", backend.reason
    found = [(backend(*tokens(n, m)), tokens(n, m)) for n, m in SHAPES]
    reference = made(name).double()
    for got, (prompt, response) in found:
        expected = naive(reference, prompt, response)
        assert error(got, expected) < rounded(model, len(prompt), len(response))
        # Sparse levels: where a window ends, importance is 0 or a rounding error, and ceil tells these apart.
        assert (
            sparse_levels(importance_levels(got.numpy())) == sparse_levels(importance_levels(expected.numpy()))
        ).all()


@pytest.mark.parametrize("name", OTHERS)
def test_other_architectures_take_the_generic_path_and_say_why(name):
    backend = choose_backend(made(name))
    assert backend.name == "generic"
    assert f"none of {', '.join(FAST_FAMILIES)}" in backend.reason


@pytest.mark.parametrize(
    "name", ["llama-gqa", "qwen3", "mistral-window", "gemma2", "gemma3", "olmo3", "smollm3", "granite"]
)
def test_batches_and_stored_tangents_do_not_change_the_numbers(name):
    model = made(name)
    prompt, response = tokens(11, 23)
    expected = naive(made(name).double(), prompt, response)
    backend = choose_backend(model)
    assert isinstance(backend, LlamaBackend)
    for rows, tangent_bytes in ((1, 2**30), (17, 2**30), (64, 4000), (4096, 0)):
        backend.rows, backend.tangent_bytes = rows, tangent_bytes
        assert error(backend(prompt, response), expected) < rounded(model, 11, 23)


SOME = [
    ((9, 4), [0, 3, 4, 8], [1, 3]),
    ((12, 40), [5, 6], [3, 20, 30]),
    ((40, 9), [20, 21, 39], [0, 8]),
    ((6, 6), [2], [2]),
]
"""Prompt and response tokens, and those of each that are asked for: at both ends and in gaps wider than a segment."""


@pytest.mark.parametrize("name", ["llama-gqa", "qwen3", "mistral-window", "gpt2", "gemma2", "gemma3", "granite"])
def test_some_prompt_and_response_tokens_alone_have_the_importance_that_they_have_among_all(name):
    model = made(name)
    backend = choose_backend(model)
    assert backend.saves_rows
    found = []
    for (n, m), rows, columns in SOME:
        asked = {"prompt_tokens": torch.tensor(rows), "response_tokens": torch.tensor(columns)}
        found += [(backend(*tokens(n, m), **{k: asked[k] for k in kept}), (n, m), kept, asked) for kept in
                  (("prompt_tokens",), ("response_tokens",), ("prompt_tokens", "response_tokens"))]  # fmt: skip
    reference = made(name).double()
    for got, (n, m), kept, asked in found:
        whole = naive(reference, *tokens(n, m))
        expected = whole[asked["prompt_tokens"]] if "prompt_tokens" in kept else whole
        expected = expected[:, asked["response_tokens"]] if "response_tokens" in kept else expected
        assert got.shape == expected.shape
        assert (got - expected).norm() < rounded(model, n, m) * whole.norm()  # a window leaves some of them nearly 0


def test_no_backward_pass_of_the_generic_path_reaches_what_comes_before_the_first_token_asked_for():
    backend = GenericBackend(model=made("gpt2"))
    prompt, response = tokens(40, 4)

    def flops(rows: Tensor | None) -> int:
        with FlopCounterMode(display=False) as counter:
            backend(prompt, response, prompt_tokens=rows)
        return int(counter.get_total_flops())

    # Backward passes over 10 of the prompt's 40 positions, and at most 4 of the response's: a third of the work of all,
    # but for the forward pass, which is less than two of the five.
    assert flops(torch.arange(30, 40)) < 0.55 * flops(None)
    backend.segmented = False
    assert flops(torch.arange(30, 40)) == flops(None)


def test_a_cut_has_the_fewest_passes_of_all():
    engine = choose_backend(made("llama-gqa"))
    assert isinstance(engine, LlamaBackend)
    cut = attribution.LlamaAttribution(engine.blocks, torch.float32).cut
    generator = torch.Generator().manual_seed(0)
    for n, m, rows, columns in (
        (9, 4, 9, 4),
        (4, 9, 4, 9),
        (60, 24, 20, 24),
        (30, 90, 30, 8),
        (12, 3, 1, 3),
        (5, 1, 2, 1),
    ):
        starts = torch.randperm(n, generator=generator)[:rows].sort().values.tolist()
        ends = (n + torch.randperm(m, generator=generator)[:columns].sort().values).tolist()
        passes = [sum(max(0, c - s) for s in starts) + sum(max(0, e - c) for e in ends) for c in range(n + m)]
        assert passes[cut(starts, ends, 2**40)] == min(passes)
        if (rows, columns) == (n, m):
            assert cut(starts, ends, 2**40) == m
        assert cut(starts, ends, 0) == starts[0]  # before the first there is no tangent to store


@pytest.mark.parametrize("name", ["llama-gqa", "gpt2"])
def test_later_response_tokens_do_not_reach_earlier_ones(name):
    model = made(name)
    prompt, response = tokens(6, 8)
    without, within = importance(model, prompt, response[:5]), importance(model, prompt, response)[:, :5]
    assert error(without, within) < 2 * rounded(model, 6, 8)  # each is off by as much


@pytest.mark.parametrize("name", ["llama-gqa", "qwen2", "gpt2"])
def test_a_token_whose_embedding_is_zero_has_no_importance(name):
    model = made(name)
    prompt, response = tokens(6, 5)
    with torch.no_grad():
        model.get_input_embeddings().weight[prompt[2]] = 0.0
    found = importance(model, prompt, response)
    assert (found[prompt == prompt[2]] == 0).all()
    assert found.abs().sum() > 0


def test_a_certain_model_loses_no_digits():
    """p(y) near 1: 1 - p(y) cancels in float32; summed from the others it does not."""
    logits = torch.tensor([[12.0, 0.0, -1.0, 0.5]])
    chosen = torch.tensor([0])
    exact = -logits.double().softmax(-1)
    exact[0, 0] += 1
    probability, cotangents = log_probability_cotangents(logits, chosen)
    # An exponential's argument, of up to 13, is rounded before it is taken; then four terms are summed.
    assert error(cotangents, exact) < rounding(13 + 4)
    assert error(probability, 1 - exact[:, 0]) < rounding(13 + 4)
    plain = 1 - logits.softmax(-1)[0, 0]
    assert abs(float(plain) / float(exact[0, 0]) - 1) > 10 * rounding(13 + 4)  # what the plain formula loses here


def test_a_fast_path_that_disagrees_is_warned_about_and_not_used(monkeypatch):
    model = made("llama-gqa")
    honest = attribution.LlamaAttribution.importance

    def wrong(self, *args, **options):
        return 1.01 * honest(self, *args, **options)

    monkeypatch.setattr(attribution.LlamaAttribution, "importance", wrong)
    with pytest.warns(UserWarning, match="LlamaForCausalLM: the fast path differs by 0.01 on a probe"):
        backend = choose_backend(model)
    assert backend.name == "generic"


def test_agreement_is_not_warned_about():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose_backend(made("llama-gqa")).name == "llama"


def test_a_model_whose_cache_stops_gradients_runs_in_one_piece(monkeypatch):
    model = made("gpt2")
    honest = attribution_generic.importance

    def importance_without_cache(model, prompt, response, *, segmented, **options):
        if segmented:
            raise RuntimeError("one of the differentiated tensors was not used in the graph")
        return honest(model, prompt, response, segmented=segmented, **options)

    monkeypatch.setattr(attribution_generic, "importance", importance_without_cache)
    backend = GenericBackend(model=model)
    assert not backend.segmented
    assert error(backend(*tokens(6, 9)), naive(made("gpt2").double(), *tokens(6, 9))) < rounded(model, 6, 9)


@pytest.mark.parametrize(
    "failure",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory"),
    ],
)
@pytest.mark.parametrize("name", ["llama-gqa", "gpt2"])
def test_batches_shrink_where_memory_runs_out_and_stay_small(monkeypatch, name, failure):
    model = made(name)
    backend = choose_backend(model)
    expected = naive(made(name).double(), *tokens(6, 9))
    attribute, size = ("rows", backend.rows) if name == "llama-gqa" else ("batch", backend.batch)
    owner = attribution.LlamaAttribution if name == "llama-gqa" else attribution_generic
    honest = owner.importance
    calls = []

    def short_of_memory(*args, **options):
        calls.append(options[attribute])
        if options[attribute] > size // 8:
            raise failure
        return honest(*args, **options)

    monkeypatch.setattr(owner, "importance", short_of_memory)
    assert error(backend(*tokens(6, 9)), expected) < rounded(model, 6, 9)
    assert calls == [size, size // 2, size // 4, size // 8]
    backend(*tokens(6, 9))
    assert calls[4:] == [size // 8]


def test_too_little_memory_for_one_derivative_is_a_clear_error(monkeypatch):
    backend = choose_backend(made("gpt2"))

    def never(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(attribution_generic, "importance", never)
    with pytest.raises(MeasureError, match="6 prompt and 9 response tokens"):
        backend(*tokens(6, 9))


def test_an_error_that_is_not_about_memory_is_not_swallowed(monkeypatch):
    backend = choose_backend(made("gpt2"))

    def broken(*args, **options):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(attribution_generic, "importance", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        backend(*tokens(6, 9))


def test_nan_derivatives_are_refused():
    model = made("llama-gqa")
    backend = choose_backend(model)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(MeasureError, match="NaN"):
        backend(*tokens(4, 4))


def test_empty_prompts_and_responses_are_refused():
    backend = choose_backend(made("gpt2"))
    empty = torch.zeros(0, dtype=torch.int64)
    for prompt, response in ((empty, tokens(1, 1)[0]), (tokens(1, 1)[0], empty)):
        with pytest.raises(ValueError, match="needs a prompt and a response"):
            backend(prompt, response)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_are_taken_and_cost_their_rounding(dtype):
    def calm() -> Any:
        model = made("llama-gqa")
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.5)
        return model

    exact = importance(calm(), *tokens(9, 6))
    half = importance(calm().to(dtype), *tokens(9, 6))
    assert 0 < error(half, exact) < likely_rounding(terms(calm(), 15, passes=3), dtype)
    # The forward pass is in float32: against the same rounded weights only the derivatives lose something.
    of_rounded_weights = importance(calm().to(dtype).float(), *tokens(9, 6))
    assert error(half, of_rounded_weights) < likely_rounding(terms(calm(), 15, passes=2), dtype)


def test_weights_and_training_mode_are_left_as_they_were():
    model = made("gpt2").train()
    GenericBackend(model=model)(*tokens(4, 4))
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["llama-gqa", "qwen3", "gemma2", "gemma3", "gpt2"])
def test_a_gpu_gives_the_same(name):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    expected = naive(made(name).double(), *tokens(9, 6))
    assert error(importance(made(name).cuda(), *tokens(9, 6)).cpu(), expected) < rounded(made(name), 9, 6)
