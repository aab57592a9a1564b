"""Quantised checkpoints in memory: as stored and as plain numbers, and what is missing here to load one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from quantised_copies import compressed, edit, fp8, fp8_values, gptq, mxfp4, quanto, saved
from safetensors.torch import load_file, save_file

from tuneshift.checkpoints import dequantised
from tuneshift.checkpoints.dequantised import require_runnable
from tuneshift.checkpoints.inspection import inspect
from tuneshift.checkpoints.loading import load, require_fitting
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.errors import CheckpointError, NotInstalledError, NotMeasurableError

IDS = torch.tensor([[5, 9, 30, 17, 60, 2]])
DOWN = "model.layers.0.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def original(make_checkpoint) -> Path:
    """Wide enough for the blocks of 64 that bitsandbytes packs."""
    return make_checkpoint("original", seed=3, width=64)


def ref(folder: Path, **fields: object) -> ModelRef:
    return ModelRef(name=folder.name, model=str(folder), **fields)


def answers(folder: Path, **options):
    """Logits on a prompt, the first layer's down-projection as it is in memory, and which form that is."""
    with load(ref(folder), device="cpu", **options) as checkpoint, torch.no_grad():
        weight = checkpoint.model.model.layers[0].mlp.down_proj.weight
        kept = weight.detach().clone() if type(weight) is torch.nn.Parameter else weight
        return checkpoint.model(IDS).logits.clone(), kept, checkpoint


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """Whole numbers of 8 bits with a scale for each row, dequantised."""
    scale = weight.abs().amax(1, keepdim=True) / 127
    return (weight / scale).round() * scale


@pytest.mark.numerics
def test_fp8_is_measured_on_what_its_numbers_stand_for(original, tmp_path):
    copy = fp8(original, tmp_path / "copy")
    values = fp8_values(copy)
    logits, weight, checkpoint = answers(copy)
    assert torch.equal(weight, values[DOWN])
    assert require_fitting(ref(copy))
    assert checkpoint.computed["weights"] == "dequantised"
    assert "weights" not in answers(original)[2].computed
    assert checkpoint.form is None
    assert checkpoint.parameters == inspect(ref(original)).parameters
    save_file(values, tmp_path / "copy" / "plain.safetensors")
    plain = tmp_path / "plain"
    plain.mkdir()
    for file in original.iterdir():
        (plain / file.name).write_bytes(file.read_bytes())
    save_file(values, plain / "model.safetensors", metadata={"format": "pt"})
    expected, _, _ = answers(plain)
    assert torch.equal(logits, expected)
    assert not torch.equal(logits, answers(original)[0])


@pytest.mark.numerics
def test_compressed_tensors_are_measured_on_what_their_numbers_stand_for(original, tmp_path):
    pytest.importorskip("compressed_tensors", reason="the package compressed-tensors is not installed")
    copy = compressed(original, tmp_path / "copy", activations=True)
    logits, weight, checkpoint = answers(copy)
    torch.testing.assert_close(weight, rounded(load_file(original / "model.safetensors")[DOWN]))
    assert checkpoint.form is None
    assert torch.equal(answers(copy, plain=True)[0], logits)
    assert "activations is left out" in inspect(ref(copy)).quantization.measured


def test_mxfp4_is_measured_on_what_its_numbers_stand_for(original, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GptOssConfig(
        vocab_size=260, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, num_local_experts=2, num_experts_per_tok=1, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    whole = tmp_path / "whole"
    transformers.GptOssForCausalLM(config).save_pretrained(whole)
    for file in original.glob("*token*"):
        (whole / file.name).write_bytes(file.read_bytes())
    stands_for = mxfp4(whole, tmp_path / "copy")
    info = inspect(ref(tmp_path / "copy"))
    assert (info.quantization.name, info.parameters) == ("mxfp4, 4 bits", inspect(ref(whole)).parameters)
    with load(ref(tmp_path / "copy"), device="cpu") as checkpoint:
        held = dict(checkpoint.model.named_parameters())
        assert len(stands_for) == 2
        for name, weight in stands_for.items():
            assert torch.equal(held[name].data, weight)


@pytest.mark.numerics
def test_quanto_is_measured_on_what_its_numbers_stand_for(original, tmp_path):
    pytest.importorskip("optimum.quanto", reason="the package optimum-quanto is not installed")
    copy = quanto(original, tmp_path / "copy")
    assert inspect(ref(copy)).quantization.name == "quanto, 8 bits"
    logits, weight, checkpoint = answers(copy)
    # quanto keeps its scales in half precision: 2**-11 of a number, and ties of rounding fall either way.
    torch.testing.assert_close(weight, rounded(load_file(original / "model.safetensors")[DOWN]), atol=1e-3, rtol=1e-2)
    assert type(checkpoint.model.model.layers[0].mlp.down_proj) is torch.nn.Linear
    assert not torch.equal(logits, answers(original)[0])
    held = load_file(copy / "model.safetensors")
    del held["model.layers.0.mlp.down_proj.weight._data"], held["model.norm.weight"]
    save_file(held, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks 2 weights of LlamaForCausalLM, .*: model\.layers\.0"):
        answers(copy)


def bnb(bits: int):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("bitsandbytes", reason="the package bitsandbytes is not installed")
    return transformers.BitsAndBytesConfig(load_in_4bit=bits == 4, load_in_8bit=bits == 8)


def torchao():
    transformers = pytest.importorskip("transformers")
    quantization = pytest.importorskip("torchao.quantization", reason="the package torchao is not installed")
    return transformers.TorchAoConfig(quantization.Int8WeightOnlyConfig())


@pytest.mark.parametrize("config", [lambda: bnb(8), lambda: bnb(4), torchao], ids=["bnb8", "bnb4", "torchao"])
def test_weights_as_stored_for_responses_and_as_plain_numbers_for_what_reads_them(original, tmp_path, config):
    copy = saved(original, tmp_path / "copy", config())
    assert not require_fitting(ref(copy))  # nothing is told, and nothing refused, before the numbers are there
    as_stored, packed, first = answers(copy)
    plain, weight, second = answers(copy, plain=True)
    assert (first.form, second.form) == ("stored", "dequantised")
    assert (first.computed["weights"], second.computed["weights"]) == ("stored", "dequantised")
    assert type(packed) is not torch.nn.Parameter
    assert type(weight) is torch.Tensor
    assert weight.dtype == torch.float32
    exact = load_file(original / "model.safetensors")[DOWN]
    bits = inspect(ref(copy)).quantization.bits[0]
    assert 0 < (weight - exact).abs().max() < exact.abs().max() / (100 if bits == 8 else 3)
    # The kernels round what the layers are given as well, or compute in half precision: near, and not the same.
    assert (as_stored - plain).norm() < 0.1 * plain.norm()
    assert not torch.equal(plain, answers(original)[0])
    assert first.parameters == second.parameters == inspect(ref(original)).parameters


def test_a_derivative_is_taken_through_dequantised_weights(original, tmp_path):
    copy = saved(original, tmp_path / "copy", bnb(4))
    with load(ref(copy), device="cpu", plain=True) as checkpoint:
        rows = checkpoint.model.get_input_embeddings()(IDS).detach().requires_grad_(True)
        checkpoint.model(inputs_embeds=rows).logits[0, -1, 7].backward()
        assert rows.grad.abs().sum() > 0


@pytest.mark.numerics
def test_an_adapter_is_merged_into_dequantised_weights(original, tmp_path):
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    copy, adapter = fp8(original, tmp_path / "copy"), tmp_path / "adapter"
    model = transformers.AutoModelForCausalLM.from_pretrained(original)
    tuned = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["down_proj"], init_lora_weights=False))
    tuned.save_pretrained(adapter)
    change = tuned.base_model.model.model.layers[0].mlp.down_proj.get_delta_weight("default")
    with load(ref(copy, adapter=str(adapter)), device="cpu") as checkpoint:
        weight = checkpoint.model.model.layers[0].mlp.down_proj.weight
        torch.testing.assert_close(weight.data, fp8_values(copy)[DOWN] + change)


def test_a_method_that_gives_no_plain_numbers_says_so_by_name(original, tmp_path):
    def refuse(dtype):
        raise NotImplementedError("gptq has no implementation of `dequantize`")

    how = inspect(ref(gptq(original, tmp_path / "copy"))).quantization
    with pytest.raises(NotMeasurableError, match=r"is quantised \(gptq, 4 bits\), and transformers does not turn"):
        dequantised.dequantised(SimpleNamespace(dequantize=refuse), how, torch.float32)


@pytest.mark.parametrize(
    ("settings", "command"),
    [
        ({"quant_method": "gptq", "bits": 4}, "takes optimum gptqmodel; run: pip install optimum gptqmodel"),
        ({"quant_method": "awq", "bits": 4}, "takes gptqmodel; run: pip install gptqmodel"),
        ({"load_in_4bit": True}, "takes bitsandbytes; run: pip install bitsandbytes"),
        (
            {"quant_method": "compressed-tensors"},
            r"takes compressed-tensors; run: pip install 'tuneshift\[compressed-tensors\]'",
        ),
        ({"quant_method": "torchao"}, "takes torchao; run: pip install torchao"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    original, tmp_path, monkeypatch, settings, command
):
    copy = gptq(original, tmp_path / "copy")
    edit(copy / "config.json", quantization_config=settings)
    monkeypatch.setattr(dequantised, "find_spec", lambda module: None)
    with pytest.raises(NotInstalledError, match=rf"Checkpoint 'copy' is quantised \(.*\), which {command}"):
        answers(copy)
    with pytest.raises(NotInstalledError, match="run: pip install"):
        require_fitting(ref(copy))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_method_for_a_gpu_says_that_there_is_none(original, tmp_path):
    copy = gptq(original, tmp_path / "copy")
    for method, bits in (("fbgemm_fp8", ", 8 bits"), ("eetq", "")):
        edit(copy / "config.json", quantization_config={"quant_method": method})
        with pytest.raises((CheckpointError, NotInstalledError)) as caught:
            answers(copy)
        if method == "fbgemm_fp8":
            said = f"Checkpoint 'copy' is quantised ({method}{bits}), which needs a GPU, and torch finds none here"
            assert str(caught.value).startswith(said)


def test_whatever_else_transformers_asks_of_the_machine_is_said(original, tmp_path, monkeypatch):
    from transformers.quantizers import quantizer_finegrained_fp8 as module

    copy = fp8(original, tmp_path / "copy")
    how = inspect(ref(copy)).quantization
    require_runnable("copy", copy, how)
    monkeypatch.setattr(module, "is_accelerate_available", lambda: False)
    with pytest.raises(NotInstalledError, match=r"transformers lacks a package for it: ImportError: .*accelerate"):
        require_runnable("copy", copy, how)

    def refuse():
        raise ValueError("only under a full moon")

    monkeypatch.setattr(module, "is_accelerate_available", refuse)
    with pytest.raises(CheckpointError, match="cannot be loaded on this machine: ValueError: only under a full moon"):
        require_runnable("copy", copy, how)


@pytest.mark.parametrize("fault", ["weight", "scale"])
def test_numbers_that_are_none_are_found_in_the_files(original, tmp_path, fault):
    copy = fp8(original, tmp_path / "copy")
    held = load_file(copy / "model.safetensors")
    if fault == "weight":
        bits = held[DOWN].view(torch.uint8)
        bits[3, 5] = 0x7F  # NaN of e4m3
    else:
        held[f"{DOWN}_scale_inv"][0, 0] = float("inf")
    save_file(held, copy / "model.safetensors", metadata={"format": "pt"})
    name = DOWN if fault == "weight" else f"{DOWN}_scale_inv"
    with pytest.raises(CheckpointError, match=rf"NaN or infinite weights in 1 tensor: {name} \(1 of them\)"):
        answers(copy)
