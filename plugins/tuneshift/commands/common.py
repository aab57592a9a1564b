"""What commands share: exit codes, and options that several of them have."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TypeAlias

from ..errors import UsageError
from ..session.options import STORE_VARIABLE, default_store

OK, PROBLEMS, INTERRUPTED, USAGE = 0, 1, 2, 4
"""Exit codes, the last two as in pytest: done; something is wrong with what was looked at; stopped by the user; the
command's input is at fault."""

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_store(command: argparse.ArgumentParser) -> None:
    """``--store``, the evidence store."""
    command.add_argument(
        "--store", type=Path, metavar="DIR", help=f"evidence store (default: ${STORE_VARIABLE}, else the user's cache)"
    )


def store_folder(arguments: argparse.Namespace) -> Path:
    """The evidence store that ``--store`` names. Raises UsageError for a file, and for one that is not there."""
    root: Path = arguments.store or default_store()
    if os.path.exists(root) and not os.path.isdir(root):
        raise UsageError(f"{root} is a file; the evidence store is a folder.")
    if arguments.store and not os.path.exists(root):
        raise UsageError(f"There is no evidence store at {root}.")
    return root
