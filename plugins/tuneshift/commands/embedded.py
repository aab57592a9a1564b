"""``tuneshift embedded``: the family of small models."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ..errors import UsageError, did_you_mean
from .common import OK, PROBLEMS, Commands


def add(commands: Commands) -> None:
    """Declare the command."""
    embedded = commands.add_parser("embedded", help="make or check the embedded family of small models")
    actions = embedded.add_subparsers(title="actions", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="corpus, tokenizer, base, siblings, evaluation and cards, from a seed")
    build.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to build in; a killed build resumes"
    )
    build.add_argument("--seed", type=int, help="default: the seed that ships")
    build.set_defaults(command=_build_embedded)
    check = actions.add_parser("check", help="verify checksums and measure the cards' numbers again")
    check.set_defaults(command=_check_embedded)
    seeds = actions.add_parser("seeds", help="gather what builds of several seeds measured, for the cards")
    seeds.add_argument("builds", type=Path, nargs="+", metavar="DIR", help="folders of finished builds")
    seeds.add_argument("--out", type=Path, required=True, metavar="FILE", help="fixtures/micro/seeds.json")
    seeds.set_defaults(command=_gather_seeds)
    exercises = actions.add_parser("exercises", help="write exercises as data for `tuneshift tune`")
    exercises.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSONL file to write")
    exercises.add_argument(
        "--task", action="append", default=[], metavar="NAME", help="a task type; may be repeated (default: all)"
    )
    exercises.add_argument("--count", type=int, metavar="N", help="default: as many as `instruct` is tuned on")
    exercises.add_argument("--seed", type=int, help="default: the seed that ships")
    exercises.set_defaults(command=_write_exercises)


def _build_embedded(arguments: argparse.Namespace) -> int:
    from ..embedded.build import build

    started = time.monotonic()

    def tell(stage: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - started), 60)
        print(f"{minutes:3}:{seconds:02} {stage}", flush=True)

    folder = build(arguments.out, seed=arguments.seed, tell=tell)
    tell(f"done: {folder}")
    return OK


def _gather_seeds(arguments: argparse.Namespace) -> int:
    import json

    from ..embedded.card import seeds_of
    from ..files import publish

    try:
        publish(arguments.out, (json.dumps(seeds_of(arguments.builds), indent=1) + "\n").encode())
    except OSError as error:
        raise UsageError(f"Cannot write {arguments.out}: {error.strerror or error}.") from error
    return OK


def _check_embedded(arguments: argparse.Namespace) -> int:
    from ..checkpoints.quiet import quiet
    from ..embedded.check import check

    with quiet():
        result = check(tell=print)
    for name in result.damaged:
        print(f"damaged or missing: {name}")
    print("every checksum and number holds" if result.passed else "the family is not what its cards say")
    return OK if result.passed else PROBLEMS


def _write_exercises(arguments: argparse.Namespace) -> int:
    from ..embedded.recipe import load_recipe, load_workbook
    from ..embedded.siblings import exercise_lines, tuning_exercises
    from ..embedded.tasks import TASKS
    from ..files import publish

    recipe = load_recipe()
    seed = recipe.seed if arguments.seed is None else arguments.seed
    count = recipe.tuning["examples"] if arguments.count is None else arguments.count
    if count < 1:
        raise UsageError(f"--count is {count}; a number of at least 1 is wanted.")
    for name in arguments.task:
        if name not in TASKS:
            raise UsageError(f"--task {name}: no such task type; {did_you_mean(name, TASKS)}.")
    exercises = tuning_exercises(load_workbook(seed), count, seed=seed, tasks=arguments.task)
    try:
        publish(arguments.out, ("\n".join(exercise_lines(exercises)) + "\n").encode())
    except OSError as error:
        raise UsageError(f"{arguments.out} cannot be written ({error.strerror}).") from error
    print(f"{count} exercises in {arguments.out}")
    return OK
