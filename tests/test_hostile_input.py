"""Every parser of a user's file: whatever is in it, it is read or refused in the project's own words.

Examples are drawn by hypothesis, the same ones in every run; TUNESHIFT_CAMPAIGN=1000 draws more.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile_values import json_values, quick, texts
from hypothesis import given
from hypothesis import strategies as st

from tuneshift.checkpoints.files import read_json, weight_files
from tuneshift.claims.expectations import load_expectations
from tuneshift.errors import TuneshiftError, UsageError
from tuneshift.gate.baselines import Baselines
from tuneshift.measures.adapter_rules import load_rules
from tuneshift.pairs import load_pairs, resolve_pairs
from tuneshift.parse import LONGEST_NAME, MalformedError, fault_of_name, one_line, parse_json, parse_toml
from tuneshift.prompts.prompt import Prompt, PromptSet, PromptSource
from tuneshift.prompts.sets import load_prompts
from tuneshift.prompts.verifiers import KINDS, check_spec, verify
from tuneshift.run_record import read_record
from tuneshift.store.recorded import COLUMNS, read_recorded
from tuneshift.store.recorded_pair import recorded_pair

FINDINGS = ("a.first", "a.second")
Parser = Callable[[Path], Any]
PARSERS: dict[str, tuple[str, Parser]] = {
    "pairs": ("pairs.toml", load_pairs),
    "project": ("pyproject.toml", load_pairs),
    "expectations": ("expect.toml", lambda path: load_expectations(path, FINDINGS)),
    "rules": ("rules.toml", lambda path: load_rules(str(path))),
    "prompts": ("prompts.jsonl", lambda path: load_prompts(PromptSource(path=str(path)), pair=None)),
    "record": ("run.json", read_record),
    "baseline": ("base/baseline.json", lambda path: Baselines(folder=path.parent.parent).load("base")),
    "checkpoint": ("config.json", read_json),
    "index": ("model.safetensors.index.json", lambda path: weight_files(path.parent)),
    "weights": ("model.safetensors", lambda path: weight_files(path.parent)),
    "recorded": ("levels.parquet", lambda path: read_recorded(path, ASKED)),
    "evidence": ("pair.evidence.zip", recorded_pair),
}
ASKED = PromptSet(name="s", source="s", prompts=(Prompt(id="a", prompt="Say it", instruction_spans=((0, 3),)),))
DEEP = 100_000
GENERIC = (
    b"", b"\xff\xfe", b"\x00", b"[" * DEEP, b'{"a":' * DEEP, b"a=" + b"[" * DEEP, b"9" * 5000, b"a=" + b"9" * 5000,
    b"[" + b"a." * 5000 + b"b]", b'{"a": 1, "a": 2}', b"NaN", b"1e999", b'{"a": 1e999}', b"null", b"[]", b"{}", b'"x"',
    b"\x1b[31m", b"x = \xc3", b'{"schema": 1, "run": 0, "pairs": 0, "claims": 0}', b'{"format": 1, "record": 0}',
    b"tool = 1", b"tool.tuneshift = 1", b'{"weight_map": {"a": 1}}', b'{"weight_map": {"a": "../b"}}',
    b'{"weight_map": {"a": "%s"}}' % (b"b" * 300),
)  # fmt: skip


def refuses_or_reads(parse: Parser, path: Path) -> Any:
    try:
        return parse(path)
    except TuneshiftError as error:
        text = str(error)
        assert text
        assert "\x1b" not in text
        return None


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("data", GENERIC, ids=lambda data: repr(data[:24]))
def test_known_blows_are_refused_in_words(folder: Path, parser: str, data: bytes) -> None:
    name, parse = PARSERS[parser]
    own = folder / parser
    own.mkdir(exist_ok=True)
    refuses_or_reads(parse, put(own, name, data))


@pytest.mark.parametrize("parser", PARSERS)
@quick
@given(data=st.binary(max_size=60) | texts.map(str.encode))
def test_any_bytes_are_read_or_refused(folder: Path, parser: str, data: bytes) -> None:
    name, parse = PARSERS[parser]
    own = folder / f"bytes-{parser}"
    own.mkdir(exist_ok=True)
    refuses_or_reads(parse, put(own, name, data))


LINE_FIELDS = ("instruction_spans", "reference", "cluster", "group", "verify", "instruction_id_list", "kwargs", "key",
               "other")  # fmt: skip
lines = st.fixed_dictionaries(
    {"id": st.just("a") | json_values, "prompt": st.just("Say it.") | json_values},
    optional=dict.fromkeys(LINE_FIELDS, json_values),
)


@quick
@given(value=lines, spans=st.booleans())
def test_any_prompt_line_is_a_prompt_or_named_by_file_and_line(
    folder: Path, value: dict[str, Any], spans: bool
) -> None:
    line = {**value, **({"instruction_spans": [[0, 1]]} if spans else {})}
    path = put(folder, "line.jsonl", json.dumps(line).encode())
    try:
        found = load_prompts(PromptSource(path=str(path)), pair=None).prompts[0]
    except UsageError as error:
        where = str(error)
    else:
        where = f"{path}:1: "
        assert all(fault_of_name(name) is None for name in (found.id, found.group, found.cluster or ""))
        assert found.sha256
        if found.verify is not None:
            verify(found.verify, "Red.", ended=True)
    assert f"{path}:1: " in where


def toml(value: Any) -> str:
    """A JSON value as TOML, tables inline; null, which TOML lacks, as an empty text."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return '""' if value is None else json.dumps(value)


PAIR_FIELDS = ("base", "tuned", "prompts", "expectations", "ratings", "max_new_tokens", "single_task", "vocabulary",
               "word_vectors", "response_tuned", "other")  # fmt: skip
CHECKPOINT_FIELDS = ("model", "evidence", "revision", "adapter", "dtype", "device_map", "trust_remote_code",
                     "chat_template", "backend", "backend_args")  # fmt: skip
checkpoints = st.sampled_from(["org/name", "embedded:micro/base", "a" * 300, "./x\n"]) | st.dictionaries(
    st.sampled_from(CHECKPOINT_FIELDS), st.just("org/name") | json_values, max_size=3
)
TABLES: dict[str, tuple[st.SearchStrategy[Any], str]] = {
    "pairs": (
        st.dictionaries(
            st.sampled_from(["p", "q" * 300, "\x1b", "a b"]),
            st.fixed_dictionaries(
                {"base": checkpoints, "tuned": checkpoints},
                optional=dict.fromkeys(PAIR_FIELDS[2:], json_values),
            )
            | json_values,
            max_size=2,
        ),
        "pairs",
    ),
    "expectations": (
        st.lists(
            st.fixed_dictionaries(
                {"finding": st.just("a.first") | json_values, "verdict": st.just("contradicted") | json_values,
                 "reason": st.just("known") | json_values},
                optional={"group": json_values, "prompts": json_values, "other": json_values},
            ),
            max_size=2,
        )
        | json_values,
        "expect",
    ),
    "rules": (
        st.dictionaries(st.sampled_from(["score", "steps", " should"]), json_values, max_size=3) | json_values,
        "end",
    ),
}  # fmt: skip


@pytest.mark.parametrize("parser", TABLES)
@quick
@given(data=st.data())
def test_any_table_is_read_or_refused(folder: Path, parser: str, data: st.DataObject) -> None:
    values, name = TABLES[parser]
    text = f"{name} = {toml(data.draw(values))}\n"
    file, parse = PARSERS[parser]
    found = refuses_or_reads(parse, put(folder, file, text.encode()))
    if parser == "pairs" and found:
        assert all(fault_of_name(pair.name) is None for pair in found.values())


RULE_FIELDS = ("answers", "none", "pattern", "fold", "members", "count", "each", "of", "max_words", "on_task")
rules = st.fixed_dictionaries(
    {"kind": st.sampled_from([*KINDS, "x"]) | json_values}, optional=dict.fromkeys(RULE_FIELDS, json_values)
)


@quick
@given(spec=rules | json_values, response=texts)
def test_any_rule_is_refused_at_load_or_decides(spec: Any, response: str) -> None:
    try:
        check_spec(spec)
    except UsageError:
        return
    assert isinstance(verify(spec, response, ended=True).correct, bool)


pieces = st.none() | st.lists(st.sampled_from(["Say", "▁it", "<0x0A>", "", "\x1b"]) | st.none(), max_size=3)
recorded_rows = st.lists(
    st.tuples(st.just("a") | st.none() | texts, pieces, pieces, st.none() | st.binary(max_size=6)), max_size=3
)


@quick
@given(rows=recorded_rows, columns=st.permutations(COLUMNS).flatmap(lambda names: st.sampled_from([names, names[:3]])))
def test_any_recorded_rows_are_read_or_refused(folder: Path, rows: list[tuple[Any, ...]], columns: list[str]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = (pa.string(), pa.list_(pa.string()), pa.list_(pa.string()), pa.binary())
    taken = [(name, kind, k) for k, (name, kind) in enumerate(zip(COLUMNS, kinds, strict=True)) if name in columns]
    table = pa.table({name: pa.array([row[k] for row in rows], kind) for name, kind, k in taken})
    path = folder / "rows.parquet"
    parquet.write_table(table, path)
    refuses_or_reads(lambda file: read_recorded(file, ASKED), path)


@quick
@given(value=json_values)
def test_what_json_holds_comes_back(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value


@quick
@given(text=texts, more=st.sampled_from(["", "\n::error::", "\x1b[0m", "\u2028", "\u202e", "\x07"]))
def test_one_line_is_one_line(text: str, more: str) -> None:
    line = one_line(text + more)
    assert len(line.splitlines()) <= 1
    assert fault_of_name(line[:LONGEST_NAME]) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * DEEP, "nested deeper than 100 levels"),
        ("[" * 101 + "]" * 101, "nested deeper than 100 levels"),
        ("9" * 5000, "a whole number of more than 300 digits"),
        ("1e999", "the number '1e999' is beyond"),
        ('{"a": {"b": 1, "b": 2}}', "the key 'b' is given twice"),
        ("NaN", "NaN is not JSON; write null"),
    ],
)
def test_json_beyond_the_limits_is_refused(text: str, said: str) -> None:
    with pytest.raises(MalformedError, match=said):
        parse_json(text)
    assert parse_json("[" * 100 + "]" * 100)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = " + "[" * DEEP, "nested deeper than 100 levels"),
        ("a = " + "[" * 101 + "]" * 101, "nested deeper than 100 levels"),
        ("a = " + "9" * 5000, "a whole number of more than 300 digits"),
        ("a = [" + "9" * 400 + "]", "a whole number of more than 300 digits"),
        ("a = 1\na = 2", "not TOML: Cannot overwrite a value"),
    ],
)
def test_toml_beyond_the_limits_is_refused(text: str, said: str) -> None:
    with pytest.raises(MalformedError, match=said):
        parse_toml(text)


BAD_NAMES = ("a\nb", "::error::\r", "\x1b[31mred", "\x07", "a\u2028b", "\u202ename", "x" * 201)


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
@pytest.mark.parametrize("field", ["id", "group", "cluster"])
def test_names_that_move_a_terminal_are_refused(tmp_path: Path, field: str, name: str) -> None:
    line = {"id": "a", "prompt": "Say it.", "instruction_spans": [[0, 3]], field: name}
    path = put(tmp_path, "p.jsonl", json.dumps(line).encode())
    with pytest.raises(UsageError, match=rf"p.jsonl:1: '{field}' ") as error:
        load_prompts(PromptSource(path=str(path)), pair=None)
    assert fault_of_name(str(error.value)[-150:]) is None


@pytest.mark.parametrize("name", BAD_NAMES[:6], ids=ascii)
def test_a_prompt_set_or_group_of_such_a_name_is_refused(tmp_path: Path, name: str) -> None:
    line = {"id": "a", "prompt": "Say it.", "instruction_spans": [[0, 3]]}
    path = put(tmp_path, f"{name}.jsonl", json.dumps(line).encode())
    with pytest.raises(UsageError, match=r"^prompt set "):
        load_prompts(PromptSource(path=str(path)), pair=None)
    fine = put(tmp_path, "p.jsonl", json.dumps(line).encode())
    with pytest.raises(UsageError, match=r"^group "):
        load_prompts(PromptSource(path=str(fine), groups={name: "*"}), pair=None)


@pytest.mark.parametrize("length", [256, 300, 5000])
def test_names_too_long_for_the_file_system_do_not_exist(tmp_path: Path, length: int) -> None:
    long = "a" * length
    for text in (long, f"./{long}", f"{long}/{long}", f"embedded:{long}"):
        with pytest.raises(UsageError):
            resolve_pairs(base=text, tuned=(text,), pairs_file=None, names=(), prompts=(), here=tmp_path)
    for text in (long, f"{long}.jsonl"):
        with pytest.raises(UsageError):
            load_prompts(PromptSource(path=text), pair=None)
    for text in (long, f"{long}.toml"):
        with pytest.raises(UsageError):
            load_rules(text)
    with pytest.raises(UsageError):
        load_pairs(tmp_path / long)
