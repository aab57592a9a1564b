"""GGUF files: written here, they load as their safetensors twins do; what is wrong with one is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("gguf", reason="the package gguf is not installed")

import gguf

from tuneshift.checkpoint_specs import checkpoint_ref
from tuneshift.checkpoints import gguf as module
from tuneshift.checkpoints.files import locate
from tuneshift.checkpoints.inspection import inspect
from tuneshift.checkpoints.loading import load
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.checkpoints.tokenizers import load_tokenizer
from tuneshift.cli import main
from tuneshift.commands.common import OK
from tuneshift.errors import CheckpointError, PairError

TEMPLATE = "{% for m in messages %}<u>{{ m['content'] }}<end>{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
HEADS, KV_HEADS, WIDTH = 4, 2, 64


def tokens():
    from tokenizers import pre_tokenizers

    return ["<end>", "<u>", "<a>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "th"]


def twin(seed=0):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokens()), hidden_size=WIDTH, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, max_position_embeddings=96, rms_norm_eps=1e-5,
        eos_token_id=0, bos_token_id=1, pad_token_id=0, tie_word_embeddings=False, initializer_range=0.2,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def permuted(weight, heads):
    """Rows of queries and keys as llama.cpp wants them for its rotary embedding."""
    half = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, half, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
    "input_layernorm": "attn_norm",
    "model.layers.": "blk.",
}


def write_gguf(path, model, *, quantise=False):
    """The model as a GGUF file; ``quantise`` rounds its matrices to 8 bits, in the model too."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(96)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(2)
    writer.add_feed_forward_length(128)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens()))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens())
    writer.add_token_types([3, 3, 3, *[1] * (len(tokens()) - 3)])
    writer.add_token_merges(["t h"])
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_pad_token_id(0)
    writer.add_chat_template(TEMPLATE)
    for name, weight in model.state_dict().items():
        values = weight.numpy()
        heads = HEADS if "q_proj" in name else KV_HEADS if "k_proj" in name else None
        values = values if heads is None else permuted(values, heads)
        for old, new in NAMES.items():
            name = name.replace(old, new)
        if quantise and values.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "gguf"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", twin())


def logits(ref):
    ids = torch.tensor([[1, 5, 30, 17, 60, 2]])
    with load(ref, device="cpu") as checkpoint, torch.no_grad():
        return checkpoint.model(ids).logits


def test_a_gguf_file_is_its_safetensors_twin(file, cache):
    from transformers import LlamaForCausalLM

    ref = checkpoint_ref(str(file), "--tuned")
    assert (ref.name, ref.model) == ("tiny.gguf", str(file))
    info = inspect(ref)
    assert (info.model_type, info.layers, info.width, info.context_length) == ("llama", 2, WIDTH, 96)
    assert info.dtype == "float32"
    read, made = LlamaForCausalLM.from_pretrained(locate(ref)).state_dict(), twin().state_dict()
    assert read.keys() == made.keys()
    assert all(torch.equal(read[name], made[name]) for name in made)
    with torch.no_grad():
        expected = twin()(torch.tensor([[1, 5, 30, 17, 60, 2]])).logits
    assert torch.equal(logits(ref), expected)
    tokenizer = load_tokenizer(ref)
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer.eos_token == "<end>"
    assert tokenizer.decode(tokenizer("Say this.").input_ids) == "Say this."


def test_quantised_numbers_are_worked_out(tmp_path):
    path = write_gguf(tmp_path / "q8.gguf", twin(), quantise=True)
    model = twin()
    for name, weight in model.state_dict().items():
        if weight.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            weight.copy_(torch.from_numpy(gguf.quants.dequantize(gguf.quants.quantize(weight.numpy(), kind), kind)))
            assert not torch.equal(weight, twin().state_dict()[name])
    with torch.no_grad():
        expected = model(torch.tensor([[1, 5, 30, 17, 60, 2]])).logits
    assert torch.equal(logits(ModelRef(name="q", model=str(path))), expected)


def test_a_file_is_converted_once_and_again_when_it_changed(file, cache, tmp_path, monkeypatch):
    import os
    import shutil

    path = tmp_path / "mine.gguf"
    shutil.copy(file, path)
    ref = ModelRef(name="m", model=str(path))
    first = locate(ref)
    assert [folder.name for folder in cache.iterdir() if folder.is_dir()] == [first.name]  # and nothing half done
    monkeypatch.setattr(module, "_save", lambda *a: pytest.fail("converted again"))
    assert locate(ref) == first
    monkeypatch.undo()
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")
    os.utime(path, (1, 1))
    assert locate(ref) != first


def test_a_folder_with_one_gguf_file_is_that_file(file, tmp_path):
    import shutil

    shutil.copy(file, tmp_path / "a.gguf")
    found = locate(ModelRef(name="m", model=str(tmp_path)))
    assert (found / "model.safetensors").is_file()
    shutil.copy(file, tmp_path / "b.gguf")
    with pytest.raises(CheckpointError, match=r"holds 2 GGUF files \(a\.gguf, b\.gguf\); name one of them"):
        locate(ModelRef(name="m", model=str(tmp_path)))
    (tmp_path / "config.json").write_text("{}")
    assert locate(ModelRef(name="m", model=str(tmp_path))) == tmp_path


def test_a_suffix_in_capitals_is_the_same_kind(file, tmp_path):
    import shutil

    shutil.copy(file, tmp_path / "TINY.GGUF")
    assert checkpoint_ref(str(tmp_path / "TINY.GGUF"), "--tuned").name == "TINY.GGUF"
    assert locate(ModelRef(name="m", model=str(tmp_path / "TINY.GGUF"))) == locate(
        ModelRef(name="m", model=str(tmp_path))
    )


def test_a_conversion_leaves_no_bar_in_a_log(file, capfd):
    locate(ModelRef(name="m", model=str(file)))
    assert capfd.readouterr() == ("", "")


def test_a_conversion_that_dies_leaves_nothing(file, cache, monkeypatch):
    def die(source: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_save", die)
    with pytest.raises(KeyboardInterrupt):
        locate(ModelRef(name="m", model=str(file)))
    assert [folder for folder in cache.iterdir() if folder.is_dir()] == []


@pytest.mark.parametrize("how", ["cut", "text", "empty", "flipped"])
def test_a_damaged_file_is_named(file, tmp_path, how):
    data = file.read_bytes()
    path = tmp_path / "bad.gguf"
    path.write_bytes(
        {
            "cut": data[: len(data) // 2],
            "text": b"no GGUF at all" * 20,
            "empty": b"",
            "flipped": data[:40] + b"\xff" * 40 + data[80:],
        }[how]
    )
    with pytest.raises(CheckpointError, match=r"bad\.gguf cannot be read as GGUF \(.*copied anew"):
        locate(ModelRef(name="m", model=str(path)))


def test_one_part_of_a_cut_file_says_how_to_put_it_together(tmp_path):
    path = tmp_path / "m-00001-of-00003.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match="one of 3 parts of a GGUF file; put them together with"):
        locate(ModelRef(name="m", model=str(path)))


def test_a_part_beside_whole_files_does_not_make_these_parts(tmp_path):
    for name in ("a.gguf", "m-00001-of-00003.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match=r"holds 2 GGUF files \(a\.gguf, m-00001-of-00003\.gguf\); name one"):
        locate(ModelRef(name="m", model=str(tmp_path)))


def test_without_the_package_the_command_is_said(file, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=r"pip install 'tuneshift\[gguf\]'"):
        locate(ModelRef(name="m", model=str(file)))


def test_a_disk_without_room_is_said(file, monkeypatch):
    def full(source: Path, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_save", full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*four bytes a parameter.*Make room"):
        locate(ModelRef(name="m", model=str(file)))


def test_an_adapter_is_no_gguf_file(file):
    from tuneshift.checkpoint_specs import checkpoint_of
    from tuneshift.config import ConfigPlace

    with pytest.raises(PairError, match="is a file; name the folder"):
        checkpoint_of({"model": str(file), "adapter": str(file)}, ConfigPlace(label="tuned", folder=file.parent))


def test_a_sibling_tuned_from_a_gguf_base_is_a_pair_with_it(file, tmp_path):
    """`tuneshift tune BASE.gguf --lora`, and its folder as the pair file's adapter over the same file."""
    pytest.importorskip("trl", reason="the extra tune is not installed")
    data = tmp_path / "data.jsonl"
    data.write_text("".join(f'{{"prompt": "Say {k}.", "response": "th{k}"}}\n' for k in range(8)))
    out = tmp_path / "tuned"
    command = ["tune", str(file), "--how", "instruction", "--data", str(data), "--out", str(out), "--lora"]
    assert main([*command, "--epochs", "2", "--batch", "4", "--rate", "1e-2", "--device", "cpu"]) == OK
    pair = ModelRef(name="tuned", model=str(file), adapter=str(out))
    assert not torch.equal(logits(pair), logits(ModelRef(name="base", model=str(file))))
    assert load_tokenizer(pair).chat_template == TEMPLATE
