"""Writing a file whole or not at all, and where files lie: what can be computed again, and what a project keeps."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

KEPT = ".tuneshift"
"""Folder of what a project keeps for tuneshift, made to be committed."""


def publish(path: Path, data: bytes) -> None:
    """Write ``data`` as ``path``, whole or not at all: temporary file beside it, fsync, rename. Raises OSError."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        # os.open and not tempfile: mkstemp's mode 0600 would shut out those whom a store or a report is shared with
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # makes the rename survive a power cut; file systems that cannot do it (Windows, some network ones) just go without
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def cache_folder() -> Path:
    """tuneshift's folder in the user's cache."""
    from platformdirs import user_cache_path

    return user_cache_path("tuneshift")


def folders_upward(here: Path) -> Iterator[Path]:
    """``here`` and the folders above it: up to the repository's own, which holds ``.git``, else to the last."""
    for folder in (here.absolute(), *here.absolute().parents):
        yield folder
        if (folder / ".git").exists():  # a file in a worktree
            return


def project_folder(here: Path) -> Path:
    """The project that ``here`` is in: the nearest folder that has `KEPT`, else a pyproject.toml, else ``here``.

    Where the user stands decides and not pytest's rootdir, which follows any path on its command line.
    """
    upward = list(folders_upward(here))
    kept = (folder for folder in upward if (folder / KEPT).is_dir())
    project = (folder for folder in upward if (folder / "pyproject.toml").is_file())
    return next(kept, None) or next(project, None) or here.absolute()
