"""A merged adapter computes what it does unmerged, whatever it lies over; else it is refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tolerances import assert_near, rounding, terms

from tuneshift.checkpoints import adapters
from tuneshift.checkpoints.loading import load
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.checkpoints.tokenizers import load_tokenizer
from tuneshift.errors import CheckpointError

Maker = Callable[..., Path]
TOKENS = torch.tensor([[20, 30, 40, 50]])


@pytest.fixture
def folder(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "copy"))


@pytest.fixture
def tied(folder: Path) -> Path:
    """The tiny model with one tensor for input and output embedding."""
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    return folder


@pytest.fixture
def adapter(folder: Path, tmp_path: Path) -> Path:
    """A LoRA adapter over the tiny model whose B is not zero."""
    import peft

    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tuned = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    tuned.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def ref(model: Path, **fields: Any) -> ModelRef:
    return ModelRef(name="it", model=str(model), **fields)


def lora(**fields: Any) -> Any:
    import peft

    return peft.LoraConfig(r=2, task_type="CAUSAL_LM", init_lora_weights=False, **fields)


def trained(folder: Path, config: Any, into: Path, *, more_tokens: int = 0, **saving: Any) -> torch.Tensor:
    """Saves an adapter over a model, with ``more_tokens`` and its tokenizer; peft's own logits, unmerged."""
    import peft

    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = load_tokenizer(ref(folder))
    if more_tokens:
        tokenizer.add_special_tokens({"additional_special_tokens": [f"<|{i}|>" for i in range(more_tokens)]})
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    tuned = peft.get_peft_model(model, config)
    torch.manual_seed(3)
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2 * torch.randn_like(parameter)
    expected = tuned.eval()(TOKENS).logits.detach()
    tuned.save_pretrained(into, **saving)
    if more_tokens:
        tokenizer.save_pretrained(into)
    return expected


def merged_terms(folder: Path) -> int:
    """What a merged and an unmerged pass sum: each is the model's, the unmerged one with the adapter's maps beside."""
    return 2 * terms(transformers.AutoModelForCausalLM.from_pretrained(folder), TOKENS.shape[-1])


def logits(folder: Path, adapter: Path, **fields: Any) -> torch.Tensor:
    with load(ref(folder, adapter=str(adapter)), device="cpu", **fields) as checkpoint:
        return checkpoint.model(TOKENS).logits


TARGETS: dict[str, dict[str, Any]] = {
    "attention": {"target_modules": ["q_proj"]},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "both": {"target_modules": ["embed_tokens", "lm_head"]},
    "embedding saved": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "head saved": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "head over a saved embedding": {"target_modules": ["lm_head"], "modules_to_save": ["embed_tokens"]},
    "rows of the embedding": {"target_modules": ["q_proj"], "trainable_token_indices": [20, 30]},
    "dora": {"target_modules": ["q_proj", "lm_head"], "use_dora": True},
}


@pytest.mark.numerics
@pytest.mark.parametrize("targets", TARGETS)
def test_over_tied_embeddings_an_adapter_computes_what_it_does_unmerged(tied: Path, tmp_path: Path, targets: str):
    expected = trained(tied, lora(**TARGETS[targets]), tmp_path / "adapter")
    assert_near(logits(tied, tmp_path / "adapter"), expected, terms=merged_terms(tied))


@pytest.mark.numerics
@pytest.mark.parametrize("targets", ["attention", "both", "head saved"])
def test_an_adapter_with_added_tokens_brings_their_rows(folder: Path, tmp_path: Path, targets: str):
    expected = trained(folder, lora(**TARGETS[targets]), tmp_path / "adapter", more_tokens=3)
    assert expected.shape[-1] == 263
    assert_near(logits(folder, tmp_path / "adapter"), expected, terms=merged_terms(folder))


@pytest.mark.numerics
def test_added_tokens_of_tied_embeddings_are_brought_once(tied: Path, tmp_path: Path):
    expected = trained(tied, lora(**TARGETS["attention"]), tmp_path / "adapter", more_tokens=3)
    assert_near(logits(tied, tmp_path / "adapter"), expected, terms=merged_terms(tied))


def test_embeddings_never_shrink_to_the_tokenizer(folder: Path, tmp_path: Path):
    """Models have more rows than tokens, so that a matrix has a round size."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(320, mean_resizing=False)
    model.save_pretrained(folder)
    trained(folder, lora(**TARGETS["attention"]), tmp_path / "adapter")
    load_tokenizer(ref(folder)).save_pretrained(tmp_path / "adapter")
    assert logits(folder, tmp_path / "adapter").shape[-1] == 320


@pytest.mark.parametrize(("targets", "lacking"), [("head", "model.embed_tokens"), ("embedding", "lm_head")])
def test_added_tokens_without_their_rows_are_refused(folder: Path, tmp_path: Path, targets: str, lacking: str):
    """peft saves the embedding that it lies over alone: the other's new rows are lost."""
    trained(folder, lora(**TARGETS[targets]), tmp_path / "adapter", more_tokens=3)
    with pytest.raises(CheckpointError, match=rf"with 263 rows of {lacking}, .* 260 and .* random\. Merge"):
        logits(folder, tmp_path / "adapter")


def test_a_merged_model_that_computes_something_else_is_refused(
    tied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trained(tied, lora(**TARGETS["head"]), tmp_path / "adapter")
    monkeypatch.setattr(adapters, "_untie_", lambda tuned: None)  # as peft merges by itself
    with pytest.raises(CheckpointError, match=r"cannot be merged: .* differ from the unmerged one's by [\d.]+ of"):
        logits(tied, tmp_path / "adapter")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_merging_in_another_precision_is_accepted(tied: Path, tmp_path: Path, dtype: str):
    trained(tied, lora(**TARGETS["both"]), tmp_path / "adapter")
    assert logits(tied, tmp_path / "adapter", dtype=dtype).isfinite().all()


@pytest.mark.numerics
def test_an_adapter_is_merged(folder: Path, adapter: Path):
    import peft

    plain = transformers.AutoModelForCausalLM.from_pretrained(folder)
    expected = peft.PeftModel.from_pretrained(plain, adapter)(TOKENS).logits
    with load(ref(folder), device="cpu") as checkpoint:
        base, parameters = checkpoint.model(TOKENS).logits, checkpoint.parameters
    with load(ref(folder, adapter=str(adapter)), device="cpu") as checkpoint:
        assert type(checkpoint.model) is type(plain)
        assert checkpoint.parameters == parameters
        found = checkpoint.model(TOKENS).logits
        assert_near(found, expected.detach(), terms=merged_terms(folder))
        assert (found - base).abs().max() > 1000 * rounding(merged_terms(folder))


def test_an_adapter_that_does_not_fit_is_refused(folder: Path, adapter: Path):
    tensors = load_file(adapter / "adapter_model.safetensors")
    name = sorted(tensors)[0]
    save_file({n: v for n, v in tensors.items() if n != name}, adapter / "adapter_model.safetensors")
    tuned = ref(folder, adapter=str(adapter))
    with pytest.raises(CheckpointError, match=r"does not fit LlamaForCausalLM.*missing"), load(tuned, device="cpu"):
        pytest.fail("loaded")
    save_file({n: torch.ones(3, 3) for n in tensors}, adapter / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="does not fit LlamaForCausalLM"), load(tuned, device="cpu"):
        pytest.fail("loaded")


def test_a_missing_peft_is_named(folder: Path, adapter: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    tuned = ref(folder, adapter=str(adapter))
    with pytest.raises(CheckpointError, match=r"pip install 'tuneshift\[peft\]'"), load(tuned, device="cpu"):
        pytest.fail("loaded")
