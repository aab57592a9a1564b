"""Quantised copies of a small checkpoint, as the tools that make them write them: by hand where a file is tensors and a
few words in config.json, by the method's own package elsewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Rounded = Callable[[str, Tensor], Mapping[str, Tensor]]
"""(name, weight) -> the tensors that a file holds in the weight's place."""
BLOCK = 8
"""Rows and columns that share one scale."""


def edit(path: Path, **fields: Any) -> None:
    value = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**value, **fields}))


def rewritten(original: Path, folder: Path, settings: Mapping[str, Any], rounded: Rounded) -> Path:
    """A copy whose linear layers but the head are stored as ``rounded`` says."""
    shutil.copytree(original, folder)
    edit(folder / "config.json", quantization_config=settings)
    held: dict[str, Tensor] = {}
    for name, weight in load_file(original / "model.safetensors").items():
        held |= rounded(name, weight.float()) if name.endswith("proj.weight") else {name: weight}
    save_file({n: t.contiguous() for n, t in held.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def fp8(original: Path, folder: Path) -> Path:
    """Fine-grained FP8 as DeepSeek's: a scale for each block of rows and columns."""

    def rounded(name: str, weight: Tensor) -> dict[str, Tensor]:
        rows, columns = weight.shape
        blocks = weight.view(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
        scale = blocks.abs().amax((1, 3)) / 448
        eighths = (blocks / scale[:, None, :, None]).view(rows, columns).to(torch.float8_e4m3fn)
        return {name: eighths, f"{name}_scale_inv": scale}

    settings = {
        "quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK], "activation_scheme": "dynamic", "fmt": "e4m3",
    }  # fmt: skip
    return rewritten(original, folder, settings, rounded)


def fp8_values(folder: Path) -> dict[str, Tensor]:
    """What an FP8 copy stands for: every weight in float32."""
    held = load_file(folder / "model.safetensors")
    found = {}
    for name, tensor in held.items():
        if (scale := held.get(f"{name}_scale_inv")) is not None:
            tensor = tensor.float() * scale.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
        if not name.endswith("_scale_inv"):
            found[name] = tensor
    return found


def compressed(original: Path, folder: Path, *, activations: bool = False) -> Path:
    """compressed-tensors of 8-bit whole numbers, a scale for each row."""

    def rounded(name: str, weight: Tensor) -> dict[str, Tensor]:
        scale = weight.abs().amax(1, keepdim=True) / 127
        return {name: (weight / scale).round().to(torch.int8), f"{name}_scale": scale}

    of_weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
    of_activations = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
    group = {
        "targets": ["Linear"], "weights": of_weights, "input_activations": of_activations if activations else None,
    }  # fmt: skip
    settings = {
        "quant_method": "compressed-tensors", "format": "int-quantized", "quantization_status": "compressed",
        "ignore": ["lm_head"], "config_groups": {"group_0": group},
    }  # fmt: skip
    return rewritten(original, folder, settings, rounded)


def gptq(original: Path, folder: Path) -> Path:
    """What a GPTQ checkpoint says of itself: its weights need a package to be written, and are not looked at."""
    settings = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False}
    return rewritten(original, folder, settings, lambda name, weight: {name: weight})


def saved(original: Path, folder: Path, config: Any) -> Path:
    """As transformers quantises and saves by a configuration of its own."""
    from transformers import AutoModelForCausalLM

    shutil.copytree(original, folder)
    model = AutoModelForCausalLM.from_pretrained(original, quantization_config=config, dtype=torch.float32)
    model.save_pretrained(folder)
    return folder


def quanto(original: Path, folder: Path) -> Path:
    """As optimum-quanto saves: a map of its own beside the weights, nothing in config.json."""
    from optimum.quanto import QuantizedModelForCausalLM, qint8
    from transformers import AutoModelForCausalLM

    shutil.copytree(original, folder)
    (folder / "model.safetensors").unlink()
    model = AutoModelForCausalLM.from_pretrained(original, dtype=torch.float32)
    QuantizedModelForCausalLM.quantize(model, weights=qint8, exclude="lm_head").save_pretrained(folder)
    return folder


def mxfp4(original: Path, folder: Path) -> dict[str, Tensor]:
    """A copy of a gpt-oss whose experts are stored as MXFP4: 32 numbers of four bits under one power of two. Gives the
    experts' matrices that it stands for."""
    kinds = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    values = torch.cat([kinds, -kinds])
    shutil.copytree(original, folder)
    edit(folder / "config.json", quantization_config={"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})
    held, stands_for = {}, {}
    for name, weight in load_file(original / "model.safetensors").items():
        if weight.ndim != 3:
            held[name] = weight
            continue
        rows = weight.transpose(1, 2).float()
        blocks = rows.reshape(*rows.shape[:2], -1, 32)
        exponent = blocks.abs().amax(-1).log2().floor() - 2
        nearest = (blocks / exponent.exp2()[..., None])[..., None].sub(values).abs().argmin(-1)
        held[f"{name}_blocks"] = (nearest[..., 0::2] | nearest[..., 1::2] << 4).to(torch.uint8)
        held[f"{name}_scales"] = (exponent + 127).to(torch.uint8)
        stands_for[name] = (values[nearest] * exponent.exp2()[..., None]).reshape(rows.shape).transpose(1, 2)
    save_file({n: t.contiguous() for n, t in held.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    return stands_for
