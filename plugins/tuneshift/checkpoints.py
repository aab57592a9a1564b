"""One checkpoint in memory: what it is before it is loaded, the loaded model, and its release."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .checkpoint_files import headers, locate, locate_adapter, read_json, tokenizer_folder, weight_files
from .errors import CheckpointError, UsageError
from .records import ModelRef
from .weights import (
    fingerprint,
    first_line,
    load_tokenizer,
    quiet,
    require_same_tokenizer,
    tokenizer_differences,
)

__all__ = [
    "DTYPES",
    "UNLIMITED",
    "Checkpoint",
    "CheckpointInfo",
    "fingerprint",
    "inspect",
    "load",
    "load_tokenizer",
    "locate",
    "require_same_tokenizer",
    "resolve_device",
    "resolve_dtype",
    "tokenizer_differences",
]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
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
_SHOWN = 5
# Two models at once is what the engine must never do (DESIGN.md); the lock makes a slip an error, not a full memory.
_in_memory = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What a checkpoint's files say without its weights being loaded.

    ``parameters`` counts the stored numbers (a tied matrix once, without the adapter's), ``dtype`` is the stored type
    of most of them (``float32`` ...), ``context_length`` in tokens, ``vocabulary`` the rows of the embedding.
    """

    folder: Path
    adapter: Path | None
    model_type: str
    architecture: str
    parameters: int
    dtype: str
    context_length: int
    vocabulary: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A causal language model in memory, in evaluation mode and without gradients, with its tokenizer.

    Valid inside `load`'s block only: on leaving it the weights are released even where references remain.
    """

    ref: ModelRef
    model: Any
    tokenizer: Any
    device: torch.device
    dtype: str
    context_length: int
    parameters: int


def inspect(ref: ModelRef) -> CheckpointInfo:
    """What the checkpoint's files say, from configuration and safetensors headers; weights stay on disk.

    Raises PairError for a path that does not exist; CheckpointError for missing, pickled or damaged weights, a missing
    configuration or tokenizer, an architecture that is unknown or not a causal language model, and an adapter that is
    incomplete or given as the model.
    """
    folder = locate(ref)
    adapter = _checked_adapter(ref)
    config = _config(ref, folder)
    architecture = _require_causal(ref, folder, config)
    tensors = [tensor for file in weight_files(folder) for tensor in headers(file)]
    tokenizer_folder(ref)
    numbers: dict[str, int] = {}
    for tensor in tensors:
        numbers[tensor.dtype] = numbers.get(tensor.dtype, 0) + _numel(tensor.shape)
    if not numbers:
        raise CheckpointError(f"The weight files in {folder} hold no tensors; copy or download the checkpoint anew.")
    stored = max(numbers, key=lambda dtype: numbers[dtype])
    return CheckpointInfo(
        folder=folder,
        adapter=adapter,
        model_type=config.model_type,
        architecture=architecture,
        parameters=sum(numbers.values()),
        dtype={"F32": "float32", "BF16": "bfloat16", "F16": "float16", "F64": "float64"}.get(stored, stored.lower()),
        context_length=_context_length(config),
        vocabulary=int(config.get_text_config().vocab_size),
    )


def resolve_device(device: str) -> torch.device:
    """The device for a name: ``auto`` takes cuda, else mps, else cpu; others as torch spells them (``cuda:1``).

    Raises UsageError for a name that torch does not know and for a device that this machine does not offer.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"Unknown device {device!r}; accepted are auto, cpu, mps, cuda and cuda:N.") from error
    offered = ["cpu", *["mps"] * mps, *(f"cuda:{i}" for i in range(torch.cuda.device_count() if cuda else 0))]
    name = f"cuda:{chosen.index or 0}" if chosen.type == "cuda" else chosen.type
    if name not in offered:
        raise UsageError(f"Device {device!r} is not available here; there are {', '.join(offered)}. Use one or `auto`.")
    return chosen


def resolve_dtype(ref: ModelRef, dtype: str | None) -> str:
    """Name of the type to compute in: ``dtype`` if given, else the checkpoint's own wish, else ``float32``.

    Raises UsageError for any other name than float32, bfloat16, float16 and float64.
    """
    chosen = dtype or ref.dtype or "float32"
    if chosen not in DTYPES:
        raise UsageError(f"Checkpoint {ref.name!r}: unknown dtype {chosen!r}; accepted are {', '.join(DTYPES)}.")
    return chosen


@contextmanager
def load(
    ref: ModelRef, *, dtype: str | None = None, device: str = "auto", attn_implementation: str | None = None
) -> Iterator[Checkpoint]:
    """The checkpoint in memory for the length of a ``with`` block; its weights are released on leaving.

    ``dtype`` as in `resolve_dtype`, ``device`` as in `resolve_device`; where the checkpoint names a ``device_map``,
    accelerate places the layers instead and ``device`` is where the input embedding lies. ``attn_implementation`` None
    leaves the choice to transformers; ``eager`` is what forward-mode differentiation needs on a CPU. A PEFT adapter is
    merged into the weights.

    Raises as `inspect`; CheckpointError also for a second checkpoint while one is loaded, weights that the
    architecture lacks or that it would have to make up, NaN or infinite weights, a vocabulary smaller than the
    tokenizer's, a missing peft, and too little memory.
    """
    name, target = resolve_dtype(ref, dtype), resolve_device(device)
    info = inspect(ref)
    if not _in_memory.acquire(blocking=False):
        raise CheckpointError(
            f"Checkpoint {ref.name!r} was asked for while another is loaded in this process; leave its `load` block "
            "first."
        )
    model = None
    try:
        tokenizer = load_tokenizer(ref)
        model = _model(ref, info, DTYPES[name], target, attn_implementation)
        _require_finite(ref, model, name)
        _require_rows(ref, model, tokenizer)
        yield Checkpoint(
            ref=ref,
            model=model,
            tokenizer=tokenizer,
            device=model.get_input_embeddings().weight.device,
            dtype=name,
            context_length=info.context_length,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
        )
    finally:
        if model is not None:
            _release(model)
        del model
        gc.collect()
        _empty_cache()
        _in_memory.release()


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


def _config(ref: ModelRef, folder: Path) -> Any:
    """The transformers configuration. An adapter beside or instead of it is refused: transformers would follow it."""
    from transformers import AutoConfig

    if (folder / "adapter_config.json").is_file():
        base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
        raise CheckpointError(
            f"{folder} holds a PEFT adapter (over {base}). Name its base as `model` and this folder as `adapter`."
        )
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} holds no config.json, so its architecture is unknown. {_contents(folder)}")
    raw = read_json(folder / "config.json")
    if "auto_map" in raw and not ref.trust_remote_code and not _known(raw.get("model_type")):
        raise CheckpointError(
            f"{folder} brings its own code for the architecture {raw.get('model_type')!r}. Read it, and if you trust "
            f"it set `trust_remote_code = true` for {ref.name!r}."
        )
    try:
        with quiet():
            return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=ref.trust_remote_code)
    except Exception as error:  # whatever a configuration makes transformers raise
        import transformers

        raise CheckpointError(
            f"{folder / 'config.json'} is not understood by transformers {transformers.__version__} "
            f"({first_line(error)}). A newer transformers may know the architecture {raw.get('model_type')!r}."
        ) from error


def _contents(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    return f"The folder has: {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}." if names else "It is empty."


def _known(model_type: str | None) -> bool:
    from transformers import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING


def _require_causal(ref: ModelRef, folder: Path, config: Any) -> str:
    """Name of the causal architecture. Raises CheckpointError for encoders, encoder-decoders and bare backbones."""
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
        return str(shown)
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise CheckpointError(f"{folder} is no causal language model ({shown}, model type {kind!r}). {wanted}")
    own = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind]
    causal = [n for n in named if n == own or n.endswith(("ForCausalLM", "LMHeadModel"))]
    if named and not causal:
        raise CheckpointError(f"{folder} was saved as {shown}, which has no language-model head ({own} has). {wanted}")
    return str(causal[0] if causal else own)


def _context_length(config: Any) -> int:
    text = config.get_text_config()
    found = (getattr(text, field, None) for field in _CONTEXT_FIELDS)
    return next((int(length) for length in found if isinstance(length, int) and length > 0), UNLIMITED)


def _model(ref: ModelRef, info: CheckpointInfo, dtype: torch.dtype, device: torch.device, attention: str | None) -> Any:
    """The model with its adapter merged, in evaluation mode, without gradients."""
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    if ref.device_map is not None:
        options["device_map"] = _device_map(ref.device_map)
    elif device.type != "cpu":
        options["device_map"] = {"": device}  # straight to the device, never twice in main memory
    try:
        with quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                info.folder,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=ref.trust_remote_code,
                output_loading_info=True,
                **options,
            )
            model, report = loaded
            _require_complete(info.folder, model, report)
            if info.adapter is not None:
                model = _merged(model, info.adapter)
    except CheckpointError:
        raise
    except torch.OutOfMemoryError as error:
        raise CheckpointError(
            f"Checkpoint {ref.name!r} ({info.parameters / 1e9:.1f} billion parameters) does not fit into the memory of "
            f'{device} in {dtype}. Try --shift-dtype bfloat16, or `device_map = "auto"` for the checkpoint.'
        ) from error
    except Exception as error:  # whatever files and architecture make transformers raise
        raise CheckpointError(
            f"Checkpoint {ref.name!r} in {info.folder} cannot be loaded: {first_line(error)}"
        ) from error
    return model.eval().requires_grad_(False)


def _device_map(text: str) -> Any:
    """A policy or device name as it stands, or a JSON object from module to device."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"`device_map` is no JSON object: {error}; got {text!r}.") from error


def _require_complete(folder: Path, model: Any, report: dict[str, Any]) -> None:
    """Every weight comes from the files and every weight in the files is used; tied ones may be stored once."""
    kind = type(model).__name__
    missing, unexpected = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    if missing:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} weights of {kind}, which would be random: {_some(missing)}. The checkpoint "
            "is incomplete or of another architecture than its config.json says."
        )
    if unexpected:
        raise CheckpointError(
            f"{folder} holds {len(unexpected)} weights that {kind} does not use: {_some(unexpected)}. Its config.json "
            "belongs to another architecture, or a training wrapper's weights were saved along."
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")


def _merged(model: Any, adapter: Path) -> Any:
    """The model with a PEFT adapter merged in. An adapter that does not fit is an error, not peft's warning."""
    import warnings

    try:
        from peft import PeftModel
    except ImportError as error:
        raise CheckpointError(
            f"{adapter} is a PEFT adapter and peft is not installed: `pip install 'tuneshift[peft]'`."
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*missing adapter keys.*")
            return PeftModel.from_pretrained(model, str(adapter), local_files_only=True).merge_and_unload()
    except Exception as error:  # whatever an adapter for another model makes peft raise
        raise CheckpointError(
            f"The adapter in {adapter} does not fit {type(model).__name__}: {first_line(error)}"
        ) from error


def _require_finite(ref: ModelRef, model: Any, dtype: str) -> None:
    """Raises CheckpointError naming the tensors with NaN or infinite numbers."""
    bad = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_meta or not tensor.is_floating_point():
            continue
        # NaN and infinity survive a sum, so one cheap pass clears nearly every tensor; a sum may also overflow.
        if not torch.isfinite(tensor.sum(dtype=torch.float32)):
            count = int((~torch.isfinite(tensor)).sum())
            if count:
                bad[name] = count
    if bad:
        shown = _some([f"{name} ({count} of them)" for name, count in bad.items()])
        hint = " Numbers beyond 65504 overflow in float16; try float32." if dtype == "float16" else ""
        raise CheckpointError(
            f"Checkpoint {ref.name!r} has NaN or infinite weights in {len(bad)} tensors: {shown}. Nothing can be "
            f"measured on it.{hint}"
        )


def _require_rows(ref: ModelRef, model: Any, tokenizer: Any) -> None:
    """Every id of the tokenizer has a row in the embedding."""
    rows = model.get_input_embeddings().weight.shape[0]
    beyond = sorted((index, token) for token, index in tokenizer.get_vocab().items() if index >= rows)
    if beyond:
        shown = _some([f"{index} {token!r}" for index, token in beyond])
        raise CheckpointError(
            f"The tokenizer of {ref.name!r} has {len(beyond)} tokens beyond the model's vocabulary of {rows}: {shown}. "
            "Give the checkpoint the tokenizer that it was trained with."
        )


def _release(model: Any) -> None:
    """Frees the storage of every weight, whoever still refers to the model."""
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)


def _empty_cache() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
