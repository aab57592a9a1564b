"""What is read of small files is read once per content, code and version; what fails is never remembered."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tuneshift import readings
from tuneshift.checkpoints import loading as checkpoints
from tuneshift.checkpoints.devices import device_name
from tuneshift.checkpoints.inspection import inspect
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.checkpoints.tokenizers import require_same_tokenizer
from tuneshift.errors import PairError, UsageError
from tuneshift.prompts.chat import read_chat_template
from tuneshift.readings import Readings, tokenizer_content


@pytest.fixture
def kept(tmp_path):
    return Readings(tmp_path / "cache" / "readings.json")


def test_a_reading_is_made_once_for_each_content(kept):
    made = []

    def make():
        made.append(1)
        return {"made": len(made)}

    assert kept.read("a", make) == kept.read("a", make) == Readings(kept.path).read("a", make) == {"made": 1}
    assert kept.read("b", make) == {"made": 2}
    assert Readings().read("a", make) == {"made": 3}


def test_another_version_of_what_reads_reads_anew(kept, monkeypatch):
    made = []
    for version in ("1", "1", "2"):
        monkeypatch.setattr(readings, "version", lambda name, version=version: version)
        kept.read("a", lambda: made.append(1))
    assert len(made) == 2


def test_what_fails_is_not_remembered_and_a_damaged_file_is_empty(kept):
    def make():
        return 1 if kept.path.exists() else 1 / 0

    with pytest.raises(ZeroDivisionError):
        kept.read("a", make)
    kept.path.parent.mkdir()
    for damaged in ("{", "[]"):
        kept.path.write_text(damaged)
        assert kept.read("a", make) == 1
    assert len(json.loads(kept.path.read_text())) == 1


def test_a_reading_that_was_altered_on_disk_is_made_anew(kept):
    assert kept.read("a", lambda: {"context_length": 96}) == {"context_length": 96}
    kept.path.write_text(kept.path.read_text().replace("96", "69"))
    assert kept.read("a", lambda: {"context_length": 96}) == {"context_length": 96}


def test_readings_that_cannot_be_kept_are_read_all_the_same(tmp_path):
    (tmp_path / "file").write_text("")
    assert Readings(tmp_path / "file" / "readings.json").read("a", lambda: 1) == 1


def test_a_tokenizers_content_is_its_files_and_not_the_weights(make_checkpoint):
    folder = make_checkpoint("content", seed=1)
    before = tokenizer_content(folder)
    (folder / "model.safetensors").write_bytes(b"")
    assert tokenizer_content(folder) == before
    for file in (folder / "chat_template.jinja", folder / "additional_chat_templates" / "tools.jinja"):
        file.parent.mkdir(exist_ok=True)
        file.write_text("{{ messages }}")
        assert tokenizer_content(folder) != before
        before = tokenizer_content(folder)


def test_a_remembered_checkpoint_says_the_same_and_a_changed_one_is_read_anew(make_checkpoint, kept):
    folder = make_checkpoint("read", seed=1, template="{{ messages[0].content }}")
    ref = ModelRef(name="one", model=str(folder))
    assert inspect(ref, kept) == inspect(ref, kept) == inspect(ref)
    assert read_chat_template(ref, kept) == read_chat_template(ref, kept) == "{{ messages[0].content }}"
    other = ModelRef(name="two", model=str(make_checkpoint("read", seed=1, template="{{ messages[0].content }}!")))
    assert read_chat_template(other, kept) == "{{ messages[0].content }}!"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 50}))
    assert inspect(ref, kept).context_length == 50


def test_tokenizers_that_differ_are_an_error_each_time(make_checkpoint, kept):
    base, other = (ModelRef(name=name, model=str(make_checkpoint("t", seed=1))) for name in ("base", "other"))
    require_same_tokenizer(base, other, kept)
    file = f"{other.model}/tokenizer.json"
    with open(file, encoding="utf-8") as stream:
        written = json.load(stream)
    first, second = list(written["model"]["vocab"])[-2:]
    vocab = written["model"]["vocab"]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    with open(file, "w", encoding="utf-8") as stream:
        json.dump(written, stream)
    for _ in range(2):
        with pytest.raises(PairError, match="Tokenizers of base and other differ"):
            require_same_tokenizer(base, other, kept)


def test_a_checkpoint_that_was_read_before_is_checked_without_torch(make_checkpoint, kept):
    folder = str(make_checkpoint("read", seed=1))
    code = (
        "import sys\nfrom pathlib import Path\nfrom tuneshift.checkpoints.inspection import inspect\n"
        "from tuneshift.readings import Readings\nfrom tuneshift.checkpoints.refs import ModelRef\n"
        "from tuneshift.prompts.chat import read_chat_template\n"
        "from tuneshift.checkpoints.tokenizers import require_same_tokenizer\n"
        f"ref, kept = ModelRef(name='a', model={folder!r}), Readings(Path({str(kept.path)!r}))\n"
        "inspect(ref, kept), read_chat_template(ref, kept), require_same_tokenizer(ref, ref, kept)\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    run = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert [done.stdout.strip() for done in run] == ["['torch', 'transformers']", "[]"]


def test_the_device_is_torchs_where_a_driver_may_be_here_and_the_cpu_where_not(tmp_path, monkeypatch):
    monkeypatch.setattr("tuneshift.checkpoints.devices.sys.platform", "linux")
    asked = []
    monkeypatch.setattr(checkpoints, "resolve_device", lambda device: asked.append(device) or "cuda")
    assert [device_name(name, files=tmp_path) for name in ("auto", "cpu")] == ["cpu", "cpu"]
    assert asked == []
    (tmp_path / "nvidiactl").touch()
    assert device_name("auto", files=tmp_path) == "cuda"
    monkeypatch.setattr("tuneshift.checkpoints.devices.sys.platform", "darwin")
    assert device_name("auto", files=tmp_path / "none") == "cuda"


def test_a_device_that_is_not_here_is_an_error():
    with pytest.raises(UsageError, match="Unknown device 'gpu'"):
        device_name("gpu")
