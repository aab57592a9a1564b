"""What files say of quantisation: method and bits in every method's words, and what nobody could load."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from quantised_copies import compressed, edit, fp8, gptq
from safetensors.torch import load_file, save_file

from tuneshift.checkpoints.fingerprint import fingerprint
from tuneshift.checkpoints.inspection import inspect
from tuneshift.checkpoints.quantized import QUANTO_MAP, not_plain, quantization_of
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.errors import CheckpointError

LOADING, WEIGHTS, NEVER = "on loading", "for measures of weights", "never"
TORCHAO = {"_type": "Int8DynamicActivationInt4WeightConfig", "_data": {"granularity": {"_type": "PerRow"}}}


def ref(folder: Path, **fields: object) -> ModelRef:
    return ModelRef(name=folder.name, model=str(folder), **fields)


def group(bits: int, activations: object = None) -> dict[str, object]:
    return {"targets": ["Linear"], "weights": {"num_bits": bits, "type": "int"}, "input_activations": activations}


@pytest.mark.parametrize(
    ("settings", "name", "activations", "dequantised"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes, 4 bits", False, WEIGHTS),
        ({"load_in_8bit": True}, "bitsandbytes, 8 bits", True, WEIGHTS),
        ({"quant_method": "gptq", "bits": 3}, "gptq, 3 bits", False, NEVER),
        ({"quant_method": "awq", "w_bit": 4}, "awq, 4 bits", False, NEVER),
        ({"quant_method": "hqq"}, "hqq", False, NEVER),
        ({"quant_method": "fp8"}, "fp8, 8 bits", True, LOADING),
        ({"quant_method": "mxfp4"}, "mxfp4, 4 bits", False, LOADING),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"a": group(8), "b": group(4)}},
            "compressed-tensors, 4 and 8 bits", False, LOADING,
        ),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"a": group(8, {"num_bits": 8})}},
            "compressed-tensors, 8 bits", True, LOADING,
        ),
        ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, "torchao, 8 bits", False, WEIGHTS),
        ({"quant_method": "torchao", "quant_type": {"default": TORCHAO}}, "torchao, 4 bits", True, WEIGHTS),
    ],
)  # fmt: skip
def test_method_and_bits_in_the_words_of_each_method(tmp_path, settings, name, activations, dequantised):
    edit(tmp_path / "config.json", quantization_config=settings)
    found = quantization_of(tmp_path)
    assert (found.name, found.activations, found.dequantised) == (name, activations, dequantised)
    assert (not_plain("X", found) is None) is (dequantised != NEVER)
    assert json.loads(json.dumps(found.described()))["bits"] == list(found.bits)


def test_optimum_quanto_keeps_its_settings_in_a_file_of_its_own(tmp_path):
    edit(tmp_path / "config.json", hidden_size=8)
    edit(tmp_path / QUANTO_MAP, a={"weights": "qint4", "activations": "none"}, b={"weights": "qint8"})
    found = quantization_of(tmp_path)
    assert (found.name, found.activations, found.dequantised) == ("quanto, 4 and 8 bits", False, LOADING)


@pytest.mark.parametrize("fields", [{}, {"quantization_config": None}])
def test_plain_weights_are_not_quantised(tmp_path, fields):
    edit(tmp_path / "config.json", **fields)
    assert quantization_of(tmp_path) is None


def test_the_settings_of_a_text_model_within_another_count(tmp_path):
    edit(tmp_path / "config.json", text_config={"quantization_config": {"quant_method": "awq", "bits": 4}})
    assert quantization_of(tmp_path).name == "awq, 4 bits"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (3, "quantization_config is an object with a `quant_method`, got 3"),
        ({"bits": 4}, "quantization_config is an object with a `quant_method`, got"),
        ({"quant_method": ["gptq"]}, "quantization_config is an object with a `quant_method`, got"),
        ({"quant_method": "origami"}, r"quantised by 'origami', which transformers .* does not know; it knows .*gptq"),
        ({"quant_method": "quanto", "weights": "int8"}, r"holds no quanto_qmap\.json.*QuantizedModelForCausalLM"),
    ],
)
def test_settings_that_nothing_can_load_are_refused_before_loading(tmp_path, settings, message):
    edit(tmp_path / "config.json", quantization_config=settings)
    with pytest.raises(CheckpointError, match=message):
        quantization_of(tmp_path)


@pytest.mark.parametrize("make", [fp8, compressed, gptq])
def test_a_quantised_copy_has_its_originals_parameters_and_another_fingerprint(tiny_base, tmp_path, make):
    original, copy = inspect(ref(tiny_base)), inspect(ref(make(tiny_base, tmp_path / "copy")))
    assert original.quantization is None
    assert copy.quantization is not None
    assert copy.parameters == original.parameters
    assert fingerprint(ref(tiny_base)) != fingerprint(ref(tmp_path / "copy"))


def test_other_settings_over_the_same_tensors_are_another_checkpoint(tiny_base, tmp_path):
    first, second = (fp8(tiny_base, tmp_path / name) for name in ("first", "second"))
    assert fingerprint(ref(first)) == fingerprint(ref(second))
    settings = json.loads((second / "config.json").read_text())["quantization_config"]
    edit(second / "config.json", quantization_config={**settings, "activation_scheme": "static"})
    assert fingerprint(ref(first)) != fingerprint(ref(second))


def test_scales_that_do_not_part_a_weight_evenly_are_found_before_loading(tiny_base, tmp_path):
    copy = fp8(tiny_base, tmp_path / "copy")
    held = load_file(copy / "model.safetensors")
    held["model.layers.1.mlp.up_proj.weight_scale_inv"] = torch.ones(3, 2)
    save_file(held, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.up_proj\.weight is of shape \(32, 16\) and has 3 x 2"):
        inspect(ref(copy))


def test_an_adapter_over_weights_that_stay_packed_is_refused(tiny_base, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    edit(adapter / "adapter_config.json", peft_type="LORA")
    save_file({"lora_A.weight": torch.ones(2, 16)}, adapter / "adapter_model.safetensors")
    copy = gptq(tiny_base, tmp_path / "copy")
    with pytest.raises(CheckpointError, match=r"adapter over a quantised model \(gptq, 4 bits\).*Merge it"):
        inspect(ref(copy, adapter=str(adapter)))
    edit(adapter / "adapter_config.json", peft_type="PROMPT_TUNING")
    assert inspect(ref(copy, adapter=str(adapter))).prompt_learning == "PROMPT_TUNING"
