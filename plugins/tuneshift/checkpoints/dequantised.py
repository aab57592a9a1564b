"""Quantised checkpoints in memory: what they need here, in which form they load, and their weights as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, NotInstalledError, NotMeasurableError
from .files import headers, weight_files
from .quantized import Quantization, no_plain_weights, settings_of
from .quiet import first_line, quiet

NEEDED: Mapping[str, tuple[str, ...]] = {
    "aqlm": ("aqlm",),
    "auto-round": ("auto_round",),
    "awq": ("gptqmodel",),
    "bitsandbytes": ("bitsandbytes",),
    "compressed-tensors": ("compressed_tensors",),
    "gptq": ("optimum.gptq", "gptqmodel"),
    "hqq": ("hqq",),
    "quanto": ("optimum.quanto",),
    "quark": ("quark",),
    "torchao": ("torchao",),
    "vptq": ("vptq",),
}
"""Modules that transformers needs for a method."""
_PACKAGES = {
    "auto_round": "auto-round",
    "compressed_tensors": "compressed-tensors",
    "optimum.gptq": "optimum",
    "optimum.quanto": "optimum-quanto",
    "quark": "amd-quark",
}
"""Packages that bring a module of another name."""
_EXTRAS = {"compressed-tensors": "'tuneshift[compressed-tensors]'"}
"""Methods whose package an extra brings, being small; others are tens of megabytes, or are built where they run."""


def require_runnable(name: str, folder: Path, quantization: Quantization | None) -> None:
    """Look for what would keep a quantised checkpoint from loading here. Nothing for one with plain weights.

    Raises NotInstalledError for a package that is missing or too old, CheckpointError where the method needs a GPU and
    there is none, and for whatever else transformers asks of the machine.
    """
    if quantization is None:
        return
    method = quantization.method
    if missing := [module for module in NEEDED.get(method, ()) if not _there(module)]:
        packages = " ".join(_PACKAGES.get(module, module) for module in missing)
        raise NotInstalledError(
            f"Checkpoint {name!r} is quantised ({quantization.name}), which takes {packages}; run: pip install "
            f"{_EXTRAS.get(method, packages)}"
        )
    if method == "quanto":
        return
    from transformers.quantizers.auto import AutoHfQuantizer

    try:
        with quiet():
            AutoHfQuantizer.from_config(loading_settings(folder, quantization)).validate_environment(device_map=None)
    except Exception as error:  # ImportError, RuntimeError, ValueError, NotImplementedError: whatever a method asks for
        # Some methods say ImportError for a missing GPU.
        if "GPU" in str(error) and not _has_gpu():
            raise CheckpointError(
                f"Checkpoint {name!r} is quantised ({quantization.name}), which needs a GPU, and torch finds none here "
                f"({first_line(error)}). Run it where there is one, or name the checkpoint that it was made from."
            ) from error
        if isinstance(error, ImportError):
            raise NotInstalledError(
                f"Checkpoint {name!r} is quantised ({quantization.name}), and transformers lacks a package for it: "
                f"{first_line(error)}"
            ) from error
        raise CheckpointError(
            f"Checkpoint {name!r} is quantised ({quantization.name}) and cannot be loaded on this machine: "
            f"{first_line(error)}"
        ) from error


def loading_settings(folder: Path, quantization: Quantization) -> dict[str, Any]:
    """The settings to load with: as stored, and asking for plain numbers where those are what is measured."""
    settings = settings_of(folder) or {}
    return {**settings, "dequantize": True} if quantization.dequantised == "on loading" else settings


def dequantised(model: Any, quantization: Quantization, dtype: Any) -> Any:
    """The model with its weights as plain numbers of a dtype, in place as far as its method allows.

    Raises NotMeasurableError for a method that gives none.
    """
    if quantization.method == "torchao":
        _unwrap_(model, dtype)
        return model
    try:
        with quiet():
            return model.dequantize(dtype=dtype)
    except NotImplementedError as error:
        raise NotMeasurableError(no_plain_weights(type(model).__name__, quantization)) from error


def quanto_model(folder: Path, dtype: Any, device: Any) -> Any:
    """The model that optimum-quanto saved in a folder, its weights as plain numbers: transformers quantises by quanto
    and does not read what was saved.

    Raises CheckpointError for weights that the files lack.
    """
    from optimum.quanto import QModuleMixin, QuantizedModelForCausalLM
    from torch import nn

    model = QuantizedModelForCausalLM.from_pretrained(str(folder))._wrapped
    if missing := _not_stored(folder, model):
        raise CheckpointError(
            f"{folder} lacks {len(missing)} weights of {type(model).__name__}, which would be random: {missing[0]} ... "
            "The checkpoint is incomplete or of another architecture than its config.json says."
        )
    for name, module in list(model.named_modules()):
        if isinstance(module, QModuleMixin) and isinstance(module, nn.Linear):
            plain = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None, device="meta")
            plain.weight = nn.Parameter(module.weight.dequantize(), requires_grad=False)
            plain.bias = module.bias
            model.set_submodule(name, plain)
    return model.to(device=device, dtype=dtype)


def _not_stored(folder: Path, model: Any) -> list[str]:
    """Tensors of a model that no file of the folder holds, nor another name of the same tensor: optimum-quanto leaves
    them as the memory happens to be."""
    stored = {tensor.name for file in weight_files(folder) for tensor in headers(file)}
    state: dict[str, Any] = model.state_dict()
    read = {tensor.data_ptr() for name, tensor in state.items() if name in stored}
    return [name for name, tensor in state.items() if name not in stored and tensor.data_ptr() not in read]


def _unwrap_(model: Any, dtype: Any) -> None:
    """Plain parameters in place of torchao's, which transformers does not dequantise."""
    from torch import nn

    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if hasattr(weight, "__tensor_flatten__"):
                setattr(module, name, nn.Parameter(weight.dequantize().to(dtype), requires_grad=False))
    model.hf_quantizer.remove_quantization_config(model)


def _there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that would hold it
        return False


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()
