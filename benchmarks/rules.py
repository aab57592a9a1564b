"""Share of held-out prompts that the embedded base answers correctly under rules, for docs/rule-adapter.md.

    python benchmarks/rules.py [--steps 60]

Every set of rules, with the tokens of the assistant's tag counted as present (as the release does) and without.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from itertools import combinations

import torch

from tuneshift.checkpoints.decoding import greedy_responses
from tuneshift.checkpoints.loading import Checkpoint, load
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.embedded.evaluate import share
from tuneshift.measures.adapter_rules import RULES, RuleSettings, load_rules
from tuneshift.measures.rule_adapter import RuleAdapter, turn_as_released
from tuneshift.prompts.tokens import EncodedPrompt, encode
from tuneshift.prompts.verifiers import verify
from tuneshift.resources import fixture

LONGEST = 100


def correct(checkpoint: Checkpoint, prompts: list[EncodedPrompt], settings: RuleSettings, *, tag: bool) -> list[bool]:
    """Whether each prompt's greedy response under the rules is right and ended."""
    rows = [json.loads(line) for line in fixture("prompts/micro-heldout.jsonl").read_text().splitlines()]
    turns = [turn_as_released(p) if tag else p.ids[p.in_text] for p in prompts]

    def adapter(batch: list[int]) -> RuleAdapter:
        ids, present = [prompts[i].ids for i in batch], [turns[i] for i in batch]
        return RuleAdapter(settings, checkpoint.tokenizer, ids, user_turns=present)

    found = greedy_responses(
        checkpoint, [p.ids for p in prompts], max_new_tokens=LONGEST, processor=adapter if settings.on else None
    )
    checked = (verify(row["verify"], f.text, ended=f.ended) for row, f in zip(rows, found, strict=True))
    return [verdict.correct and verdict.ended for verdict in checked]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="tokens over which the end rule rises (default: the paper's 250)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    paper = load_rules()
    if given.steps and paper.end:
        paper = replace(paper, end=replace(paper.end, steps=given.steps))
    rows = [json.loads(line) for line in fixture("prompts/micro-heldout.jsonl").read_text().splitlines()]
    clusters = [row["topic"] for row in rows]
    ref = ModelRef(name="micro/base", model=str(fixture("models/micro/base")))
    print("| rules | assistant's tag counts (release) | user's text alone |\n| --- | --- | --- |")
    with load(ref, device="cpu", dtype="float32") as base:
        prompts = [encode(row["prompt"], base.tokenizer, base.tokenizer.chat_template) for row in rows]
        for off in (off for count in range(len(RULES) + 1) for off in combinations(RULES, count)):
            settings = paper.without(*off)
            cells = []
            for tag in (True, False):
                found = share(correct(base, prompts, settings, tag=tag), clusters)
                cells.append(f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]")
            print(f"| {' + '.join(settings.on) or 'none'} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
