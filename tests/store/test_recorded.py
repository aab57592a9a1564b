"""published.py: recorded levels reproduce the published tables, and malformed files are refused by id."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuneshift.errors import PairError, UsageError
from tuneshift.prompts.prompt import Prompt, PromptSet, PromptSource
from tuneshift.prompts.sets import load_prompts
from tuneshift.prompts.tokens import token_mask
from tuneshift.store.evidence import EvidenceItem
from tuneshift.store.recorded import read_recorded, recorded_file, recorded_fingerprint

pa = pytest.importorskip("pyarrow")


def score(item: EvidenceItem, prompt: Prompt) -> float:
    """The release's score of one prompt, written out row by row."""
    levels = item.arrays["levels"].astype(float)
    if levels.shape[1] == 0:
        return 0.0
    levels[levels <= 7] = 0
    density = [sum(line) / (sum(x**4 for x in line) ** 0.25 + 1e-9) for line in levels]
    instruction = token_mask(prompt.prompt, item.arrays["offsets"], prompt.instruction_spans)
    held = sum(a for a, counts in zip(density, instruction, strict=True) if counts)
    return float(held / max(density) / np.log2(2 + instruction.sum()))


@pytest.mark.numerics
@pytest.mark.parametrize(
    ("model", "pattern", "mean", "sd"),
    [
        ("llama", "user_oriented_task_*", 0.9400, 0.4837),
        ("vicuna", "user_oriented_task_*", 1.1305, 0.5463),
        ("llama", "mtbench_*", 1.1742, 0.5752),
        ("vicuna", "mtbench_*", 1.3464, 0.5950),
    ],
)
def test_instruction_masks_give_the_published_means(
    shared: Path, model: str, pattern: str, mean: float, sd: float
) -> None:
    folder = shared / "published" / "wu2023"
    groups = {"asked": pattern, "rest": "mtbench_*" if pattern.startswith("user") else "user_*"}
    every = load_prompts(PromptSource(path=str(folder / "prompts.jsonl"), groups=groups), pair=None)
    asked = PromptSet(name="x", source="x", prompts=tuple(p for p in every.prompts if p.group == "asked"))
    file = folder / f"{model}-7b.attributions.parquet"
    items = read_recorded(file, asked)
    assert [item.id for item in items] == [p.id for p in asked.prompts]
    scores = [score(item, prompt) for item, prompt in zip(items, asked.prompts, strict=True)]
    assert np.mean(scores) == pytest.approx(mean, abs=0.005)  # two digits are published
    assert np.std(scores) == pytest.approx(sd, abs=0.005)  # two digits are published


ROW: dict[str, Any] = {
    "id": "a",
    "input_tokens": ["▁Say", "▁é", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "<0x0A>"],
    "output_tokens": ["▁O", "K"],
    "levels": bytes(range(8)) + bytes([10, 9, 8, 7, 6, 5]),
}
PROMPT = Prompt(id="a", prompt="Say é😀\n", instruction_spans=((4, 6),))


def prompt_set(*ids: str) -> PromptSet:
    prompts = (Prompt(id=i, prompt=PROMPT.prompt, instruction_spans=PROMPT.instruction_spans) for i in ids)
    return PromptSet(name="set", source="set.jsonl", prompts=tuple(prompts))


def write(folder: Path, *rows: dict[str, Any], name: str = "x.parquet") -> Path:
    import pyarrow.parquet

    pyarrow.parquet.write_table(pa.Table.from_pylist(list(rows)), folder / name)
    return folder / name


def test_an_item_has_levels_row_major_and_offsets_in_the_prompt(tmp_path: Path) -> None:
    (item,) = read_recorded(write(tmp_path, ROW), prompt_set("a"))
    assert item.arrays["levels"].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [10, 9], [8, 7], [6, 5]]
    assert (item.arrays["levels"].dtype, item.arrays["offsets"].dtype) == (np.uint8, np.int32)
    assert item.arrays["offsets"].tolist() == [[0, 3], [3, 5], [5, 6], [5, 6], [5, 6], [5, 6], [6, 7]]
    assert item.values["tokens"] == ["\u0020Say", " é", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "\n"]
    assert (item.values["response_tokens"], item.values["response"]) == ([" O", "K"], "OK")


def test_an_empty_response_keeps_its_prompt_tokens(tmp_path: Path) -> None:
    file = write(tmp_path, {**ROW, "output_tokens": [], "levels": b""}, {**ROW, "id": "b"})
    item, _ = read_recorded(file, prompt_set("a", "b"))
    assert item.arrays["levels"].shape == (7, 0)
    assert (item.left_out, item.values["response"]) == (None, "")


def test_prompts_without_a_row_are_left_out_and_rows_without_a_prompt_passed_over(tmp_path: Path) -> None:
    file = write(tmp_path, ROW, {**ROW, "id": "z"}, {**ROW, "id": "y"})
    missing, found = read_recorded(file, prompt_set("b", "a"))
    assert (missing.id, missing.left_out, dict(missing.arrays)) == ("b", "no row in x.parquet", {})
    assert (found.id, found.left_out) == ("a", None)
    with pytest.raises(PairError, match=r"none of its 3 rows is a prompt of set\.jsonl"):
        read_recorded(file, prompt_set("other"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"levels": ROW["levels"][:-1]}, "13 levels for 7 prompt tokens and 2 response tokens; 14 are wanted"),
        ({"levels": bytes([11]) + ROW["levels"][1:]}, "level 11 is out of range"),
        ({"levels": [1, 2]}, "'levels' is bytes, got list"),
        ({"levels": None}, "'levels' is bytes, got NoneType"),
        ({"input_tokens": "Say"}, "'input_tokens' is a list of strings, got 'Say'"),
        ({"output_tokens": [1, 2]}, "'output_tokens' is a list of strings"),
        ({"input_tokens": ["▁Say", "▁e", *ROW["input_tokens"][2:]]}, "piece 1 ('▁e') does not spell the prompt"),
    ],
)
def test_a_malformed_row_is_named_by_its_id(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    file = write(tmp_path, {**ROW, **changes})
    with pytest.raises(PairError) as error:
        read_recorded(file, prompt_set("a"))
    assert str(error.value).startswith(f"{file}: id 'a': ")
    assert expected in str(error.value)


def test_a_malformed_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PairError, match=r"x\.parquet: column 'levels' is missing; it has id, input_tokens"):
        read_recorded(write(tmp_path, {k: v for k, v in ROW.items() if k != "levels"}), prompt_set("a"))
    with pytest.raises(PairError, match="id 'a' has more than one row"):
        read_recorded(write(tmp_path, ROW, ROW), prompt_set("a"))
    with pytest.raises(PairError, match="row 0: 'id' is a string, got 3"):
        read_recorded(write(tmp_path, {**ROW, "id": 3}), prompt_set("a"))
    (tmp_path / "x.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(PairError, match=r"x\.parquet cannot be read as parquet"):
        read_recorded(tmp_path / "x.parquet", prompt_set("a"))


def test_a_folder_stands_for_its_only_file(tmp_path: Path) -> None:
    with pytest.raises(PairError, match=r"0 parquet files \(none\)"):
        recorded_file(tmp_path)
    file = write(tmp_path, ROW)
    assert recorded_file(tmp_path) == file
    assert read_recorded(tmp_path, prompt_set("a"))[0].left_out is None
    write(tmp_path, ROW, name="b.parquet")
    with pytest.raises(PairError, match=r"2 parquet files \(b\.parquet, x\.parquet\); name one"):
        recorded_file(tmp_path)
    with pytest.raises(PairError, match="does not exist"):
        recorded_file(tmp_path / "nowhere")


def test_the_fingerprint_is_the_files_sha256(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert recorded_fingerprint(tmp_path) == recorded_fingerprint(tmp_path / "a.parquet") == known


def test_without_pyarrow_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, ROW)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'tuneshift\[parquet\]'"):
        read_recorded(file, prompt_set("a"))
