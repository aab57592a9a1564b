"""``tuneshift report``: the HTML report of a run record."""

from __future__ import annotations

import argparse
from pathlib import Path

from .common import OK, Commands


def add(commands: Commands) -> None:
    """Declare the command."""
    report = commands.add_parser("report", help="render the HTML report of a run record again")
    report.add_argument("record", type=Path, metavar="RUN.json", help="a run record that `pytest suites` wrote")
    report.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="where to (default: report.html beside the record)"
    )
    report.set_defaults(command=_report)


def _report(arguments: argparse.Namespace) -> int:
    from ..recording import read_record
    from ..report import write_report

    record: Path = arguments.record
    print(write_report(read_record(record), arguments.out or record.with_name("report.html")))
    return OK
