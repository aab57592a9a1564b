"""The ``tuneshift`` command: what is done with files that a run left, tuning, and the embedded family."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .errors import TuneshiftError, UsageError
from .options import STORE_VARIABLE, default_store

OK, PROBLEMS, INTERRUPTED, USAGE = 0, 1, 2, 4
"""Exit codes, the last two as in pytest: done; something is wrong with what was looked at; stopped by the user; the
command's input is at fault."""
DEFAULT_RANK = 16
"""Of a LoRA adapter: enough for a change of style, a hundredth of the weights of a large model."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except UsageError as error:
        print(f"tuneshift: {error}", file=sys.stderr)
        return USAGE
    except TuneshiftError as error:
        print(f"tuneshift: {error}", file=sys.stderr)
        return PROBLEMS
    except BrokenPipeError:
        return OK


def parser() -> argparse.ArgumentParser:
    """The command line, for ``main`` and for the tests of its help."""
    from importlib.metadata import version

    top = argparse.ArgumentParser(
        prog="tuneshift",
        description="Published findings about instruction tuning as pytest tests. The main job is `pytest suites`; "
        "these commands work on what it leaves behind.",
    )
    top.add_argument("--version", action="version", version=f"tuneshift {version('tuneshift')}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_evidence(commands)
    _add_report(commands)
    _add_outputs(commands)
    _add_annotators(commands)
    _add_tune(commands)
    _add_embedded(commands)
    return top


def _add_evidence(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evidence = commands.add_parser("evidence", help="list, verify or prune the evidence store")
    actions = evidence.add_subparsers(title="actions", required=True, metavar="ACTION")
    listing = actions.add_parser("ls", help="one line per measured set: what it is, items, size, last use")
    listing.set_defaults(command=_list_evidence)
    verify = actions.add_parser("verify", help="check every checksum; exit 1 when something is damaged")
    verify.set_defaults(command=_verify_evidence)
    prune = actions.add_parser("prune", help="remove evidence; says what, and asks for nothing")
    prune.add_argument("--older-than", type=float, metavar="DAYS", help="sets not used for so many days")
    prune.add_argument("--incomplete", action="store_true", help="sets that a killed run left unfinished")
    prune.add_argument("--damaged", action="store_true", help="files that were set aside as damaged")
    prune.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    prune.set_defaults(command=_prune_evidence)
    for action in (listing, verify, prune):
        action.add_argument(
            "--store",
            type=Path,
            metavar="DIR",
            help=f"evidence store (default: ${STORE_VARIABLE}, else the user's cache)",
        )


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    report = commands.add_parser("report", help="render the HTML report of a run record again")
    report.add_argument("record", type=Path, metavar="RUN.json", help="a run record that `pytest suites` wrote")
    report.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="where to (default: report.html beside the record)"
    )
    report.set_defaults(command=_report)


def _add_outputs(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    outputs = commands.add_parser("outputs", help="write stored responses as AlpacaEval reads model outputs")
    outputs.add_argument("--base", metavar="CHECKPOINT", help="as in `pytest suites`")
    outputs.add_argument("--tuned", metavar="CHECKPOINT", help="as in `pytest suites`")
    outputs.add_argument("--pairs", type=Path, metavar="FILE", help="as in `pytest suites`")
    outputs.add_argument("--pair", metavar="NAME", help="which pair of the file (default: its only one)")
    outputs.add_argument("--prompts", action="append", default=[], metavar="SET", help="as --shift-prompts there")
    outputs.add_argument("--role", default="tuned", help="base, tuned or a sibling's role (default: %(default)s)")
    outputs.add_argument("--with-rules", action="store_true", help="the responses under the rule adapter")
    outputs.add_argument("--rules", default="hewitt2024", metavar="RULES", help="as --shift-rules there")
    outputs.add_argument("--max-new-tokens", type=int, metavar="N", help="as --shift-max-new-tokens there")
    outputs.add_argument("--dtype", default="float32", help="as --shift-dtype there (default: %(default)s)")
    outputs.add_argument("--store", type=Path, metavar="DIR", help="evidence store")
    outputs.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON file to write")
    outputs.set_defaults(command=_write_outputs)


def _add_annotators(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    annotators = commands.add_parser("annotators", help="measure how an annotator agrees with lists labelled by hand")
    annotators.add_argument(
        "--annotator", default="embedding", metavar="ANNOTATOR",
        help="embedding (default), openai:MODEL@URL or hf:CHECKPOINT",
    )  # fmt: skip
    annotators.add_argument(
        "--word-vectors", default="minilm", metavar="SPACE",
        help="word space of the embedding annotator: minilm (default), glove, a file, or embedded:micro/words.npz",
    )  # fmt: skip
    annotators.set_defaults(command=_show_agreement)


def _add_tune(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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


def _add_embedded(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
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


def _store(arguments: argparse.Namespace) -> Path:
    root: Path = arguments.store or default_store()
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file; the evidence store is a folder.")
    if arguments.store and not root.exists():
        raise UsageError(f"There is no evidence store at {root}.")
    return root


def _list_evidence(arguments: argparse.Namespace) -> int:
    from .store import Store

    root = _store(arguments)
    sets = list(Store(root).list())
    for found in sets:
        state = "complete" if found.complete else f"{found.items}/{found.total}"
        print(
            f"{found.key.digest[:12]}  {found.measure:12}  {state:>10}  {found.total:5} items  {_size(found.size):>9}  "
            f"used {found.last_used[:10]}  {found.key.dtype}  checkpoint {found.key.checkpoint[:12]}"
        )
    print(f"{len(sets)} sets, {_size(sum(s.size for s in sets))} in {root}")
    return OK


def _verify_evidence(arguments: argparse.Namespace) -> int:
    from .store import Store

    root = _store(arguments)
    lost = 0
    for problem in Store(root).verify():
        print(f"{problem.kind}: {problem.path}: {problem.message}")
        lost += problem.kind in ("damaged", "future", "unreadable")
    print(
        f"{root}: "
        + (f"{lost} problems; the next run measures what is damaged again" if lost else "every checksum is right")
    )
    return PROBLEMS if lost else OK


def _prune_evidence(arguments: argparse.Namespace) -> int:
    from .store import Store

    root = _store(arguments)
    if arguments.older_than is None and not arguments.incomplete and not arguments.damaged:
        raise UsageError("Say what to remove: --older-than DAYS, --incomplete or --damaged.")
    if arguments.older_than is not None and arguments.older_than < 0:
        raise UsageError(f"--older-than is {arguments.older_than}; it is a number of days, 0 or more.")
    freed = 0
    for removed in Store(root).prune(
        older_than_days=arguments.older_than,
        incomplete=arguments.incomplete,
        damaged=arguments.damaged,
        unused_by=None,
        dry_run=arguments.dry_run,
    ):
        freed += removed.size
        print(f"{removed.path}: {removed.reason}")
    print(f"{'would free' if arguments.dry_run else 'freed'} {_size(freed)}")
    return OK


def _report(arguments: argparse.Namespace) -> int:
    from .recording import read_record
    from .report import write_report

    record: Path = arguments.record
    print(write_report(read_record(record), arguments.out or record.with_name("report.html")))
    return OK


def _tune(arguments: argparse.Namespace) -> int:
    from .tuning import tune
    from .tuning_recipe import Recipe

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


def _write_outputs(arguments: argparse.Namespace) -> int:
    import json

    from .files import cache_folder, publish
    from .outputs import alpaca_outputs
    from .pairs import resolve_pairs
    from .plan import Planner, Settings
    from .store import Store

    pairs = resolve_pairs(
        base=arguments.base,
        tuned=arguments.tuned,
        pairs_file=arguments.pairs,
        names=[arguments.pair] if arguments.pair else [],
        prompts=arguments.prompts,
        rootdir=Path.cwd(),
    )
    if len(pairs) != 1:
        raise UsageError(f"Name one pair with --pair; there are {', '.join(pair.name for pair in pairs)}.")
    settings = Settings(
        max_new_tokens=arguments.max_new_tokens,
        dtype=arguments.dtype,
        rules=arguments.rules,
        memo=cache_folder() / "fingerprints.json",
    )
    rows = alpaca_outputs(
        pairs[0],
        arguments.role,
        rules=arguments.with_rules,
        planner=Planner(settings=settings),
        store=Store(_store(arguments)),
    )
    try:
        publish(arguments.out, (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise UsageError(f"Cannot write {arguments.out}: {error.strerror or error}.") from error
    print(f"{len(rows)} responses in {arguments.out}")
    return OK


def _show_agreement(arguments: argparse.Namespace) -> int:
    from .agreement import agreement_text

    print(agreement_text(arguments.annotator, arguments.word_vectors), end="")
    return OK


def _build_embedded(arguments: argparse.Namespace) -> int:
    from .embedded.build import build

    started = time.monotonic()

    def tell(stage: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - started), 60)
        print(f"{minutes:3}:{seconds:02} {stage}", flush=True)

    folder = build(arguments.out, seed=arguments.seed, tell=tell)
    tell(f"done: {folder}")
    return OK


def _gather_seeds(arguments: argparse.Namespace) -> int:
    import json

    from .embedded.card import seeds_of
    from .files import publish

    try:
        publish(arguments.out, (json.dumps(seeds_of(arguments.builds), indent=1) + "\n").encode())
    except OSError as error:
        raise UsageError(f"Cannot write {arguments.out}: {error.strerror or error}.") from error
    return OK


def _check_embedded(arguments: argparse.Namespace) -> int:
    from .embedded.check import check
    from .weights import quiet

    with quiet():
        result = check(tell=print)
    for name in result.damaged:
        print(f"damaged or missing: {name}")
    print("every checksum and number holds" if result.passed else "the family is not what its cards say")
    return OK if result.passed else PROBLEMS


def _write_exercises(arguments: argparse.Namespace) -> int:
    import json

    from .embedded.recipe import load_recipe, load_workbook
    from .embedded.siblings import tuning_exercises
    from .embedded.tasks import TASKS
    from .files import publish
    from .prompts import options

    recipe = load_recipe()
    seed = recipe.seed if arguments.seed is None else arguments.seed
    count = recipe.tuning["examples"] if arguments.count is None else arguments.count
    if count < 1:
        raise UsageError(f"--count is {count}; a number of at least 1 is wanted.")
    for name in arguments.task:
        if name not in TASKS:
            raise UsageError(f"--task {name}: no such task type; {options(name, TASKS)}.")
    exercises = tuning_exercises(load_workbook(seed), count, seed=seed, tasks=arguments.task)
    rows = [{"prompt": e.prompt, "response": e.answer, "task": e.task} for e in exercises]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    try:
        publish(arguments.out, text.encode())
    except OSError as error:
        raise UsageError(f"{arguments.out} cannot be written ({error.strerror}).") from error
    print(f"{len(rows)} exercises in {arguments.out}")
    return OK


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"
