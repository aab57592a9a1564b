"""Tiny random models of the architectures of `architectures.json` through every measure, against plain loops.

Weights, tokenizer and configuration are saved and loaded as a user's are. What runs the model does so in double
precision throughout, where a wrong token, row, position or cache shows many orders of magnitude above rounding. What
does not work says why, in the words that the file holds: "not applicable: ..." (the finding is left out, no test fails)
or "refused: ..." (an error that a user reads). Annotations read concepts, not checkpoints.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tolerances import DoubleThroughout, assert_near, terms

from tuneshift.checkpoints.loading import Checkpoint, load
from tuneshift.checkpoints.refs import Layer, ModelRef
from tuneshift.checkpoints.weight_maps import attends, attention_map, down_projection, input_embedding, n_layers
from tuneshift.checkpoints.weight_maps import output_embedding as head_of
from tuneshift.errors import NotMeasurableError, TuneshiftError
from tuneshift.measures.catalogue import ATTRIBUTION, CONCEPTS, GENERATION, LIKELIHOOD, RELATIONS
from tuneshift.prompts.prompt import Prompt
from tuneshift.words.spaces import similarity_thresholds

pytestmark = [pytest.mark.nightly, pytest.mark.numerics]

ARCHITECTURES: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("architectures.json").read_text())
WORKS = "works"
CONTEXT = 96
TINY = {
    "vocab_size": 264, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "pad_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
"""What all of them are given; the file adds what an architecture names otherwise or has beside."""
PROMPTS = tuple(
    Prompt(id=f"p{i}", prompt=f"Say {'x' * 4 * i}{i}.", instruction_spans=((0, 3),), reference=word)
    for i, word in enumerate(("red", "a dark blue", "green", "no"))
)
WORDS = ("ab", "cd", "ef", "gh", "ij", "kl", "mn", "op", "abc", "fed")
LONGEST = 12
AMPLIFIED = 1000
"""What soft caps, norms of small vectors and exponentials of large logits may make of an error; a mistake is 10^6 times
larger than what remains allowed, 1e-8 of the largest number."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A loaded checkpoint and where its words lie."""

    checkpoint: Checkpoint
    sources: dict[str, str]

    @property
    def model(self) -> Any:
        return self.checkpoint.model

    def ids(self, text: str) -> list[int]:
        return list(self.checkpoint.tokenizer(text, add_special_tokens=False)["input_ids"])

    def same(self, found: Any, expected: Any, passes: int = 1) -> None:
        """Equal to within what double precision loses on the way, both sides of it, and AMPLIFIED."""
        lost = 2 * terms(self.model, CONTEXT, passes) + CONTEXT
        assert_near(found, expected, terms=AMPLIFIED * lost, dtype=torch.float64)

    def logits(self, ids: list[int]) -> torch.Tensor:
        """One row, one whole pass, no cache, no padding: [position, vocab]."""
        return self.model(torch.tensor([ids]), use_cache=False).logits[0]

    def layers(self) -> list[Layer]:
        return [Layer(index=i) for i in range(n_layers(self.model))]


@pytest.fixture(params=ARCHITECTURES)
def case(request: pytest.FixtureRequest, make_checkpoint: Callable[..., Path], tmp_path: Path) -> Iterator[Case]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.for_model(request.param, **TINY | ARCHITECTURES[request.param]["config"])
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    folder = tmp_path / request.param
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(make_checkpoint("bytes")).save_pretrained(folder)
    vectors = np.random.default_rng(5).normal(size=(len(WORDS), 6)).astype(np.float32)
    np.savez(tmp_path / "space.npz", words=np.array(WORDS), vectors=vectors)
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    sources = {"vocabulary": str(tmp_path / "words.txt"), "word_vectors": str(tmp_path / "space.npz")}
    with load(ModelRef(name=request.param, model=str(folder)), dtype="float64", device="cpu") as checkpoint:
        checkpoint.model.config._experts_implementation = "eager"  # grouped products exist in single precision alone
        yield Case(checkpoint=checkpoint, sources=sources)


def generation(case: Case) -> None:
    take = GENERATION.prepare(case.checkpoint, {"chat_template": None, "max_new_tokens": LONGEST, "ends": [0]})
    for prompt, item in zip(PROMPTS, take(PROMPTS, [None] * len(PROMPTS)), strict=True):
        ids = start = case.ids(prompt.prompt)
        while len(ids) < len(start) + LONGEST and (ids is start or ids[-1] != 0):
            ids = [*ids, int(case.logits(ids)[-1].argmax())]
        assert item.values["ended"] is (ids[-1] == 0)
        assert item.arrays["response_ids"].tolist() == [token for token in ids[len(start) :] if token != 0]


def likelihood(case: Case) -> None:
    population = [[p.id, p.prompt, p.reference, p.cluster] for p in PROMPTS]
    take = LIKELIHOOD.prepare(case.checkpoint, {"chat_template": None, "k": 2, "seed": 0}, {"population": population})
    by_id = {p.id: p for p in PROMPTS}

    def scored(prompt: str, reference: str | None) -> float:
        context, response = case.ids(prompt), [*case.ids(f" {reference}"), 0]
        logprobs = case.logits([*context, *response[:-1]]).log_softmax(-1)[len(context) - 1 :]
        return float(sum(row[token] for row, token in zip(logprobs, response, strict=True)))

    for prompt, item in zip(PROMPTS, take(PROMPTS, [None] * len(PROMPTS)), strict=True):
        others = [by_id[i] for i in item.values["others"]]
        case.same(item.arrays["own"], scored(prompt.prompt, prompt.reference))
        case.same(item.arrays["others"], [scored(prompt.prompt, o.reference) for o in others])
        case.same(item.arrays["swapped"], [scored(o.prompt, prompt.reference) for o in others])


def attribution(case: Case) -> None:
    params = {"chat_template": None, "max_new_tokens": LONGEST, "response": "reference"}
    take = ATTRIBUTION.prepare(case.checkpoint, params)
    for prompt, item in zip(PROMPTS, take(PROMPTS, [None] * len(PROMPTS)), strict=True):
        context, response = case.ids(prompt.prompt), case.ids(f" {prompt.reference}")
        embedded = case.model.get_input_embeddings()(torch.tensor([context + response])).detach().requires_grad_(True)
        # Times one: CTRL scales in place what it is given.
        chosen = case.model(inputs_embeds=embedded * 1.0, use_cache=False).logits[0].softmax(-1)[len(context) - 1 :]
        columns = []
        for row, token in zip(chosen, response, strict=False):
            (gradient,) = torch.autograd.grad(row[token], embedded, retain_graph=True)
            columns.append((gradient * embedded)[0, : len(context)].sum(-1).detach())
        case.same(item.arrays["importance"], torch.stack(columns, dim=1), passes=3)


def relations(case: Case) -> None:
    top, frequent, z = 4, 10, 0.1
    take = RELATIONS.prepare(case.checkpoint, {"top": top, "frequent": frequent, "z": z}, case.sources)
    table = input_embedding(case.model)
    words = torch.stack([table[case.ids(" " + word)].mean(dim=0) for word in WORDS])
    with np.load(case.sources["word_vectors"]) as file:
        unit = file["vectors"] / np.linalg.norm(file["vectors"], axis=1, keepdims=True)
    alike = unit @ unit.T > similarity_thresholds(unit, frequent=frequent, z=z)
    alike &= alike.T
    layers = case.layers()
    for layer, item in zip(layers, take(layers, [None] * len(layers)), strict=True):
        if not attends(case.model, layer.index):
            assert item.left_out == "layer without attention"
            continue
        maps = attention_map(case.model, layer.index)
        counts = []
        for neuron, query in enumerate(maps.q.flatten(0, 1)):
            head, row = divmod(neuron, maps.q.shape[1])
            key = maps.k[head * len(maps.k) // len(maps.q), row]
            on_query, on_key = ((words * maps.norm) @ side for side in (query, key))
            first = [side.abs().argsort(descending=True, stable=True)[:top].tolist() for side in (on_query, on_key)]
            counts.append(
                sum(bool(alike[i, j] and i != j and on_query[i] * on_key[j] > 0) for i in first[0] for j in first[1])
            )
        assert item.arrays["counts"].flatten().tolist() == counts


def concepts(case: Case) -> None:
    params = {"concepts": 5, "top": 4, "rotation_k": 2, "noise": [0.1]}
    take = CONCEPTS.prepare(case.checkpoint, params, case.sources)
    means = torch.stack([head_of(case.model)[case.ids(" " + word)].mean(dim=0) for word in WORDS]).double().numpy()
    layers = case.layers()
    for layer, item in zip(layers, take(layers, [None] * len(layers)), strict=True):
        outputs = down_projection(case.model, layer.index).double().numpy().T
        _, _, rows = np.linalg.svd(outputs - outputs.mean(axis=0), full_matrices=False)
        scores = np.abs(rows[:5] @ means.T) / np.linalg.norm(means, axis=1)
        expected = [[WORDS[i] for i in np.argsort(-line, kind="stable")[:4]] for line in scores]
        assert item.values["words"] == expected


RUN = (generation, likelihood, attribution)
"""Measures that run the model; the others read its weights."""
MEASURED = {f.__name__: f for f in (*RUN, relations, concepts)}


def outcome(take: Callable[[Case], None], case: Case) -> str:
    try:
        with DoubleThroughout() if take in RUN else nullcontext():
            take(case)
    except NotMeasurableError as error:
        return f"not applicable: {error}"
    except TuneshiftError as error:
        return f"refused: {error}"
    return WORKS


def test_every_measure_is_the_plain_loop_or_says_why_not(case: Case) -> None:
    name = case.checkpoint.ref.name
    said = ARCHITECTURES[name].get("outcomes", {})
    for measure, take in MEASURED.items():
        expected, found = said.get(measure, WORKS), outcome(take, case)
        assert found == expected if expected == WORKS else expected in found, (measure, found)


def test_there_are_sixty() -> None:
    assert len(ARCHITECTURES) >= 60
    for name, entry in ARCHITECTURES.items():
        assert set(entry) <= {"config", "outcomes"}, name
        assert set(entry.get("outcomes", {})) <= set(MEASURED), name
        assert all(o.startswith(("not applicable: ", "refused: ")) for o in entry.get("outcomes", {}).values()), name
