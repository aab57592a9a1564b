"""Locating a checkpoint and refusing what is broken, each with what the user is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
from safetensors.numpy import load_file, save_file

from tuneshift.checkpoints import files as checkpoint_files
from tuneshift.checkpoints.files import headers, locate, locate_adapter, tokenizer_folder, weight_files
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.errors import CheckpointError, PairError
from tuneshift.resources import fixture


@pytest.fixture
def folder(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "models" / "tiny-base"))


def ref(model: Path | str, **fields: object) -> ModelRef:
    return ModelRef(name="it", model=str(model), **fields)


def shard(folder: Path) -> dict[str, str]:
    """Splits model.safetensors into two files and returns the weight map."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    where = {name: f"model-0000{1 + (i % 2)}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(where.values()):
        save_file({n: tensors[n] for n in reversed(names) if where[n] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return where


def test_a_local_folder_is_itself(folder: Path):
    assert locate(ref(folder)) == folder


def test_home_is_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert locate(ref("~/tiny-base")) == folder


def test_an_embedded_model_lies_among_the_fixtures(monkeypatch: pytest.MonkeyPatch, folder: Path):
    monkeypatch.setattr(checkpoint_files, "fixture", lambda relative: folder.parent.parent / relative)
    assert locate(ref("embedded:tiny-base")) == folder
    with pytest.raises(PairError, match=r"no embedded model 'embedded:micro'.*There are: embedded:tiny-base"):
        locate(ref("embedded:micro"))


def test_an_unknown_embedded_model_is_a_usage_error():
    assert not fixture("models/no-such").exists()
    with pytest.raises(PairError, match="no embedded model 'embedded:no-such'"):
        locate(ref("embedded:no-such"))


def test_a_missing_path_names_what_is_near(folder: Path):
    with pytest.raises(PairError, match=r"tiny-bse does not exist\. Near it: .*tiny-base"):
        locate(ref(folder.with_name("tiny-bse")))


def test_a_missing_path_with_nothing_near_shows_the_folders_there_are(folder: Path):
    with pytest.raises(PairError, match=r"does not exist.*models holds the folders tiny-base"):
        locate(ref(folder.parent / "x" / "y"))


def test_a_relative_path_beside_a_near_miss_never_reaches_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def contacted(*_: object, **__: object) -> str:
        pytest.fail("the hub was contacted")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", contacted)
    monkeypatch.chdir(folder.parent.parent)
    for text in ("models/tiny-bose", "models/other", "./model", "model"):
        with pytest.raises(PairError, match=r"does not exist"):
            locate(ref(text))


def test_a_file_is_not_a_checkpoint(folder: Path):
    with pytest.raises(PairError, match="is a file; name the folder"):
        locate(ref(folder / "config.json"))


def test_a_revision_belongs_to_the_hub(folder: Path):
    with pytest.raises(PairError, match="local folder, which has no revision 'v1'"):
        locate(ref(folder, revision="v1"))


def test_recorded_evidence_has_no_weights(tmp_path: Path):
    with pytest.raises(PairError, match="recorded evidence without weights"):
        locate(ModelRef(name="old", evidence=tmp_path))


def test_a_hub_id_is_downloaded_once_with_its_revision_and_never_pickles(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    calls = []

    def download(model: str, **options: object) -> str:
        calls.append((model, options))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    checkpoint_files._download.cache_clear()
    one = ref("organisation-x/name", revision="abc")
    assert locate(one) == locate(one) == folder
    [(model, options)] = calls
    assert (model, options["revision"]) == ("organisation-x/name", "abc")
    kept = set(huggingface_hub.utils.filter_repo_objects(
        ["model.safetensors", "config.json", "tokenizer.model", "chat_template.jinja", "code.py", "pytorch_model.bin",
         "model.pt", "consolidated.safetensors", "onnx/model.safetensors", "model-00001-of-00002.safetensors"],
        allow_patterns=options["allow_patterns"], ignore_patterns=options["ignore_patterns"],
    ))  # fmt: skip
    assert kept == {
        "model.safetensors", "config.json", "tokenizer.model", "chat_template.jinja", "model-00001-of-00002.safetensors"
    }  # fmt: skip
    checkpoint_files._download.cache_clear()


def test_an_unreachable_hub_id_says_so_and_that_a_folder_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"(?s)'organisation-x/name' at revision 'r'.*hub.*local folder"):
        locate(ref("organisation-x/name", revision="r"))


def test_sharded_weights_are_found(folder: Path):
    before = {t.name for t in headers(folder / "model.safetensors")}
    shard(folder)
    files = weight_files(folder)
    assert [file.name for file in files] == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert {t.name for file in files for t in headers(file)} == before


def test_headers_agree_with_the_file(folder: Path):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    assert {t.name: t.shape for t in headers(file)} == {name: value.shape for name, value in tensors.items()}
    content = file.read_bytes()
    for tensor in headers(file):
        assert tensor.dtype == "F32"
        assert content[tensor.start : tensor.end] == tensors[tensor.name].tobytes()


def break_(folder: Path, how: str) -> None:
    file = folder / "model.safetensors"
    if how == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "lfs":
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    elif how == "shard":
        shard(folder)
        (folder / "model-00002-of-00002.safetensors").unlink()
    elif how == "tensor":
        where = shard(folder)
        name = next(iter(where))
        kept = load_file(folder / where[name])
        save_file({n: v for n, v in kept.items() if n != name}, folder / where[name])
    elif how == "index":
        shard(folder)
        (folder / "model.safetensors.index.json").write_text("{}")
    else:
        file.rename(folder / how) if how else file.unlink()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("", r"holds no weights: expected model\.safetensors or"),
        ("pytorch_model.bin", r"pickled weights only \(pytorch_model\.bin\).*safetensors only.*save_pretrained"),
        ("training_args.bin", "holds no weights"),
        ("weights.safetensors", r"holds weights\.safetensors but not model\.safetensors"),
        ("truncated", r"model\.safetensors \(\d+ bytes\) is truncated"),
        ("empty", r"\(0 bytes\) is truncated"),
        ("lfs", "Git LFS pointer.*git lfs pull"),
        ("shard", r"1 are missing: model-00002-of-00002\.safetensors"),
        ("tensor", r"lists 1 tensor that its files do not hold: lm_head\.weight"),
        ("index", "has no `weight_map`"),
    ],
)
def test_broken_weights_are_named(folder: Path, how: str, message: str):
    break_(folder, how)
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        weight_files(folder)


def test_a_gguf_file_that_is_not_there_and_one_for_an_adapter_are_refused(folder: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"m\.gguf is no GGUF file of a whole model that lies here"):
        locate(ref(tmp_path / "m.gguf"))
    (tmp_path / "lora.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match=r"lora\.gguf is no GGUF file of a whole model"):
        locate_adapter(ref(folder, adapter=str(tmp_path / "lora.gguf")))


def test_an_adapters_tokenizer_goes_before_the_models(folder: Path, tmp_path: Path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    tuned = ref(folder, adapter=str(adapter))
    assert tokenizer_folder(tuned) == folder
    shutil.copy(folder / "tokenizer.json", adapter)
    assert tokenizer_folder(tuned) == adapter


def test_a_folder_without_tokenizer_is_refused(folder: Path):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(CheckpointError, match="holds no tokenizer"):
        tokenizer_folder(ref(folder))


@pytest.mark.parametrize("name", [1, None, [], "", "../model.safetensors", "/etc/passwd"])
def test_an_index_names_files_of_its_folder(folder: Path, name: object):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a.weight": name}}))
    with pytest.raises(CheckpointError, match=r"index\.json: the file of 'a\.weight' is a file's name, got "):
        weight_files(folder)
