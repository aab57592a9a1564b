"""What a checkpoint's files say, and what is refused before weights are loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tuneshift.checkpoints import inspection
from tuneshift.checkpoints.inspection import UNLIMITED, inspect
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.engine.settings import Settings
from tuneshift.errors import CheckpointError, PairError
from tuneshift.session.checks import check_run
from tuneshift.session.describe import describe_pairs
from tuneshift.session.requests import Gating, Options
from tuneshift.session.run import RunSession

PARAMETERS = 2 * 260 * 16 + 2 * (2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 32 + 2 * 16) + 16
"""Embedding and head, two layers of q/o, k/v, gated MLP and norms, and the last norm of the tiny Llama."""


@pytest.fixture
def folder(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "copy"))


def ref(model: Path, **fields: Any) -> ModelRef:
    return ModelRef(name="it", model=str(model), **fields)


def edit(path: Path, **fields: object) -> None:
    value = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**value, **fields}))


def test_inspection_reads_what_loading_finds(folder: Path):
    info = inspect(ref(folder))
    assert (info.model_type, info.architecture, info.dtype) == ("llama", "LlamaForCausalLM", "float32")
    assert (info.parameters, info.context_length, info.vocabulary) == (PARAMETERS, 96, 260)
    assert (info.layers, info.width) == (2, 16)
    assert (info.folder, info.adapter) == (folder, None)


def test_inspection_opens_no_weights(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    assert inspect(ref(folder)).parameters == PARAMETERS


def test_the_stored_type_is_that_of_most_numbers(folder: Path):
    stored = load_file(folder / "model.safetensors")
    mixed = {name: value.bfloat16() if value.ndim == 2 else value for name, value in stored.items()}
    save_file(mixed, folder / "model.safetensors", metadata={"format": "pt"})
    assert inspect(ref(folder)).dtype == "bfloat16"


def test_context_length_is_found_under_other_names_or_unlimited():
    for config, length in [
        (transformers.GPT2Config(n_positions=77), 77),
        (transformers.OPTConfig(max_position_embeddings=66), 66),
        (transformers.MptConfig(max_seq_len=55), 55),
        (transformers.MambaConfig(), UNLIMITED),
    ]:
        assert inspection.context_length(config) == length


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("break_", "message"),
    [
        (remove("config.json"), r"holds no config\.json.*The folder has: .*model\.safetensors"),
        (lambda f: (f / "config.json").write_text("{"), r"config\.json cannot be read as JSON"),
        (remove("tokenizer.json"), "The tokenizer in|no tokenizer"),
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "pickled weights only"),
        (lambda f: (f / "model.safetensors").write_bytes(b"12345678"), "truncated or no safetensors"),
        (lambda f: edit(f / "config.json", dtype="float33"), r"not understood by transformers.*float33.*\. Correct it"),
        (lambda f: edit(f / "config.json", model_type="novel"), "not understood by transformers.*newer.*'novel'"),
        (lambda f: edit(f / "config.json", model_type="t5", architectures=["T5Model"]), "encoder-decoder model"),
        (lambda f: edit(f / "config.json", model_type="bert", architectures=["BertModel"]), r"is an encoder \(BertM"),
        (lambda f: edit(f / "config.json", model_type="bert", architectures=["BertLMHeadModel"]), "is an encoder"),
        (lambda f: edit(f / "config.json", model_type="vit", architectures=["ViTModel"]), "no causal language model"),
        (lambda f: edit(f / "config.json", architectures=["LlamaModel"]), "saved as LlamaModel.*no language-model hea"),
        (lambda f: edit(f / "config.json", model_type="x", auto_map={"A": "b.C"}), "trust_remote_code = true"),
        (lambda f: edit(f / "adapter_config.json", base_model_name_or_path="B"), r"PEFT adapter \(over B\).*`adapter`"),
    ],
)
def test_what_is_broken_is_found_before_loading(folder: Path, break_: Callable[[Path], object], message: str):
    break_(folder)
    if "tokenizer" in message:
        (folder / "tokenizer_config.json").unlink()
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        inspect(ref(folder))


def test_a_decoding_bert_is_no_encoder(folder: Path):
    edit(folder / "config.json", model_type="bert", architectures=["BertLMHeadModel"], is_decoder=True)
    assert inspect(ref(folder)).architecture == "BertLMHeadModel"


def test_an_incomplete_adapter_is_found_before_loading(folder: Path, tmp_path: Path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    edit(adapter / "adapter_config.json", peft_type="LORA")
    save_file({"lora_A.weight": torch.ones(2, 16)}, adapter / "adapter_model.safetensors")
    assert inspect(ref(folder, adapter=str(adapter))).adapter == adapter
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"pickled weights only \(adapter_model\.bin\)"):
        inspect(ref(folder, adapter=str(adapter)))
    (adapter / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no adapter_config\.json"):
        inspect(ref(folder, adapter=str(adapter)))
    with pytest.raises(PairError, match="does not exist"):
        inspect(ref(folder, adapter=str(adapter / "no" / "where")))


def test_a_run_reads_each_checkpoint_once(
    tiny_base: Path, tiny_tuned: Path, tiny_prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = []

    def spy(ref: ModelRef, readings: Any) -> inspection.CheckpointInfo:
        asked.append(ref.model)
        return inspect(ref)

    monkeypatch.setattr("tuneshift.session.run.inspect", spy)
    options = Options(
        base=str(tiny_base),
        tuned=(str(tiny_tuned),),
        pairs_file=None,
        pair_names=(),
        prompts=(str(tiny_prompts),),
        store=tmp_path / "store",
        settings=Settings(device="cpu"),
        alpha=0.05,
        here=tmp_path,
        gating=Gating(storage=tmp_path / "baselines"),
    )
    for runs in (1, 2):  # what one run has read is nothing to the next
        run = RunSession(options=options, known_findings=lambda: ())
        check_run(run)
        described = describe_pairs(run)
        assert [described[0][role]["parameters"] for role in ("base", "tuned")] == [PARAMETERS] * 2
        assert asked == [str(tiny_base), str(tiny_tuned)] * runs


@pytest.mark.parametrize(
    ("field", "count"), [("num_hidden_layers", 10**12), ("num_attention_heads", 10**12), ("num_local_experts", -1)]
)
def test_a_count_that_no_model_has_is_refused_before_lists_are_made_of_it(folder: Path, field: str, count: int):
    edit(folder / "config.json", **{field: count})
    with pytest.raises(CheckpointError, match=rf"config\.json: {field} is .*; at most 1(00)?,000 are accepted"):
        inspect(ref(folder))
