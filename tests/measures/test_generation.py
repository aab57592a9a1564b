"""Greedy responses equal a naive loop over single prompts, whatever the batch, the settings and the memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from tuneshift.checkpoints import decoding
from tuneshift.checkpoints.decoding import FIRST_BATCH, greedy_responses
from tuneshift.checkpoints.loading import Checkpoint, load
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.errors import MeasureError
from tuneshift.measures.adapter_rules import load_rules
from tuneshift.measures.generation import generation
from tuneshift.prompts.prompt import Prompt

CONTEXT = 48
VOCABULARY = 96
TINY = {"vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": CONTEXT}  # fmt: skip
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", TINY),
    "mistral": ("MistralForCausalLM", {**TINY, "num_key_value_heads": 1, "sliding_window": 8}),
    "qwen3": ("Qwen3ForCausalLM", {**TINY, "num_key_value_heads": 1, "head_dim": 8}),
    "gemma2": ("Gemma2ForCausalLM", {**TINY, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 8}),
    "gpt_neox": ("GPTNeoXForCausalLM", TINY),
    "opt": ("OPTForCausalLM", {**TINY, "ffn_dim": 32, "word_embed_proj_dim": 16}),
    "gpt2": ("GPT2LMHeadModel", {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 2,
                                 "n_positions": CONTEXT}),
}  # fmt: skip
PARAMETERS = {
    "llama": 8272,
    "mistral": 7760,
    "qwen3": 7792,
    "gemma2": 6288,
    "gpt_neox": 7552,
    "opt": 6816,
    "gpt2": 8896,
}


class Letters:
    """A tokenizer as far as generation needs one: ids 0 and 1 are special, the others print as characters."""

    pad_token_id: int | None = None
    eos_token_id: int | None = 1

    def decode(self, ids: Sequence[int], **options: object) -> str:
        assert options == {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return "".join(chr(31 + i) for i in ids if i > 1)


def make(family: str = "llama", seed: int = 0, **fields: Any) -> Checkpoint:
    """A random model whose responses vary: large weights, so that the highest logit stands out."""
    name, arguments = FAMILIES[family]
    config = transformers.AutoConfig.for_model(
        family, **{**arguments, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None, **fields}
    )
    torch.manual_seed(seed)
    model = getattr(transformers, name)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.4)
    assert model.num_parameters() == PARAMETERS[family]
    return Checkpoint(
        ref=ModelRef(name=family, model=family), model=model.eval().requires_grad_(False), tokenizer=Letters(),
        device=torch.device("cpu"), dtype="float32", context_length=CONTEXT, parameters=model.num_parameters(),
    )  # fmt: skip


def prompts(count: int = 9, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.integers(2, VOCABULARY, size=length) for length in generator.integers(1, 20, size=count)]


def naive(checkpoint: Checkpoint, prompt: np.ndarray, limit: int, ends: Sequence[int]) -> tuple[list[int], bool]:
    """One prompt, no cache, no padding: the whole text anew for every token."""
    ids = list(prompt)
    while len(ids) < min(len(prompt) + limit, checkpoint.context_length):
        token = int(checkpoint.model(torch.tensor([ids])).logits[0, -1].argmax())
        if token in ends:
            return ids[len(prompt) :], True
        ids.append(token)
    return ids[len(prompt) :], False


def found(responses: Sequence[Any]) -> list[tuple[list[int], bool]]:
    return [(r.ids.tolist(), r.ended) for r in responses]


@pytest.fixture(scope="module")
def llama() -> Iterator[Checkpoint]:
    return make()


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_answer_as_a_naive_loop_does(family: str):
    checkpoint, asked = make(family, eos_token_id=None), prompts()
    free = [naive(checkpoint, p, 12, [])[0] for p in asked]
    assert len({tuple(ids) for ids in free}) == len(asked)  # the responses vary, so a mix-up would show
    # A token in the midst of some responses, but not of all, becomes the end.
    end = next(t for ids in free for t in ids[3:] if t not in ids[:3] and any(t not in other for other in free))
    checkpoint.tokenizer.eos_token_id = end
    expected = [naive(checkpoint, p, 12, [end]) for p in asked]
    assert {ended for _, ended in expected} == {True, False}
    for size in (None, 1, 4):
        responses = greedy_responses(checkpoint, asked, max_new_tokens=12, batch_size=size)
        assert found(responses) == expected
        assert all(r.ids.dtype == np.int64 for r in responses)
        assert [r.text for r in responses] == ["".join(chr(31 + i) for i in ids if i > 1) for ids, _ in expected]


def test_order_and_repetition_of_prompts_do_not_matter(llama: Checkpoint):
    asked = prompts()
    once = greedy_responses(llama, asked, max_new_tokens=8)
    again = greedy_responses(llama, [*asked[::-1], *asked], max_new_tokens=8)
    assert found(again) == [*found(once)[::-1], *found(once)]


def test_responses_are_cut_where_the_context_ends(llama: Checkpoint):
    generator = np.random.default_rng(1)
    lengths = (3, CONTEXT - 1, CONTEXT - 2, CONTEXT - 5, 20, CONTEXT - 5)
    for checkpoint in (llama, make("gpt2"), make("opt")):  # rotary, learned and shifted learned positions
        asked = [generator.integers(2, VOCABULARY, size=n) for n in lengths]
        responses = greedy_responses(checkpoint, asked, max_new_tokens=10)
        assert found(responses) == [naive(checkpoint, p, 10, [1]) for p in asked]
        assert [len(r.ids) for r in responses if not r.ended] == [
            min(10, CONTEXT - n) for n, r in zip(lengths, responses, strict=True) if not r.ended
        ]


def test_a_processor_scores_the_rows_of_its_own_batch(llama: Checkpoint, monkeypatch: pytest.MonkeyPatch):
    asked, batches = prompts(9), []

    def favour(batch: list[int]) -> Any:
        """Makes prompt i answer with token 20 + i, whatever its logits are."""
        batches.append(batch)
        wanted = torch.tensor([20 + i for i in batch])
        return lambda ids, scores: scores.scatter(1, wanted[:, None], 1e4)

    expected = [([20 + i] * 3, False) for i in range(9)]
    for size in (None, 1, 4):
        batches.clear()
        assert found(greedy_responses(llama, asked, max_new_tokens=3, batch_size=size, processor=favour)) == expected
        assert sorted(i for batch in batches for i in batch) == list(range(9))
    generate = llama.model.generate

    def small(ids: torch.Tensor, **options: Any) -> Any:
        if len(ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(ids, **options)

    monkeypatch.setattr(llama.model, "generate", small)  # a batch that was halved asks for another processor
    assert found(greedy_responses(llama, asked, max_new_tokens=3, batch_size=8, processor=favour)) == expected


@pytest.mark.parametrize("length", [0, CONTEXT, CONTEXT + 3])
def test_prompts_without_room_are_refused(llama: Checkpoint, length: int):
    asked = [np.full(3, 5), np.full(length, 5)]
    with pytest.raises(ValueError, match=rf"prompt 1 has {length} tokens; accepted are 1 to {CONTEXT - 1}"):
        greedy_responses(llama, asked, max_new_tokens=2)


def test_limits_below_one_are_refused(llama: Checkpoint):
    with pytest.raises(ValueError, match="max_new_tokens must be at least 1, got 0"):
        greedy_responses(llama, prompts(1), max_new_tokens=0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        greedy_responses(llama, prompts(1), max_new_tokens=2, batch_size=0)


def test_no_prompts_have_no_responses(llama: Checkpoint):
    assert greedy_responses(llama, [], max_new_tokens=2) == []


def test_a_response_may_be_empty(llama: Checkpoint, monkeypatch: pytest.MonkeyPatch):
    [prompt] = prompts(1)
    first = naive(llama, prompt, 1, [])[0][0]
    monkeypatch.setattr(llama.tokenizer, "eos_token_id", first, raising=False)
    [response] = greedy_responses(llama, [prompt], max_new_tokens=4)
    assert (response.ids.tolist(), response.ended, response.text) == ([], True, "")


@pytest.mark.parametrize("where", ["generation list", "generation", "config", "tokenizer"])
def test_end_tokens_come_from_everywhere(where: str):
    checkpoint = make(eos_token_id=None)
    checkpoint.tokenizer.eos_token_id = None
    [prompt] = prompts(1)
    free = greedy_responses(checkpoint, [prompt], max_new_tokens=9)[0]
    assert len(free.ids) == 9
    assert not free.ended
    end = int(free.ids[4])
    owner, value = {
        "generation list": (checkpoint.model.generation_config, [0, end]),
        "generation": (checkpoint.model.generation_config, end),
        "config": (checkpoint.model.config, end),
        "tokenizer": (checkpoint.tokenizer, end),
    }[where]
    owner.eos_token_id = value
    [response] = greedy_responses(checkpoint, [prompt], max_new_tokens=9)
    assert found([response]) == [naive(checkpoint, prompt, 9, [end, 0])]
    assert response.ended


def test_generation_settings_of_the_checkpoint_do_not_leak_in():
    checkpoint, asked = make(), prompts(5)
    expected = [naive(checkpoint, p, 10, [1]) for p in asked]
    settings = transformers.GenerationConfig(
        do_sample=True, temperature=5.0, top_p=0.5, top_k=3, repetition_penalty=3.0, no_repeat_ngram_size=1,
        min_new_tokens=3, max_length=4, suppress_tokens=[int(expected[0][0][0])], forced_eos_token_id=1, num_beams=3,
        eos_token_id=1,
    )  # fmt: skip
    checkpoint.model.generation_config = settings
    assert found(greedy_responses(checkpoint, asked, max_new_tokens=10)) == expected
    assert checkpoint.model.generation_config is settings  # and is left as it was


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("MPS backend out of memory"),
    ],
)
def test_batches_halve_where_memory_runs_out(monkeypatch: pytest.MonkeyPatch, error: Exception):
    checkpoint, asked = make(), prompts(20)
    expected = found(greedy_responses(checkpoint, asked, max_new_tokens=6))
    sizes, generate = [], checkpoint.model.generate

    def small(ids: torch.Tensor, **options: Any) -> Any:
        sizes.append(len(ids))
        if len(ids) > 5:
            raise error
        return generate(ids, **options)

    monkeypatch.setattr(checkpoint.model, "generate", small)
    assert found(greedy_responses(checkpoint, asked, max_new_tokens=6)) == expected
    assert sizes == [FIRST_BATCH, 8, 4, 4, 4, 4, 4]
    assert checkpoint.computed["reduced"] == {"prompts decoded together": 4}


def test_a_prompt_that_exceeds_the_memory_alone_is_an_error(monkeypatch: pytest.MonkeyPatch):
    checkpoint = make()

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(checkpoint.model, "generate", full)
    with pytest.raises(MeasureError, match=r"A prompt of 7 tokens does not fit.*--shift-dtype=bfloat16"):
        greedy_responses(checkpoint, [np.full(7, 5)], max_new_tokens=6)


def test_other_errors_pass(monkeypatch: pytest.MonkeyPatch):
    checkpoint = make()

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("shapes disagree")

    monkeypatch.setattr(checkpoint.model, "generate", broken)
    with pytest.raises(RuntimeError, match="shapes disagree"):
        greedy_responses(checkpoint, prompts(1), max_new_tokens=6)


def test_a_padding_token_beyond_the_embedding_is_not_used(llama: Checkpoint, monkeypatch: pytest.MonkeyPatch):
    asked = prompts()
    expected = found(greedy_responses(llama, asked, max_new_tokens=4))
    monkeypatch.setattr(llama.tokenizer, "pad_token_id", VOCABULARY, raising=False)
    assert found(greedy_responses(llama, asked, max_new_tokens=4)) == expected


def test_a_saved_checkpoint_answers_alike_with_eager_and_sdpa_attention(tiny_base: Path):
    ref = ModelRef(name="tiny", model=str(tiny_base))
    answers = []
    for attention in ("eager", "sdpa"):
        with load(ref, device="cpu", attn_implementation=attention) as checkpoint:
            asked = [np.array(checkpoint.tokenizer(text)["input_ids"]) for text in ("Name a colour.", "Count: 1 2")]
            responses = greedy_responses(checkpoint, asked, max_new_tokens=20)
            assert found(responses) == [naive(checkpoint, p, 20, [0]) for p in asked]
            assert [r.text for r in responses] == [
                checkpoint.tokenizer.decode(r.ids, skip_special_tokens=True) for r in responses
            ]
            answers.append(found(responses))
    assert answers[0] == answers[1]


RULES = {"rules": asdict(load_rules("hewitt2024")), "present": "turn"}


@pytest.mark.parametrize("rules", [{}, RULES], ids=["plain", "rules"])
def test_a_second_measurement_takes_the_batches_that_its_key_names(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, rules: dict[str, Any]
):
    sizes, run = [], decoding._try_batch
    monkeypatch.setattr(
        decoding, "_try_batch", lambda c, asked, *rest, **way: sizes.append(len(asked)) or run(c, asked, *rest, **way)
    )
    units = [Prompt(id=str(i), prompt=f"Name {i:02}.", instruction_spans=((0, 4),)) for i in range(20)]
    with load(ModelRef(name="it", model=str(tiny_base)), device="cpu") as checkpoint:
        for batch, expected in (({}, [16, 4]), ({"batch": 0.5}, [8, 8, 4])):
            sizes.clear()
            take = generation(checkpoint, {"chat_template": None, "max_new_tokens": 2, **rules, **batch}, {})
            assert len(list(take(units, [None] * 20))) == 20
            assert sizes == expected
