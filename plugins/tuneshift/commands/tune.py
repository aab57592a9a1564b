"""``tuneshift tune``: tuning a base."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import UsageError
from .common import INTERRUPTED, OK, Commands

DEFAULT_RANK = 16
"""Of a LoRA adapter: enough for a change of style, a hundredth of the weights of a large model."""


def add(commands: Commands) -> None:
    """Declare the command."""
    tune = commands.add_parser("tune", help="tune a base on instructions, on responses alone, or on one task")
    tune.add_argument("base", metavar="BASE", help="a folder, a hub id, or embedded:FAMILY/NAME")
    tune.add_argument("--how", required=True, help="instruction, response or single-task")
    tune.add_argument("--data", type=Path, required=True, metavar="FILE", help="JSONL of prompts and responses")
    tune.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the tuned checkpoint; a killed run resumes"
    )
    tune.add_argument("--lora", action="store_true", help="train a LoRA adapter instead of all weights")
    tune.add_argument("--rank", type=int, metavar="R", help=f"of the adapter (default: {DEFAULT_RANK})")
    tune.add_argument("--epochs", type=int, default=5, metavar="N", help="times over the data (default: %(default)s)")
    tune.add_argument("--rate", type=float, help="highest learning rate (default: 1e-5, for an adapter 2e-4)")
    tune.add_argument("--batch", type=int, default=64, metavar="N", help="examples of an update (default: %(default)s)")
    tune.add_argument(
        "--micro-batch", type=int, default=8, metavar="N", help="examples in memory at once (default: %(default)s)"
    )
    tune.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    tune.add_argument("--max-length", type=int, metavar="TOKENS", help="leave longer examples out (default: 2048)")
    tune.add_argument(
        "--chat-template", metavar="FILE", help="a Jinja file, or `none` (default: the tokenizer's, else the paper's)"
    )
    tune.add_argument("--device", default="auto", help="auto, cpu, mps or cuda (default: %(default)s)")
    tune.add_argument("--dtype", default="float32", help="to compute in: float32 or bfloat16 (default: %(default)s)")
    tune.set_defaults(command=_tune)


def _tune(arguments: argparse.Namespace) -> int:
    from ..tuning.recipe import Recipe
    from ..tuning.tune import tune

    recipe = Recipe(
        base=arguments.base,
        how=arguments.how,
        data=arguments.data,
        epochs=arguments.epochs,
        rate=arguments.rate,
        batch=arguments.batch,
        micro_batch=arguments.micro_batch,
        rank=_rank(arguments),
        seed=arguments.seed,
        max_length=arguments.max_length,
        chat_template=arguments.chat_template,
        device=arguments.device,
        dtype=arguments.dtype,
    )
    try:
        print(tune(recipe, arguments.out))
    except KeyboardInterrupt:
        print("tuneshift: stopped; the same command goes on from the last checkpoint.", file=sys.stderr)
        return INTERRUPTED
    return OK


def _rank(arguments: argparse.Namespace) -> int | None:
    if arguments.rank is not None and not arguments.lora:
        raise UsageError("--rank is that of an adapter; add --lora, or leave it out to train all weights.")
    return (DEFAULT_RANK if arguments.rank is None else int(arguments.rank)) if arguments.lora else None
