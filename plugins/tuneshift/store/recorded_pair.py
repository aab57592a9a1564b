"""A pair without its weights: what an evidence file holds of it, unpacked, checked and read as a store is."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

from ..errors import EvidenceFileError, StoreError
from ..parse import MalformedError, fault_of_name, parse_json
from ..plain import Json
from ..prompts.prompt import PromptSet, PromptSource
from .evidence import EvidenceItem, EvidenceKey
from .evidence_file import FORMAT, MANIFEST, unpacked
from .format import Chunk, Layout, read_chunk, read_layout
from .store import Store
from .upkeep import problems

EXPECTATIONS, EXAMPLES, SETS = "expectations.toml", "single-task.jsonl", "store"
ON_WEIGHTS = ""
"""What stands for the prompt set's hash in the needs of weights, as in the keys of their evidence."""
_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "name": str, "settings": dict, "pair": dict, "prompts": list, "checkpoints": dict, "notes": list, "needs": dict,
    "not_applicable": list, "annotator_agreement": (dict, type(None)), "files": dict,
}  # fmt: skip
_PAIR_FIELDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("max_new_tokens", "attribute_tokens"), (int, type(None))),
    "vocabulary": (str,), "word_vectors": (str,), "ratings": (str, type(None)),
    "single_task": (str, type(None)), "plain_format": (str, type(None)),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RecordedPair:
    """An evidence file, unpacked into a temporary folder of this process.

    ``seal``: the SHA-256 that names its content. ``name``: the pair's. ``settings``: those of the run that the evidence
    is of. ``declared``: the pair's own (``max_new_tokens``, ``attribute_tokens``, ``vocabulary``, ``word_vectors``,
    ``ratings``, ``single_task``, ``plain_format``). ``checkpoints``: by role, as run records describe them. ``needs``:
    by role and hash of the prompt set (empty for weights), each need with the digest of its set. ``not_applicable``:
    claims that the run could not make, and why. ``annotator_agreement``: of the run's annotator, where one labelled
    anything.
    """

    path: Path
    seal: str
    name: str
    settings: Mapping[str, Json]
    declared: Mapping[str, Json]
    prompts: tuple[PromptSource, ...]
    checkpoints: Mapping[str, Mapping[str, Json]]
    notes: tuple[str, ...]
    needs: Mapping[str, Mapping[str, Mapping[str, str]]]
    not_applicable: tuple[Mapping[str, Json], ...]
    annotator_agreement: Mapping[str, Json] | None
    _folder: tempfile.TemporaryDirectory[str] = field(repr=False, compare=False)

    @property
    def folder(self) -> Path:
        """Where it is unpacked, until this process ends."""
        return Path(self._folder.name)

    def file(self, name: str) -> Path | None:
        """A member's place on the disk; None where the file has none of that name."""
        path = self.folder / name
        return path if path.is_file() else None

    def key(self, role: str, need: str, prompts: PromptSet | None) -> EvidenceKey | None:
        """The key of what a need of a role was read from; None where the file has none, or of other prompts."""
        by_set = self.needs.get(role, {})
        asked = (by_set.get(on, {}).get(need) for on in (*(() if prompts is None else (prompts.sha256,)), ON_WEIGHTS))
        digest = next(filter(None, asked), None)
        if digest is None:
            return None
        layout = read_layout(self.folder / SETS / need.partition(".")[0] / digest)
        assert layout is not None  # `recorded_pair` has looked
        return layout.key

    def items(self, role: str, need: str, prompts: PromptSet | None) -> Mapping[str, EvidenceItem] | None:
        """Items by the id of their prompt or layer; None where the file has none. Raises StoreError."""
        key = self.key(role, need, prompts)
        return None if key is None else {item.id: item for item in Store(self.folder / SETS).read(key).items}

    def sets(self) -> Iterator[EvidenceKey]:
        """The keys of all sets in the file, each once."""
        return (stored.key for stored in Store(self.folder / SETS).list())

    def chunks(self, key: EvidenceKey) -> tuple[Layout, list[Chunk]]:
        """How a set is cut, and its chunks, each with what was said of how it was measured. Raises StoreError."""
        folder = self.folder / SETS / key.measure / key.digest
        layout = read_layout(folder)
        assert layout is not None  # `recorded_pair` has looked
        return layout, [read_chunk(folder, layout, number) for number in range(layout.n_chunks)]


def recorded_pair(path: Path) -> RecordedPair:
    """The pair of an evidence file, every checksum in it verified. Raises EvidenceFileError."""
    try:
        state = os.stat(path)
    except (OSError, ValueError):
        return _opened(path, 0, 0)  # says what is wrong
    return _opened(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=16)
def _opened(path: Path, size: int, changed: int) -> RecordedPair:
    """Unpacked once a process; again when size or time changes."""
    seal, members = unpacked(path)
    manifest = _Manifest(path, members)
    try:
        folder = tempfile.TemporaryDirectory(prefix="tuneshift-evidence-")
        for name, content in members.items():
            place = Path(folder.name, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    except OSError as error:
        raise EvidenceFileError(
            f"{path} cannot be unpacked into {tempfile.gettempdir()}: {error}. Name another folder in $TMPDIR."
        ) from error
    pair = manifest.pair(seal, folder)
    _check_sets(pair)
    return pair


class _Manifest:
    """pair.json: turned into a pair, or why it cannot be one."""

    def __init__(self, path: Path, members: Mapping[str, bytes]) -> None:
        self.path, self.members = path, members
        if MANIFEST not in members:
            self.fail(f"there is no {MANIFEST} in it")
        try:
            self.found = parse_json(members[MANIFEST])
        except MalformedError as error:
            self.fail(f"{MANIFEST} is {error}")
        if not isinstance(self.found, dict) or self.found.get("format") != FORMAT:
            self.fail(f"{MANIFEST} is not of format {FORMAT}")
        for name, kind in _FIELDS.items():
            if not isinstance(self.found.get(name), kind):
                self.fail(f"{name!r} in {MANIFEST} is missing or of the wrong type")
        self._check_files()

    def fail(self, what: str) -> NoReturn:
        raise EvidenceFileError(f"{self.path} is no evidence of a pair: {what}. Ask whoever made it for another.")

    def pair(self, seal: str, folder: tempfile.TemporaryDirectory[str]) -> RecordedPair:
        found = self.found
        for name, kinds in _PAIR_FIELDS.items():
            value = found["pair"].get(name, False)
            if not isinstance(value, kinds) or isinstance(value, bool):
                self.fail(f"'pair' in {MANIFEST} has no sound {name!r}")
        return RecordedPair(
            path=self.path, seal=seal, name=self._name(found["name"], "the pair's name"), settings=found["settings"],
            declared=found["pair"], prompts=tuple(self._prompts(entry, folder.name) for entry in found["prompts"]),
            checkpoints=self._checkpoints(), notes=tuple(self._line(note, "a note") for note in found["notes"]),
            needs=self._needs(), not_applicable=self._reasons(),
            annotator_agreement=found["annotator_agreement"], _folder=folder,
        )  # fmt: skip

    def _check_files(self) -> None:
        """Every member but the manifest is in its table with the right hash, and nothing else is."""
        named, there = self.found["files"], {name for name in self.members if name != MANIFEST}
        if set(named) != there:
            self.fail(f"its members are not those that {MANIFEST} names")
        for name in there:
            if hashlib.sha256(self.members[name]).hexdigest() != named[name]:
                self.fail(f"{name} is not what {MANIFEST} says")

    def _name(self, value: Json, what: str) -> str:
        if not isinstance(value, str) or not value or fault_of_name(value):
            self.fail(f"{what} is no name: {value!r:.80}")
        return value

    def _line(self, value: Json, what: str) -> str:
        """A sentence of any length for a terminal: no control characters."""
        if not isinstance(value, str) or any(fault_of_name(value[k : k + 200]) for k in range(0, len(value), 200)):
            self.fail(f"{what} is no sentence: {value!r:.80}")
        return value

    def _prompts(self, entry: Json, folder: str) -> PromptSource:
        name = self._name(entry.get("name") if isinstance(entry, dict) else None, "a prompt set's name")
        groups = entry.get("groups")
        member = f"prompts/{name}.jsonl"
        if member not in self.members:
            self.fail(f"the prompt set {name!r} is not in it")
        if not isinstance(groups, dict) or not all(isinstance(pattern, str) for pattern in groups.values()):
            self.fail(f"the groups of the prompt set {name!r} are no patterns")
        return PromptSource(path=str(Path(folder, member)), groups=groups)

    def _checkpoints(self) -> dict[str, dict[str, Json]]:
        found = self.found["checkpoints"]
        for role in ("base", "tuned", *found):
            one = found.get(role)
            if not isinstance(one, dict):
                self.fail(f"it describes no {role} checkpoint")
            self._name(one.get("name"), f"the name of {role}")
            if not isinstance(one.get("fingerprint"), str):
                self.fail(f"{role} has no fingerprint")
        return dict(found)

    def _needs(self) -> dict[str, dict[str, dict[str, str]]]:
        for role, by_set in self.found["needs"].items():
            if role not in self.found["checkpoints"] or not isinstance(by_set, dict):
                self.fail(f"it has evidence of {role!r:.80}, which is none of its checkpoints")
            for needs in by_set.values():
                if not isinstance(needs, dict):
                    self.fail(f"the evidence of {role} is no table")
                for need, digest in needs.items():
                    if f"{SETS}/{need.partition('.')[0]}/{digest}/key.json" not in self.members:
                        self.fail(f"the {need!r:.80} evidence of {role} is not in it")
        return dict(self.found["needs"])

    def _reasons(self) -> tuple[Mapping[str, Json], ...]:
        found: Sequence[Json] = self.found["not_applicable"]
        names = ("finding", "prompts", "group", "reason")
        if not all(isinstance(one, dict) for one in found):
            self.fail("'not_applicable' holds something else than claims with reasons")
        return tuple({name: self._line(one.get(name), f"the {name} of a claim") for name in names} for one in found)


def _check_sets(pair: RecordedPair) -> None:
    """Every set is whole and of the checkpoint whose evidence it is said to be."""
    wrong = next(problems(pair.folder / SETS), None)
    if wrong is not None:
        inner = wrong.path.relative_to(pair.folder).as_posix()
        raise EvidenceFileError(f"{pair.path}: {inner} in it is {wrong.kind}: {wrong.message}. Export it anew.")
    for role, by_set in pair.needs.items():
        for needs in by_set.values():
            for need, digest in needs.items():
                try:
                    layout = read_layout(pair.folder / SETS / need.partition(".")[0] / digest)
                except StoreError as error:
                    raise EvidenceFileError(f"{pair.path}: {error}") from error
                if layout is None or layout.key.checkpoint != pair.checkpoints[role]["fingerprint"]:
                    raise EvidenceFileError(
                        f"{pair.path}: its {need} evidence of {role} is of another checkpoint. Export it anew."
                    )
