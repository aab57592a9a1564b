"""Models whose cache is no plain one, whose padding is seen, or whose positions turn over: against plain loops."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tolerances import DoubleThroughout, assert_near, rounding, terms

from tuneshift.checkpoints.decoding import greedy_responses
from tuneshift.checkpoints.loading import Checkpoint
from tuneshift.checkpoints.model_cache import Decoding, decoding, keeps_rows, switches_at
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.checkpoints.scoring import response_logprobs
from tuneshift.measures.attribution.backend import choose_backend

VOCAB, CONTEXT = 120, 96
TINY = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": None,
}  # fmt: skip
LONGROPE = {
    "original_max_position_embeddings": 16,
    "rope_parameters": {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4,
        "original_max_position_embeddings": 16, "partial_rotary_factor": 1.0,
    },
}  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "lfm2": ("lfm2", {"layer_types": ["conv", "full_attention"]}),
    "mamba": ("mamba", {}),
    "recurrent_gemma": ("recurrent_gemma", {"lru_width": 32, "attention_window_size": 8,
                                            "block_types": ["recurrent", "attention"]}),
    "minimax": ("minimax", {"num_local_experts": 4, "layer_types": ["linear_attention", "full_attention"],
                            "head_dim": 8, "block_size": 8}),
    "qwen3_next": ("qwen3_next", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
                                  "shared_expert_intermediate_size": 16, "head_dim": 16,
                                  "layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 8,
                                  "linear_value_head_dim": 8, "linear_num_key_heads": 2,
                                  "linear_num_value_heads": 4}),
    "falcon_h1": ("falcon_h1", {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8,
                                "head_dim": 8}),
    "longrope": ("phi3", LONGROPE),
    "longrope llama": ("llama", {**LONGROPE, "max_position_embeddings": CONTEXT}),
}  # fmt: skip
WAYS = {
    "llama": Decoding(batched=True, cached=True),
    "lfm2": Decoding(batched=True, cached=True),
    "mamba": Decoding(batched=True, cached=True),
    "recurrent_gemma": Decoding(batched=False, cached=True),  # its padding is seen
    "minimax": Decoding(batched=False, cached=True),  # likewise
}


def make(name: str) -> Checkpoint:
    kind, options = KINDS[name]
    config = transformers.AutoConfig.for_model(kind, **{**TINY, **options})
    config._experts_implementation = "eager"  # grouped matrix products exist in single precision alone
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    return checkpoint(model.float())


def rounded(model: Any) -> dict[str, Any]:
    """What sums of at most 25 log-probabilities of a model are made of, and the precision it has."""
    return {"terms": terms(model, CONTEXT) + 25, "dtype": next(model.parameters()).dtype}


def checkpoint(model: Any) -> Checkpoint:
    class Tokens:
        pad_token_id, eos_token_id = 0, None

        def decode(self, ids: list[int], **options: object) -> str:
            return " ".join(map(str, ids))

    return Checkpoint(
        ref=ModelRef(name="it", model="it"), model=model, tokenizer=Tokens(), device=torch.device("cpu"),
        dtype="float32", context_length=CONTEXT, parameters=1,
    )  # fmt: skip


def naive_logprob(model: Any, context: np.ndarray, response: np.ndarray) -> float:
    """One row, one whole pass, no cache, no padding. Learned tokens before the text come first in the logits."""
    given = torch.tensor([[*context, *response[:-1]]])
    logits = model(given, use_cache=False).logits[0, -given.shape[1] :].double().log_softmax(-1)
    return float(sum(logits[len(context) - 1 + i, token] for i, token in enumerate(response)))


def naive_response(model: Any, prompt: np.ndarray, count: int) -> list[int]:
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def asked() -> list[tuple[np.ndarray, list[np.ndarray]]]:
    generator = np.random.default_rng(0)
    lengths = ((3, (1, 4, 25)), (9, (1, 4)), (17, (3, 12)), (30, (1, 20)))
    return [
        (generator.integers(5, VOCAB, n), [generator.integers(5, VOCAB, m) for m in responses])
        for n, responses in lengths
    ]


@pytest.mark.numerics
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", KINDS)
def test_likelihoods_are_those_of_whole_passes_alone_and_in_any_batch(name):
    made, requests = make(name), asked()
    expected = [[naive_logprob(made.model, c, r) for r in responses] for c, responses in requests]
    for batch_tokens in (None, 40):
        found = response_logprobs(made, requests, batch_tokens=batch_tokens)
        for sums, values in zip(found, expected, strict=True):
            assert_near(sums, values, **rounded(made.model))
    for request, values in zip(requests, expected, strict=True):
        assert_near(response_logprobs(made, [request])[0], values, **rounded(made.model))


@pytest.mark.numerics
@pytest.mark.parametrize("name", KINDS)
def test_likelihoods_in_single_precision_are_off_by_rounding_alone(name):
    single, requests = make(name), asked()
    found = response_logprobs(single, requests)
    exact = copy.deepcopy(single.model).double()
    with DoubleThroughout():
        expected = [[naive_logprob(exact, c, r) for r in responses] for c, responses in requests]
    for sums, values in zip(found, expected, strict=True):
        assert_near(sums, values, **rounded(single.model))


@pytest.mark.parametrize("name", KINDS)
def test_responses_are_those_of_whole_passes_alone_and_in_a_batch(name):
    made = make(name)
    prompts = [context for context, _ in asked()]
    expected = [naive_response(made.model, prompt, 14) for prompt in prompts]
    assert len({tuple(ids) for ids in expected}) == len(prompts)
    found = greedy_responses(made, prompts, max_new_tokens=14)
    assert [response.ids.tolist() for response in found] == expected
    assert [greedy_responses(made, [p], max_new_tokens=14)[0].ids.tolist() for p in prompts] == expected


@pytest.mark.numerics
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", ["lfm2", "recurrent_gemma", "longrope", "longrope llama"])
def test_attributions_are_those_of_whole_passes(name):
    model = make(name).model
    prompt, response = torch.arange(5, 14), torch.arange(40, 58)  # to both sides of where LongRoPE turns over
    text = torch.cat([prompt, response])[None]
    embeds = model.get_input_embeddings()(text).detach()
    leaf = embeds[:, :-1].clone().requires_grad_(True)
    logits = model(inputs_embeds=leaf, use_cache=False).logits[0]
    expected = torch.zeros(len(prompt), len(response), dtype=leaf.dtype)
    for m, token in enumerate(response):
        p = logits[len(prompt) - 1 + m].softmax(-1)[token]
        (gradient,) = torch.autograd.grad(p, leaf, retain_graph=True)
        expected[:, m] = (gradient[0, : len(prompt)] * embeds[0, : len(prompt)]).sum(-1)
    found = choose_backend(model)(prompt, response)
    assert float((found - expected).norm() / expected.norm()) < rounding(terms(model, CONTEXT, passes=3), found.dtype)


@pytest.mark.parametrize("name", WAYS)
def test_how_a_model_decodes_is_found_by_asking_it(name):
    assert decoding(make(name).model) == WAYS[name]
    assert keeps_rows(make(name).model) is (name == "llama")


def test_a_cache_that_gives_other_numbers_is_not_used():
    made = make("lfm2")
    honest = made.model.forward

    def forward(*given: Any, past_key_values: Any = None, **options: Any) -> Any:
        out = honest(*given, past_key_values=past_key_values, **options)
        if past_key_values is not None and past_key_values.get_seq_length() > 9:
            out.logits = out.logits.roll(1, dims=-1)
        return out

    made.model.forward = forward
    assert decoding(made.model) == Decoding(batched=False, cached=False)


def test_where_rotations_turn_over_is_read_from_the_configuration():
    assert [switches_at(make(name).model) for name in ("longrope", "longrope llama", "llama")] == [16, 16, None]


# Prompt-learning adapters

KINDS_OF_ADAPTER = {
    "PROMPT_TUNING": ("PromptTuningConfig", {}),
    "PREFIX_TUNING": ("PrefixTuningConfig", {}),
    "P_TUNING": ("PromptEncoderConfig", {"encoder_hidden_size": 16}),
}


@pytest.mark.numerics
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("kind", KINDS_OF_ADAPTER)
def test_learned_tokens_before_the_text_are_taken_as_peft_takes_them(kind):
    peft = pytest.importorskip("peft")
    name, options = KINDS_OF_ADAPTER[kind]
    config = getattr(peft, name)(task_type="CAUSAL_LM", num_virtual_tokens=5, **options)
    torch.manual_seed(1)
    model = peft.get_peft_model(make("llama").model, config)
    for parameter_name, parameter in model.named_parameters():
        if "prompt" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.5)
    made, requests = checkpoint(model.eval().requires_grad_(False).float()), asked()
    assert made.decoding == Decoding(batched=False, cached=True)  # padding would stand between them and the text
    expected = [[naive_logprob(model, c, r) for r in responses] for c, responses in requests]
    for sums, values in zip(response_logprobs(made, requests), expected, strict=True):
        assert_near(sums, values, **rounded(model))
    prompts = [context for context, _ in requests]
    found = greedy_responses(made, prompts, max_new_tokens=14)
    assert [response.ids.tolist() for response in found] == [naive_response(model, p, 14) for p in prompts]
