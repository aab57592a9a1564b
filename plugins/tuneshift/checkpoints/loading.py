"""One checkpoint in memory: the device and type it is computed in, the loaded model, and its release."""

from __future__ import annotations

import atexit
import gc
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch

from ..errors import CheckpointError, TuneshiftError, UsageError, counted
from ..parse import parse_json
from ..plain import Json
from .adapters import merged, with_adapter
from .dequantised import dequantised, loading_settings, quanto_model, require_runnable
from .files import headers, weight_files
from .finite import not_finite, require_finite_files
from .inspection import CheckpointInfo, inspect
from .memory import empty_cache
from .model_cache import Decoding, decoding, keeps_rows, switches_at, virtual_tokens
from .quantized import Quantization
from .quiet import first_line, quiet
from .refs import ModelRef
from .tokenizers import load_tokenizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
TEXT_IN_WHOLE = {
    r"^language_model\.model\.": "model.",
    r"^language_model\.lm_head\.": "lm_head.",
    r"^model\.language_model\.": "model.",
}
"""How models of texts and images name the weights of their text model, and what it calls them itself."""
BESIDE_TEXT = ("model.vision", "model.visual", "model.multi_modal", "model.audio", "model.image", "model.connector")
"""Their other weights, where they stand within the same module."""
_SHOWN = 5
Form = Literal["stored", "dequantised"]
# Two models at once is what the engine must never do (DESIGN.md); the lock makes a slip an error, not a full memory.
_in_memory = threading.Lock()
_kept: dict[tuple[ModelRef, str, str], tuple[Checkpoint, ExitStack]] = {}
"""What `loaded` left in memory, at most one, by what it was asked for as."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A causal language model in memory, in evaluation mode and without gradients, with its tokenizer.

    Valid inside `load`'s block only, or until `give_way`: then the weights are released even where references remain.
    """

    ref: ModelRef
    model: Any
    tokenizer: Any
    device: torch.device
    dtype: str
    context_length: int
    parameters: int
    quantization: Quantization | None = None
    form: Form | None = None
    """Of a quantised checkpoint that has both: whether the weights are as stored or dequantised."""
    reduced: dict[str, int] = field(default_factory=dict)
    """Batches that were halved for want of memory, by what was computed: the smallest size so far."""

    @property
    def computed(self) -> Mapping[str, Json]:
        """What of the computation no key holds: resolved device, attention, batches that were halved; of quantised
        weights, in which form they computed."""
        attention = getattr(getattr(self.model, "config", None), "_attn_implementation", None)
        form = {} if self.quantization is None else {"weights": self.form or "dequantised"}
        return {"device": str(self.device), "attention": attention, "reduced": dict(self.reduced), **form}

    @cached_property
    def keeps_rows(self) -> bool:
        """As `model_cache.keeps_rows`."""
        return keeps_rows(self.model)

    @cached_property
    def decoding(self) -> Decoding:
        """As `model_cache.decoding`."""
        with quiet():
            return decoding(self.model)

    @cached_property
    def switches_at(self) -> int | None:
        """As `model_cache.switches_at`."""
        return switches_at(self.model)


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
    ref: ModelRef,
    *,
    dtype: str | None = None,
    device: str = "auto",
    attn_implementation: str | None = None,
    plain: bool = False,
) -> Iterator[Checkpoint]:
    """The checkpoint in memory for the length of a ``with`` block; its weights are released on leaving.

    ``dtype`` as in `resolve_dtype`, ``device`` as in `resolve_device`; where the checkpoint names a ``device_map``,
    accelerate places the layers instead and ``device`` is where the input embedding lies. ``attn_implementation`` None
    leaves the choice to transformers; ``eager`` is what forward-mode differentiation needs on a CPU. A PEFT adapter is
    merged into the weights; one that learns tokens before the text stays beside them, and those tokens take their room
    in the context (`CheckpointInfo.prompt_learning`). Of a model of texts and images the text model is loaded.
    ``plain``: quantised weights as plain numbers, where their method does not give those anyway; an adapter is merged
    into plain numbers too.

    Raises as `inspect` and `require_runnable`; CheckpointError also for a second checkpoint while one is loaded,
    weights that the architecture lacks or that it would have to make up, NaN or infinite weights, a vocabulary smaller
    than the tokenizer's, an adapter as in `merged`, and too little memory; NotMeasurableError as `dequantised`.
    """
    name, target = resolve_dtype(ref, dtype), resolve_device(device)
    info = inspect(ref)
    require_runnable(ref.name, info.folder, info.quantization)
    plain = plain or (info.adapter is not None and not info.prompt_learning)
    give_way()
    if not _in_memory.acquire(blocking=False):
        raise CheckpointError(
            f"Checkpoint {ref.name!r} was asked for while another is loaded in this process; leave its `load` block "
            "first."
        )
    model = None
    try:
        tokenizer = load_tokenizer(ref)
        model = _model(ref, info, DTYPES[name], target, attn_implementation, plain)
        _require_finite(ref, model, name)
        _require_rows(ref, model, tokenizer)
        yield Checkpoint(
            ref=ref,
            model=model,
            tokenizer=tokenizer,
            device=model.get_input_embeddings().weight.device,
            dtype=name,
            context_length=info.context_length - virtual_tokens(model),
            parameters=info.parameters if info.quantization else sum(p.numel() for p in model.parameters()),
            quantization=info.quantization,
            form=_form(info.quantization, plain),
        )
    finally:
        try:
            if model is not None:
                _release(model)
            del model
            gc.collect()
            empty_cache()
        finally:  # a device that failed refuses these calls too
            _in_memory.release()


def loaded(ref: ModelRef, *, dtype: str | None = None, device: str = "auto") -> Checkpoint:
    """The checkpoint in memory, left there for who asks again: it gives way to the next that is loaded.

    Arguments and errors as `load`'s.
    """
    asked = ref, resolve_dtype(ref, dtype), str(resolve_device(device))
    if asked not in _kept:
        with ExitStack() as stack:
            checkpoint = stack.enter_context(load(ref, dtype=dtype, device=device))
            _kept[asked] = checkpoint, stack.pop_all()
    return _kept[asked][0]


@atexit.register
def give_way() -> None:
    """Release what `loaded` left in memory."""
    while _kept:
        _, (_, stack) = _kept.popitem()
        stack.close()


def require_fitting(ref: ModelRef) -> bool:
    """Raise what `load` would raise for weights that are missing, left over or of other shapes than the configuration
    says, from names and shapes alone: no number is read, and nothing is looked for in an adapter. False where that
    cannot be told before loading: of quanto, and of methods that unpack the numbers themselves, which takes numbers.
    Raises as `load`."""
    info = inspect(ref)
    how = info.quantization
    require_runnable(ref.name, info.folder, how)
    if how is not None and (how.method == "quanto" or how.dequantised != "on loading"):
        return False
    _from_files(ref, info, torch.float32, torch.device("meta"), None)
    return True


def _form(quantization: Quantization | None, plain: bool) -> Form | None:
    if quantization is None or quantization.dequantised == "on loading":
        return None
    return "dequantised" if plain else "stored"


def _model(
    ref: ModelRef, info: CheckpointInfo, dtype: torch.dtype, device: torch.device, attention: str | None, plain: bool
) -> Any:
    """The model with its adapter merged, or put before it, in evaluation mode, without gradients."""
    if info.quantization is not None:
        require_finite_files(ref.name, weight_files(info.folder))
    model = _from_files(ref, info, dtype, device, attention)
    if plain and _form(info.quantization, plain) is not None:
        assert info.quantization is not None
        model = dequantised(model, info.quantization, dtype)
    if info.adapter is not None:
        # Learned tokens before the text are no change of weights, so that there is nothing to merge.
        adapted = with_adapter if info.prompt_learning else merged
        with quiet():
            model = adapted(model, info.adapter)
    return model.eval().requires_grad_(False)


def _from_files(
    ref: ModelRef, info: CheckpointInfo, dtype: torch.dtype, device: torch.device, attention: str | None
) -> Any:
    """The model without an adapter, every weight from the files and every one in its place."""
    options: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    if ref.device_map is not None:
        options["device_map"] = _device_map(ref.device_map)
    elif device.type != "cpu":
        options["device_map"] = {"": device}  # straight to the device, never twice in main memory
    try:
        with quiet():
            if info.quantization is not None and info.quantization.method == "quanto":
                return quanto_model(info.folder, dtype, device)
            chosen, particular = _model_class(ref, info)
            loaded: Any = chosen.from_pretrained(
                info.folder,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=ref.trust_remote_code,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are named below; transformers' own error names none
                **options,
                **particular,
            )
            model, report = loaded
            _require_complete(info, model, report)
            return model
    except TuneshiftError:
        raise
    except torch.OutOfMemoryError as error:
        raise CheckpointError(
            f"Checkpoint {ref.name!r} ({info.parameters / 1e9:.1f} billion parameters) does not fit into the memory of "
            f'{device} in {dtype}. Try --shift-dtype=bfloat16, or `device_map = "auto"` for the checkpoint.'
        ) from error
    except Exception as error:  # whatever files and architecture make transformers raise
        raise CheckpointError(
            f"Checkpoint {ref.name!r} in {info.folder} cannot be loaded: {first_line(error)}"
        ) from error


def _model_class(ref: ModelRef, info: CheckpointInfo) -> tuple[Any, dict[str, Any]]:
    """The class to load with, and what it has to be told: of quantised weights, in which form they are wanted; of a
    model of texts and images that transformers has no causal class for, the text model's own class, its configuration,
    and where its weights stand in the whole."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as causal_types

    alone = info.text_of is None or info.model_type in causal_types
    if alone and info.quantization is None:
        return transformers.AutoModelForCausalLM, {}
    configured: Any = transformers.AutoConfig  # its methods carry no types
    whole = configured.from_pretrained(info.folder, local_files_only=True, trust_remote_code=ref.trust_remote_code)
    text = whole.get_text_config()
    if info.quantization is not None:
        taken = whole if alone else text
        taken.quantization_config = loading_settings(info.folder, info.quantization)
    if alone:
        return transformers.AutoModelForCausalLM, {"config": whole}
    stored = (tensor.name for file in weight_files(info.folder) for tensor in headers(file))
    if getattr(whole, "tie_word_embeddings", False) and not any(name.endswith("lm_head.weight") for name in stored):
        text.tie_word_embeddings = True  # the whole's word counts, and the text's own is the default
    return getattr(transformers, info.architecture), {"config": text, "key_mapping": TEXT_IN_WHOLE}


def _device_map(text: str) -> Any:
    """A policy or device name as it stands, or a JSON object from module to device."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        return parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"`device_map` is no JSON object: {error}; got {text!r}.") from error


def _require_complete(info: CheckpointInfo, model: Any, report: dict[str, Any]) -> None:
    """Every weight comes from the files and every weight in the files is used; tied ones may be stored once. What a
    model of texts and images holds beside its text model is not the text model's."""
    kind, folder = type(model).__name__, info.folder
    missing, unexpected = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    if info.text_of is not None:
        unexpected = [name for name in unexpected if name.startswith(("language_model.", "model.", "lm_head."))
                      and not name.startswith(BESIDE_TEXT)]  # fmt: skip
    if report["mismatched_keys"]:
        of = sorted(f"{name} ({tuple(found)}, not {tuple(made)})" for name, found, made in report["mismatched_keys"])
        raise CheckpointError(
            f"{folder} holds {counted(len(of), 'weight')} of other shapes than its config.json says: "
            f"{_some(of)}. One of them belongs to another checkpoint; copy or download it anew."
        )
    if missing:
        raise CheckpointError(
            f"{folder} lacks {counted(len(missing), 'weight')} of {kind}, which would be random: "
            f"{_some(missing)}. The checkpoint is incomplete or of another architecture than its config.json says."
        )
    if unexpected:
        raise CheckpointError(
            f"{folder} holds {counted(len(unexpected), 'weight')} that {kind} does not use: "
            f"{_some(unexpected)}. Its config.json belongs to another architecture, or a training wrapper's weights "
            "were saved along."
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")


def _require_finite(ref: ModelRef, model: Any, dtype: str) -> None:
    """Raises CheckpointError naming the tensors with NaN or infinite numbers."""
    bad = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        # What torchao wraps was read from the files, where `require_finite_files` looks.
        if tensor.is_meta or hasattr(tensor, "__tensor_flatten__"):
            continue
        if count := not_finite(tensor):
            bad[name] = count
    if bad:
        shown = _some([f"{name} ({count} of them)" for name, count in bad.items()])
        hint = " Numbers beyond 65504 overflow in float16; try float32." if dtype == "float16" else ""
        raise CheckpointError(
            f"Checkpoint {ref.name!r} has NaN or infinite weights in {counted(len(bad), 'tensor')}: {shown}. Nothing "
            f"can be measured on it.{hint}"
        )


def _require_rows(ref: ModelRef, model: Any, tokenizer: Any) -> None:
    """Every id of the tokenizer has a row in the embedding."""
    rows = model.get_input_embeddings().weight.shape[0]
    beyond = sorted((index, token) for token, index in tokenizer.get_vocab().items() if index >= rows)
    if beyond:
        shown = _some([f"{index} {token!r}" for index, token in beyond])
        raise CheckpointError(
            f"The tokenizer of {ref.name!r} has {counted(len(beyond), 'token')} beyond the model's vocabulary "
            f"of {rows}: {shown}. Give the checkpoint the tokenizer that it was trained with."
        )


def _release(model: Any) -> None:
    """Frees the storage of every weight, whoever still refers to the model."""
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
