"""What a checkpoint's files say before its weights are loaded: architecture, size, stored type, context length.

Importing this module is cheap. `inspect` itself brings torch into the process, because every path to a transformers
configuration does: `transformers.configuration_utils` imports the rotary embeddings, and those import torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..plain import Json
from ..readings import Readings
from .files import Tensor, headers, locate, locate_adapter, read_json, tokenizer_folder, weight_files
from .quantized import Quantization, quantization_of, require_whole_blocks
from .quiet import first_line, quiet
from .refs import ModelRef

PROMPT_LEARNING = ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING")
"""PEFT's kinds of adapters that are no change of weights, so that nothing can be merged."""
UNLIMITED = 2**31 - 1
"""Context length of an architecture without position limit, as state-space models and ALiBi."""

_CONTEXT_FIELDS = (
    "max_position_embeddings",
    "n_positions",
    "max_sequence_length",
    "max_seq_len",
    "seq_length",
    "n_ctx",
)

MOST_LAYERS, MOST_PARTS = 1_000, 100_000
"""Layers of one model, and heads or experts: the largest published ones have about 130 and a thousand."""
_PARTS = re.compile(r"^(?:num|n)_(?:\w+_)?(?:layers?|blocks?|heads?|experts?)(?:_|$)")


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What a checkpoint's files say without its weights being loaded.

    ``parameters`` counts the stored numbers (a tied matrix once, without the adapter's), ``dtype`` is the stored type
    of most of them (``float32`` ...), ``context_length`` in tokens, ``vocabulary`` the rows of the embedding,
    ``layers`` the number of blocks and ``width`` the size of the residual stream (d_model). ``text_of`` names the class
    of a model of texts and images whose text model this is, None for others; the other weights are left where they are.
    ``prompt_learning``: the kind of an adapter that learns tokens before the text (``PROMPT_TUNING`` ...), else None.
    ``quantization``: how the weights were rounded, None for plain ones; ``parameters`` then counts what the stored
    numbers stand for.
    """

    folder: Path
    adapter: Path | None
    model_type: str
    architecture: str
    parameters: int
    dtype: str
    context_length: int
    vocabulary: int
    layers: int
    width: int
    text_of: str | None = None
    prompt_learning: str | None = None
    quantization: Quantization | None = None


def inspect(ref: ModelRef, readings: Readings | None = None) -> CheckpointInfo:
    """What the checkpoint's files say, from configuration and safetensors headers; weights stay on disk.

    ``readings`` remembers what transformers made of a configuration, unless the checkpoint brings code of its own.

    Raises PairError for a path that does not exist; CheckpointError for missing, pickled or damaged weights, a missing
    configuration or tokenizer, an architecture that is unknown or not a causal language model, a quantisation that
    transformers does not know, and an adapter that is incomplete or given as the model.
    """
    folder = locate(ref)
    adapter = _checked_adapter(ref)
    raw = _raw_config(ref, folder)
    remembered = Readings() if readings is None or ref.trust_remote_code else readings
    said = remembered.read(raw, lambda: _said(ref, folder))
    tensors = tuple(tensor for file in weight_files(folder) for tensor in headers(file))
    tokenizer_folder(ref)
    numbers = _numbers(folder, tensors)
    stored = max(numbers, key=lambda dtype: numbers[dtype])
    quantization, parameters = quantization_of(folder), sum(numbers.values())
    if quantization is not None:
        require_whole_blocks(folder, tensors)
        _require_mergeable(adapter, quantization)
        parameters = int(remembered.read(["parameters", raw], lambda: _parameters(ref, folder)))
    return CheckpointInfo(
        folder=folder,
        adapter=adapter,
        model_type=said["model_type"],
        architecture=said["architecture"],
        parameters=parameters,
        dtype={"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64"}.get(stored, stored.lower()),
        context_length=said["context_length"],
        vocabulary=said["vocabulary"],
        layers=said["layers"],
        width=said["width"],
        text_of=said["text_of"],
        prompt_learning=None if adapter is None else prompt_learning_kind(adapter),
        quantization=quantization,
    )


def prompt_learning_kind(adapter: Path) -> str | None:
    """The kind of an adapter that learns tokens before the text and leaves the weights alone; None for others."""
    kind = read_json(adapter / "adapter_config.json").get("peft_type")
    return str(kind) if kind in PROMPT_LEARNING else None


def _said(ref: ModelRef, folder: Path) -> dict[str, Json]:
    """What transformers makes of the configuration."""
    config = _config(ref, folder)
    text = config.get_text_config()
    architecture, text_of = _require_causal(ref, folder, config)
    return {
        "model_type": config.model_type,
        "architecture": architecture,
        "text_of": text_of,
        "context_length": context_length(config),
        "vocabulary": int(text.vocab_size),
        "layers": int(text.num_hidden_layers),
        "width": int(text.hidden_size),
    }


def _numbers(folder: Path, tensors: Sequence[Tensor]) -> dict[str, int]:
    """How many numbers of each type the files hold."""
    numbers: dict[str, int] = {}
    for tensor in tensors:
        numbers[tensor.dtype] = numbers.get(tensor.dtype, 0) + _numel(tensor.shape)
    if not numbers:
        raise CheckpointError(f"The weight files in {folder} hold no tensors; copy or download the checkpoint anew.")
    return numbers


def _parameters(ref: ModelRef, folder: Path) -> int:
    """How many numbers the configuration's text model has: packed ones and scales in the files say nothing of it."""
    import torch
    from transformers import AutoModelForCausalLM

    config = _config(ref, folder)
    try:
        with quiet(), torch.device("meta"):
            build: Any = AutoModelForCausalLM.from_config  # carries no types
            model = build(config.get_text_config(), trust_remote_code=ref.trust_remote_code)
    except Exception as error:  # whatever a configuration makes transformers raise
        raise CheckpointError(
            f"Checkpoint {ref.name!r} cannot be built from its configuration: {first_line(error)}. Correct config.json "
            "or install what it asks for; `attn_implementation` there may name a package that is missing."
        ) from error
    return sum(parameter.numel() for parameter in model.parameters())


def _numel(shape: Sequence[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _checked_adapter(ref: ModelRef) -> Path | None:
    """The adapter's folder, with configuration and safetensors weights."""
    adapter = locate_adapter(ref)
    if adapter is None:
        return None
    if not (adapter / "adapter_config.json").is_file():
        raise CheckpointError(f"{adapter} holds no adapter_config.json; `adapter` must name a PEFT adapter's folder.")
    read_json(adapter / "adapter_config.json")
    weight_files(adapter, "adapter_model")
    return adapter


def _require_mergeable(adapter: Path | None, quantization: Quantization) -> None:
    if adapter is not None and prompt_learning_kind(adapter) is None and quantization.dequantised == "never":
        raise CheckpointError(
            f"{adapter} is an adapter over a quantised model ({quantization.name}), whose weights transformers does "
            "not turn back into plain numbers, so that nothing can be merged into them. Merge it into the model that "
            "was quantised, and name the merged folder as `model`."
        )


def _raw_config(ref: ModelRef, folder: Path) -> Json:
    """The configuration as written. An adapter beside or instead of it is refused: transformers would follow it."""
    if (folder / "adapter_config.json").is_file():
        base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
        raise CheckpointError(
            f"{folder} holds a PEFT adapter (over {base}). Name its base as `model` and this folder as `adapter`."
        )
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} holds no config.json, so its architecture is unknown. {_contents(folder)}")
    raw = read_json(folder / "config.json")
    _require_possible(raw, folder)
    if "auto_map" in raw and not ref.trust_remote_code and not _known(raw.get("model_type")):
        raise CheckpointError(
            f"{folder} brings its own code for the architecture {raw.get('model_type')!r}. Read it, and if you trust "
            f"it set `trust_remote_code = true` for {ref.name!r}."
        )
    return raw


def _config(ref: ModelRef, folder: Path) -> Any:
    """The transformers configuration."""
    from transformers import AutoConfig

    try:
        with quiet():
            return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=ref.trust_remote_code)
    except Exception as error:  # whatever a configuration makes transformers raise
        import transformers

        model_type = read_json(folder / "config.json").get("model_type")
        what_to_do = (
            "Correct it, or copy it anew from the checkpoint."
            if _known(model_type)
            else f"A newer transformers may know the architecture {model_type!r}."
        )
        raise CheckpointError(
            f"{folder / 'config.json'} is not understood by transformers {transformers.__version__} "
            f"({first_line(error)}). {what_to_do}"
        ) from error


def _require_possible(config: Any, folder: Path) -> None:
    """Raise CheckpointError for counts of layers, heads or experts that no model has: transformers makes lists of
    them before it looks at a weight."""
    for name, count in _counts(config):
        most = MOST_LAYERS if "layer" in name else MOST_PARTS
        if not 0 <= count <= most:
            raise CheckpointError(
                f"{folder / 'config.json'}: {name} is {count:.4g}; at most {most:,} are accepted. The file is damaged "
                "or no model's; copy or download the checkpoint anew."
            )


def _counts(config: Any) -> Iterator[tuple[str, int]]:
    """Names and values of the whole numbers that count parts of a model, at any depth of a configuration."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _counts(value)
        elif type(value) is int and _PARTS.search(name):
            yield name, value


def _contents(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    return f"The folder has: {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}." if names else "It is empty."


def _known(model_type: str | None) -> bool:
    from transformers import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING


def _require_causal(ref: ModelRef, folder: Path, config: Any) -> tuple[str, str | None]:
    """Names of the causal architecture and of the class of texts and images that it is the text model of, if it is one.

    Raises CheckpointError for encoders, encoder-decoders, bare backbones, and models of images whose text model
    transformers has no causal class for.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    named = list(getattr(config, "architectures", None) or [])
    kind, shown = config.model_type, ", ".join(named) or config.model_type
    wanted = "tuneshift measures decoder-only (causal) language models."
    if getattr(config, "is_encoder_decoder", False):
        raise CheckpointError(f"{folder} is an encoder-decoder model ({shown}). {wanted}")
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        raise CheckpointError(f"{folder} is an encoder ({shown}). {wanted}")
    if ref.trust_remote_code and "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {}):
        return str(shown), None
    text = config.get_text_config()
    whole = next((n for n in named if n.endswith("ForConditionalGeneration")), None) if text is not config else None
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        inner = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(text.model_type)
        if whole is None:
            raise CheckpointError(f"{folder} is no causal language model ({shown}, model type {kind!r}). {wanted}")
        if inner is None:
            raise CheckpointError(
                f"{folder} is a model of texts and images ({shown}), and transformers has no causal class for its text "
                f"model ({text.model_type!r}), so it cannot be loaded alone. {wanted}"
            )
        return str(inner), whole
    own = str(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind])
    causal = [n for n in named if n == own or n.endswith(("ForCausalLM", "LMHeadModel"))]
    if causal or not named:
        return str(causal[0] if causal else own), None
    if whole is not None:
        return own, whole
    raise CheckpointError(f"{folder} was saved as {shown}, which has no language-model head ({own} has). {wanted}")


def context_length(config: Any) -> int:
    """Longest input in tokens that a configuration names, under whichever name; ``UNLIMITED`` where it names none."""
    text = config.get_text_config()
    found = (getattr(text, field, None) for field in _CONTEXT_FIELDS)
    return next((int(length) for length in found if isinstance(length, int) and length > 0), UNLIMITED)
