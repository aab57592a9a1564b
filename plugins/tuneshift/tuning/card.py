"""What is written beside tuned weights: a model card to read, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

CARD, NOTES = "README.md", "tuning.json"

ABOUT = {
    "instruction": "tuned on instructions with their responses",
    "response": "tuned on responses behind an empty user turn, without any instruction (arXiv:2409.14254)",
    "single-task": "tuned on the instructions and responses of one narrow task (arXiv:2409.14254)",
}
ROLES = {"instruction": "tuned", "response": "response_tuned", "single-task": "single_task_tuned"}
"""The key of a pair file that takes each kind."""
AVERAGED = 100
"""Steps at most over which the final loss is averaged, and at most a tenth of all: one batch's alone is noise."""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A finished tuning: the plan, counts of examples and of learned tokens (per epoch), losses in nats per token."""

    plan: Mapping[str, Any]
    base: str
    data: str
    examples: int
    left_out: int
    learned: int
    steps: int
    first_loss: float
    final_loss: float
    averaged: int
    device: str
    stored: str
    versions: Mapping[str, str]

    @property
    def is_adapter(self) -> bool:
        """Whether only a PEFT adapter was trained and saved."""
        return bool(self.plan["weights"] != "all")

    def plain(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def final_loss(losses: Sequence[float]) -> tuple[float, int]:
    """The loss at the end of a training, and over how many of its last steps that is the mean. ``losses``: every
    step's, at least one."""
    averaged = max(1, min(AVERAGED, len(losses) // 10))
    return sum(losses[-averaged:]) / averaged, averaged


def last_steps(averaged: int) -> str:
    """The steps that a final loss is of, in words."""
    return "at the last" if averaged == 1 else f"over the last {averaged}"


def versions(*packages: str) -> dict[str, str]:
    """Versions of tuneshift and of these packages."""
    return {name: version(name) for name in ("tuneshift", *packages)}


def card(tuned: Tuned) -> str:
    """Text of the model card."""
    plan = tuned.plan
    rows = "\n".join(f"| {name} | {value} |" for name, value in _table(tuned).items())
    return f"""---
base_model: {json.dumps(tuned.base)}
library_name: {"peft" if tuned.is_adapter else "transformers"}
tags: [tuneshift, {plan["how"]}-tuned]
---
# {tuned.base}, {ABOUT[plan["how"]]}

{"A PEFT adapter" if tuned.is_adapter else "All weights"}, tuned by `tuneshift tune`. Only the response and its end
token counted in the loss.

| recipe | |
| --- | --- |
{rows}

Chat template, which the tokenizer here brings along:

{_indented(plan["chat_template"])}

In a pair file (`pytest suites --pairs=FILE`):

    {ROLES[plan["how"]]} = {_reference(tuned)}
"""


def _table(tuned: Tuned) -> dict[str, str]:
    plan = tuned.plan
    return {
        "base": f"`{tuned.base}`, fingerprint `{plan['base']}`",
        "data": f"`{tuned.data}`, SHA-256 `{plan['data']}`",
        "examples": f"{tuned.examples:,} used, {tuned.left_out:,} left out (longer than {plan['max_length']:,} tokens)",
        "learned tokens": f"{tuned.learned:,} in each epoch",
        "trained": f"{plan['weights']}, {tuned.steps:,} steps",
        "epochs": str(plan["epochs"]),
        "batch": f"{plan['batch']} examples, {plan['micro_batch']} at once",
        "learning rate": f"{plan['rate']:g}, 3 % warm-up, then linearly to zero; AdamW, no weight decay",
        "seed": str(plan["seed"]),
        "computed in": f"{plan['dtype']} on {tuned.device}, saved in {tuned.stored}",
        "loss": f"{tuned.first_loss:.4f} at the first step, {tuned.final_loss:.4f} {last_steps(tuned.averaged)}",
        "versions": ", ".join(f"{name} {number}" for name, number in tuned.versions.items()),
    }


def _indented(template: str | None) -> str:
    return "\n".join("    " + line for line in (template or "none: plain prompts").splitlines())


def _reference(tuned: Tuned) -> str:
    if tuned.is_adapter:
        return f'{{ model = {json.dumps(tuned.base)}, adapter = "THIS FOLDER" }}'
    return '"THIS FOLDER"'
