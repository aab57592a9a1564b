"""A PEFT adapter merged into its base: the merged model computes what the adapter does unmerged, or it is an error."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from .files import Tensor as Stored
from .files import headers, weight_files
from .quiet import first_line

PROBE = 16
"""Tokens on which the merged model is compared with the unmerged: enough for attention to act, cheap on any model."""
AGREEMENT = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.3}
"""Largest relative difference (Frobenius) of the logits on the probe. In float32 merging moves them by some 1e-6; in
half precision it rounds every weight anew, so there only another model is caught."""


def merged(model: Any, adapter: Path) -> Any:
    """The model with the PEFT adapter of a folder merged in.

    Embeddings grow to the rows that the adapter brings, and never shrink. Input and output embeddings that are one
    tensor are untied first where the adapter changes either: what is added to the one must not act on the other.

    Raises CheckpointError where peft is missing; for an adapter that does not fit (peft only warns) or that needs rows
    of an embedding which it does not bring; and where the merged model's logits are not those of the unmerged one.
    """
    peft_model = _peft_model(adapter)
    _grow_(model, adapter)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*missing adapter keys.*")
            tuned: Any = peft_model.from_pretrained(model, str(adapter), local_files_only=True).eval()
            expected = _probe_logits(tuned)
            _untie_(tuned)
            result = tuned.merge_and_unload()
    except Exception as error:  # whatever an adapter for another model makes peft raise
        raise CheckpointError(
            f"The adapter in {adapter} does not fit {type(model).__name__}: {first_line(error)}"
        ) from error
    _require_same(adapter, _probe_logits(result), expected, result.dtype)
    return result


def with_adapter(model: Any, adapter: Path) -> Any:
    """The model with a PEFT adapter. An adapter that does not fit is an error, not peft's warning."""
    peft_model = _peft_model(adapter)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*missing adapter keys.*")
            return peft_model.from_pretrained(model, str(adapter), local_files_only=True)
    except Exception as error:  # whatever an adapter for another model makes peft raise
        raise CheckpointError(
            f"The adapter in {adapter} does not fit {type(model).__name__}: {first_line(error)}"
        ) from error


def _peft_model(adapter: Path) -> Any:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise CheckpointError(
            f"{adapter} is a PEFT adapter and peft is not installed: `pip install 'tuneshift[peft]'`."
        ) from error
    return PeftModel


def _embeddings(model: Any) -> dict[str, Any]:
    """Input and output embedding by the module's name; without an output embedding the input's alone."""
    wanted = [module for module in (model.get_input_embeddings(), model.get_output_embeddings()) if module is not None]
    return {name: module for name, module in model.named_modules() if any(module is one for one in wanted)}


def _grow_(model: Any, adapter: Path) -> None:
    """Gives the embeddings the rows that the adapter was trained with.

    Raises CheckpointError where it does not bring all of them: transformers would make them up.
    """
    stored = [tensor for file in weight_files(adapter, "adapter_model") for tensor in headers(file)]
    brought = {name: _rows(stored, f".{name}.") for name in _embeddings(model)}
    rows = model.get_input_embeddings().weight.shape[0]
    needed = max([rows, *(max(whole, part) for whole, part in brought.values())])
    if needed == rows:
        return
    lacking = [name for name, (whole, _) in brought.items() if whole < needed]
    if lacking and not (_tied(model) and len(lacking) < len(brought)):
        raise CheckpointError(
            f"The adapter in {adapter} was trained with {needed} rows of {' and '.join(lacking)}, of which the model "
            f"has {rows} and the adapter does not bring the others: they would be random. Merge the adapter where it "
            "was trained and name the merged folder as `model`; an adapter trained with both embeddings in "
            "`modules_to_save` brings them."
        )
    # What the new rows are filled with does not matter: the adapter brings all of them.
    model.resize_token_embeddings(needed, mean_resizing=False)


def _rows(stored: list[Stored], place: str) -> tuple[int, int]:
    """Rows of an embedding as the adapter stores it whole, and as it stores a change of low rank; 0 for neither."""
    whole = part = 0
    for tensor in stored:
        name = tensor.name
        if place not in f".{name}" or not tensor.shape:
            continue
        kind = f".{name}".rpartition(place)[2]
        if "lora_embedding_A" in kind:
            part = max(part, tensor.shape[-1])
        elif "lora_B" in kind:
            part = max(part, tensor.shape[0])
        elif kind.endswith("weight") and "lora" not in kind:
            whole = max(whole, tensor.shape[0])
    return whole, part


def _tied(model: Any) -> bool:
    weights = [module.weight.data_ptr() for module in _embeddings(model).values()]
    return len(weights) == 2 and weights[0] == weights[1]


def _untie_(tuned: Any) -> None:
    """Two tensors in place of one under input and output embeddings, where an adapter is merged into either."""
    over = [tuned.get_input_embeddings(), tuned.get_output_embeddings()]
    if not any(hasattr(module, "get_base_layer") for module in over):
        return
    below, above = map(_base, over)
    if above is not None and below.weight is above.weight:
        above.weight = nn.Parameter(above.weight.detach().clone(), requires_grad=False)


def _base(module: Any) -> Any:
    """The layer under an adapter's (or under a copy that is trained in its place); itself where there is none."""
    get = getattr(module, "get_base_layer", None)
    return getattr(module, "original_module", module) if get is None else get()


@torch.no_grad()
def _probe_logits(model: Any) -> Tensor:
    """Logits of the probe, [position, vocab] float32."""
    weight = _base(model.get_input_embeddings()).weight
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(weight.shape[0], (1, PROBE), generator=generator).to(weight.device)
    logits: Tensor = model(input_ids=tokens).logits[0]
    return logits.float().cpu()


def _require_same(adapter: Path, found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Raises CheckpointError where the merged model is another one than the adapter was trained as."""
    error, accepted = float((found - expected).norm() / expected.norm()), AGREEMENT[dtype]
    if not error <= accepted:  # NaN too
        raise CheckpointError(
            f"The adapter in {adapter} cannot be merged: the merged model's logits differ from the unmerged one's by "
            f"{error:.2g} of their size on a probe, where {accepted:g} is accepted. Merge it by hand, compare, and "
            "name the merged folder as `model`."
        )
