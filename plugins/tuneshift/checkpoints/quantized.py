"""Quantised checkpoints as their files describe them, and which of their weights are measured.

transformers knows the methods and loads them. Responses and likelihoods are computed with the weights as they are
stored wherever a method has kernels for that. A derivative, an eigenvector or an angle is taken of plain numbers, so
measures of attribution and weights read the dequantised ones: what the stored numbers stand for, in the run's dtype.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import CheckpointError
from ..plain import Json
from .files import Tensor, read_json

SETTINGS = "quantization_config"
QUANTO_MAP = "quanto_qmap.json"
"""What optimum-quanto writes beside the weights in place of an entry in config.json."""

Dequantised = Literal["on loading", "for measures of weights", "never"]
ON_LOADING = ("fp8", "mxfp8", "mxfp4", "compressed-tensors", "quanto")
"""Methods whose weights become plain numbers as they load, for every measure: their kernels are for certain GPUs, and
a number must not depend on the machine that it was measured on."""
FOR_WEIGHTS = ("bitsandbytes", "torchao")
"""Methods that compute everywhere with the weights as stored, and give them as plain numbers too."""

_BITS = re.compile(r"(?:int|float|fp|nf|mx)_?(\d+)_?(?=weight)|(?:int|float|fp|nf|mx)_?(\d+)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How the weights of a checkpoint were rounded, by its configuration.

    ``method``: transformers' name for it (``bitsandbytes``, ``gptq``, ``fp8`` ...). ``bits``: of a stored weight,
    every width that occurs, ascending; empty where the configuration does not say. ``activations``: whether the method
    rounds what the layers are given as well. ``dequantised``: when its weights are turned into plain numbers.
    """

    method: str
    bits: tuple[int, ...]
    activations: bool
    dequantised: Dequantised

    @property
    def name(self) -> str:
        """Method and bits in words: ``bitsandbytes, 4 bits``."""
        if not self.bits:
            return self.method
        return f"{self.method}, {' and '.join(map(str, self.bits))} bits"

    @property
    def measured(self) -> str:
        """What is measured on which weights, in words."""
        if self.dequantised == "on loading":
            rounded = "; the rounding of activations is left out" if self.activations else ""
            return f"every measure on dequantised weights{rounded}"
        behaviour = "responses and likelihoods on the weights as stored"
        if self.dequantised == "never":
            return f"{behaviour}; attribution and findings on weights do not apply"
        return f"{behaviour}, attribution and weights on dequantised ones"

    def described(self) -> dict[str, Json]:
        """As plain JSON, for the run record."""
        return {
            "method": self.method,
            "bits": list(self.bits),
            "activations": self.activations,
            "dequantised": self.dequantised,
            "measured": self.measured,
        }


def settings_of(folder: Path) -> dict[str, Any] | None:
    """The settings of quantisation that a checkpoint's files name, as written; None for plain weights.

    Raises CheckpointError for settings that are no JSON object or name no method.
    """
    config = read_json(folder / "config.json")
    found = config.get(SETTINGS)
    if found is None and isinstance(config.get("text_config"), dict):
        found = config["text_config"].get(SETTINGS)
    if found is None:
        return _quanto_settings(folder)
    if not isinstance(found, dict) or not isinstance(_method(found), str):
        raise CheckpointError(
            f"{folder / 'config.json'}: {SETTINGS} is an object with a `quant_method`, got {found!r:.80}; copy the "
            "file anew from the checkpoint."
        )
    return {**found, "quant_method": _method(found)}


def quantization_of(folder: Path) -> Quantization | None:
    """How a checkpoint's weights were rounded; None for plain weights.

    Raises as `settings_of`, and CheckpointError for a method that transformers does not know: it would read packed
    numbers as weights.
    """
    settings = settings_of(folder)
    if settings is None:
        return None
    method = str(settings["quant_method"])
    if method not in (known := _known_methods()):
        import transformers

        raise CheckpointError(
            f"{folder / 'config.json'} says that the weights are quantised by {method!r}, which transformers "
            f"{transformers.__version__} does not know; it knows {', '.join(known)}. Install a transformers that does, "
            "or name the checkpoint that it was made from."
        )
    if method == "quanto" and "map" not in settings:
        raise CheckpointError(
            f"{folder} says that optimum-quanto quantised it and holds no {QUANTO_MAP}, without which its weights "
            "cannot be read. Save it with optimum-quanto's `QuantizedModelForCausalLM.save_pretrained`, or name the "
            "checkpoint that it was made from."
        )
    at: Dequantised = "never"
    if method in ON_LOADING:
        at = "on loading"
    elif method in FOR_WEIGHTS:
        at = "for measures of weights"
    return Quantization(method=method, bits=_bits(method, settings), activations=_rounds_activations(method, settings),
                        dequantised=at)  # fmt: skip


def require_whole_blocks(folder: Path, tensors: tuple[Tensor, ...]) -> None:
    """Raises CheckpointError for an FP8 weight that its grid of scales does not part into equal blocks: transformers
    takes the size of a block from the two shapes, and cannot convert it."""
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    for name, grid in shapes.items():
        weight = shapes.get(name.removesuffix("_scale_inv"), ())
        if not name.endswith("_scale_inv") or len(grid) != 2 or len(weight) != 2:
            continue
        if any(size % parts for size, parts in zip(weight, grid, strict=True) if parts):
            raise CheckpointError(
                f"{folder}: {name.removesuffix('_scale_inv')} is of shape {weight} and has {grid[0]} x {grid[1]} "
                "scales: its last blocks are cut off, which transformers cannot dequantise. Name the checkpoint that "
                "it was made from."
            )


def not_plain(name: str, quantization: Quantization | None) -> str | None:
    """Why attribution and findings on weights do not apply to a checkpoint; None where they do."""
    if quantization is None or quantization.dequantised != "never":
        return None
    return no_plain_weights(name, quantization)


def no_plain_weights(name: str, quantization: Quantization) -> str:
    """The reason of `not_plain`, and of a method that turns out to give no plain numbers."""
    return (
        f"{name} is quantised ({quantization.name}), and transformers does not turn such weights back into plain "
        "numbers, of which attribution and findings on weights are taken; generation, likelihood, choices and judging "
        "take it"
    )


def _method(settings: Mapping[str, Any]) -> Any:
    """The method's name; early files of bitsandbytes have none."""
    early = settings.get("load_in_8bit") or settings.get("load_in_4bit")
    return settings.get("quant_method", "bitsandbytes" if early else None)


def _known_methods() -> list[str]:
    """Methods that transformers knows, as configurations name them."""
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    return sorted({name.removesuffix("_4bit").removesuffix("_8bit") for name in AUTO_QUANTIZATION_CONFIG_MAPPING})


def _quanto_settings(folder: Path) -> dict[str, Any] | None:
    if not (folder / QUANTO_MAP).is_file():
        return None
    kinds = {key: entry for key, entry in read_json(folder / QUANTO_MAP).items() if isinstance(entry, dict)}
    return {"quant_method": "quanto", "map": kinds}


def _bits(method: str, settings: Mapping[str, Any]) -> tuple[int, ...]:
    """Widths of the stored weights, ascending."""
    if method == "bitsandbytes":
        return (4,) if settings.get("load_in_4bit") else (8,)
    if method in ("fp8", "mxfp8", "fbgemm_fp8"):
        return (8,)
    if method in ("mxfp4", "nvfp4"):
        return (4,)
    return tuple(sorted(set(_named_bits(method, settings))))


def _named_bits(method: str, settings: Mapping[str, Any]) -> Iterator[int]:
    """Every width that settings name, in the words of each method."""
    if method == "compressed-tensors":
        weights = [group["weights"] for group in _groups(settings) if isinstance(group.get("weights"), dict)]
        yield from (args["num_bits"] for args in weights if isinstance(args.get("num_bits"), int))
    elif method == "quanto":
        kinds = [entry.get("weights") for entry in settings.get("map", {}).values()] or [settings.get("weights")]
        yield from _widths(" ".join(str(kind) for kind in kinds))
    elif method == "torchao":
        kind = settings.get("quant_type")
        yield from _widths(str(_types(kind) if isinstance(kind, dict) else kind))
    else:
        yield from (int(settings[key]) for key in ("bits", "w_bit", "nbits") if str(settings.get(key)).isdecimal())


def _groups(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    groups = settings.get("config_groups")
    return [group for group in groups.values() if isinstance(group, dict)] if isinstance(groups, dict) else []


def _types(value: Any) -> list[str]:
    """Names of torchao's configurations within one that was saved."""
    if not isinstance(value, dict):
        return []
    own = [str(value["_type"])] if str(value.get("_type", "")).endswith("Config") else []
    return own + [name for entry in value.values() for name in _types(entry)]


def _widths(text: str) -> Iterator[int]:
    """Bits in names of types, a weight's where activations have some too: Int8DynamicActivationInt4Weight has 4."""
    for name in re.findall(r"\w+", text):
        widths = _BITS.findall(name)
        of_weights = [weight for weight, _ in widths if weight]
        yield from (int(bits) for bits in of_weights or [other for _, other in widths])


def _rounds_activations(method: str, settings: Mapping[str, Any]) -> bool:
    if method == "bitsandbytes":
        return not settings.get("load_in_4bit")
    if method == "compressed-tensors":
        return any(group.get("input_activations") for group in _groups(settings))
    if method == "torchao":
        return "activation" in str(settings.get("quant_type")).lower()
    if method == "quanto":
        used = [entry.get("activations") for entry in settings.get("map", {}).values()]
        return any(kind not in (None, "none") for kind in [*used, settings.get("activations")])
    return method in ("fp8", "fbgemm_fp8", "nvfp4", "mxfp8")
