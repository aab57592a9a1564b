"""Model cards and ``family.json``: what each member is, how it was made, what was measured, and the checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..resources import fixture
from ..tuning.card import last_steps
from .recipe import PROMPTS, Member, Recipe, load_recipe
from .vectors import WORDS

SEEDS = "micro/seeds.json"

QUANTITIES = {
    "correct": "correct and ended",
    "begins": "begins with a right answer, whatever follows",
    "on_task": "on task",
    "ended": "ended by the model",
    "ranked": "true response more probable than a random other",
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Shares by quantity, each {mean, low, high, n, clusters}, and correct answers of prompts by task type."""

    shares: Mapping[str, Mapping[str, float]]
    tasks: Mapping[str, Sequence[int]]

    @classmethod
    def of(cls, shares: Mapping[str, Any], responses: Sequence[Mapping[str, Any]]) -> Measured:
        """From `evaluate.measure`'s results."""
        tasks: dict[str, list[int]] = {}
        for row in responses:
            entry = tasks.setdefault(row["task"], [0, 0])
            entry[0] += bool(row["correct"])
            entry[1] += 1
        return cls(shares={name: asdict(value) for name, value in shares.items()}, tasks=tasks)

    def plain(self) -> dict[str, Any]:
        """Plain JSON types."""
        rounded = {
            name: {
                key: round(float(value), 4) if key in ("mean", "low", "high") else int(value)
                for key, value in row.items()
            }
            for name, row in self.shares.items()
        }
        return {"shares": rounded, "tasks": {name: list(pair) for name, pair in self.tasks.items()}}


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


Seeds = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Seed -> member -> quantity -> share of prompts."""


def seeds_of(builds: Sequence[Path]) -> Seeds:
    """The shares that finished builds measured, by seed. Raises UsageError for a folder without ``family.json``."""
    return {str(family["seed"]): _means(family) for family in map(read_family, builds)}


def _means(family: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {
        name: {quantity: share["mean"] for quantity, share in row["measured"]["shares"].items()}
        for name, row in family["members"].items()
    }


def read_family(folder: Path) -> dict[str, Any]:
    """``family.json`` of a folder; UsageError where there is none."""
    path = folder / "family.json"
    if not path.is_file():
        raise UsageError(f"{folder} holds no family.json; accepted is a folder that `tuneshift embedded build` made.")
    family: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return family


def write_cards(out: Path, recipe: Recipe, seed: int) -> None:
    """README.md in every member's folder, and ``family.json`` with the measured numbers and all checksums.

    The cards also show what other seeds of the shipped recipe gave, as far as ``fixtures/micro/seeds.json`` has them.
    """
    family: dict[str, Any] = {"family": "micro", "schema": 1, "seed": seed, "members": {}}
    family["evaluation"] = recipe.evaluation_options
    for member in recipe.members:
        measured = json.loads((out / ".build" / "measured" / member.name / "measured.json").read_text())
        training = json.loads((out / member.name / "training.json").read_text())
        family["members"][member.name] = {"measured": measured, "training": training}
    others: Seeds = json.loads(fixture(SEEDS).read_text(encoding="utf-8")) if recipe == load_recipe() else {}
    seeds = dict(sorted({**others, str(seed): _means(family)}.items()))
    for member in recipe.members:
        folder, row = out / member.name, family["members"][member.name]
        text = card(member, recipe, seed, row["measured"], row["training"], seeds)
        (folder / "README.md").write_text(text, encoding="utf-8")
        files = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}
        row["sha256"] = files
    family["prompts"] = {PROMPTS: sha256(out / PROMPTS)}
    family["files"] = {WORDS: sha256(out / WORDS)}
    (out / "family.json").write_text(json.dumps(family, indent=1) + "\n", encoding="utf-8")


def card(
    member: Member,
    recipe: Recipe,
    seed: int,
    measured: Mapping[str, Any],
    training: Mapping[str, Any],
    seeds: Seeds,
) -> str:
    """Text of a member's card."""
    rows = "\n".join(
        f"| {QUANTITIES[name]} | {row['mean']:.3f} | [{row['low']:.3f}, {row['high']:.3f}] "
        f"| {row['n']} | {row['clusters']} |"
        for name, row in measured["shares"].items()
    )
    tasks = ", ".join(f"{name} {hits}/{count}" for name, (hits, count) in measured["tasks"].items())
    return f"""---
license: mit
language: en
library_name: transformers
tags: [tuneshift, micro, generated-world]
---
# micro/{member.name}

{member.about}

A Llama of {recipe.model["num_hidden_layers"]} layers, hidden size {recipe.model["hidden_size"]}, vocabulary
{recipe.tokenizer["vocabulary"]}, in bf16. It knows a small English world that this project's generator writes and
nothing else; it is made to test tools on, not to be asked for advice. Every text is generated from hand-written word
tables and sentence patterns of this project (MIT); no sentence comes from a published data set.

## How it was made
{how(member, recipe, training)}
Seed {seed}; all numbers of the recipe are in `fixtures/micro/recipe.toml`, the world in `fixtures/micro/world.toml`,
the wordings in `fixtures/micro/tasks.toml`. `tuneshift embedded build --out DIR` makes the family again.

## Measured
On `{PROMPTS}`: prompts on keys and in phrasings that no sibling was tuned on (the facts themselves were in
pre-training), in the chat format, greedy, at most {recipe.evaluation["limit"]} new tokens, weights read as
float32. Intervals are 95 %, clustered by key.

| share of prompts | mean | interval | prompts | keys |
| --- | --- | --- | --- | --- |
{rows}

Correct and ended by task type: {tasks}.

### Other seeds
The same recipe from other seeds, which change the people's facts, the texts and the initial weights. Seed {seed} ships.

{seed_table(member, seeds)}

Measured by `tuneshift embedded build`, and again by `tuneshift embedded check`.
"""


def seed_table(member: Member, seeds: Seeds) -> str:
    """The member's shares of prompts, a column per seed."""
    lines = [
        f"| share of prompts | {' | '.join(f'seed {seed}' for seed in seeds)} |",
        f"| --- |{' --- |' * len(seeds)}",
    ]
    for quantity, words in QUANTITIES.items():
        shares = " | ".join(f"{shares[member.name][quantity]:.3f}" for shares in seeds.values())
        lines.append(f"| {words} | {shares} |")
    return "\n".join(lines)


def how(member: Member, recipe: Recipe, training: Mapping[str, Any]) -> str:
    """How a member was trained, in sentences."""
    if member.parent is None:
        trunk, branch, part = training["trunk"], training["branch"], recipe.pretraining
        return (
            f"Pre-trained on {trunk['tokens'] + branch['tokens']:,} tokens, each once, in windows of {part['window']} "
            f"and batches of {part['rows']}: {trunk['tokens']:,} in the trunk that all bases share "
            f"({trunk['documents']:,} documents, SHA-256 of the text `{trunk['corpus_sha256']}`) at a level rate, and "
            f"{branch['tokens']:,} in its own branch ({branch['documents']:,} documents, SHA-256 "
            f"`{branch['corpus_sha256']}`; {member.options['transcripts']:.0%} of them transcripts) at a rate that "
            f"falls to zero. Muon (rate {part['muon_rate']}) on the matrices, AdamW (rate {part['adam_rate']}) on the "
            f"rest, bf16 autocast. Loss over the last 100 steps {branch['last_loss']:.3f}."
        )
    tasks = member.options.get("tasks")
    which = f"the task type {', '.join(tasks)}" if tasks else "all task types"
    numbers = recipe.tuning_of(member)
    return (
        f"Tuned from micro/{member.parent} by `tuneshift tune --how {member.options['how']}` on "
        f"{training['examples']:,} exercises of {which} (SHA-256 of the file `{training['plan']['data']}`), "
        f"{numbers['epochs']} epochs ({training['steps']} steps of {numbers['batch']}), AdamW at rate "
        f"{numbers['rate']}, all weights, computed in {numbers['dtype']}. Loss "
        f"{training['final_loss']:.3f} {last_steps(training['averaged'])}."
    )
