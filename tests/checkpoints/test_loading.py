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
from tolerances import assert_near, rounding, terms

from tuneshift.checkpoints import loading as checkpoints
from tuneshift.checkpoints.fingerprint import fingerprint
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


@pytest.mark.numerics
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
        assert_near(logits(checkpoint), expected, terms=terms(checkpoint.model, 96))


def test_a_device_map_that_is_no_json_is_refused(folder: Path):
    with pytest.raises(CheckpointError, match="`device_map` is no JSON object"), load(ref(folder, device_map="{a")):
        pytest.fail("loaded")


@pytest.mark.numerics
def test_eager_and_sdpa_attention_agree(folder: Path):
    found = {}
    for name in ("eager", "sdpa"):
        with load(ref(folder), device="cpu", attn_implementation=name) as checkpoint:
            assert checkpoint.model.config._attn_implementation == name
            found[name] = logits(checkpoint)
    assert_near(found["eager"], found["sdpa"], terms=2 * terms(checkpoint.model, 96))


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
        (fill("lm_head.weight", math.nan, math.nan), None, r"in 1 tensor: lm_head\.weight \(2 of them\)"),
        (fill("model.norm.weight", math.inf, -math.inf), None, r"in 1 tensor: model\.norm\.weight \(2 of them\)"),
        (fill("model.norm.weight", 1e5), "float16", r"model\.norm\.weight.*overflow in float16; try float32"),
        (lambda f: edit(f / "config.json", vocab_size=7), None, r"holds 2 weights of other shapes.*lm_head.*not \(7, "),
        (lambda f: change(f, lambda t: t.pop("lm_head.weight")), None, r"lacks 1 weight.*lm_head\.weight"),
        (
            lambda f: change(f, lambda t: t.update({"v_head.weight": torch.ones(2)})),
            None,
            r"1 weight that LlamaForCausalLM does not use: v_head\.weight",
        ),
        (
            lambda f: change(f, lambda t: t.update({"lm_head.weight": torch.ones(260, 8)})),
            None,
            r"holds 1 weight of other shapes .*lm_head\.weight \(\(260, 8\), not \(",
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


# Adapters


@pytest.mark.numerics
@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig"])
def test_an_adapter_of_learned_tokens_stays_beside_the_weights_and_counts_in_the_fingerprint(
    folder: Path, tmp_path: Path, kind: str
):
    import peft

    for seed in (1, 2):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        made = peft.get_peft_model(model, getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=5))
        made.save_pretrained(tmp_path / f"learned{seed}")
    tuned = ref(folder, adapter=str(tmp_path / "learned1"))
    assert inspect(tuned).prompt_learning == {"PromptTuningConfig": "PROMPT_TUNING"}.get(kind, "PREFIX_TUNING")
    assert inspect(ref(folder)).prompt_learning is None
    prints = {fingerprint(r) for r in (ref(folder), tuned, ref(folder, adapter=str(tmp_path / "learned2")))}
    assert len(prints) == 3
    with load(ref(folder), device="cpu") as checkpoint:
        base = logits(checkpoint)[0, -1]
    with load(tuned, device="cpu") as checkpoint:
        assert checkpoint.context_length == 96 - 5  # their room in the context
        assert (logits(checkpoint)[0, -1] - base).abs().max() > 10 * rounding(terms(checkpoint.model.base_model, 96))


# Text models of models of texts and images

TEXT = {
    "vocab_size": 264, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 96, "pad_token_id": 0,
}  # fmt: skip
IMAGE = {"hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
         "patch_size": 14}  # fmt: skip
WHOLE: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "qwen3_5": (
        "Qwen3_5ForCausalLM",
        {**TEXT, "layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 8,
         "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 2},
        {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
         "num_position_embeddings": 16},
    ),
    "llama4": (
        "Llama4ForCausalLM",
        {**TEXT, "num_local_experts": 2, "intermediate_size_mlp": 32, "attention_chunk_size": 64},
        {**IMAGE, "vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16},
    ),
    "mistral3": (
        "MistralForCausalLM", {**TEXT, "model_type": "mistral"}, {**IMAGE, "model_type": "pixtral", "head_dim": 8}
    ),
    "mllama": (
        "MllamaForCausalLM",
        {**TEXT, "num_hidden_layers": 3, "cross_attention_layers": [1],
         "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
        {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_global_layers": 1,
         "attention_heads": 2, "image_size": 28, "patch_size": 14, "vision_output_dim": 32,
         "intermediate_layers_indices": [0], "max_num_tiles": 1, "supported_aspect_ratios": [[1, 1]]},
    ),
}  # fmt: skip


def whole(kind: str, tokenizer: Path, folder: Path, *, tied: bool = True) -> Any:
    """A tiny random model of texts and images, saved with the tiny tokenizer."""
    _, text, image = WHOLE[kind]
    config = transformers.AutoConfig.for_model(
        kind, text_config=dict(text, tie_word_embeddings=tied), vision_config=image, tie_word_embeddings=tied
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForImageTextToText.from_config(config).eval()
    model.save_pretrained(folder)
    for file in tokenizer.glob("tokenizer*"):
        shutil.copy(file, folder)
    return model


@pytest.mark.numerics
@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "head of its own"])
def test_the_text_model_of_a_model_of_images_is_loaded_and_gives_its_numbers(
    tiny_base: Path, tmp_path: Path, kind: str, tied: bool
):
    if kind == "mllama" and tied:
        pytest.skip("Mllama does not tie: its embedding has rows for the image token")
    model = whole(kind, tiny_base, tmp_path / "whole", tied=tied)
    ids = torch.tensor([[20, 30, 40, 50]])
    with torch.no_grad():
        expected = model(input_ids=ids).logits
    found = inspect(ref(tmp_path / "whole"))
    assert found.architecture == WHOLE[kind][0]
    assert found.text_of == type(model).__name__
    with load(ref(tmp_path / "whole"), device="cpu") as checkpoint:
        assert type(checkpoint.model).__name__ == WHOLE[kind][0]
        assert_near(checkpoint.model(ids).logits, expected, terms=2 * terms(checkpoint.model, len(ids[0])))


def test_a_text_model_that_lacks_weights_is_refused_whatever_the_images_have(tiny_base: Path, tmp_path: Path):
    whole("mistral3", tiny_base, tmp_path / "whole")
    change(tmp_path / "whole", lambda tensors: tensors.pop("language_model.model.layers.1.mlp.up_proj.weight"))
    with (
        pytest.raises(CheckpointError, match=r"lacks 1 weight .*layers\.1\.mlp\.up_proj"),
        load(ref(tmp_path / "whole"), device="cpu"),
    ):
        pytest.fail("loaded")


def test_a_model_of_images_without_a_causal_class_for_its_text_model_is_refused_by_that_name(
    tiny_base: Path, folder: Path
):
    edit(folder / "config.json", model_type="qwen3_vl", architectures=["Qwen3VLForConditionalGeneration"])
    with pytest.raises(CheckpointError, match=r"model of texts and images .*no causal class .*'qwen3_vl_text'"):
        inspect(ref(folder))
