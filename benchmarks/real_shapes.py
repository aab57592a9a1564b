"""Exact attribution on the shapes of two public models, and on the models: ratios of thread time, float32, one thread.

    OMP_NUM_THREADS=1 python benchmarks/attribution.py --shapes [--repeats 3]     # random weights
    OMP_NUM_THREADS=1 python benchmarks/real.py PATH ... [--repeats 3]            # checkpoints: folders or GGUF files

The plain loop is the definition: one forward pass, and for each response token a backward pass from its probability to
the input embeddings, with frozen weights. Ways take turns within a repetition, and a ratio is of one repetition. User
tokens are those of `--shift-attribute-template=no` where 54 % of a prompt are its template's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from tuneshift.measures.attribution import llama_forward
from tuneshift.measures.attribution.backend import GenericBackend, LlamaBackend, choose_backend

Way = Callable[[Tensor, Tensor], Tensor]
TIMED_AT, REMEMBERED_AT = (84, 32), (128, 128)
TEMPLATE, BEHIND = 0.54, 6
"""A template's share of a short chat prompt (on the embedded pair it is more), and its tokens behind the text: the end
of the turn and what begins the response."""
GOALS = {
    "plain / fast, user tokens": 3.0,
    "plain / fast, all": 2.0,
    "plain / generic, user tokens": 1.8,
    "plain / generic, all": 1.8,
    "head, % of the fast path": 15.0,
    "MB beyond weights": 1000.0,
}
"""Of issue 17: at least these ratios, at most these shares and megabytes."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the caller measures with: seconds of a call, and its peak memory in MB."""

    tokens: Callable[[int, int, str], tuple[Tensor, Tensor]]
    seconds: Callable[[Way, Tensor, Tensor, str], float]
    extra_memory: Callable[[Way, Tensor, Tensor, str], float]


def smollm2() -> Any:
    """SmolLM2-135M's shape."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, max_position_embeddings=8192,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def gemma3() -> Any:
    """Gemma 3 270M's shape; without a padding token, whose embedding would be 0 in random weights."""
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=262_144, hidden_size=640, intermediate_size=2048, num_hidden_layers=18, num_attention_heads=4,
        num_key_value_heads=1, head_dim=256, query_pre_attn_scalar=256, sliding_window=512, pad_token_id=None,
    )  # fmt: skip
    return Gemma3ForCausalLM(config).eval()


SHAPES = {"SmolLM2-135M's shape": smollm2, "Gemma 3 270M's shape": gemma3}


def text_tokens(n: int) -> Tensor:
    """Places of the user's text in a prompt of n tokens."""
    return torch.arange(n)[int(TEMPLATE * n) - BEHIND : n - BEHIND]


def plain_loop(model: Any) -> Way:
    """The definition, with gradients of the input embeddings alone."""
    model.requires_grad_(False)

    def way(prompt: Tensor, response: Tensor) -> Tensor:
        embeds = model.get_input_embeddings()(torch.cat([prompt, response[:-1]])).detach().requires_grad_(True)
        probabilities = model(inputs_embeds=embeds[None], use_cache=False).logits[0].softmax(-1)
        columns = []
        for m, y in enumerate(response):
            (gradient,) = torch.autograd.grad(probabilities[len(prompt) - 1 + m, y], embeds, retain_graph=True)
            columns.append((gradient * embeds.detach())[: len(prompt)].sum(-1))
        return torch.stack(columns, dim=1)

    return way


@contextmanager
def head_seconds() -> Iterator[list[float]]:
    """Thread time of the fast path's head: logits, softmax, and its derivative back to the last layer."""
    spent: list[float] = []
    honest = llama_forward._head

    def timed(*arguments: Any) -> Any:
        start = time.thread_time()
        found = honest(*arguments)
        spent.append(time.thread_time() - start)
        return found

    llama_forward._head = timed
    try:
        yield spent
    finally:
        llama_forward._head = honest


def times(model: Any, machine: Machine, repeats: int) -> dict[str, float]:
    """Ratios and seconds of one model."""
    fast, generic = choose_backend(model), GenericBackend(model=model)
    assert isinstance(fast, LlamaBackend), fast.reason
    prompt, response = machine.tokens(*TIMED_AT, "cpu")
    user = text_tokens(len(prompt))
    ways: dict[str, Way] = {
        "plain": plain_loop(model),
        "fast, user tokens": partial(fast, prompt_tokens=user),
        "fast, all": fast,
        "generic, user tokens": partial(generic, prompt_tokens=user),
        "generic, all": generic,
    }
    for name in ("plain", "fast, all", "generic, all"):
        ways[name](prompt[:8], response[:2])  # to warm up
    spent: dict[str, list[float]] = {name: [] for name in ways}
    shares = []
    for _ in range(repeats):
        for name, way in ways.items():
            with head_seconds() as head:
                spent[name].append(machine.seconds(way, prompt, response, "cpu"))
            if name == "fast, all":
                shares.append(100 * sum(head) / spent[name][-1])
    found = {
        f"plain / {name}": statistics.median(a / b for a, b in zip(spent["plain"], spent[name], strict=True))
        for name in ways
        if name != "plain"
    }
    seconds = {f"{name}, s": statistics.median(taken) for name, taken in spent.items()}
    return {**found, "head, % of the fast path": statistics.median(shares), **seconds}


def figures(build: Callable[[], Any], machine: Machine, repeats: int) -> dict[str, float]:
    """The table's column of one model. Its memory comes first, before the allocator keeps what the others used."""
    model = build()
    fast = choose_backend(model)
    memory = machine.extra_memory(fast, *machine.tokens(*REMEMBERED_AT, "cpu"), "cpu")
    print(f"{memory:.0f} MB beyond weights", flush=True)
    taken = times(model, machine, repeats)
    print(", ".join(f"{name} {figure:.3g}" for name, figure in taken.items()), flush=True)
    return {**taken, "MB beyond weights": memory}


def print_table(columns: dict[str, dict[str, float]]) -> None:
    """Markdown: a row for each figure, with its goal."""
    print("| figure | goal | " + " | ".join(columns) + " |")
    print("| --- | --- |" + " --- |" * len(columns))
    for name in next(iter(columns.values())):
        goal = GOALS.get(name)
        bound = "" if goal is None else f"{'≥' if name.startswith('plain /') else '≤'} {goal:g}"
        print(f"| {name} | {bound} | " + " | ".join(f"{column[name]:.3g}" for column in columns.values()) + " |")
