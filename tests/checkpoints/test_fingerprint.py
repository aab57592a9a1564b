"""Fingerprints change with what a checkpoint computes and with nothing else; tokenizers compare by what they do."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tuneshift.checkpoints import fingerprint as weights
from tuneshift.checkpoints.fingerprint import fingerprint
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.checkpoints.tokenizers import load_tokenizer, require_same_tokenizer, tokenizer_differences
from tuneshift.errors import CheckpointError, PairError

Maker = Callable[..., Path]


@pytest.fixture
def folder(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "copy"))


def ref(model: Path, **fields: object) -> ModelRef:
    return ModelRef(name=model.name, model=str(model), **fields)


def edit(path: Path, **fields: object) -> None:
    value = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**value, **fields}))


def test_a_fingerprint_is_one_of_content(folder: Path, tiny_base: Path, tiny_tuned: Path):
    assert fingerprint(ref(folder)) == fingerprint(ref(tiny_base)) != fingerprint(ref(tiny_tuned))
    assert len(fingerprint(ref(folder))) == 64


def same_sharded(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    where = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(where.values()):
        save_file({name: tensors[name] for name in where if where[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))


@pytest.mark.parametrize(
    "change",
    [
        same_sharded,
        lambda f: os.utime(f / "model.safetensors", (0, 0)),
        lambda f: edit(f / "config.json", _name_or_path="/elsewhere", transformers_version="9.9", use_cache=False),
        lambda f: edit(f / "tokenizer_config.json", chat_template="{{ 1 }}", is_local=True, padding_side="left"),
        lambda f: edit(f / "generation_config.json", temperature=0.3, transformers_version="1"),
        lambda f: (f / "README.md").write_text("card"),
        lambda f: (f / "model.py").write_text("x = 1"),
    ],
    ids=["shards", "mtime", "config", "chat template", "sampling", "card", "untrusted code"],
)
def test_what_leaves_the_computation_alone_leaves_the_fingerprint(folder: Path, change: Callable[[Path], object]):
    before = fingerprint(ref(folder))
    change(folder)
    assert fingerprint(ref(folder)) == before


def one_number(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"][3, 2] += np.float32(1e-6)
    save_file(tensors, folder / "model.safetensors")


def swapped(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    a, b = "model.embed_tokens.weight", "lm_head.weight"
    save_file({**tensors, a: tensors[b], b: tensors[a]}, folder / "model.safetensors")


def another_token(folder: Path) -> None:
    path = folder / "tokenizer.json"
    value = json.loads(path.read_text())
    vocabulary = value["model"]["vocab"]
    vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    "change",
    [
        one_number,
        swapped,
        another_token,
        lambda f: edit(f / "config.json", rms_norm_eps=1e-3),
        lambda f: edit(f / "tokenizer_config.json", bos_token="<u>"),
        lambda f: edit(f / "generation_config.json", eos_token_id=[0, 3]),
    ],
    ids=["one number", "two tensors swapped", "vocabulary", "config", "special token", "end tokens"],
)
def test_what_changes_the_computation_changes_the_fingerprint(folder: Path, change: Callable[[Path], object]):
    before = fingerprint(ref(folder))
    change(folder)
    assert fingerprint(ref(folder)) != before


def test_trusted_code_counts(folder: Path):
    trusted = ref(folder, trust_remote_code=True)
    before = fingerprint(trusted)
    (folder / "model.py").write_text("x = 1")
    assert fingerprint(trusted) != before


def test_an_adapter_counts(folder: Path, tmp_path: Path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    edit(adapter / "adapter_config.json", r=2, base_model_name_or_path="/a")
    save_file({"a": np.zeros(3, np.float32)}, adapter / "adapter_model.safetensors")
    tuned = ref(folder, adapter=str(adapter))
    first = fingerprint(tuned)
    assert first != fingerprint(ref(folder))
    edit(adapter / "adapter_config.json", base_model_name_or_path="/b")
    assert fingerprint(tuned) == first
    edit(adapter / "adapter_config.json", r=4)
    second = fingerprint(tuned)
    save_file({"a": np.ones(3, np.float32)}, adapter / "adapter_model.safetensors")
    assert len({first, second, fingerprint(tuned)}) == 3


def test_infinite_numbers_in_a_configuration_can_be_hashed(folder: Path):
    edit(folder / "config.json", time_step_limit=[0.0, float("inf")])
    assert len(fingerprint(ref(folder))) == 64


def test_the_memo_spares_reading_and_notices_a_new_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    memo, read = tmp_path / "memos" / "m.json", []
    hashes = weights._tensor_hashes
    monkeypatch.setattr(weights, "_tensor_hashes", lambda file, bar: read.append(file.name) or hashes(file, bar))
    first = fingerprint(ref(folder), memo=memo)
    assert fingerprint(ref(folder), memo=memo) == first == fingerprint(ref(folder))
    assert read == ["model.safetensors"] * 2  # the second call was spared, the one without memo was not
    one_number(folder)
    assert fingerprint(ref(folder), memo=memo) != first
    assert len(json.loads(memo.read_text())) == 1


def test_the_memo_notices_other_bytes_of_equal_size_and_dates(folder: Path, tiny_tuned: Path, tmp_path: Path):
    """What ``cp -p`` of another checkpoint over the first leaves: path, inode, size and modification time."""
    memo, file, other = tmp_path / "m.json", folder / "model.safetensors", tiny_tuned / "model.safetensors"
    before = file.stat()
    first = fingerprint(ref(folder), memo=memo)
    file.write_bytes(other.read_bytes())
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    assert fingerprint(ref(folder), memo=memo) == fingerprint(ref(folder)) != first


def test_no_mutation_of_a_memo_changes_a_fingerprint(folder: Path, tmp_path: Path):
    memo, expected = tmp_path / "m.json", fingerprint(ref(folder))
    fingerprint(ref(folder), memo=memo)
    whole, generator = memo.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        text = bytearray(whole)
        at = int(generator.integers(len(text)))
        text[at] = (text[at] + int(generator.integers(1, 256))) % 256
        memo.write_bytes(text)
        blank = bytes([whole[at], text[at]]).isspace()  # one blank for another says the same
        assert bool(weights._remembered(memo)) is blank
        assert fingerprint(ref(folder), memo=memo) == expected


def test_an_entry_of_another_file_is_dropped(folder: Path, tiny_tuned: Path, tmp_path: Path):
    memo = tmp_path / "m.json"
    fingerprint(ref(tiny_tuned), memo=memo)
    (entry,) = json.loads(memo.read_text()).values()
    path, stamp = weights._stamp(folder / "model.safetensors")
    memo.write_text(json.dumps({path: [stamp, *entry[1:]]}))
    assert fingerprint(ref(folder), memo=memo) == fingerprint(ref(folder))


@pytest.mark.parametrize("content", ["", "[1]", '{"a": 1}', '{"a": [[], [NaN], "\\ud800"]}', "\x00"])
def test_a_damaged_memo_costs_time_only(folder: Path, tmp_path: Path, content: str):
    memo = tmp_path / "m.json"
    memo.write_text(content)
    assert fingerprint(ref(folder), memo=memo) == fingerprint(ref(folder))
    assert str((folder / "model.safetensors").resolve()) in json.loads(memo.read_text())


def test_a_memo_that_cannot_be_written_is_no_error(folder: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert fingerprint(ref(folder), memo=tmp_path / "file" / "m.json") == fingerprint(ref(folder))


def test_a_folder_without_configuration_has_no_fingerprint(folder: Path):
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        fingerprint(ref(folder))


def test_the_tokenizer_splits_as_it_was_saved(tiny_base: Path):
    tokenizer = load_tokenizer(ref(tiny_base))
    ids = tokenizer("A é!", add_special_tokens=False)["input_ids"]
    assert tokenizer.is_fast
    assert len(ids) == 5  # bytes
    assert tokenizer.decode(ids) == "A é!"


def test_a_broken_tokenizer_is_an_error(folder: Path):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"The tokenizer in .* cannot be loaded"):
        load_tokenizer(ref(folder))


def test_a_tokenizer_does_not_differ_from_itself(tiny_base: Path, tiny_tuned: Path):
    assert tokenizer_differences(load_tokenizer(ref(tiny_base)), load_tokenizer(ref(tiny_tuned))) == []
    require_same_tokenizer(ref(tiny_base), ref(tiny_tuned))


def test_other_tokens_are_named(tiny_base: Path, folder: Path):
    another_token(folder)
    a, b = (load_tokenizer(ref(f)) for f in (tiny_base, folder))
    i, j = a.convert_tokens_to_ids(["A", "B"])
    assert tokenizer_differences(a, b) == [f"id {i} is 'A' against 'B'", f"id {j} is 'B' against 'A'"]
    with pytest.raises(PairError, match=rf"(?s)differ: id {i} is 'A' against 'B'; id {j} .*one tokenizer"):
        require_same_tokenizer(ref(tiny_base), ref(folder))


def test_many_differences_are_counted(tiny_base: Path, folder: Path):
    path = folder / "tokenizer.json"
    value = json.loads(path.read_text())
    tokens = [token for token in value["model"]["vocab"] if not token.startswith("<")]
    ids = [value["model"]["vocab"][token] for token in tokens[:40]]
    value["model"]["vocab"] |= dict(zip(tokens[:40], reversed(ids), strict=True))
    path.write_text(json.dumps(value))
    lines = tokenizer_differences(*(load_tokenizer(ref(f)) for f in (tiny_base, folder)))
    assert len(lines) == 11
    assert lines[-1] == "30 other ids differ"


def test_tokens_added_by_tuning_are_allowed_but_not_by_the_base(tiny_base: Path, make_checkpoint: Maker):
    chat = make_checkpoint("chat", seed=2, extra_tokens=["<|start|>", "<|stop|>"])
    size = len(load_tokenizer(ref(tiny_base)))
    require_same_tokenizer(ref(tiny_base), ref(chat))
    assert tokenizer_differences(load_tokenizer(ref(tiny_base)), load_tokenizer(ref(chat))) == [
        f"id {size} '<|start|>' is extra",
        f"id {size + 1} '<|stop|>' is extra",
    ]
    with pytest.raises(PairError, match=rf"id {size} '<\|start\|>' is missing"):
        require_same_tokenizer(ref(chat), ref(tiny_base))


def test_added_tokens_that_split_plain_text_anew_are_refused(tiny_base: Path, make_checkpoint: Maker):
    words = make_checkpoint("words", seed=2, extra_tokens=["colours"])
    with pytest.raises(PairError, match=r"text is split differently, as 'c' 'o' 'l' against 'colours'"):
        require_same_tokenizer(ref(tiny_base), ref(words))


def test_one_vocabulary_with_other_rules_is_refused(tiny_base: Path, folder: Path):
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "normalizer": {"type": "Lowercase"}}))
    with pytest.raises(PairError, match="text is split differently, as 'N'"):
        require_same_tokenizer(ref(tiny_base), ref(folder))


def rename(folder: Path, **names: str) -> None:
    """Give tokens other names in every file of a tokenizer."""
    for path in folder.glob("*.json"):
        if path.name.startswith(("tokenizer", "special", "added")):
            text = path.read_text()
            for old, new in names.items():
                text = text.replace(f"<{old}>", new)
            path.write_text(text)


def test_special_tokens_of_other_names_are_allowed_with_a_note(tiny_base: Path, folder: Path):
    rename(folder, u="<|im_start|>", a="<think>")
    (note,) = require_same_tokenizer(ref(tiny_base), ref(folder))
    assert note == f"{ref(folder).name} renames special tokens: <u> is <|im_start|>, <a> is <think>"
    assert require_same_tokenizer(ref(tiny_base), ref(tiny_base)) == ()


def test_an_ordinary_token_of_another_name_stays_an_error_beside_special_ones(tiny_base: Path, folder: Path):
    rename(folder, u="<|im_start|>")
    another_token(folder)
    with pytest.raises(PairError, match=r"differ: id \d+ is 'A' against 'B'; id \d+ is 'B' against 'A'\. Per"):
        require_same_tokenizer(ref(tiny_base), ref(folder))


def test_tokens_added_by_tuning_are_noted(tiny_base: Path, make_checkpoint: Maker):
    chat = make_checkpoint("chat", seed=2, extra_tokens=["<|start|>", "<|stop|>"])
    (note,) = require_same_tokenizer(ref(tiny_base), ref(chat))
    assert note == f"{ref(chat).name} adds tokens: '<|start|>', '<|stop|>'"
