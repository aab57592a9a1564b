"""``tuneshift open``: the report of a run, in the browser."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ..errors import TuneshiftError, UsageError
from .common import OK, Commands

RESULTS = Path("tuneshift-results")
"""Where ``pytest suites`` writes unless ``--shift-out`` names another folder."""


def add(commands: Commands) -> None:
    """Declare the command."""
    command = commands.add_parser("open", help="open a report in the browser")
    command.add_argument(
        "place", nargs="?", type=Path, default=RESULTS, metavar="REPORT", help="a report, or a folder in which to look "
        "for the newest one (default: %(default)s)",
    )  # fmt: skip
    command.add_argument("--print", action="store_true", dest="only_print", help="print its path and open nothing")
    command.set_defaults(command=_open)


def _open(arguments: argparse.Namespace) -> int:
    import webbrowser

    report = newest_report(arguments.place)
    print(report)
    if not arguments.only_print and not webbrowser.open(report.as_uri()):
        raise TuneshiftError("No browser could be started; open the file that is named above by hand.")
    return OK


def newest_report(place: Path) -> Path:
    """Absolute path of the report ``place``, or of the HTML file below that folder that was written last.

    Raises UsageError where there is none.
    """
    if os.path.isfile(place):
        return place.resolve()
    if not os.path.exists(place):
        raise UsageError(
            f"There is no report at {place}; `pytest suites` writes one, `tuneshift report RUN.json` again."
        )
    found = sorted(place.rglob("*.html"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UsageError(f"There is no HTML file in {place}; `tuneshift report RUN.json` writes a report.")
    return found[-1].resolve()
