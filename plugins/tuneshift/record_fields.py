"""What a run record's fields may hold, checked where a record is read: by others written, edited, cut or damaged.

Fields that are not named here are ignored, as ``docs/run-record.md`` asks of a reader. Texts in sentences may hold
anything and are made harmless where they are shown; names may not, because they stand in terminals and CI logs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .errors import RecordError, UsageError
from .parse import fault_of_name, shown_name
from .plain import Json
from .statistics.interval_reader import intervals_of

if TYPE_CHECKING:
    from .run_record import RunRecord

Check = Callable[[Any], str | None]
"""What is wrong with a value, as ``is a number``'s like; None for nothing."""

VERDICTS = ("reproduced", "contradicted", "inconclusive", "not_applicable")
CHANGES = ("regressed", "worse", "missing", "inconclusive", "improved", "held", "not_compared")
COLOURS = ("red", "yellow", "green")


def check_fields(data: Mapping[str, Json], where: str) -> None:
    """Raise RecordError, naming the field, for the first one that is missing or holds what it cannot hold.

    ``data`` is the record as JSON, its ``schema`` known; ``where`` says where it was read.
    """
    if fault := RECORD(data):
        raise RecordError(f"{where} is damaged or was edited: {fault}. Run again, or restore the file.")


def check_shard(record: RunRecord, where: str) -> None:
    """Raise UsageError for a record without what deciding again needs: a baseline's has less, and so may a foreign
    one."""
    if fault := SHARD({"run": record.run, "claims": record.claims, "examples": record.examples}):
        raise UsageError(f"{where} cannot be merged: {fault}. Run that shard again, or restore its record.")


def _number(value: Any) -> str | None:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return None if real and math.isfinite(value) else f"is a finite number, got {_got(value)}"


def _count(value: Any) -> str | None:
    return None if type(value) is int and value >= 0 else f"is a whole number from 0 on, got {_got(value)}"


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else f"is true or false, got {_got(value)}"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else f"is a text, got {_got(value)}"


def _any(value: Any) -> str | None:
    return None


def _name(value: Any) -> str | None:
    if not isinstance(value, str):
        return _text(value)
    fault = fault_of_name(value)
    return None if fault is None else f"{shown_name(value)} {fault}"


def _label(value: Any) -> str | None:
    """A name of any length: a checkpoint may be named by its path."""
    fault = fault_of_name(value[:200]) or fault_of_name(value[-200:]) if isinstance(value, str) else None
    return _text(value) or (None if fault is None else f"{shown_name(value)} {fault}")


def _setting(value: Any) -> str | None:
    """What a run was told: shown in messages about two runs that differ, so texts in it are names too."""
    if isinstance(value, list | tuple):
        return _row(_setting)(value)
    return _label(value) if isinstance(value, str) else None


def _positive(value: Any) -> str | None:
    return _number(value) or (None if value > 0 else f"is above 0, got {value}")


def _share(value: Any) -> str | None:
    return _number(value) or (None if 0 < value < 1 else f"lies between 0 and 1, got {value}")


def _intervals(value: Any) -> str | None:
    try:
        held = intervals_of(value)
        for level in (0.5, 0.95, 0.9999):
            held.at(level)
    except Exception as error:  # whatever numbers that do not belong together make the arithmetic raise
        return f"gives no interval ({type(error).__name__})"
    return None


def _interval(value: Any) -> str | None:
    pair = isinstance(value, list | tuple) and len(value) == 2
    return _row(_or_none(_number))(value) if pair else f"is [low, high], got {_got(value)}"


def _arm(value: Any) -> str | None:
    fault = _table({"span": _or_none(_interval)}, ids=_row(_name), x=_row(_any))(value)
    if not fault and (span := value.get("span")) is not None:
        fault = _outside(span, value["x"])
    if fault or len(value["ids"]) == len(value["x"]):
        return fault
    return f"has {len(value['ids'])} ids and {len(value['x'])} values"


def _outside(span: Any, values: Any) -> str | None:
    """A value that its range does not hold, to the six decimals of a record; what is no number is another's to say."""
    if None in span:
        return f"has the `span` {list(span)}; it is [low, high]"
    low, high = span[0] - 1e-6, span[1] + 1e-6
    bad = [x for x in values if _number(x) is None and not low <= x <= high]
    return f"has the value {bad[0]} outside of its `span` {list(span)}" if bad else None


def _items(value: Any) -> str | None:
    fault = _table(ids=_row(_name), sha256=_row(_text), clusters=_row(_name), topics=_row(_name))(value)
    lengths = None if fault else {len(value[name]) for name in ("ids", "sha256", "clusters", "topics")}
    return fault or (f"has lists of different lengths, {sorted(lengths)}" if lengths and len(lengths) > 1 else None)


def _one_of(*accepted: str) -> Check:
    def check(value: Any) -> str | None:
        known = isinstance(value, str) and value in accepted
        return None if known else f"is one of {', '.join(accepted)}, got {_got(value)}"

    return check


def _or_none(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _row(check: Check) -> Check:
    def of_list(value: Any) -> str | None:
        if not isinstance(value, list | tuple):
            return f"is a list, got {_got(value)}"
        for number, inner in enumerate(value):
            if fault := check(inner):
                return f"[{number}] {fault}"
        return None

    return of_list


def _each(check: Check, names: Check = _any) -> Check:
    """A table of any names, each with a value of one kind."""

    def of_table(value: Any) -> str | None:
        if not isinstance(value, Mapping):
            return f"is an object, got {_got(value)}"
        for name, inner in value.items():
            if fault := names(name):
                return f"has the name {fault}"
            if fault := check(inner):
                return f"[{shown_name(name)}] {fault}"
        return None

    return of_table


def _table(may: Mapping[str, Check] | None = None, /, **must: Check) -> Check:
    """A table that has the fields of ``must``, and those of ``may`` in their kind where it has them."""

    def of_table(value: Any) -> str | None:
        if not isinstance(value, Mapping):
            return f"is an object, got {_got(value)}"
        for name in must:
            if name not in value:
                return f"has no `{name}`"
        for name, check in {**must, **(may or {})}.items():
            if name in value and (fault := check(value[name])):
                return f"`{name}` {fault}"
        return None

    return of_table


def _got(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}..."


_ARM_SUMMARY = _table({"mean": _or_none(_number), "sd": _or_none(_number)}, label=_name, n=_count)
_SENTENCES = ("title", "claim", "source", "how", "deviations", "sesoi_reason")
_READING = _table(
    {name: _or_none(_number) for name in ("effect", "p", "standard_error")}
    | {"clusters": _or_none(_count), "n": _or_none(_count), "intervals": _or_none(_intervals)}
)
_OBJECTS = _row(_each(_any))
_AGAINST = _table(
    {"saved": _label, "tuned": _label, "look": _or_none(_count), "looks": _or_none(_count), "shown": _share},
    name=_name,
    alpha=_share,
)
_COMPARISON = _table(
    {
        "reason": _text,
        "level": _or_none(_number),
        "p": _or_none(_number),
        "adjusted_p": _or_none(_number),
        "sees": _or_none(_number),
        "held_interval": _interval,
        "same_evidence": _flag,
        "planned": _flag,
        "clusters": _or_none(_count),
        "n_needed": _or_none(_count),
        "n_at_least": _or_none(_count),
        "needed": _or_none(_text),
        "freedom": _or_none(_number),
        "asked": _or_none(_count),
        "intervals": _or_none(_intervals),
        "against": _AGAINST,
        "differing": _each(_row(_name)),
        "fallen": _row(_name),
        **{f"{side}_items": _count for side in ("new", "gone", "changed", "relabelled", "unpaired")},
    },
    baseline=_name,
    outcome=_one_of(*CHANGES),
    effect=_or_none(_number),
    interval=_interval,
    margin=_number,
    n=_count,
)
CLAIM = _table(
    {
        **dict.fromkeys(_SENTENCES, _text),
        **dict.fromkeys(("base", "tuned"), _or_none(_ARM_SUMMARY)),
        "arms": _row(_ARM_SUMMARY),
        "measures": _row(_name),
        "n_needed": _or_none(_count),
        "n_at_least": _or_none(_count),
        "needed": _or_none(_text),
        "freedom": _or_none(_number),
        "asked": _or_none(_count),
        "p_decides": _or_none(_number),
        "adjusted_p": _or_none(_number),
        "q": _or_none(_number),
        "noise_floor": _or_none(_table({"effect": _number, "settings": _text}, floor=_number)),
        "comparison": _or_none(_COMPARISON),
        "expected": _or_none(_table({"reason": _text}, verdict=_one_of(*VERDICTS))),
        "evidence": _or_none(_each(_or_none(_name), _label)),
        "noninferior": _flag,
        "prompt_set": _text,
        "left_out": _each(_count),
        "intervals": _or_none(_intervals),
        **dict.fromkeys(("sensitivity", "secondary"), _row(_READING)),
        **dict.fromkeys(("examples", "figures"), _OBJECTS),
        "scores": _or_none(_each(_arm, _name)),
    },
    finding=_name,
    pair=_name,
    prompts=_name,
    group=_name,
    items=_name,
    direction=_one_of("greater", "less", "equivalent"),
    unit=_label,
    sesoi=_number,
    n=_count,
    clusters=_count,
    effect=_or_none(_number),
    interval=_interval,
    level=_number,
    p=_or_none(_number),
    standard_error=_or_none(_number),
    method=_or_none(_label),
    details=_each(_any),
    verdict=_one_of(*VERDICTS),
    reason=_text,
    values=_each(_arm, _name),
)
_QUANTIZATION = _table(method=_label, bits=_row(_count), measured=_text)
_CHECKPOINT = _table(
    {"dtype": _or_none(_label), "chat_template": _or_none(_text), "quantization": _or_none(_QUANTIZATION)},
    name=_label,
    fingerprint=_label,
)
PAIR = _table(
    {"settings": _each(_setting), "plain_format": _or_none(_text)},
    name=_name,
    base=_CHECKPOINT,
    tuned=_CHECKPOINT,
    prompts=_row(_table({"n": _count, "sha256": _text, "items": _items, "brought": _flag}, name=_name)),
)
_ABSENT = _row(
    _table({"reason": _text, "effect": _or_none(_number)}, finding=_name, pair=_name, prompts=_name, group=_name)
)
_SEEN = _table(
    claims=_count,
    blind=_row(_name),
    planned=_flag,
    last=_or_none(_table(finding=_name, unit=_label, loss=_number, margin=_positive, clusters=_count)),
)
GATE = _table(
    conclusion=_text,
    colour=_one_of(*COLOURS),
    red=_flag,
    sees=_or_none(_SEEN),
    sees_text=_text,
    missing=_ABSENT,
    not_asked=_ABSENT,
    allow_missing=_flag,
)
_COST = _table(
    measure=_name,
    checkpoint=_label,
    on=_label,
    items=_count,
    tokens=_or_none(_count),
    seconds=_number,
    paths=_each(_count, _name),
    start_bytes=_or_none(_count),
    peak_bytes=_or_none(_count),
)
RUN = _table(
    {
        "started": _or_none(_label),
        "finished": _or_none(_label),
        "duration_s": _number,
        "exit_code": _count,
        "command": _text,
        "measures": _each(_count, _name),
        "settings": _each(_setting),
        "versions": _each(_or_none(_text)),
        "baseline": _or_none(_AGAINST),
        "gate": _or_none(GATE),
        "selection": _or_none(_row(_row(_name))),
        "pairs_left_out": _row(_name),
        "costs": _row(_COST),
    },
    alpha=_share,
)
_ERRORS = _row(_table(finding=_name, pair=_name, prompts=_name, group=_name, message=_text))
RECORD = _table({"examples": _OBJECTS, "errors": _ERRORS}, run=RUN, pairs=_row(PAIR), claims=_row(CLAIM))
SHARD = _table(
    run=_table(started=_label, finished=_label, duration_s=_number, exit_code=_count),
    claims=_row(
        _table(
            **dict.fromkeys(_SENTENCES, _text),
            **dict.fromkeys(("sensitivity", "secondary"), _row(_READING)),
            intervals=_or_none(_intervals),
            comparison=_or_none(_COMPARISON),
        )
    ),
    examples=_row(_table(**dict.fromkeys(("finding", "pair", "prompt_set", "group"), _name))),
)
