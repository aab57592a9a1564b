"""Loading and freeing one checkpoint, and every way in which one is refused."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tuneshift.checkpoints import loading as checkpoints
from tuneshift.checkpoints.inspection import inspect
from tuneshift.checkpoints.loading import load, resolve_device, resolve_dtype
from tuneshift.checkpoints.refs import ModelRef
from tuneshift.errors import CheckpointError, UsageError

Maker = Callable[..., Path]
PARAMETERS = 2 * 260 * 16 + 2 * (2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 32 + 2 * 16) + 16
"""Embedding and head, two layers of q/o, k/v, gated MLP and norms, and the last norm of the tiny Llama."""


@pytest.fixture
def folder(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "copy"))


def ref(model: Path, **fields: Any) -> ModelRef:
    return ModelRef(name="it", model=str(model), **fields)


def edit(path: Path, **fields: object) -> None:
    value = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**value, **fields}))


def change(folder: Path, act: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    act(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def logits(checkpoint: checkpoints.Checkpoint) -> torch.Tensor:
    return checkpoint.model(torch.tensor([[20, 30, 40, 50]])).logits


# Devices and types


def test_the_device_follows_what_there_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(UsageError, match=r"'cuda' is not available here; there are cpu"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UsageError, match=r"'cuda:2' is not available here; there are cpu, mps, cuda:0, cuda:1"):
        resolve_device("cuda:2")


def test_an_unknown_device_lists_the_known():
    with pytest.raises(UsageError, match=r"'gpu'; accepted are auto, cpu"):
        resolve_device("gpu")


def test_the_type_given_goes_before_the_checkpoints_before_float32(tmp_path: Path):
    wish = ref(tmp_path, dtype="bfloat16")
    assert [resolve_dtype(wish, "float16"), resolve_dtype(wish, None), resolve_dtype(ref(tmp_path), None)] == [
        "float16",
        "bfloat16",
        "float32",
    ]
    with pytest.raises(UsageError, match="unknown dtype 'int8'; accepted are float32"):
        resolve_dtype(wish, "int8")


# Loading


def test_a_loaded_checkpoint_computes_without_gradients(folder: Path):
    expected = transformers.AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([[20, 30, 40, 50]])).logits
    with load(ref(folder), device="cpu") as checkpoint:
        assert torch.equal(logits(checkpoint), expected)
        assert not checkpoint.model.training
        assert not any(p.requires_grad for p in checkpoint.model.parameters())
        assert (checkpoint.parameters, checkpoint.context_length) == (PARAMETERS, 96)
        assert (checkpoint.device, checkpoint.dtype) == (torch.device("cpu"), "float32")
        assert checkpoint.tokenizer.decode([9]) == "&"


@pytest.mark.parametrize(("name", "dtype"), checkpoints.DTYPES.items())
def test_weights_come_in_the_type_asked_for(folder: Path, name: str, dtype: torch.dtype):
    with load(ref(folder), dtype=name, device="cpu") as checkpoint:
        assert {p.dtype for p in checkpoint.model.parameters()} == {dtype}
        assert checkpoint.dtype == name


@pytest.mark.parametrize("text", ["cpu", "auto", '{"": "cpu"}', '{"model": "cpu", "lm_head": "disk"}'])
def test_a_device_map_goes_through_accelerate(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch):
    given = []
    original = transformers.AutoModelForCausalLM.from_pretrained

    def spy(*arguments: Any, **options: Any) -> Any:
        given.append(options["device_map"])
        return original(*arguments, **options)

    with load(ref(folder), device="cpu") as checkpoint:
        expected = logits(checkpoint)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", spy)
    with load(ref(folder, device_map=text), device="cpu") as checkpoint:
        assert given == [json.loads(text) if text.startswith("{") else text]
        assert checkpoint.device == torch.device("cpu")
        torch.testing.assert_close(logits(checkpoint), expected)


def test_a_device_map_that_is_no_json_is_refused(folder: Path):
    with pytest.raises(CheckpointError, match="`device_map` is no JSON object"), load(ref(folder, device_map="{a")):
        pytest.fail("loaded")


def test_eager_and_sdpa_attention_agree(folder: Path):
    found = {}
    for name in ("eager", "sdpa"):
        with load(ref(folder), device="cpu", attn_implementation=name) as checkpoint:
            assert checkpoint.model.config._attn_implementation == name
            found[name] = logits(checkpoint)
    torch.testing.assert_close(found["eager"], found["sdpa"], rtol=1e-5, atol=1e-5)


def test_weights_are_freed_on_leaving_even_after_an_error_and_with_references_kept(folder: Path):
    kept: list[torch.Tensor] = []

    def use() -> None:
        with load(ref(folder), device="cpu") as checkpoint:
            kept.extend([*checkpoint.model.parameters(), *checkpoint.model.buffers()])
            assert sum(tensor.untyped_storage().nbytes() for tensor in kept) >= 4 * PARAMETERS
            raise KeyError

    with pytest.raises(KeyError):
        use()
    assert [p.untyped_storage().nbytes() for p in kept] == [0] * len(kept)
    with load(ref(folder), device="cpu") as checkpoint:  # and the way is free for the next
        assert logits(checkpoint).isfinite().all()


def test_two_checkpoints_at_once_are_refused(folder: Path):
    with load(ref(folder), device="cpu") as checkpoint:
        with pytest.raises(CheckpointError, match="another is loaded"), load(ref(folder), device="cpu"):
            pass
        assert logits(checkpoint).isfinite().all()  # the first lives on


def test_a_failed_load_leaves_the_way_free(folder: Path, tiny_base: Path):
    change(folder, lambda t: t.pop("lm_head.weight"))
    for model, fails in ((folder, True), (tiny_base, False)):
        try:
            with load(ref(model), device="cpu"):
                assert not fails
        except CheckpointError:
            assert fails


def test_loading_is_silent(folder: Path, capfd: pytest.CaptureFixture[str]):
    verbosity = transformers.utils.logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with load(ref(folder), device="cpu"):
            pass
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.get_verbosity() == verbosity
    assert transformers.utils.logging.is_progress_bar_enabled()


def fill(name: str, *values: float) -> Callable[[Path], None]:
    def act(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name].view(-1)[: len(values)] = torch.tensor(values)

    return lambda folder: change(folder, act)


@pytest.mark.parametrize(
    ("break_", "dtype", "message"),
    [
        (fill("lm_head.weight", math.nan, math.nan), None, r"in 1 tensors: lm_head\.weight \(2 of them\)"),
        (fill("model.norm.weight", math.inf, -math.inf), None, r"in 1 tensors: model\.norm\.weight \(2 of them\)"),
        (fill("model.norm.weight", 1e5), "float16", r"model\.norm\.weight.*overflow in float16; try float32"),
        (lambda f: change(f, lambda t: t.pop("lm_head.weight")), None, r"lacks 1 weights.*lm_head\.weight"),
        (
            lambda f: change(f, lambda t: t.update({"v_head.weight": torch.ones(2)})),
            None,
            r"1 weights that LlamaForCausalLM does not use: v_head\.weight",
        ),
        (
            lambda f: change(f, lambda t: t.update({"lm_head.weight": torch.ones(260, 8)})),
            None,
            "cannot be loaded: RuntimeError",
        ),
    ],
)
def test_weights_that_cannot_be_used_are_named(folder: Path, break_: Any, dtype: str | None, message: str):
    break_(folder)
    with pytest.raises(CheckpointError, match=f"(?s){message}"), load(ref(folder), dtype=dtype, device="cpu"):
        pytest.fail("loaded")


def test_large_finite_weights_are_no_infinities(folder: Path):
    fill("model.norm.weight", 3e38, 3e38)(folder)
    with load(ref(folder), device="cpu") as checkpoint:
        assert checkpoint.model.model.norm.weight[0] > 2e38


def test_tied_weights_may_be_stored_once(folder: Path):
    change(folder, lambda t: t.pop("lm_head.weight"))
    edit(folder / "config.json", tie_word_embeddings=True)
    with load(ref(folder), device="cpu") as checkpoint:
        assert checkpoint.model.lm_head.weight is checkpoint.model.model.embed_tokens.weight
        assert checkpoint.parameters == PARAMETERS - 260 * 16 == inspect(ref(folder)).parameters


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(folder: Path, make_checkpoint: Maker):
    larger = make_checkpoint("larger", extra_tokens=["<|one|>", "<|two|>"])
    for file in larger.glob("tokenizer*"):
        shutil.copy(file, folder)
    message = r"2 tokens beyond the model's vocabulary of 260: 260 '<\|one\|>', 261 '<\|two\|>'"
    with pytest.raises(CheckpointError, match=message), load(ref(folder), device="cpu"):
        pytest.fail("loaded")


def test_too_little_memory_says_what_helps(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", full)
    with pytest.raises(CheckpointError, match=r"does not fit.*--shift-dtype=bfloat16"), load(ref(folder), device="cpu"):
        pytest.fail("loaded")
