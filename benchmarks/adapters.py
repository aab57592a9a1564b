"""Speed of generation under the rule adapter against the release's way, side by side in one process: thread time.

    python benchmarks/adapters.py [--json] [--quick] [--repeats 1]

64 prompts of the embedded family, 128 new tokens each, none ended before, on `micro/base` in float32 on one thread. The
release's way (arXiv:2409.14254): one prompt at a time, no KV cache, the whole text anew for every token; rule scores
written by Python loops over its tokens, spread over every position, both sides through log_softmax at every position.
Against it `RuleAdapter` in one left-padded batch with a KV cache, and that batch without rules ("base"). Each ratio is
of one repetition; the median is printed. --quick takes 8 prompts and 32 tokens, to see that it runs: the target is not
for it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tuneshift.measures.adapter_rules import RuleSettings, load_rules
from tuneshift.measures.rule_adapter import RuleAdapter, turn_as_released
from tuneshift.prompts.tokens import EncodedPrompt, encode
from tuneshift.resources import fixture

TARGET = 10.0
Responses = list[list[int]]


def embedded(prompts: int) -> tuple[Any, Any, list[EncodedPrompt]]:
    """The base, its tokenizer and the first prompts of every task type in turn."""
    folder = fixture("models/micro/base")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().requires_grad_(False)
    model.generation_config = GenerationConfig()  # no end token: both ways do the same number of steps
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [json.loads(line) for line in fixture("prompts/micro-heldout.jsonl").read_text("utf-8").splitlines()]
    chosen = sorted(rows, key=lambda row: row["id"].rpartition("-")[2])[:prompts]
    return model, tokenizer, [encode(row["prompt"], tokenizer, tokenizer.chat_template) for row in chosen]


def release_way(model: Any, settings: RuleSettings, adapter: RuleAdapter, end: int) -> Callable[..., Responses]:
    """One prompt at a time without a cache, the rules by loops over tokens."""

    def rules(ids: Sequence[int], first: int, t: int, width: int) -> Tensor:
        scores = torch.zeros(width)
        assert settings.end is not None
        assert settings.uniform is not None
        assert settings.diversity is not None
        for text, token in adapter.tokens.items():
            scores[token] = settings.uniform.scores[text]
        present = set()
        for position, token in enumerate(ids):
            if position >= first:
                present.add(token)
        for token in present:
            scores[token] += settings.diversity.score
        scores[end] += settings.end.at(t)
        return torch.cat([torch.zeros(len(ids) - 1, width), scores[None]])  # [position, vocab], only the last counts

    def way(prompts: Sequence[EncodedPrompt], tokens: int) -> Responses:
        found = []
        for prompt in prompts:
            ids = prompt.ids.tolist()
            first = len(ids) - len(turn_as_released(prompt))
            for t in range(tokens):
                logits = model(torch.tensor([ids]), use_cache=False).logits
                expert = rules(ids, first, t, logits.shape[-1])[None]
                product = logits.log_softmax(-1) + expert.log_softmax(-1)
                ids.append(int(product[0, -1].argmax()))
            found.append(ids[len(prompt.ids) :])
        return found

    return way


def batched_way(model: Any, tokenizer: Any, settings: RuleSettings | None) -> Callable[..., Responses]:
    """One batch with a KV cache, under the adapter or without rules."""

    def way(prompts: Sequence[EncodedPrompt], tokens: int) -> Responses:
        longest = max(len(prompt.ids) for prompt in prompts)
        ids = torch.zeros((len(prompts), longest), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt.ids) :] = torch.as_tensor(prompt.ids)
            mask[row, longest - len(prompt.ids) :] = 1
        turns = [turn_as_released(prompt) for prompt in prompts]
        processors = (
            [] if settings is None else [RuleAdapter(settings, tokenizer, [p.ids for p in prompts], user_turns=turns)]
        )
        made = model.generate(
            ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=tokens,
            pad_token_id=0,
            logits_processor=processors,
        )
        return made[:, longest:].tolist()

    return way


def measure(prompts: int, tokens: int, repeats: int) -> dict[str, Any]:
    """Times of all ways, interleaved, and whether their responses agree."""
    model, tokenizer, encoded = embedded(prompts)
    settings = load_rules()
    adapter = RuleAdapter(settings, tokenizer, [encoded[0].ids])
    ways = {
        "release": release_way(model, settings, adapter, tokenizer.eos_token_id),
        "adapter": batched_way(model, tokenizer, settings),
        "base": batched_way(model, tokenizer, None),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    responses = {}
    with torch.no_grad():
        for way in ways.values():  # warms up
            way(encoded[:2], 4)
        for _ in range(repeats):
            for name, way in ways.items():
                start = time.thread_time()
                responses[name] = way(encoded, tokens)
                times[name].append(time.thread_time() - start)
    release, ours = (np.array(responses[name]) for name in ("release", "adapter"))
    return {
        "prompts": prompts,
        "tokens": tokens,
        "release_over_adapter": _median_ratio(times["release"], times["adapter"]),
        "adapter_over_base": _median_ratio(times["adapter"], times["base"]),
        "adapter_s": statistics.median(times["adapter"]),
        "release_s": statistics.median(times["release"]),
        "responses_alike": float((release == ours).all(axis=1).mean()),
        "target": TARGET,
    }


def _median_ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def main() -> None:
    """Run and print one line, or with --json one object last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object of the figures last")
    parser.add_argument("--quick", action="store_true", help="8 prompts and 32 tokens instead of 64 and 128")
    parser.add_argument("--repeats", type=int, default=1, help="counted repetitions (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(*((8, 32) if arguments.quick else (64, 128)), arguments.repeats)
    print(
        f"{found['prompts']} prompts x {found['tokens']} tokens: {found['release_over_adapter']:.1f}x over the "
        f"release's way (target {TARGET:.0f}x at 64 x 128); {found['adapter_over_base']:.2f} times base's time; "
        f"{found['adapter_s']:.2f} s against {found['release_s']:.1f} s; {found['responses_alike']:.1%} of the "
        "responses alike"
    )
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
