"""evidence_file.py: the same members make the same bytes, and nothing but such bytes is ever read."""

from __future__ import annotations

import hashlib
import io
import random
import stat
import zipfile
from pathlib import Path

import pytest
from hostile_values import byte_mutant, effort

from tuneshift.errors import EvidenceFileError
from tuneshift.store import evidence_file
from tuneshift.store.evidence_file import fault_of_member, packed, unpacked

SEAL = 95
"""Bytes of the seal at a file's end."""
SET = f"store/generation/{'a' * 64}"
MEMBERS = {
    "pair.json": b'{"format": 1}\n',
    "prompts/my set.jsonl": "é red\n".encode() * 40,
    f"{SET}/key.json": b"{}",
    f"{SET}/chunk-00000.safetensors": bytes(range(256)) * 4,
}


def sealed(content: bytes, version: int = 1) -> bytes:
    """Anybody can seal a file."""
    return content + f"tuneshift-evidence {version:04d} sha256 {hashlib.sha256(content).hexdigest()}".encode()


def hostile(*entries: tuple[zipfile.ZipInfo, bytes], **how: int) -> bytes:
    """A sealed zip with entries that `packed` would not write."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for entry, content in entries:
            file.writestr(entry, content, **how)
        file.comment = sealed(b"")
    return sealed(buffer.getvalue()[: -len(sealed(b""))])


def entry(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    found = zipfile.ZipInfo(name)
    found.create_system, found.external_attr = 3, mode << 16
    return found


@pytest.fixture
def read(tmp_path):
    def read(data: bytes) -> dict[str, bytes]:
        path = tmp_path / "x.evidence.zip"
        path.write_bytes(data)
        return unpacked(path)[1]

    return read


def test_what_is_packed_comes_back_and_any_zip_tool_reads_it(tmp_path, read):
    data = packed(MEMBERS)
    assert read(data) == MEMBERS
    with zipfile.ZipFile(tmp_path / "x.evidence.zip") as file:
        assert file.testzip() is None
        assert {name: file.read(name) for name in file.namelist()} == MEMBERS
        assert file.namelist()[0] == "pair.json"


def test_the_same_members_make_the_same_bytes_whenever_and_in_whatever_order():
    first = packed(MEMBERS)
    with zipfile.ZipFile(io.BytesIO(first)) as file:
        assert {entry.date_time for entry in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert packed(dict(reversed(MEMBERS.items()))) == first
    assert packed({**MEMBERS, "pair.json": b"{}"}) != first


@pytest.mark.parametrize(
    "name",
    ["../pair.json", "/pair.json", "prompts/../../x", "prompts/..", "prompts/a/b.jsonl", "prompts\\x", "C:/x",
     "words/C:x", "words/.hidden", "words/", "x", "", "store/generation/short/key.json", f"{SET}/chunk-1.json",
     f"{SET}/../key.json",
     f"store/Gen/{'a' * 64}/key.json", "pair.json/", "prompts/a\nb", "prompts/\x1b[31m", f"words/{'a' * 300}"],
)  # fmt: skip
def test_a_name_that_leads_anywhere_else_is_refused(name, read):
    assert fault_of_member(name)
    with pytest.raises(ValueError, match=r"is not|holds|has"):
        packed({name: b""})
    try:
        data = hostile((entry(name), b"x"))
    except ValueError:  # zipfile itself writes no such name
        return
    with pytest.raises(EvidenceFileError, match=r"nothing of the file was used|no zip"):
        read(data)


@pytest.mark.parametrize("name", ["prompts/general.jsonl", "prompts/über ein.jsonl", "words/w.npz", "rules/r.toml"])
def test_names_of_the_users_files_are_kept(name, read):
    assert read(packed({name: b"x"})) == {name: b"x"}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (hostile((entry("pair.json", stat.S_IFLNK | 0o777), b"/etc/passwd")), "is a link"),
        (hostile((entry("pair.json", stat.S_IFIFO | 0o644), b"")), "is a link"),
        (hostile((entry("words/W"), b"a"), (entry("words/w"), b"b")), "there twice"),
        (hostile((entry("words/w"), b"a"), (entry("words/W"), b"b")), "there twice"),
        (hostile((entry("pair.json"), b"a" * 99), compress_type=zipfile.ZIP_LZMA), "another way than deflate"),
        (sealed(b"no zip at all"), "no zip that can be read"),
        (sealed(packed(MEMBERS)[:-200]), "no zip that can be read"),
        (sealed(packed(MEMBERS)[:-SEAL], version=7), "has evidence-file format 7; this tuneshift reads format 1"),
        (b"", "is no evidence file"),
        (b"PK\x03\x04", "cut short"),
    ],
)
def test_a_file_under_a_sound_seal_is_still_refused_for_what_is_in_it(data, says, read):
    with pytest.raises(EvidenceFileError, match=says):
        read(data)


def test_an_encrypted_member_is_refused(read):
    plain = hostile((entry("pair.json"), b"secret"))[:-SEAL]
    at = plain.rindex(b"PK\x01\x02") + 8  # general purpose flags in the central directory
    with pytest.raises(EvidenceFileError, match="is encrypted"):
        read(sealed(plain[:at] + b"\x01" + plain[at + 1 :]))


def test_a_bomb_is_refused_before_it_is_unpacked(read, monkeypatch):
    data = packed({"words/zeros": b"\0" * 10_000_000})
    assert len(data) < 20_000
    monkeypatch.setattr(evidence_file, "LARGEST_WHOLE", 9_999_999)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("a member was read"))
    with pytest.raises(EvidenceFileError, match="would unpack to 10,000,000 bytes"):
        read(data)


def test_sizes_that_lie_too_many_members_and_a_large_file_are_refused(read, monkeypatch):
    plain = packed({"words/zeros": b"\0" * 1000})[:-SEAL]
    at = plain.rindex(b"PK\x01\x02") + 24  # uncompressed size in the central directory
    with pytest.raises(EvidenceFileError):
        read(sealed(plain[:at] + (10).to_bytes(4, "little") + plain[at + 4 :]))
    monkeypatch.setattr(evidence_file, "MOST_MEMBERS", 3)
    with pytest.raises(EvidenceFileError, match="has 4 members"):
        read(packed(MEMBERS))
    monkeypatch.setattr(evidence_file, "LARGEST_FILE", 100)
    with pytest.raises(EvidenceFileError, match="has at most 100"):
        read(packed(MEMBERS))


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(EvidenceFileError, match="does not exist"):
        unpacked(tmp_path / "gone.evidence.zip")
    with pytest.raises(EvidenceFileError, match="is a folder"):
        unpacked(tmp_path)


def test_every_flipped_bit_is_noticed(read):
    data = packed({"pair.json": b"{}"})
    for at in range(len(data)):
        mutant = bytearray(data)
        mutant[at] ^= 1 << at % 8
        with pytest.raises(EvidenceFileError):
            read(bytes(mutant))


@pytest.mark.parametrize("seed", range(effort(60)))
def test_a_damaged_file_is_refused_in_words_whatever_happened_to_it(seed, read):
    data = packed(MEMBERS)
    with pytest.raises(EvidenceFileError) as refused:
        read(byte_mutant(data, random.Random(seed)))
    assert "evidence" in str(refused.value)


@pytest.mark.parametrize("seed", range(effort(60)))
def test_a_damaged_zip_under_a_new_seal_is_refused_or_read_as_what_it_is(seed, read, tmp_path):
    """Somebody may seal anything: nothing is written, and no error but ours comes out."""
    content = byte_mutant(packed(MEMBERS)[:-SEAL], random.Random(seed))
    before = sorted(p.name for p in Path(tmp_path).iterdir())
    try:
        found = read(sealed(content))
    except EvidenceFileError:
        return
    assert all(fault_of_member(name) is None for name in found)
    assert sorted(p.name for p in Path(tmp_path).iterdir()) == sorted({*before, "x.evidence.zip"})
