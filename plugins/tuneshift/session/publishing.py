"""What a run used, as one evidence file that the run can be replayed from without weights."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..checkpoint_specs import HUB_ID
from ..checkpoints.refs import ModelRef
from ..claims.finding import Finding
from ..config import EMBEDDED
from ..errors import UsageError
from ..measures.catalogue import ANNOTATION
from ..measures.params import measure_of
from ..pairs import ModelPair
from ..plain import Json, plain
from ..prompts.prompt import PromptSet
from ..prompts.sets import names_a_file
from ..resources import fixture
from ..run_record import RunRecord
from ..store.evidence import EvidenceKey
from ..store.evidence_file import FORMAT, MANIFEST, packed
from ..store.files import KEY_FILE, chunk_file
from ..store.format import Layout, read_layout, write_chunk, write_layout
from ..store.recorded import LEVELS, RecordedLevels, recorded
from ..store.recorded_pair import EXAMPLES, EXPECTATIONS, ON_WEIGHTS, SETS
from ..words.spec import WORD_SPACES
from .describe import describe_pairs
from .replay import kept_settings
from .requests import Target
from .run import RunSession
from .trust import annotator_agreement

CHUNK = 64
"""Items of a chunk of levels that were recorded elsewhere."""
ELSEWHERE = "not known"
"""When these were measured."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """An evidence file before it is written: its bytes, how many sets it has, and what they take unpacked.

    ``lacking``: what its claims need and the store has not, a line each.
    """

    data: bytes
    sets: int
    unpacked: int
    lacking: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Used:
    """Evidence that claims need, and what is not there."""

    keys: Mapping[tuple[str, str, str], EvidenceKey]
    """Role, hash of the prompts and need -> what the store has whole."""
    levels: Mapping[tuple[str, str, str], tuple[PromptSet, EvidenceKey]]
    """The same -> levels that were recorded elsewhere, on which prompts."""
    lacking: Mapping[str, set[tuple[str, str, str]]]
    """What the store has not -> finding, prompt set and group of the claims that need it."""
    annotated: bool

    def all(self) -> dict[tuple[str, str, str], EvidenceKey]:
        return {**self.keys, **{of: key for of, (_, key) in self.levels.items()}}


def published(
    run: RunSession,
    pair: ModelPair,
    wanted: Iterable[tuple[Finding, Target]],
    *,
    measures: Sequence[str] = (),
    record: RunRecord | None = None,
) -> Published:
    """The evidence of the wanted claims on a pair, as far as the store has it, as an evidence file; recorded levels of
    a pair without weights.

    ``measures``: those whose evidence goes in, empty for all. ``record``: of the run, which says why claims could not
    be made, and whose evidence has to be what the store is asked for. Every checksum is verified on the way. Raises
    UsageError for recorded evidence and for a record of other evidence; StoreError.
    """
    if pair.recorded is not None:
        raise UsageError(f"pair {pair.name} is an evidence file itself; share {pair.recorded.path}.")
    claims = [(finding, target) for finding, target in wanted if target.pair is pair]
    used = _used(run, claims, measures)
    if record is not None:
        _require_same(record, pair, used)
    members = _files(run, pair)
    for key in used.keys.values():
        members |= _set_files(run, key)
    for (role, _, _), (prompts, key) in used.levels.items():
        members |= _level_files(pair.roles[role], prompts, key)
    manifest = {
        "format": FORMAT,
        "name": pair.name,
        "settings": kept_settings(run.settings),
        "pair": _declared(run, pair),
        "prompts": [{"name": _prompt_name(s.path), "groups": dict(s.groups)} for s in pair.prompts],
        "checkpoints": _checkpoints(run, pair),
        "notes": run.notes(pair),
        "needs": _needs(used),
        "not_applicable": _reasons(record, pair, used),
        "annotator_agreement": _agreement(run, pair, used),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in members.items()},
    }
    text = json.dumps(plain(manifest), indent=1, ensure_ascii=False)
    members[MANIFEST] = (text + "\n").encode()
    return Published(
        data=packed(members),
        sets=len({key.digest for key in used.all().values()}),
        unpacked=sum(map(len, members.values())),
        lacking=tuple(
            f"{what}, which {', '.join(sorted({finding for finding, _, _ in claims}))} need"
            for what, claims in used.lacking.items()
        ),
    )


def _used(run: RunSession, claims: Iterable[tuple[Finding, Target]], measures: Sequence[str]) -> _Used:
    keys: dict[tuple[str, str, str], EvidenceKey] = {}
    levels: dict[tuple[str, str, str], tuple[PromptSet, EvidenceKey]] = {}
    lacking: dict[str, set[tuple[str, str, str]]] = {}
    for finding, target in claims:
        if run.inapplicable(finding, target) is not None:
            continue
        for role, need in run.needs(finding, target):
            ref = target.pair.roles[role]
            if measures and measure_of(need).name not in measures:
                continue
            if ref.evidence is not None:
                of = recorded(ref)
                if isinstance(of, RecordedLevels) and target.prompts is not None and of.holds(need, target.prompts):
                    levels[role, target.prompts.sha256, need] = target.prompts, of.key(target.prompts)
                continue
            task = run.planner.task(target.pair, role, need, target.prompts)
            assert task is not None  # it has weights
            if run.store.status(task.key, task.ids).complete:
                keys[role, task.key.prompts or ON_WEIGHTS, need] = task.key
            else:
                what = f"{need} of {ref.name} on {task.on}"
                lacking.setdefault(what, set()).add((finding.id, target.on, target.group))
    annotated = any(key.measure == ANNOTATION.name for key in keys.values())
    return _Used(keys=keys, levels=levels, lacking=lacking, annotated=annotated)


def _require_same(record: RunRecord, pair: ModelPair, used: _Used) -> None:
    """The record's evidence is what its command asks for now: same weights, prompts, settings and measures."""
    now = {f"{role} {need}": key.digest for (role, _, need), key in used.all().items()}
    several = len(pair.prompts) > 1
    for claim in record.claims:
        for need, digest in (claim["evidence"] or {}).items() if claim["pair"] == pair.name and not several else ():
            if need in now and digest is not None and digest != now[need]:
                raise UsageError(
                    f"the record's claim {claim['finding']} on pair {pair.name} was made from other evidence of "
                    f"{need} ({digest[:12]}) than its command asks for now ({now[need][:12]}): weights, prompts or "
                    "versions have changed since. Run again, then export."
                )


def _files(run: RunSession, pair: ModelPair) -> dict[str, bytes]:
    """The user's files that a replay reads."""
    found = {f"prompts/{_prompt_name(s.path)}.jsonl": _prompt_file(s.path).read_bytes() for s in pair.prompts}
    if pair.expectations is not None and pair.expectations.is_file():
        found[EXPECTATIONS] = pair.expectations.read_bytes()
    if pair.single_task is not None:
        found[EXAMPLES] = pair.single_task.examples.read_bytes()
    named = (("words", run.planner.words(pair)), ("words", run.planner.word_space(pair)), ("rules", run.settings.rules))
    for folder, spec in named:
        # Others are names of what ships with tuneshift or is installed beside it.
        if spec not in WORD_SPACES and names_a_file(spec) and not spec.startswith(EMBEDDED) and Path(spec).is_file():
            found[f"{folder}/{Path(spec).name}"] = Path(spec).read_bytes()
    return found


def _prompt_file(path: str) -> Path:
    return Path(path) if names_a_file(path) else fixture(f"prompts/{path}.jsonl")


def _prompt_name(path: str) -> str:
    return _prompt_file(path).stem


def _set_files(run: RunSession, key: EvidenceKey) -> dict[str, bytes]:
    """The files of a set as the store has them, every checksum verified."""
    run.store.read(key)
    return _folder_files(run.store.root / key.measure / key.digest, key)


def _folder_files(folder: Path, key: EvidenceKey) -> dict[str, bytes]:
    layout = read_layout(folder)
    assert layout is not None  # it has just been read or written
    chunks = [chunk_file(number, kind) for number in range(layout.n_chunks) for kind in ("json", "safetensors")]
    place = f"{SETS}/{key.measure}/{key.digest}"
    return {f"{place}/{name}": (folder / name).read_bytes() for name in (KEY_FILE, *chunks)}


def _level_files(ref: ModelRef, prompts: PromptSet, key: EvidenceKey) -> dict[str, bytes]:
    """Levels that were recorded elsewhere, as a set of the store."""
    items = tuple((recorded(ref).items(LEVELS, prompts) or {}).values())
    layout = Layout(key=key, ids=tuple(item.id for item in items), chunk_size=CHUNK, created=ELSEWHERE)
    with tempfile.TemporaryDirectory(prefix="tuneshift-levels-") as root:
        folder = Path(root, key.measure, key.digest)
        folder.mkdir(parents=True)
        write_layout(folder, layout)
        for number in range(layout.n_chunks):
            part = items[number * CHUNK : (number + 1) * CHUNK]
            write_chunk(folder, layout, number, part, {"checkpoint": ref.name, "on": prompts.name}, written=ELSEWHERE)
        return _folder_files(folder, key)


def _declared(run: RunSession, pair: ModelPair) -> dict[str, Json]:
    return {
        "max_new_tokens": None if pair.tuned.evidence is not None else run.planner.longest(pair),
        "attribute_tokens": run.planner.attributed_tokens(pair),
        "vocabulary": run.planner.words(pair),
        "word_vectors": run.planner.word_space(pair),
        "ratings": pair.ratings,
        "single_task": None if pair.single_task is None else pair.single_task.prompts,
        "plain_format": run.planner.plain_format(pair),
    }


def _checkpoints(run: RunSession, pair: ModelPair) -> dict[str, dict[str, Json]]:
    """As the run record describes them, without the folders of the machine that measured them."""
    described = next(one for one in describe_pairs(run) if one["name"] == pair.name)
    found = {role: dict(described[role]) for role in pair.roles}
    for one in found.values():
        one.pop("evidence", None)
        for name in ("model", "adapter"):
            if one.get(name) is not None and not HUB_ID.fullmatch(str(one[name])):
                one[name] = None
    return found


def _needs(used: _Used) -> dict[str, dict[str, dict[str, str]]]:
    found: dict[str, dict[str, dict[str, str]]] = {}
    for (role, on, need), key in used.all().items():
        found.setdefault(role, {}).setdefault(on, {})[need] = key.digest
    return found


def _reasons(record: RunRecord | None, pair: ModelPair, used: _Used) -> list[dict[str, Json]]:
    """Why claims could not be made whose evidence is not there, as the run's record says."""
    places = set().union(*used.lacking.values())
    return [
        {name: claim[name] for name in ("finding", "prompts", "group", "reason")}
        for claim in (() if record is None else record.claims)
        if claim["pair"] == pair.name
        and claim["verdict"] == "not_applicable"
        and (claim["finding"], claim["prompts"], claim["group"]) in places
    ]


def _agreement(run: RunSession, pair: ModelPair, used: _Used) -> Mapping[str, Json] | None:
    if not used.annotated:
        return None
    return annotator_agreement(run.settings.annotator, run.planner.word_space(pair))
