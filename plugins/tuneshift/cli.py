"""The ``tuneshift`` command: what is done with files that a run left, tuning, and the embedded family."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .commands import annotators, doctor, embedded, evidence, findings, gate, judges, outputs, power, report, tune
from .commands import open as open_report
from .commands.common import OK, PROBLEMS, USAGE
from .errors import TuneshiftError, UsageError


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
    reading = (findings, doctor, power, gate, report, open_report, evidence, outputs)
    for group in (*reading, annotators, judges, tune, embedded):
        group.add(commands)
    return top
