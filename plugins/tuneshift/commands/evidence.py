"""``tuneshift evidence``: what is done with the evidence store."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..parse import one_line
from .common import OK, PROBLEMS, Commands, add_store, size_text, store_folder
from .sharing import add_sharing

if TYPE_CHECKING:
    from ..store.upkeep import Stored


def add(commands: Commands) -> None:
    """Declare the command."""
    evidence = commands.add_parser("evidence", help="list, verify, rekey, prune, export or import evidence")
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
    rekey = actions.add_parser(
        "rekey",
        help="keep evidence of older keys under those of today, where what these lack is proved",
        description="Evidence of an older version of a measure is never read. Where it can be proved that measuring "
        "again gives the same (no date in the chat template, no token in a response that ends it now), it is written "
        "under its key of today; the old set stays until it is pruned.",
    )
    rekey.add_argument("--base", metavar="CHECKPOINT", help="as in `pytest suites`")
    rekey.add_argument("--tuned", metavar="CHECKPOINT", help="as in `pytest suites`")
    rekey.add_argument("--pairs", type=Path, metavar="FILE", help="as in `pytest suites`")
    rekey.add_argument("--prompts", action="append", default=[], metavar="SET", help="as --shift-prompts there")
    rekey.add_argument("--rules", default="hewitt2024", metavar="RULES", help="as --shift-rules there")
    rekey.set_defaults(command=_rekey_evidence)
    for action in (listing, verify, prune, rekey):
        add_store(action)
    add_sharing(actions)


def _list_evidence(arguments: argparse.Namespace) -> int:
    from ..engine.rekey import outdated
    from ..store.evidence_file import SUFFIX
    from ..store.files import FILES
    from ..store.store import Store

    root = store_folder(arguments)
    sets = list(Store(root).list())
    for found in sets:
        state = "complete" if found.complete else f"{found.items}/{found.total}"
        print(
            f"{found.key.digest[:12]}  {found.measure:12}  {state:>10}  {found.total:5} items  "
            f"{size_text(found.size):>9}  used {found.last_used[:10]}  {found.key.dtype}  {_names(found)}"
            f"{f'  older key (version {found.key.version})' if outdated(found) else ''}"
        )
    print(f"{len(sets)} sets, {size_text(sum(s.size for s in sets))} in {root}")
    for path in sorted((root / FILES).glob(f"*{SUFFIX}")):
        name, size = path.name.removesuffix(SUFFIX), size_text(path.stat().st_size)
        print(f"pair {name}: imported evidence file, {size}; replay it with `pytest suites --pair={name}`")
    if older := sum(map(outdated, sets)):
        print(f"{older} have an older key and are not read: `tuneshift evidence rekey` keeps what is proved unchanged")
    return OK


def _names(found: Stored) -> str:
    """The checkpoint and the prompts of a set, as the run that measured them called them, with what the key holds."""
    said, prompts = found.provenance(), found.key.prompts[:12]
    named = [one_line(str(said.get("checkpoint", ""))), f"({found.key.checkpoint[:12]})", "on"]
    on = [one_line(str(said.get("on") or "prompts")), f"({prompts})"] if prompts else ["weights"]
    return " ".join(filter(None, [*named, *on]))


def _rekey_evidence(arguments: argparse.Namespace) -> int:
    from ..engine.rekey import rekey
    from ..engine.settings import Settings
    from ..files import cache_folder
    from ..pairs import resolve_pairs
    from ..prompts.sets import load_prompts
    from ..store.store import Store

    root = store_folder(arguments)
    pairs = resolve_pairs(
        base=arguments.base,
        tuned=() if arguments.tuned is None else (arguments.tuned,),
        pairs_file=arguments.pairs,
        names=[],
        prompts=arguments.prompts,
        here=Path.cwd(),
    )
    asked = [(pair, [load_prompts(source, pair=pair.name) for source in pair.prompts]) for pair in pairs]
    settings = Settings(rules=arguments.rules, memo=cache_folder() / "fingerprints.json")
    results = list(rekey(Store(root), asked, settings))
    for result in results:
        told = f"kept as {result.kept.digest[:12]}" if result.kept else f"measured again: {result.reason}"
        print(f"{result.stored.key.digest[:12]}  {result.stored.measure:12}  {told}")
    kept = sum(result.kept is not None for result in results)
    print(f"{kept} of {len(results)} sets of older keys are kept for {', '.join(pair.name for pair in pairs)}")
    return OK


def _verify_evidence(arguments: argparse.Namespace) -> int:
    from ..store.store import Store

    root = store_folder(arguments)
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
    from ..store.store import Store

    root = store_folder(arguments)
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
    print(f"{'would free' if arguments.dry_run else 'freed'} {size_text(freed)}")
    return OK
