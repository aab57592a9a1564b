"""Digits that float32 keeps where a model is sure: the plain loop and tuneshift's two paths against float64.

    python benchmarks/certainty.py [--json] [--every 12]

On every so many held-out prompts of the embedded tuned model, with the reference as response: relative error
(Frobenius) of I, and how many levels differ from float64's.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import torch
from torch import Tensor

from tuneshift.checkpoints.llama import LlamaBlocks, llama_blocks
from tuneshift.checkpoints.loading import load
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.measures.attribution.backend import GenericBackend, choose_backend
from tuneshift.measures.attribution.density import importance_levels
from tuneshift.measures.attribution.llama import LlamaAttribution
from tuneshift.prompts.prompt import PromptSource
from tuneshift.prompts.sets import load_prompts
from tuneshift.prompts.tokens import encode


def plain_loop(model: Any, prompt: Tensor, response: Tensor) -> Tensor:
    """I by automatic differentiation of the softmax, one response token after the other."""
    embeds = model.get_input_embeddings()(torch.cat([prompt, response])).detach().requires_grad_(True)
    probabilities = model(inputs_embeds=embeds[None], use_cache=False).logits[0].softmax(-1)
    columns = []
    for m, y in enumerate(response):
        (gradient,) = torch.autograd.grad(probabilities[len(prompt) - 1 + m, y], embeds, retain_graph=True)
        columns.append((gradient * embeds.detach())[: len(prompt)].sum(-1))
    return torch.stack(columns, dim=1)


def main() -> None:
    """Compare on the embedded pair's tuned model and print a line per way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object of the figures last")
    parser.add_argument("--every", type=int, default=12, help="take every so many prompts (default: %(default)s)")
    arguments = parser.parse_args()
    prompts = load_prompts(PromptSource(path="micro-heldout"), pair=None).prompts[:: arguments.every]
    errors: dict[str, list[float]] = {}
    moved: dict[str, int] = {}
    cells = 0
    with load(ModelRef(name="instruct", model="embedded:micro/instruct"), device="cpu") as checkpoint:
        model, tokenizer = checkpoint.model, checkpoint.tokenizer
        blocks = llama_blocks(model)
        assert isinstance(blocks, LlamaBlocks)
        exact = LlamaAttribution(blocks, torch.float64)
        ways = {
            "plain loop": lambda x, y: plain_loop(model, x, y),
            "generic path": GenericBackend(model=model),
            "fast path": choose_backend(model),
        }
        for prompt in prompts:
            x = torch.from_numpy(encode(prompt.prompt, tokenizer, tokenizer.chat_template).ids)
            y = torch.tensor(tokenizer(prompt.reference, add_special_tokens=False)["input_ids"])
            truth = exact.importance(x, y, rows=4096, tangent_bytes=2**31)
            cells += truth.numel()
            for name, way in ways.items():
                found = way(x, y)
                errors.setdefault(name, []).append(float((found - truth).norm() / truth.norm()))
                differ = importance_levels(found.numpy()) != importance_levels(truth.numpy())
                moved[name] = moved.get(name, 0) + int(differ.sum())
    for name, found in errors.items():
        print(
            f"{name}: median {statistics.median(found):.1e}, largest {max(found):.1e}, {moved[name]} of {cells} moved"
        )
    if arguments.json:
        print(json.dumps({"cells": cells, "moved": moved, "largest": {k: max(v) for k, v in errors.items()}}))


if __name__ == "__main__":
    main()
