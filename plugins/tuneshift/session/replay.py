"""A run on recorded evidence: under which settings it is replayed, and what it lacks for a finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..checkpoints.refs import ModelRef
from ..claims.finding import Finding
from ..engine.plan import Planner
from ..engine.settings import Settings
from ..errors import EvidenceFileError, UsageError
from ..judges.base import HF, OPENAI
from ..measures.adapter_rules import names_a_path
from ..measures.catalogue import ATTRIBUTION
from ..measures.params import split_format
from ..pairs import ModelPair
from ..parse import one_line
from ..plain import Json, digest
from ..store.evidence import EvidenceItem
from ..store.recorded import recorded
from ..store.recorded_pair import RecordedPair
from .requests import Target

PAIRS_OWN = ("max_new_tokens", "attribute_tokens", "vocabulary", "word_vectors", "plain_format")
"""Settings that an evidence file declares of its pair, as a pair file would."""
ELSEWHERE = ("device", "memo", "backend", "dtype")
"""Settings of where and how evidence is measured; a replay measures none."""


def kept_settings(settings: Settings) -> dict[str, Json]:
    """Settings of a run that its replay is made under, as plain JSON."""
    values = {field.name: getattr(settings, field.name) for field in fields(Settings)}
    kept = {name: value for name, value in values.items() if name not in (*PAIRS_OWN, *ELSEWHERE)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}


def replayed_settings(given: Settings, pairs: Sequence[ModelPair]) -> Settings:
    """The settings of a run with those that the evidence files of its pairs were measured under.

    Raises UsageError where an option asks for others than a file has, and for files of different settings.
    """
    found = given
    for pair in pairs:
        if pair.recorded is None:
            continue
        for name in PAIRS_OWN:
            _require(pair, name, getattr(given, name), None, pair.recorded.declared[name])
        for name, value in _known(pair.recorded).items():
            if name == "rules":
                value = _rules(pair.recorded, value)
            asked, usual = getattr(found, name), getattr(Settings(), name)
            if name == "judges" and asked == usual:
                _require_offline(pair, value)
            if name != "judges":  # who judges is the reader's choice, where evidence has responses
                _require(pair, name, asked, usual, value)
            found = replace(found, **{name: value if asked == usual else asked})
    return found


def _rules(whole: RecordedPair, value: str) -> str:
    """Rules as `load_rules` takes them: of the file, or shipped; never a path of this machine that a file names."""
    if file := whole.file(f"rules/{value.rpartition('/')[2]}"):
        return str(file)
    if names_a_path(value):
        raise EvidenceFileError(f"{whole.path}: the rules {value!r:.80} are not in it, and none have that name.")
    return value


def _require_offline(pair: ModelPair, judges: Sequence[str]) -> None:
    """Raise UsageError for judges that a file names and that a server or another checkpoint answers for: responses and
    the reader's key go where the reader says, and nowhere else."""
    if asking := [judge for judge in judges if judge.startswith((OPENAI, HF))]:
        words = " ".join(f"--shift-judge={judge}" for judge in judges)
        raise UsageError(
            f"The evidence of pair {pair.name} was judged by {one_line(asking[0])}, which a file cannot have asked "
            f"from here: name it yourself with {one_line(words)}, if you trust it with the responses and your key, or "
            "name another judge."
        )


def _known(whole: RecordedPair) -> dict[str, Any]:
    """The settings of an evidence file, each checked to be one that an option can ask for."""
    known: dict[str, Any] = {}
    for name, kind in get_type_hints(Settings).items():
        if name in (*PAIRS_OWN, *ELSEWHERE) or name not in whole.settings:
            continue
        value = whole.settings[name]
        found = tuple(value) if isinstance(value, list) else value
        choices, usual = get_args(kind), getattr(Settings(), name)
        one_of = get_origin(kind) is Literal
        several = isinstance(usual, tuple) and isinstance(found, tuple) and all(isinstance(one, str) for one in found)
        if not (found in choices if one_of else several or (type(found) is type(usual) and usual != ())):
            raise EvidenceFileError(
                f"{whole.path}: its setting {name!r} is {value!r:.80}, which no option can ask for."
            )
        known[name] = found
    return known


def _require(pair: ModelPair, name: str, asked: Any, usual: Any, recorded: Any) -> None:
    if asked not in (usual, recorded):
        option = f"--shift-{name.replace('_', '-')}"
        raise UsageError(
            f"{option} asks for {asked!r} and the evidence of pair {pair.name} was measured with {recorded!r}; leave "
            "the option out, or name checkpoints whose weights are here. Pairs of other settings run by themselves."
        )


def pair_words(planner: Planner, pair: ModelPair) -> dict[str, Json]:
    """``vocabulary`` and ``word_vectors`` as a pair names them, not where an evidence file has been unpacked."""
    if pair.recorded is not None:
        return {name: pair.recorded.declared[name] for name in ("vocabulary", "word_vectors")}
    return {"vocabulary": planner.words(pair), "word_vectors": planner.word_space(pair)}


def not_made(finding: Finding, target: Target) -> str | None:
    """Why the run whose evidence was recorded could not decide a finding; None where it could, or measured itself."""
    rows = () if target.pair.recorded is None else target.pair.recorded.not_applicable
    place = (finding.id, target.on, target.group)
    return next((str(r["reason"]) for r in rows if (r["finding"], r["prompts"], r["group"]) == place), None)


def not_recorded(finding: Finding, target: Target, role: str, need: str) -> str | None:
    """What recorded evidence lacks of a finding's need; None for nothing, and for a checkpoint with weights.

    Beside the attributions that decide, a finding reads others and responses where there are any.
    """
    ref = target.pair.checkpoint(role)
    if ref is None or ref.evidence is None or split_format(need)[1] is not None:
        return None
    attributes = any(other.startswith(ATTRIBUTION.name) for _, other in finding.needs)
    if (attributes and need != ATTRIBUTION.name) or recorded(ref).holds(need, target.prompts):
        return None
    return f"{ref.name} is recorded evidence, which holds no {need} on {target.on}"


def recorded_items(planner: Planner, target: Target, ref: ModelRef, need: str) -> Mapping[str, EvidenceItem] | None:
    """Items by id of a need of a checkpoint that is recorded evidence; None where it is not there.

    Of a table of levels, as many response tokens as the run attributes; an evidence file has what was measured.
    """
    items, tokens = recorded(ref).items(need, target.prompts), _thinned_to(planner, target, ref, need)
    if items is None or tokens is None:
        return items
    from ..measures.attribution.thinning import thinned

    return {i: thinned(item, tokens) for i, item in items.items()}


def recorded_name(planner: Planner, target: Target, ref: ModelRef, need: str) -> str | None:
    """The name, by content, of what `recorded_items` reads; None where it is not there."""
    name, tokens = recorded(ref).name(need, target.prompts), _thinned_to(planner, target, ref, need)
    return name if name is None or tokens is None else digest([name, tokens])


def _thinned_to(planner: Planner, target: Target, ref: ModelRef, need: str) -> int | None:
    whole = ref.role is not None or need != ATTRIBUTION.name
    return None if whole else planner.attributed_tokens(target.pair)
