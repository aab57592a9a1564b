"""The store's files: their names, the errors about them, setting aside, and the lock of a key."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from filelock import BaseFileLock, Timeout

from ..errors import StoreError
from ..files import acquired_lock
from ..parse import parse_json

KEY_FILE = "key.json"
LOCKS = ".locks"
LOGS = ".logs"
"""Tracebacks of measurements that failed."""
FILES = ".evidence"
"""Evidence files that were imported, found by their pair's name."""
_CHUNK = re.compile(r"chunk-(\d{5,})\.(json|safetensors)")
_ASIDE = re.compile(r"(?:key|chunk-\d{5,})\.(?:json|safetensors)\.damaged-\d+")
_TEMPORARY = re.compile(r"\.(?:key|chunk-\d{5,})\.(?:json|safetensors)\.tmp-[0-9a-f-]+")
_LOG = logging.getLogger("tuneshift.store")


class DamagedEvidence(StoreError):
    """A stored file is not what was written; ``path`` is where it lay before it was set aside."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path} is damaged: {what}")
        self.path = path
        self.what = what


class MissingEvidence(StoreError):
    """The store holds no evidence of a key, or only a part of it."""


class FutureEvidence(StoreError):
    """A file has a format version that this code does not know; it is neither read nor changed."""


class EvidenceWarning(UserWarning):
    """Stored evidence was found damaged, was set aside and is measured again."""


class LockedEvidence(StoreError):
    """Another process (or session) holds the key's lock, and the time to wait for it is up."""


def now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def chunk_file(number: int, suffix: str) -> str:
    """A chunk's file name; ``suffix`` is ``json`` or ``safetensors``."""
    return f"chunk-{number:05d}.{suffix}"


def kind_of(name: str) -> str:
    """What a file in a set's folder is, by name: ``key``, ``chunk``, ``aside``, ``temporary`` or ``foreign``."""
    if name == KEY_FILE:
        return "key"
    patterns = {"chunk": _CHUNK, "aside": _ASIDE, "temporary": _TEMPORARY}
    return next((kind for kind, pattern in patterns.items() if pattern.fullmatch(name)), "foreign")


def names_in(folder: Path) -> frozenset[str]:
    """Names of what a folder holds; empty where there is no such folder."""
    try:
        return frozenset(os.listdir(folder))
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise store_error(error, f"read the folder {folder}") from error


def store_error(error: OSError, doing: str, note: str = "") -> StoreError:
    """A StoreError that says in the user's words why ``doing`` failed; ``note`` is what became of the work so far."""
    reasons = {
        **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "the disk is full (or a quota is used up): free some space"),
        errno.EROFS: "it lies on a read-only file system: name another store with --shift-store",
        **dict.fromkeys(
            (errno.EACCES, errno.EPERM), "permission denied: name another store with --shift-store or change its owner"
        ),
        **dict.fromkeys(
            (errno.ENOTDIR, errno.EEXIST), "a file is where a folder should be: name another store with --shift-store"
        ),
    }
    reason = reasons.get(error.errno or 0, "check the disk, or name another store with --shift-store")
    return StoreError(f"could not {doing}: {reason}{note} [{error}]")


def contents(path: Path) -> bytes:
    """A file's bytes. Raises FileNotFoundError; StoreError where it is there and cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise store_error(error, f"read {path}") from error


def set_aside(path: Path) -> tuple[Path, ...]:
    """Rename a damaged file, and its chunk's other half, to ``*.damaged-N``; returns the new paths. Raises OSError.

    The JSON goes first: from then on the chunk no longer counts as whole.
    """
    chunk = _CHUNK.fullmatch(path.name)
    group = [path.with_suffix(".json"), path.with_suffix(".safetensors")] if chunk else [path]
    there = [p for p in group if p.exists()]
    number = 1
    while any(p.with_name(f"{p.name}.damaged-{number}").exists() for p in group):
        number += 1
    return tuple(p.rename(p.with_name(f"{p.name}.damaged-{number}")) for p in there)


@contextlib.contextmanager
def hold(root: Path, digest: str, timeout: float | None) -> Iterator[None]:
    """Hold a key's lock; ``timeout`` in seconds, None waits without end. Raises LockedEvidence, StoreError.

    The system drops the lock with the process that holds it, however that ends. Lock files lie outside the sets'
    folders and stay: removing one that somebody waits for would let two processes in.
    """
    path = root / LOCKS / f"{digest}.lock"
    holder = path.with_suffix(".json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _acquired(path, holder, timeout)
    except Timeout as error:
        raise LockedEvidence(
            f"the evidence {digest[:12]} is being measured by {_holder(holder)}, which holds the lock {path} "
            f"(waited {timeout:g} s). Wait for that process or end it; every chunk it finished is kept"
        ) from error
    except OSError as error:
        raise store_error(error, f"take the lock {path}") from error
    try:
        with contextlib.suppress(OSError):  # the holder's name is a courtesy to those who wait
            holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": now()}))
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink()
        lock.release()


def _acquired(path: Path, holder: Path, timeout: float | None) -> BaseFileLock:
    try:
        return acquired_lock(path, 0)
    except Timeout:
        if timeout == 0:
            raise
        _LOG.warning("waiting for %s, which measures the same evidence", _holder(holder))
        return acquired_lock(path, -1 if timeout is None else timeout, poll_interval=0.1)


def _holder(path: Path) -> str:
    try:
        found = parse_json(path.read_bytes())
        return f"process {found['pid']} on {found['host']} (since {found['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
