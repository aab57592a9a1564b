"""prompts.py: JSONL sets are read whole or refused with file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tuneshift.errors import PromptError
from tuneshift.prompts import sets as module
from tuneshift.prompts.prompt import Prompt, PromptSet, PromptSource
from tuneshift.prompts.sets import load_prompts
from tuneshift.prompts.verifiers import followed


def row(**changes: Any) -> dict[str, Any]:
    return {"id": "a", "prompt": "Say hi. Now", "instruction_spans": [[0, 7]], **changes}


def read(folder: Path, *lines: str | dict[str, Any], groups: dict[str, str] | None = None) -> PromptSet:
    path = folder / "set.jsonl"
    text = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_text("\n".join(text), encoding="utf-8")
    return load_prompts(PromptSource(path=str(path), groups=groups or {}), pair="p")


def refused(folder: Path, *lines: str | dict[str, Any]) -> str:
    with pytest.raises(PromptError) as error:
        read(folder, *lines)
    return str(error.value).removeprefix(str(folder / "set.jsonl"))


def test_every_field_arrives(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        row(
            reference="hi",
            cluster="c",
            topic="t",
            group="g",
            verify={"kind": "exact", "answers": ["hi"]},
            rating=3,
            note=None,
        ),
        "",
        row(id="b", prompt="É \u2028 ü", instruction_spans=[[4, 5], [0, 1]]),
        "",
    )
    assert (found.name, found.source) == ("set", str(tmp_path / "set.jsonl"))
    first, second = found.prompts
    assert first == Prompt(
        id="a",
        prompt="Say hi. Now",
        instruction_spans=((0, 7),),
        reference="hi",
        cluster="c",
        topic="t",
        group="g",
        verify={"kind": "exact", "answers": ["hi"]},
        fields={"rating": 3, "note": None},
    )
    assert second.prompt == "É \u2028 ü"
    assert second.instruction_spans == ((0, 1), (4, 5))
    assert (second.reference, second.cluster, second.group, second.verify) == (None, None, "all", None)
    assert [(p.unit, p.subject) for p in found.prompts] == [("c", "t"), ("b", "b")]


def test_a_byte_order_mark_and_crlf_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(row()).encode() + b"\r\n" + json.dumps(row(id="b")).encode())
    assert [p.id for p in load_prompts(PromptSource(path=str(path)), pair=None).prompts] == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"id": "a", }', "not JSON: "),
        ('{"id": "a", "prompt": NaN}', "NaN is not JSON; write null"),
        ("[1]", "a JSON list where a JSON object is wanted"),
        ({"prompt": "x", "instruction_spans": [[0, 1]]}, "no field 'id'; got 'prompt', 'instruction_spans'"),
        ({"id": "x", "instruction_spans": [[0, 1]]}, "no field 'prompt'"),
        ({"id": "x", "prompt": "x"}, "no field 'instruction_spans'"),
        (row(id=3), "'id' is a string, got 3"),
        (row(id=" "), "'id' is empty"),
        (row(prompt=["x"]), "'prompt' is a string"),
        (row(prompt=" \n"), "the prompt is empty"),
        (row(reference=1), "'reference' is a string, got 1"),
        (row(cluster=1), "'cluster' is a string, got 1"),
        (row(group=["g"]), "'group' is a string"),
        (row(verify="x"), "verify: got 'x'; accepted is a JSON object with a field 'kind'"),
        (row(instruction_spans=[]), "no instruction span"),
        (row(instruction_spans=None), "a list of [start, end) pairs, got None"),
        (row(instruction_spans=[[0]]), "[start, end) in whole characters, got [0]"),
        (row(instruction_spans=[[0, 1.5]]), "[start, end) in whole characters, got [0, 1.5]"),
        (row(instruction_spans=[[False, True]]), "whole characters, got [False, True]"),
        (row(instruction_spans=[[0, 12]]), "[0, 12] lies outside the prompt, which has 11 characters"),
        (row(instruction_spans=[[-1, 3]]), "[-1, 3] lies outside the prompt, which has 11 characters"),
        (row(instruction_spans=[[3, 3]]), "[3, 3] holds no character"),
        (row(instruction_spans=[[5, 3]]), "[5, 3] holds no character"),
        (row(instruction_spans=[[7, 8]]), "[7, 8] holds no character but white space"),
        (row(instruction_spans=[[6, 9], [0, 7]]), "[6, 9] overlaps the one before it, which ends at 7"),
        ('{"id": "a", "prompt": "\\ud800", "instruction_spans": [[0, 1]]}', "half of a surrogate pair at character 0"),
    ],
)
def test_a_bad_line_is_named_by_file_and_line(tmp_path: Path, line: str | dict[str, Any], expected: str) -> None:
    text = refused(tmp_path, row(id="first"), "", line)
    assert text.startswith(":3: "), text
    assert expected in text


def test_spans_may_touch_and_reach_the_end(tmp_path: Path) -> None:
    (prompt,) = read(tmp_path, row(instruction_spans=[[4, 11], [0, 4]])).prompts
    assert prompt.instruction_spans == ((0, 4), (4, 11))


def test_duplicate_ids_name_both_lines(tmp_path: Path) -> None:
    assert refused(tmp_path, row(), row(id="b"), row()).startswith(":3: id 'a' is already that of line 1")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert "no prompts in this file" in refused(tmp_path, "", " ")


def test_a_foreign_encoding_is_named_by_byte(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    raw = json.dumps(row()).encode() + b"\n" + '{"id": "é"}'.encode("latin-1")
    path.write_bytes(raw)
    with pytest.raises(PromptError, match=rf"set\.jsonl:2: byte {raw.index(0xE9)} \(0xE9\) is not UTF-8"):
        load_prompts(PromptSource(path=str(path)), pair=None)


def test_groups_come_from_patterns_that_match_exactly_once(tmp_path: Path) -> None:
    rows = (row(id="task_1", group="own"), row(id="bench_1"), row(id="task_2"))
    found = read(tmp_path, *rows, groups={"tasks": "task_*", "bench": "bench_*"})
    assert [p.group for p in found.prompts] == ["tasks", "bench", "tasks"]
    assert found.groups == ("tasks", "bench")
    with pytest.raises(PromptError, match=r"exactly one group .*: bench_1 \(none\)\.$"):
        read(tmp_path, *rows, groups={"tasks": "task_*"})
    with pytest.raises(PromptError, match=r": task_2 \(tasks, twos\)\.$"):
        read(tmp_path, *rows, groups={"tasks": "task_*", "bench": "bench_*", "twos": "*_2"})
    with pytest.raises(PromptError, match=r"p4 \(none\) and 3 more\.$"):
        read(tmp_path, *(row(id=f"p{i}") for i in range(8)), groups={"tasks": "task_*"})


def test_shipped_sets_are_named_and_unknown_ones_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "general.jsonl").write_text(json.dumps(row()))
    monkeypatch.setattr(module, "fixture", lambda relative: tmp_path / relative)
    assert load_prompts(PromptSource(path="general"), pair="p").name == "general"
    with pytest.raises(PromptError, match=r"pair 'p': no shipped prompt set 'genral'; did you mean 'general'\? known"):
        load_prompts(PromptSource(path="genral"), pair="p")
    with pytest.raises(PromptError, match=r"pair 'p': prompt set .*nowhere\.jsonl does not exist"):
        load_prompts(PromptSource(path=str(tmp_path / "nowhere.jsonl")), pair="p")
    with pytest.raises(PromptError, match="is not a file"):
        load_prompts(PromptSource(path=f"{tmp_path}/prompts"), pair="p")


@pytest.mark.parametrize(
    ("rating", "expected"),
    [(4, True), (2.0, True), (1, False), (1.0, False), (-1, None), (0, None), (1.5, None), ("3", None), (True, None)],
)
def test_ratings_of_two_or_more_mean_followed(rating: Any, expected: bool | None) -> None:
    prompt = Prompt(id="a", prompt="x", instruction_spans=((0, 1),), fields={"rating": rating})
    assert followed(prompt, "rating") is expected
    assert followed(prompt, "other") is None


def test_the_published_set_loads_with_its_groups_and_ratings(shared: Path) -> None:
    path = shared / "published" / "wu2023" / "prompts.jsonl"
    groups = {"self-instruct": "user_oriented_task_*", "mt-bench": "mtbench_*"}
    found = load_prompts(PromptSource(path=str(path), groups=groups), pair=None).prompts
    sizes = {name: sum(p.group == name for p in found) for name in groups}
    assert sizes == {"self-instruct": 252, "mt-bench": 80}
    rated = [followed(p, "vicuna_7b_rating") for p in found]
    assert None in rated
    assert rated.count(True) > rated.count(False) > 0
