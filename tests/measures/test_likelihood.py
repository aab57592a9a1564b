"""Likelihoods equal a naive loop and lm-eval's, whatever the batch and the chunk; what cannot be scored is said."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from tolerances import DoubleThroughout, assert_near, terms

from tuneshift.checkpoints import scoring
from tuneshift.checkpoints.loading import Checkpoint, load
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.checkpoints.scoring import response_logprobs
from tuneshift.errors import MeasureError, PromptError
from tuneshift.measures.draws import draws
from tuneshift.measures.likelihood import likelihood
from tuneshift.prompts.chat import bare_ids, end_token
from tuneshift.prompts.prompt import Prompt

pytestmark = pytest.mark.numerics

CONTEXT = 64
DOUBLE = pytest.mark.usefixtures("double")
"""For tests of what is scored: a wrong token, row or position shows ten orders of magnitude above rounding."""
TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
        "max_position_embeddings": CONTEXT}  # fmt: skip
FAMILIES = {
    "llama": ("LlamaForCausalLM", {**TINY, "num_key_value_heads": 1}),  # grouped queries
    "gpt2": ("GPT2LMHeadModel", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT}),
    "opt": ("OPTForCausalLM", {**TINY, "ffn_dim": 32, "word_embed_proj_dim": 16}),  # shifted learned positions
    "gemma2": ("Gemma2ForCausalLM", {**TINY, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 8}),
}
PARAMETERS = {"llama": 13008, "gpt2": 11776, "opt": 9696, "gemma2": 8912}
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'user' %}<u>{{ m.content }}</u>{% else %}<a>{{ m.content }}<end>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
WORDS = ("red", "a dark blue", "green", "black, or nearly", "white")
PROMPTS = tuple(
    Prompt(id=f"p{i}", prompt=f"Name colour {'x' * (3 * i)}{i}.", instruction_spans=((0, 4),), reference=word)
    for i, word in enumerate(WORDS)
)


@pytest.fixture(scope="module")
def tokenizer(make_checkpoint):
    """Bytes, with <end>, <u>, </u>, <a> as ids 0 to 3."""
    return transformers.AutoTokenizer.from_pretrained(make_checkpoint("tokens"))


def make(tokenizer, family="llama", seed=0) -> Checkpoint:
    """A random model with large weights, so that a mix-up of tokens, positions or rows shows."""
    name, arguments = FAMILIES[family]
    config = transformers.AutoConfig.for_model(
        family, **arguments, vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=0, pad_token_id=None
    )
    torch.manual_seed(seed)
    model = getattr(transformers, name)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.4)
    assert model.num_parameters() == PARAMETERS[family]
    return Checkpoint(
        ref=ModelRef(name=family, model=family), model=model.eval().requires_grad_(False).float(), tokenizer=tokenizer,
        device=torch.device("cpu"), dtype="float32", context_length=CONTEXT, parameters=model.num_parameters(),
    )  # fmt: skip


def naive(checkpoint, context, response) -> float:
    """One row, no cache, no padding, every position's full distribution."""
    ids = [*context, *response]
    logprobs = checkpoint.model(torch.tensor([ids[:-1] or ids])).logits[0].log_softmax(-1)
    return float(sum(logprobs[len(context) - 1 + i, token] for i, token in enumerate(response)))


def rounded(checkpoint):
    """What the sums of at most 13 log-probabilities of a checkpoint are made of, and the precision it has."""
    return {"terms": terms(checkpoint.model, CONTEXT) + 13, "dtype": next(checkpoint.model.parameters()).dtype}


def take(checkpoint, prompts=PROMPTS, *, population=PROMPTS, template=None, k=3, chunk=99):
    params = {"chat_template": template, "k": k, "seed": 0}
    taking = likelihood(
        checkpoint, params, {"population": [[p.id, p.prompt, p.reference, p.cluster] for p in population]}
    )
    chunks = [prompts[a : a + chunk] for a in range(0, len(prompts), chunk)]
    return {item.id: item for part in chunks for item in taking(part, [None] * len(part))}


def requests(seed=0):
    """Contexts of 1 to 40 tokens, with one to five responses of 0 to 12 tokens, the context's end included."""
    generator = np.random.default_rng(seed)
    found = [
        (generator.integers(4, 260, length), [generator.integers(4, 260, m) for m in generator.integers(1, 13, count)])
        for length, count in ((1, 3), (12, 1), (12, 5), (40, 2), (7, 4))
    ]
    to_the_end = (generator.integers(4, 260, CONTEXT - 4), [generator.integers(4, 260, m) for m in (5, 1, 0)])
    return [*found, to_the_end]


@DOUBLE
@pytest.mark.parametrize("template", [None, TEMPLATE], ids=["plain", "chat"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_likelihood_is_that_of_a_naive_loop(tokenizer, family, template):
    checkpoint = make(tokenizer, family)
    by_id = {p.id: p for p in PROMPTS}

    def ids(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    def context(prompt):
        return ids(prompt) if template is None else ids(f"<u>{prompt}</u><a>")

    def response(i):
        return [*ids(by_id[i].reference if template else f" {by_id[i].reference}"), 0]

    bare = [0] if template is None else ids("<u></u><a>")
    items = take(checkpoint, template=template)
    for prompt in PROMPTS:
        item = items[prompt.id]
        others = item.values["others"]
        assert len(set(others) - {prompt.id}) == 3
        everyone = (prompt.id, *others)
        expected = {
            "own": naive(checkpoint, context(prompt.prompt), response(prompt.id)),
            "others": [naive(checkpoint, context(prompt.prompt), response(j)) for j in others],
            "swapped": [naive(checkpoint, context(by_id[j].prompt), response(prompt.id)) for j in others],
            "unconditional": [naive(checkpoint, bare, response(j)) for j in everyone],
        }
        for name, values in expected.items():
            assert_near(item.arrays[name], values, **rounded(checkpoint))
            assert item.arrays[name].dtype == np.float64
            assert item.arrays[name].shape == np.shape(values)
        assert item.arrays["lengths"].tolist() == [len(response(j)) for j in everyone]
        assert item.values["ended"] is True
        assert item.values["end_token"] == "<end>"
        assert item.values["unfit"] == []


@DOUBLE
@pytest.mark.parametrize("family", FAMILIES)
def test_batches_do_not_matter(tokenizer, family):
    checkpoint = make(tokenizer, family)
    asked = requests()
    expected = [[naive(checkpoint, c, r) for r in responses] for c, responses in asked]
    assert expected[-1][-1] == 0  # an empty response
    for batch_tokens in (None, 1, 30, 150):
        found = response_logprobs(checkpoint, asked, batch_tokens=batch_tokens)
        for sums, values in zip(found, expected, strict=True):
            assert_near(sums, values, **rounded(checkpoint))


@pytest.mark.parametrize("family", FAMILIES)
def test_in_single_precision_a_likelihood_is_off_by_rounding_alone(tokenizer, family):
    single, asked = make(tokenizer, family), requests()
    found = response_logprobs(single, asked)
    exact = replace(single, model=copy.deepcopy(single.model).double())
    with DoubleThroughout():
        expected = [[naive(exact, c, r) for r in responses] for c, responses in asked]
    for sums, values in zip(found, expected, strict=True):
        assert_near(sums, values, **rounded(single))


@DOUBLE
def test_lm_eval_gives_the_same_for_the_same_tokens(tokenizer):
    huggingface = pytest.importorskip("lm_eval.models.huggingface")
    checkpoint = make(tokenizer)
    model = huggingface.HFLM(
        pretrained=checkpoint.model, tokenizer=tokenizer, batch_size=4, max_length=CONTEXT, device="cpu"
    )
    asked = [(context, [r for r in responses if len(r)]) for context, responses in requests()]
    flat = [(("", str(i)), c.tolist(), r.tolist()) for i, (c, rs) in enumerate(asked) for r in rs]
    peer = [score for score, _ in model._loglikelihood_tokens(flat, disable_tqdm=True)]
    assert_near(np.concatenate(response_logprobs(checkpoint, asked)), peer, **rounded(checkpoint))


@DOUBLE
def test_any_chunk_can_be_measured_alone(tokenizer):
    checkpoint = make(tokenizer)
    whole, single = take(checkpoint), take(checkpoint, PROMPTS[::-1], chunk=1)
    for i, item in whole.items():
        assert item.values == single[i].values
        for name, values in item.arrays.items():
            assert_near(values, single[i].arrays[name], **rounded(checkpoint))


def test_each_context_runs_once_in_a_chunk(tokenizer, monkeypatch):
    checkpoint = make(tokenizer)
    ran = []
    prefixes = scoring._prefixes
    monkeypatch.setattr(
        scoring, "_prefixes", lambda c, contexts: ran.extend(map(bytes, contexts)) or prefixes(c, contexts)
    )
    take(checkpoint, k=4)
    assert len(ran) == len(set(ran)) == len(PROMPTS) + 1


@DOUBLE
def test_a_batch_that_does_not_fit_the_memory_is_halved(tokenizer, monkeypatch):
    checkpoint, asked, run = make(tokenizer), requests(), scoring._batch
    budgets = []

    def short_of_memory(checkpoint, requests, budget):
        budgets.append(budget)
        if budget > 40:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return run(checkpoint, requests, budget)

    expected = response_logprobs(checkpoint, asked)
    monkeypatch.setattr(scoring, "_batch", short_of_memory)
    found = response_logprobs(checkpoint, asked, batch_tokens=256)
    assert budgets[:4] == [256, 128, 64, 32]
    assert set(budgets[4:]) == {32}  # never raised again
    for sums, values in zip(found, expected, strict=True):
        assert_near(sums, values, **rounded(checkpoint))


def test_memory_for_not_even_one_response_is_an_error(tokenizer, monkeypatch):
    def none_left(*_):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(scoring, "_batch", none_left)
    with pytest.raises(MeasureError, match="60 tokens with a response of up to 5 does not fit the memory of cpu"):
        response_logprobs(make(tokenizer), requests())
    monkeypatch.setattr(scoring, "_batch", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # other errors pass
        response_logprobs(make(tokenizer), requests())


def test_requests_that_do_not_fit_are_refused(tokenizer):
    checkpoint = make(tokenizer)
    five = np.full(5, 9)
    for context in (np.full(0, 9), np.full(CONTEXT - 3, 9)):
        with pytest.raises(ValueError, match=rf"request 1 has a context of {len(context)} and .* up to 5 tokens"):
            response_logprobs(checkpoint, [(five, [five]), (context, [five])])
    assert response_logprobs(checkpoint, []) == []
    assert [len(sums) for sums in response_logprobs(checkpoint, [(five, []), (five, [five])])] == [0, 1]


# Draws


def population(count, clusters=None, references=None):
    return [
        Prompt(
            id=f"q{i}",
            prompt=f"Say {i}.",
            instruction_spans=(),
            reference=references[i] if references else f"answer {i}",
            cluster=clusters[i] if clusters else None,
        )
        for i in range(count)
    ]


def test_draws_are_the_same_whatever_the_order_of_the_file_and_others_for_another_seed():
    prompts = population(40)
    found = draws(prompts, k=5, seed=0)
    assert found == draws(prompts[::-1], k=5, seed=0)
    assert found != draws(prompts, k=5, seed=1)
    assert all(len(set(others)) == 5 for others in found.values())
    # Each prompt draws for itself: not one order of the set for all.
    offsets = {tuple(sorted((int(o[1:]) - int(i[1:])) % 40 for o in others)) for i, others in found.items()}
    assert len(offsets) == 40


def test_draws_reach_every_other_prompt_about_equally_often():
    prompts = population(9)
    counts = np.zeros((9, 9))
    for seed in range(400):
        for i, others in draws(prompts, k=2, seed=seed).items():
            counts[int(i[1:]), [int(o[1:]) for o in others]] += 1
    off_diagonal = counts[~np.eye(9, dtype=bool)]
    assert counts.trace() == 0
    # 400 x 2 / 8 = 100 expected in each of 72 cells; sd 8.7.
    assert 60 < off_diagonal.min() < off_diagonal.max() < 140


def test_a_prompt_never_draws_its_cluster_nor_its_own_answer():
    clusters = [f"c{i // 3}" for i in range(12)]
    references = [f"answer {i % 4}{' ' * (i % 2)}" for i in range(12)]
    prompts = population(12, clusters, references)
    for i, others in draws(prompts, k=99, seed=0).items():
        own = int(i[1:])
        allowed = {f"q{j}" for j in range(12) if j // 3 != own // 3 and j % 4 != own % 4}
        assert set(others) == allowed  # as many as there are
        assert len(others) == len(allowed)


def test_prompts_without_a_reference_are_not_drawn_and_draw_none():
    references = ["a", None, "b", "  ", "c", ""]
    found = draws(population(6, references=references), k=5, seed=0)
    assert {i: set(others) for i, others in found.items()} == {
        "q0": {"q2", "q4"}, "q2": {"q0", "q4"}, "q4": {"q0", "q2"}
    }  # fmt: skip


def test_a_set_without_others_is_refused():
    for prompts in (
        population(3, ["c"] * 3),
        population(3, references=["same"] * 3),
        population(3, references=["a", None, None]),
        [],
    ):
        with pytest.raises(PromptError, match=f"cannot be ranked: of {len(prompts)} prompts .* have a reference"):
            draws(prompts, k=5, seed=0)
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        draws(population(3), k=0, seed=0)


# What cannot be scored


def test_prompts_without_a_reference_or_room_are_left_out_and_the_others_measured(tokenizer):
    long = Prompt(id="long", prompt="x" * 62, instruction_spans=(), reference="red wine")
    none = Prompt(id="none", prompt="Say.", instruction_spans=(), reference=None)
    blank = Prompt(id="blank", prompt="Say.", instruction_spans=(), reference=" ")
    everyone = (*PROMPTS, long, none, blank)
    items = take(make(tokenizer), everyone, population=everyone, k=99)
    assert items["long"].left_out == "it does not fit the context of 64 tokens"
    assert items["none"].left_out == items["blank"].left_out == "it has no reference response"
    assert list(items) == [p.id for p in everyone]
    # Others may draw the long one: its answer fits behind theirs, theirs do not fit behind it.
    for prompt in PROMPTS:
        item = items[prompt.id]
        at = item.values["others"].index("long")
        assert item.values["unfit"] == ["long"]
        assert np.flatnonzero(np.isnan(item.arrays["swapped"])).tolist() == [at]
        assert not np.isnan(item.arrays["others"]).any()
        assert not np.isnan(item.arrays["unconditional"]).any()


def test_a_response_fits_to_the_last_token(tokenizer):
    # 64 positions, one byte each: the end token is predicted and never read.
    fits = Prompt(id="fits", prompt="x" * 60, instruction_spans=(), reference="red")
    beyond = replace(fits, id="beyond", reference="blue")
    everyone = (*PROMPTS, fits, beyond)
    items = take(make(tokenizer), everyone, population=everyone)
    assert items["fits"].left_out is None
    assert np.isfinite(items["fits"].arrays["own"])
    assert items["beyond"].left_out == "it does not fit the context of 64 tokens"


def test_a_prompt_that_shares_with_everyone_is_left_out_alone(tokenizer):
    shared = Prompt(id="s", prompt="Say.", instruction_spans=(), reference="red", cluster="c")
    rest = [Prompt(id=f"c{i}", prompt="Go.", instruction_spans=(), reference=f"r{i}", cluster="c") for i in range(2)]
    twin = Prompt(id="t", prompt="Go.", instruction_spans=(), reference="red")
    items = take(make(tokenizer), [shared, *rest, twin], population=[shared, *rest, twin])
    assert items["s"].left_out == "no prompt of another topic has another reference"
    assert items["c0"].values["others"] == ["t"]


def test_a_prompt_outside_the_population_is_an_error(tokenizer):
    with pytest.raises(ValueError, match="prompt 'p0' is not in the population, which has 4 prompts"):
        take(make(tokenizer), PROMPTS, population=PROMPTS[1:])


@DOUBLE
def test_without_an_end_token_responses_are_scored_without_one_and_it_is_said(make_checkpoint):
    tokenizer = transformers.AutoTokenizer.from_pretrained(make_checkpoint("endless"))
    tokenizer.eos_token = None
    checkpoint = make(tokenizer)
    item = take(checkpoint)["p0"]
    assert item.values["ended"] is False
    assert item.values["end_token"] is None
    assert item.arrays["lengths"][0] == len(" red")
    assert np.isnan(item.arrays["unconditional"]).all()  # nothing to begin a text with either
    prompt = tokenizer(PROMPTS[0].prompt)["input_ids"]
    own = naive(checkpoint, prompt, tokenizer(" red", add_special_tokens=False)["input_ids"])
    assert_near(item.arrays["own"], own, **rounded(checkpoint))


def test_the_end_token_is_the_one_that_the_chat_template_puts(make_checkpoint):
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        make_checkpoint("chatml", extra_tokens=("<|im_start|>", "<|im_end|>"))
    )
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end_token(tokenizer, CHATML) == end != tokenizer.eos_token_id
    assert end_token(tokenizer, CHATML.replace("<|im_end|>", " <|im_end|>")) == end
    # None there, an unknown one, a turn that the template refuses or drops, no template: the tokenizer's.
    refusing = "{% if messages[1:] %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}"
    for template in (CHATML.replace("<|im_end|>", ""), CHATML.replace("im_end", "eot"), refusing, "<u>", None):
        assert end_token(tokenizer, template) == tokenizer.eos_token_id


def test_what_stands_before_an_unconditional_response(make_checkpoint):
    tokenizer = transformers.AutoTokenizer.from_pretrained(make_checkpoint("bare"))
    assert bare_ids(tokenizer, TEMPLATE).tolist() == [1, 2, 3]
    assert bare_ids(tokenizer, None).tolist() == [0]
    tokenizer.bos_token = "<a>"
    assert bare_ids(tokenizer, None).tolist() == [3]


def test_a_loaded_checkpoint_is_measured_in_half_precision_too(tiny_base):
    with load(ModelRef(name="tiny", model=str(tiny_base)), device="cpu") as checkpoint:
        exact = take(checkpoint)
    with load(ModelRef(name="tiny", model=str(tiny_base)), device="cpu", dtype="bfloat16") as checkpoint:
        half = take(checkpoint)
    for i, item in exact.items():
        scale = np.abs(item.arrays["others"])
        assert (np.abs(half[i].arrays["others"] - item.arrays["others"]) < 0.02 * scale).all()
