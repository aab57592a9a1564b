"""``tuneshift gate``, ``bless`` and ``merge``: what is done with run records and baselines, without models.

An option that `pytest suites` has too is known by its name there as well.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import UsageError, counted
from ..run_record import RunRecord
from ..session.options import EXAMPLE_MARGIN, losses_of, margins_of
from .common import OK, PROBLEMS, Commands, read, record_file, require_other_files

FORCE = "--force"


def add(commands: Commands) -> None:
    """Declare the commands."""
    gate = commands.add_parser("gate", help="compare a run record with a baseline; exit 1 where something regressed")
    gate.add_argument("record", type=record_file, metavar="RUN.json", help="a run record that `pytest suites` wrote")
    gate.add_argument("--baseline", "--shift-compare", dest="baseline", required=True, metavar="NAME",
                      help="the baseline to compare with")  # fmt: skip
    gate.add_argument("--margin", "--shift-margin", action="append", default=[], metavar="FINDING=VALUE",
                      help=f"how much worse is still held, as {EXAMPLE_MARGIN}; may be repeated (default: its "
                      "smallest effect of interest)")  # fmt: skip
    gate.add_argument("--gate-inconclusive", "--shift-gate-inconclusive", choices=("fail", "pass"), default="pass",
                      help="fail: exit 1 for a comparison that cannot say, too (default: %(default)s)")  # fmt: skip
    gate.add_argument("--allow-missing", "--shift-allow-missing", action="store_true",
                      help="exit 0 though claims of the baseline have no effect in this record")  # fmt: skip
    gate.add_argument("--min-power", "--shift-min-power", action="append", default=[], metavar="[FINDING=]LOSS",
                      help="stop where a true LOSS would not be red in 80 %% of runs: in margins for every claim on "
                      "prompts, in the finding's unit for FINDING=LOSS; may be repeated")  # fmt: skip
    gate.add_argument(
        "-o",
        "--out",
        "--shift-out",
        type=Path,
        metavar="DIR",
        help="write the record with its comparisons and a report",
    )
    gate.set_defaults(command=_gate)
    bless = commands.add_parser("bless", help="promote a run record to a baseline")
    bless.add_argument("record", type=record_file, metavar="RUN.json", help="a run record that `pytest suites` wrote")
    bless.add_argument("--as", "--shift-save", dest="name", required=True, metavar="NAME", help="the baseline's name")
    bless.add_argument(FORCE, "--shift-overwrite", action="store_true", help="replace a baseline of that name")
    bless.add_argument("--looks", type=int, metavar="N",
                       help="decisions that may be made against it; they share the error rate")  # fmt: skip
    bless.add_argument(
        "--spending", metavar="HOW", help="how the looks spend it: even (default), obrien-fleming or pocock"
    )
    bless.set_defaults(command=_bless)
    for command in (gate, bless):
        command.add_argument("--storage", "--shift-storage", type=Path, metavar="DIR",
                             help="where baselines lie (default: $TUNESHIFT_STORAGE, else .tuneshift/baselines of the "
                             "project that this folder is in)")  # fmt: skip
    merge = commands.add_parser("merge", help="put shards of one run into one record and report")
    merge.add_argument("records", type=record_file, nargs="+", metavar="RUN.json", help="two run records or more")
    merge.add_argument("-o", "--out", "--shift-out", type=Path, required=True, metavar="DIR",
                       help="where run.json and the report go")  # fmt: skip
    merge.set_defaults(command=_merge)


def _gate(arguments: argparse.Namespace) -> int:
    from ..gate.baselines import Baselines, storage_folder
    from ..gate.compare import check_comparable, check_margins, require_numbers
    from ..gate.look import gated, run_baseline
    from ..gate.rates import sharing
    from ..gate.sight import require_power
    from ..gate.text import ci_annotations, write_comparisons
    from ..report.conclusion import unmade

    if arguments.out is not None:
        _require_other_files(arguments.out, [arguments.record])
    record = _sealed(arguments.record)
    storage = Baselines(folder=storage_folder(arguments.storage, Path.cwd()))
    baseline = storage.load(arguments.baseline)
    margins = margins_of(arguments.margin, "--margin")
    losses = losses_of(arguments.min_power, "--min-power")
    check_margins(margins, [str(claim["finding"]) for claim in record.claims])
    require_numbers(record, str(arguments.record))
    check_comparable(record.run, record.pairs, baseline.record, baseline.name)
    shared_by = sharing(baseline.record, record.pairs, baseline.name)
    look = storage.known_look(baseline, record.claims, shared_by, float(record.run["alpha"]))
    found = gated(
        baseline, look, record.claims, record.errors, record.pairs, selection=record.run.get("selection"),
        left_out=record.run.get("pairs_left_out") or (), versions=record.run.get("versions") or {}, margins=margins,
        allow_missing=arguments.allow_missing,
    )  # fmt: skip
    write_comparisons(_Printed(), found.claims, found.summary)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        print(*ci_annotations(found.summary), sep="\n")
    outcomes = {claim["comparison"]["outcome"] for claim in found.claims}
    if outcomes <= {"not_compared"} and not found.summary["missing"]:
        raise UsageError(
            f"No claim of {arguments.record} could be compared with baseline {baseline.name!r}; see above."
        )
    if arguments.out is not None:
        run = {**record.run, "baseline": run_baseline(found.claims), "gate": found.summary}
        _write(replace(record, run=run, claims=found.claims), arguments.out)
    storage.take(baseline, look, record.claims, shared_by)
    # Last: whoever has seen the outcomes has looked, whether it sees enough or not.
    require_power(found.rows, losses, "--min-power", baseline.name)
    if record.errors:
        print(f"{unmade(len(record.errors))} {arguments.record} lists them under `errors`.")
    undecided = arguments.gate_inconclusive == "fail" and "inconclusive" in outcomes
    return PROBLEMS if record.errors or found.summary["red"] or undecided else OK


def _bless(arguments: argparse.Namespace) -> int:
    from ..gate.baselines import Baselines, Budget, storage_folder
    from ..session.gating import planned_text

    record = _sealed(arguments.record)
    if arguments.spending is not None and arguments.looks is None:
        raise UsageError("--spending says how looks share the error rate, so it needs --looks N.")
    budget = None
    if arguments.looks is not None:
        spending = arguments.spending or "even"
        budget = Budget(looks=arguments.looks, spending=spending, alpha=float(record.run["alpha"]))
    storage = Baselines(folder=storage_folder(arguments.storage, Path.cwd()))
    path = storage.save(record, arguments.name, overwrite=arguments.force, allow=FORCE, budget=budget)
    looks = f", {counted(budget.looks, 'look')} ({budget.spending})" if budget else ""
    print(f"baseline {arguments.name}: {path} ({counted(len(record.claims), 'claim')}{looks})")
    print(*planned_text(storage.load(arguments.name), float(record.run["alpha"])), sep="\n")
    return OK


def _merge(arguments: argparse.Namespace) -> int:
    from ..gate.shards import merge

    paths: list[Path] = arguments.records
    if len(paths) < 2:
        raise UsageError("Merging takes two records or more; `tuneshift report RUN.json` renders one.")
    _require_other_files(arguments.out, paths)
    records = [_sealed(path) for path in paths]
    command = shlex.join(["tuneshift", "merge", *map(str, paths), "-o", str(arguments.out)])
    merged = merge(records, [str(path) for path in paths], command=command)
    _write(merged, arguments.out)
    print(f"{counted(len(merged.claims), 'claim')} of {len(paths)} records")
    return OK


def _sealed(path: Path) -> RunRecord:
    """A run record whose checksum says that it is as it was written."""
    record = read(path)
    if not record.sealed:
        raise UsageError(
            f"{path} has no checksum (`sha256`): an older tuneshift wrote it, or it was edited, and a digit that "
            "changed on the way would move the gate. Run again; what is in the store is not measured again. "
            "`tuneshift report` reads it as it is."
        )
    return record


def _require_other_files(folder: Path, records: Sequence[Path]) -> None:
    require_other_files([folder / name for name in ("run.json", "summary.md", "report.html")], records, "--out")


def _write(record: RunRecord, folder: Path) -> None:
    from ..report.html import write_report
    from ..report.markdown import write_summary
    from ..run_record import write_record

    print(f"record: {write_record(record, folder / 'run.json')}")
    print(f"summary: {write_summary(record, folder / 'summary.md')}")
    print(f"report: {write_report(record, folder / 'report.html')}")


class _Printed:
    """Standard output as the table's terminal."""

    def write_line(self, line: str, **markup: bool) -> None:
        """One line, without colour: it may go to a file."""
        print(line)

    def write_sep(self, sep: str, title: str | None = None, **markup: bool) -> None:
        """A titled rule."""
        print(f" {title} ".center(80, sep))
