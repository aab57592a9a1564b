"""What commands share: exit codes, and options that several of them have."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from ..errors import RecordError, UsageError
from ..run_record import RunRecord, read_record
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


def record_file(text: str) -> Path:
    """The record that an argument names: a run.json, or the folder that holds one, as ``tuneshift.load_run`` takes."""
    path = Path(text)
    return path / "run.json" if path.is_dir() else path


def read(path: Path) -> RunRecord:
    """A run record; one that cannot be read is the fault of the command's input."""
    try:
        return read_record(path)
    except RecordError as error:
        raise UsageError(str(error)) from error


def require_other_files(written: Iterable[Path], read: Iterable[Path], option: str) -> None:
    """Raise UsageError where a command would write a file that it reads: what was read would be gone."""
    inputs = {path.resolve(): path for path in read}
    for path in written:
        if path.resolve() in inputs:
            read_as = inputs[path.resolve()]
            raise UsageError(f"{option} would write {path} over {read_as}, which is read; name another file or folder.")


def store_folder(arguments: argparse.Namespace) -> Path:
    """The evidence store that ``--store`` names. Raises UsageError for a file, and for one that is not there."""
    root: Path = arguments.store or default_store()
    if os.path.exists(root) and not os.path.isdir(root):
        raise UsageError(f"{root} is a file; the evidence store is a folder.")
    if arguments.store and not os.path.exists(root):
        raise UsageError(f"There is no evidence store at {root}.")
    return root


def size_text(count: int) -> str:
    """A number of bytes in three digits: ``2.31 MB``."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"
