"""Plain texts equal a naive loop in double precision, with and without a token that begins a text."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from tokenizers.processors import TemplateProcessing
from tolerances import DoubleThroughout, assert_near, terms

from tuneshift.checkpoints.loading import Checkpoint
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.measures.text import text
from tuneshift.prompts.prompt import Prompt

pytestmark = pytest.mark.numerics

CONTEXT = 48
PASSAGES = tuple(
    Prompt(id=f"t{i}", prompt=words, instruction_spans=((0, 1),))
    for i, words in enumerate(("It rains.", "The ferry had left when she came.", "Salt."))
)


@pytest.fixture(scope="module")
def checkpoint(make_checkpoint) -> Checkpoint:
    """Bytes, of which 0 begins and ends a text; the tokenizer puts it there by itself, as Llama's and Gemma's do."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(make_checkpoint("tokens"))
    start = tokenizer.convert_ids_to_tokens(0)
    tokenizer._tokenizer.post_processor = TemplateProcessing(single=f"{start} $A", special_tokens=[(start, 0)])
    assert tokenizer("x")["input_ids"][0] == 0
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=32, max_position_embeddings=CONTEXT,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config).eval().requires_grad_(False).double()
    return Checkpoint(
        ref=ModelRef(name="m", model="m"), model=model, tokenizer=tokenizer, device=torch.device("cpu"),
        dtype="float64", context_length=CONTEXT, parameters=model.num_parameters(),
    )  # fmt: skip


def without_start(checkpoint: Checkpoint) -> Checkpoint:
    tokenizer = copy.deepcopy(checkpoint.tokenizer)
    tokenizer.bos_token = tokenizer.eos_token = None
    return replace(checkpoint, tokenizer=tokenizer)


@pytest.mark.parametrize("starts", [True, False], ids=["after the start token", "after its own first token"])
def test_each_text_is_the_naive_loop(checkpoint, starts):
    asked = checkpoint if starts else without_start(checkpoint)
    start = asked.tokenizer.bos_token_id if asked.tokenizer.bos_token_id is not None else asked.tokenizer.eos_token_id
    assert (start is not None) is starts
    with DoubleThroughout():
        for passage, item in zip(PASSAGES, text(asked, {}, {})(PASSAGES, [None] * 3), strict=True):
            ids = asked.tokenizer(passage.prompt, add_special_tokens=False)["input_ids"]
            whole = [start, *ids] if starts else ids
            rows = asked.model(torch.tensor([whole[:-1]])).logits[0].log_softmax(-1)
            expected = float(sum(row[token] for row, token in zip(rows, whole[1:], strict=True)))
            assert item.arrays["tokens"] == len(whole) - 1
            assert_near(item.arrays["logprob"], expected, terms=terms(asked.model, CONTEXT), dtype=torch.float64)


def test_what_cannot_be_predicted_is_left_out_with_its_reason(checkpoint):
    long = Prompt(id="long", prompt="x" * (CONTEXT + 1), instruction_spans=((0, 1),))
    fits = Prompt(id="fits", prompt="x" * CONTEXT, instruction_spans=((0, 1),))
    found = list(text(checkpoint, {}, {})([long, fits, PASSAGES[0]], [None] * 3))
    assert found[0].left_out == f"it does not fit the context of {CONTEXT} tokens"
    assert [item.left_out for item in found[1:]] == [None, None]
    alone = Prompt(id="one", prompt="x", instruction_spans=((0, 1),))
    (item,) = text(without_start(checkpoint), {}, {})([alone], [None])
    assert item.left_out == "it has no token to predict"


def test_batches_do_not_matter(checkpoint):
    whole, cut = (
        [item.arrays["logprob"] for item in text(checkpoint, {"batch": share}, {})(PASSAGES, [None] * 3)]
        for share in (1, 1e-6)
    )
    # What `response_logprobs` promises of batches.
    np.testing.assert_allclose(whole, cut, rtol=0, atol=1e-4)
