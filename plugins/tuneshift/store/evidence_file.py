"""An evidence file: plain files in one zip under a seal over every byte, read within limits, nothing unpickled.

Written down in ``docs/evidence-files.md``. It is a zip so that any tool opens it; what tuneshift reads is stricter: no
name, byte or member beyond those that `packed` writes.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from ..errors import EvidenceFileError
from ..parse import fault_of_name, shown_name

SUFFIX = ".evidence.zip"
MANIFEST = "pair.json"
FORMAT = 1
"""Version of the file's form; raised when older code can no longer read what newer code writes."""

LARGEST_FILE = 2 * 2**30
"""Bytes of an evidence file: it is read into memory."""
LARGEST_WHOLE = 8 * 2**30
"""Bytes of all members unpacked. Deflate packs a thousand to one, so that 8 MB could fill a disk."""
MOST_MEMBERS = 100_000

_WRITTEN = re.compile(rb"tuneshift-evidence (\d{4}) sha256 ([0-9a-f]{64})")
_LENGTH = len("tuneshift-evidence 0001 sha256 ") + 64
_FIXED = re.compile(
    r"pair\.json|expectations\.toml|single-task\.jsonl|"
    r"store/[a-z]{1,40}/[0-9a-f]{64}/(?:key\.json|chunk-\d{5,9}\.(?:json|safetensors))"
)
_NAMED = ("prompts", "words", "rules")
"""Folders of members that keep the names of the user's files."""
_REFUSED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError,
            NotImplementedError, IndexError, OverflowError)  # fmt: skip
"""What zipfile raises for bytes that are no zip, are damaged, encrypted or packed in another way."""


def packed(members: Mapping[str, bytes]) -> bytes:
    """The bytes of an evidence file with these members: the same for the same members (and zlib), whenever and
    wherever. Raises ValueError for a name that no evidence file has."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in sorted(members, key=lambda name: (name != MANIFEST, name)):
            if fault := fault_of_member(name):
                raise ValueError(f"{shown_name(name)} {fault}")
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            file.writestr(entry, members[name], compress_type=zipfile.ZIP_DEFLATED, compresslevel=9)
        file.comment = _seal(b"")
    content = buffer.getvalue()[:-_LENGTH]
    return content + _seal(content)


def unpacked(path: Path) -> tuple[str, dict[str, bytes]]:
    """The seal of an evidence file, 64 hexadecimal digits that name its content, and its members.

    Raises EvidenceFileError, naming the file, for one that is missing, foreign, cut, damaged or of another version. As
    anybody can seal a file: also for members beyond the limits above, of names that no evidence file has or that meet
    on a file system without capitals, for links, folders and encryption.
    """
    data = _bytes(path)
    seal = _checked_seal(path, data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            entries = file.infolist()
            _check_entries(path, entries)
            return seal, {entry.filename: _member(path, file, entry) for entry in entries}
    except EvidenceFileError:
        raise
    except _REFUSED as error:
        raise EvidenceFileError(
            f"{path} is no zip that can be read ({error}), though its checksum fits; ask whoever made it."
        ) from error


def fault_of_member(name: str) -> str | None:
    """Why no evidence file has a member of this name; None where one may. Names are relative, ``/`` between parts."""
    if _FIXED.fullmatch(name):
        return None
    folder, _, rest = name.partition("/")
    if folder not in _NAMED or not rest or rest.startswith(".") or set(rest) & set('/\\:*?"<>|'):
        return "is not the name of a member that an evidence file has"
    return fault_of_name(rest)


def _seal(content: bytes) -> bytes:
    return f"tuneshift-evidence {FORMAT:04d} sha256 {hashlib.sha256(content).hexdigest()}".encode()


def _bytes(path: Path) -> bytes:
    try:
        if not os.path.isfile(path):
            what = "is a folder" if os.path.isdir(path) else "does not exist"
            raise EvidenceFileError(f"The evidence file {path} {what}; `tuneshift evidence export` writes one.")
        size = os.path.getsize(path)
        if size > LARGEST_FILE:
            raise EvidenceFileError(f"{path} has {size:,} bytes; an evidence file has at most {LARGEST_FILE:,}.")
        with open(path, "rb") as file:
            return file.read(LARGEST_FILE)
    except EvidenceFileError:
        raise
    except (OSError, ValueError) as error:
        raise EvidenceFileError(f"The evidence file {path} cannot be read: {error}.") from error


def _checked_seal(path: Path, data: bytes) -> str:
    found = _WRITTEN.fullmatch(data[-_LENGTH:])
    if found is None:
        if data[:4] == b"PK\x03\x04":
            raise EvidenceFileError(
                f"{path} is cut short, damaged at its end, or a zip that is no evidence file; copy or download it anew."
            )
        raise EvidenceFileError(f"{path} is no evidence file; `tuneshift evidence export` writes one.")
    if int(found[1]) != FORMAT:
        raise EvidenceFileError(
            f"{path} has evidence-file format {int(found[1])}; this tuneshift reads format {FORMAT}. Read it with the "
            "version of tuneshift that wrote it, or export it again with this one."
        )
    if _seal(data[:-_LENGTH]) != data[-_LENGTH:]:
        raise EvidenceFileError(f"{path} is damaged: its checksum does not fit its bytes; copy or download it anew.")
    return found[2].decode()


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    seen: set[str] = set()
    if len(entries) > MOST_MEMBERS:
        raise EvidenceFileError(f"{path} has {len(entries):,} members; at most {MOST_MEMBERS:,} are read.")
    if (total := sum(entry.file_size for entry in entries)) > LARGEST_WHOLE:
        raise EvidenceFileError(f"{path} would unpack to {total:,} bytes; at most {LARGEST_WHOLE:,} are read.")
    for entry in entries:
        name, kind = entry.filename, stat.S_IFMT(entry.external_attr >> 16)
        fault = fault_of_member(name)
        if fault is None and (kind not in (0, stat.S_IFREG) or entry.is_dir()):
            fault = "is a link or a folder, and no file"
        if fault is None and entry.flag_bits & 0x1:
            fault = "is encrypted"
        if fault is None and entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            fault = "is packed in another way than deflate"
        if fault is None and name.casefold() in seen:
            fault = "is there twice"
        if fault is not None:
            raise EvidenceFileError(f"{path}: the member {shown_name(name)} {fault}; nothing of the file was used.")
        seen.add(name.casefold())


def _member(path: Path, file: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with file.open(entry) as stream:
        content = stream.read(entry.file_size + 1)
    if len(content) != entry.file_size:
        raise EvidenceFileError(f"{path}: the member {shown_name(entry.filename)} is not of the size that it says.")
    return content
