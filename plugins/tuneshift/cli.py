"""The ``tuneshift`` command: what is done with files that a run left, and the embedded family."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import TuneshiftError, UsageError
from .options import STORE_VARIABLE, default_store

OK, PROBLEMS, USAGE = 0, 1, 4
"""Exit codes: done; something is wrong with what was looked at; the command's input is at fault (as in pytest)."""


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


def _build_embedded(arguments: argparse.Namespace) -> int:
    from .embedded.build import build

    build(arguments.out, seed=arguments.seed)
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


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"
