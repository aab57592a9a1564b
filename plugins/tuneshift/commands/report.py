"""``tuneshift report``: the HTML report and the Markdown summary of one run record, or of several together."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UsageError
from .common import OK, Commands, read, record_file, require_other_files


def add(commands: Commands) -> None:
    """Declare the command."""
    report = commands.add_parser(
        "report", help="render run records again, several into one report",
        description="Render the HTML report of run records, and the Markdown summary beside it. Several records make "
        "one report, their pairs side by side; of a claim tested twice on the same checkpoints the later one counts.",
    )  # fmt: skip
    report.add_argument(
        "records", nargs="+", type=record_file, metavar="RUN.json", help="run records that `pytest suites` wrote"
    )
    report.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="where to (default: report.html beside the first record); the "
        "summary goes beside it under the same name, ending in .md, or as summary.md beside report.html",
    )  # fmt: skip
    report.add_argument(
        "--templates", type=Path, metavar="DIR", help="folder of Jinja templates that come before the report's own"
    )
    report.set_defaults(command=_report)


def _report(arguments: argparse.Namespace) -> int:
    from ..report.html import write_report
    from ..report.markdown import write_summary
    from ..report.several_runs import merged

    records: list[Path] = arguments.records
    out: Path = arguments.out or records[0].with_name("report.html")
    if out.suffix == ".md":
        raise UsageError(f"--out is {out}; it names the HTML report, and the summary goes beside it. End it in .html.")
    summary = out.with_name("summary.md") if out.stem == "report" else out.with_suffix(".md")
    templates = arguments.templates.rglob("*") if arguments.templates else ()
    require_other_files([out, summary], [*records, *templates], "--out")
    record = merged([read(path) for path in records])
    print(write_report(record, out, arguments.templates))
    print(write_summary(record, summary))
    return OK
