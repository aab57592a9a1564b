"""Writing files whole or not at all, whether a folder can be written, and where files lie: caches, and what is kept."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
"""What file systems say that keep no locks."""
_TEMPORARY = re.compile(r"\..+\.tmp-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}")

KEPT = ".tuneshift"
"""Folder of what a project keeps for tuneshift, made to be committed."""


def publish(path: Path, data: bytes) -> None:
    """Write ``data`` as ``path``, whole or not at all: temporary file beside it, fsync, rename. Raises OSError."""
    publish_all({path: data})


def publish_all(files: Mapping[Path, bytes]) -> None:
    """Write several files, each whole or not at all: every one is on the disk before the first takes its place.

    Raises OSError; where the disk is full or a folder refuses, the files of before are still there, all of them.
    """
    staged: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            staged[path] = path.with_name(f".{path.name}.tmp-{_host()}-{os.getpid()}-{secrets.token_hex(4)}")
            _write(staged[path], data)
        for path, temporary in staged.items():
            os.replace(temporary, path)
    except BaseException:
        for temporary in staged.values():
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise
    for folder in dict.fromkeys(path.parent for path in files):
        _sync_folder(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that processes of this machine left in a folder when they were killed."""
    if os.name != "posix":
        return  # elsewhere a process cannot be asked for without touching it
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            found = _TEMPORARY.fullmatch(name)
            if found and found["host"] == _host() and not _is_running(int(found["pid"])):
                with contextlib.suppress(OSError):
                    (folder / name).unlink()


def require_writable(folder: Path) -> None:
    """Raise OSError where no file can be written in a folder, which need not exist; leaves nothing behind.

    Tried and not asked for: permissions do not tell of read-only and full disks, and root has them all.
    """
    made = [part for part in (folder, *folder.parents) if not part.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.tmp-{_host()}-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            _write(probe, b"x")
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()
    finally:
        for part in made:
            with contextlib.suppress(OSError):
                part.rmdir()


def acquired_lock(path: Path, timeout: float, poll_interval: float = 0.05) -> BaseFileLock:
    """A lock on ``path``, taken; ``timeout`` in seconds, negative without end. Raises filelock.Timeout, OSError.

    Where the file system has no locks (some network ones: ENOLCK, EOPNOTSUPP), a file beside it whose being there is
    the lock, as filelock itself does for ENOSYS. All who share the file system meet the same answer.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    # not thread local: a session may be closed by another thread than the one that opened it
    lock: BaseFileLock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=timeout, poll_interval=poll_interval)
        return lock
    except Timeout:
        raise
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    lock = SoftFileLock(path.with_suffix(".soft"), thread_local=False)
    lock.acquire(timeout=timeout, poll_interval=poll_interval)
    return lock


def _write(path: Path, data: bytes) -> None:
    # os.open and not tempfile: mkstemp's mode 0600 would shut out those whom a store or a report is shared with
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _host() -> str:
    """A short name of this machine: process numbers mean nothing on another one that shares the folder."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


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
