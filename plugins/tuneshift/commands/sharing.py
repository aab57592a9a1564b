"""``tuneshift evidence export`` and ``import``: a pair's evidence as one file, for those without its weights."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PairError, StoreError, UsageError
from ..session.options import add_measured
from .common import OK, Commands, add_store, read, record_file, size_text, store_folder

if TYPE_CHECKING:
    from ..claims.finding import Finding
    from ..pairs import ModelPair
    from ..run_record import RunRecord
    from ..session.requests import Options, Target
    from ..session.run import RunSession
    from ..store.evidence import EvidenceKey
    from ..store.recorded_pair import RecordedPair
    from ..store.store import Store

PYTEST = "pytest"


def add_sharing(actions: Commands) -> None:
    """Declare both actions."""
    export = actions.add_parser(
        "export",
        help="write the evidence of a pair as one file that replays without weights",
        description="Writes what a run of `pytest suites` used of a pair: every measure, the prompts, the pair's "
        "declarations. `pytest suites --shift-evidence=FILE` then decides the same claims with no weights and no "
        "network. Name the run by its record, or the pair by the options of `pytest suites`; nothing is measured.",
    )
    export.add_argument("run", nargs="?", type=record_file, metavar="RUN", help="the run's run.json, or its folder")
    export.add_argument("--out", type=Path, metavar="FILE", help="default: the pair's name and .evidence.zip, here")
    export.add_argument("--force", action="store_true", help="replace a file that is there")
    export.add_argument("--partial", action="store_true", help="write the file even where the store lacks evidence")
    export.add_argument(
        "--measure",
        action="append",
        default=[],
        metavar="MEASURE",
        help="only evidence of this measure; may be repeated",
    )
    add_store(export)
    add_measured(export.add_argument_group("the pair and how it was measured, as in `pytest suites`").add_argument)
    export.set_defaults(command=_export)
    reading = actions.add_parser(
        "import",
        help="put an evidence file into the store, so that `pytest suites --pair=NAME` replays it",
        description="Checks the whole file first. Its sets join the store under their keys, so that nobody who has the "
        "weights measures them again, and the file is kept there, found by its pair's name. Nothing that is in the "
        "store is replaced.",
    )
    reading.add_argument("file", type=Path, metavar="FILE", help="what `tuneshift evidence export` wrote")
    reading.add_argument("--force", action="store_true", help="replace another file that was imported for that pair")
    reading.add_argument("--store", type=Path, metavar="DIR", help="evidence store; made where it is not there yet")
    reading.set_defaults(command=_import)


def _export(arguments: argparse.Namespace) -> int:
    from ..claims.catalogue import findings
    from ..files import publish
    from ..session.publishing import published
    from ..session.run import RunSession
    from ..store.evidence_file import SUFFIX

    record = None if arguments.run is None else read(arguments.run)
    run = RunSession(options=_options(arguments, record), known_findings=findings)
    pair = _one_pair(run)
    out: Path = arguments.out or Path(f"{pair.name}{SUFFIX}")
    if out.exists() and not arguments.force:
        raise UsageError(f"{out} is there already; name another file with --out, or replace it with --force.")
    made = published(
        run, pair, _wanted(run, record, arguments.finding or ()), measures=_measures(arguments), record=record
    )
    for line in made.lacking:
        print(f"not in the store: {line}")
    if made.lacking and record is None and not arguments.partial:
        raise UsageError(
            f"the store {run.store.root} has not all that the claims on pair {pair.name} need. Run `pytest suites` "
            "with the same options first, name its record, or leave these claims out with --partial."
        )
    if not made.sets:
        raise UsageError(f"the store {run.store.root} holds no evidence of pair {pair.name}; nothing was written.")
    try:
        publish(out, made.data)
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error.strerror or error}.") from error
    print(
        f"{out}: pair {pair.name}, {made.sets} sets, {size_text(len(made.data))} "
        f"({size_text(made.unpacked)} unpacked). Replay it with "
        f"`pytest suites --shift-evidence={shlex.quote(str(out))}`"
    )
    return OK


def _options(arguments: argparse.Namespace, record: RunRecord | None) -> Options:
    """What the run was asked for: as its record's command says, or as the options here do."""
    from dataclasses import replace

    from ..session.options import options_of

    words: list[str] = []
    if record is not None:
        command = shlex.split(str(record.run.get("command", "")))
        if command[:1] != [PYTEST]:
            raise UsageError(
                f"{arguments.run} is of a script, whose pairs cannot be read from its record; leave it out and name "
                "the pair by --pairs and --pair, or --base and --tuned."
            )
        words = command[1:]
    options = options_of(words, Path.cwd(), given=vars(arguments))
    if record is not None and arguments.store is None and (used := record.run.get("store")):
        return replace(options, store=Path(str(used)))
    return replace(options, store=store_folder(arguments))


def _one_pair(run: RunSession) -> ModelPair:
    names = [pair.name for pair in run.pairs]
    if len(names) > 1:
        raise UsageError(f"An evidence file is of one pair and these are {', '.join(names)}; choose with --pair.")
    return run.pairs[0]


def _measures(arguments: argparse.Namespace) -> list[str]:
    from ..errors import did_you_mean
    from ..measures.catalogue import MEASURES

    for name in arguments.measure:
        if name not in MEASURES:
            raise UsageError(f"--measure {name!r} is none; {did_you_mean(name, MEASURES)}.")
    return list(arguments.measure)


def _wanted(run: RunSession, record: RunRecord | None, patterns: Sequence[str]) -> list[tuple[Finding, Target]]:
    """The claims whose evidence is wanted: those of the record, else all; of these, the findings named."""
    from ..session.options import findings_named

    every = run.catalogue_claims
    if record is not None:
        made = {tuple(c[name] for name in ("finding", "pair", "prompts", "group")) for c in record.claims}
        every = [(f, t) for f, t in every if (f.id, t.pair.name, t.on, t.group) in made]
    named = findings_named(patterns, [finding.id for finding, _ in every])
    return [(finding, target) for finding, target in every if not patterns or finding.id in named]


def _import(arguments: argparse.Namespace) -> int:
    from ..files import publish
    from ..pairs import resolve_pairs
    from ..prompts.sets import load_prompts
    from ..store.evidence_file import SUFFIX
    from ..store.files import FILES
    from ..store.store import Store

    root = arguments.store if arguments.store is not None else store_folder(arguments)
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file; the evidence store is a folder.")
    (pair,) = resolve_pairs(
        base=None, tuned=(), pairs_file=None, names=(), prompts=(), here=Path.cwd(), evidence=[arguments.file]
    )
    assert pair.recorded is not None
    for source in pair.prompts:
        load_prompts(source, pair=pair.name)
    kept, content = root / FILES / f"{pair.name}{SUFFIX}", arguments.file.read_bytes()
    if kept.exists() and kept.read_bytes() != content and not arguments.force:
        raise UsageError(
            f"{kept} is other evidence that was imported for pair {pair.name}; replace it with --force. Nothing "
            "changed."
        )
    new = [_copied(pair.recorded, key, Store(root)) for key in pair.recorded.sets()]
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        publish(kept, content)
    except OSError as error:
        raise StoreError(f"{kept} cannot be written: {error.strerror or error}.") from error
    try:
        (found,) = resolve_pairs(
            base=None, tuned=(), pairs_file=None, names=[pair.name], prompts=(), here=Path.cwd(), store=root
        )
        by_name = found.recorded is not None
    except PairError:
        by_name = False
    how = f"--pair={pair.name}" if by_name else f"--shift-evidence={shlex.quote(str(kept))}"
    print(f"pair {pair.name}: {len(new)} sets, {sum(new)} of them new in {root}. Replay it with `pytest suites {how}`")
    if not by_name:
        print(f"A pair {pair.name} is declared here with checkpoints of its own: --pair={pair.name} runs that one.")
    return OK


def _copied(source: RecordedPair, key: EvidenceKey, store: Store) -> bool:
    """Write what a store lacks of a set; whether it lacked any."""
    layout, chunks = source.chunks(key)
    items = {item.id: (item, chunk.provenance) for chunk in chunks for item in chunk.items}
    with store.session(key, layout.ids, {}, chunk_size=layout.chunk_size) as session:
        missing = session.missing
        for number, ids in missing:
            session.write(number, [items[i][0] for i in ids], items[ids[0]][1])
    return bool(missing)
