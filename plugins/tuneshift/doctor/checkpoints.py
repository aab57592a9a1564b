"""What a run needs of a checkpoint, looked at without loading it: files, weights, tokenizer, template, architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..checkpoints.refs import ModelRef
from ..errors import CheckpointError, MeasureError, TuneshiftError
from .machine import Check

TEXTS = (
    "Name the colour of a lemon.",
    "Sort these words:\n  pear, Apple , fig",
    "Écris « été » — 3 × 7 = 21, 日本 🙂",
)
"""Plain words, white space and line breaks, and characters of two to four bytes."""

MENDED = "The message says what is missing; more on it in docs/troubleshooting.md."


def files_check(role: str, ref: ModelRef) -> Check:
    """What the checkpoint's files say: size, stored type or quantisation, context length; and whether a quantised one
    can be loaded here. The other checks need it to be ``ok``."""
    from ..checkpoints.dequantised import require_runnable
    from ..checkpoints.inspection import UNLIMITED, inspect

    name = f"{role} checkpoint"
    try:
        info = inspect(ref)
        require_runnable(ref.name, info.folder, info.quantization)
    except TuneshiftError as error:
        return Check(name=name, state="fail", found=str(error), advice=MENDED)
    context = "no limit of context" if info.context_length == UNLIMITED else f"{info.context_length} tokens of context"
    how = info.quantization
    stored = f"stored as {info.dtype}" if how is None else f"quantised ({how.name})"
    found = f"{ref.name}, {info.parameters:,} parameters {stored}, {context}"
    return Check(name=name, state="ok", found=found if how is None else f"{found}; measured: {how.measured}")


def weights_check(role: str, ref: ModelRef) -> Check:
    """Whether names and shapes in the files are those of the configuration's model, and every number is finite. Reads
    all weights once, one tensor in memory at a time."""
    from ..checkpoints.files import locate, locate_adapter, weight_files
    from ..checkpoints.finite import require_finite_files
    from ..checkpoints.loading import require_fitting

    name = f"{role} weights"
    try:
        told = require_fitting(ref)
        adapter = locate_adapter(ref)
        files = weight_files(locate(ref)) + (() if adapter is None else weight_files(adapter, "adapter_model"))
        require_finite_files(ref.name, files)
    except TuneshiftError as error:
        return Check(name=name, state="fail", found=str(error), advice=MENDED)
    shapes = "every shape as its config.json says" if told else "shapes are looked at on loading"
    return Check(name=name, state="ok", found=f"{ref.name}, {shapes}, every number finite")


def identity_check(base: ModelRef, tuned: ModelRef, memo: Path | None = None) -> Check:
    """Whether the two checkpoints of a pair are one. ``memo`` as in `fingerprint`."""
    from ..checkpoints.fingerprint import fingerprint

    name = "pair"
    try:
        same = fingerprint(base, memo=memo) == fingerprint(tuned, memo=memo)
    except TuneshiftError as error:
        return Check(name=name, state="fail", found=str(error), advice=MENDED)
    if not same:
        return Check(name=name, state="ok", found=f"{base.name} and {tuned.name} are two checkpoints")
    return Check(
        name=name, state="warn",
        found=f"{base.name} and {tuned.name} have identical weights: where both are asked alike, every difference is 0 "
        "by construction",
        advice="Right for an A/A control. Else one of them is the wrong folder, or training saved the weights that it "
        "started from.",
    )  # fmt: skip


def tokenizer_check(role: str, ref: ModelRef) -> Check:
    """Whether texts come back from their token ids, and every character but white space lies in some token."""
    from ..checkpoints.tokenizers import load_tokenizer
    from ..prompts.tokens import encode

    name = f"{role} tokenizer"
    try:
        tokenizer = load_tokenizer(ref)
        for text in TEXTS:
            encoded = encode(text, tokenizer, None)
            if lost := _uncovered(text, encoded.offsets.tolist()):
                return Check(
                    name=name, state="fail", found=f"no token of {text!r} covers {lost!r}",
                    advice="Instruction spans cannot be placed. Give the checkpoint the tokenizer.json of its family.",
                )  # fmt: skip
    except TuneshiftError as error:
        return Check(name=name, state="fail", found=str(error), advice=MENDED)
    changed = [text for text in TEXTS if _decoded(tokenizer, text) != text]
    size = f"{type(tokenizer).__name__} of {ref.name}, {len(tokenizer)} tokens"
    if changed:
        return Check(
            name=name, state="warn", found=f"{size}; {changed[0]!r} comes back as {_decoded(tokenizer, changed[0])!r}",
            advice="Offsets hold, so measures do too. Shown responses and the rules that judge them see the changed "
            "text.",
        )  # fmt: skip
    return Check(name=name, state="ok", found=f"{size}; {len(TEXTS)} texts come back as they were")


def _uncovered(text: str, offsets: list[list[int]]) -> str:
    """Characters but white space that no token covers."""
    covered = {at for start, end in offsets for at in range(max(start, 0), end)}
    return "".join(c for at, c in enumerate(text) if at not in covered and not c.isspace())


def _decoded(tokenizer: Any, text: str) -> str:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def tokenizers_check(base: ModelRef, tuned: ModelRef) -> Check:
    """Whether both checkpoints part text alike, as differences per token need."""
    from ..checkpoints.tokenizers import require_same_tokenizer

    try:
        require_same_tokenizer(base, tuned)
    except TuneshiftError as error:
        advice = "Name checkpoints of one family; no finding can be tested on this pair."
        return Check(name="tokenizers", state="fail", found=str(error), advice=advice)
    return Check(name="tokenizers", state="ok", found=f"{base.name} and {tuned.name} part text alike")


def template_check(base: ModelRef, tuned: ModelRef) -> Check:
    """The chat template that both checkpoints of a pair are asked with: there is one, it keeps the user's text, and
    what it ends an assistant's turn with ends a response. Shows a rendered prompt."""
    from ..checkpoints.ends import own_ends
    from ..checkpoints.tokenizers import load_tokenizer
    from ..prompts.chat import CHAT_DATE, ChatFormat, end_token, prompt_text, resolve_chat_template
    from ..prompts.tokens import encode

    name = "chat template"
    try:
        tokenizer = load_tokenizer(tuned)
        template = resolve_chat_template(tuned, tokenizer)
        if template is None:
            return Check(
                name=name, state="warn", found=f"{tuned.name} has none, so prompts are asked as they are",
                advice="If it was tuned on a chat format, give that as `chat_template` in a pair file.",
            )  # fmt: skip
        for text in TEXTS:
            encode(text, tokenizer, template)
    except TuneshiftError as error:
        advice = "Give a template that keeps the text, or 'none', as `chat_template` in a pair file (docs/pairs.md)."
        return Check(name=name, state="fail", found=str(error), advice=advice)
    chat = ChatFormat(template=template)
    dated = f", on {CHAT_DATE} (chat_date in a pair file)" if chat.dated else ""
    shown = f"of {tuned.name}, keeps the user's text{dated}; a prompt is {prompt_text(TEXTS[0], tokenizer, chat)!r}"
    end = end_token(tokenizer, chat)
    running_on = [ref.name for ref in (base, tuned) if end not in own_ends(ref, load_tokenizer(ref))]
    if end is not None and running_on:
        return Check(
            name=name, state="warn",
            found=f"{shown}; it ends a turn with {tokenizer.convert_ids_to_tokens(end)!r}, which is not among the end "
            f"tokens of {' and '.join(running_on)}",
            advice="It ends responses here all the same. Used elsewhere, the checkpoint runs on past its turn: add it "
            "to eos_token_id in generation_config.json.",
        )  # fmt: skip
    return Check(name=name, state="ok", found=shown)


def attention_check(role: str, ref: ModelRef) -> Check:
    """Architecture and attention implementation, and which measures know the model; its weights stay on disk."""
    name = f"{role} architecture"
    try:
        model = _skeleton(ref)
    except TuneshiftError as error:
        return Check(name=name, state="fail", found=str(error), advice=MENDED)
    from ..checkpoints.inspection import inspect
    from ..checkpoints.llama import FAST_FAMILIES
    from ..checkpoints.quantized import not_plain
    from ..checkpoints.weight_maps import n_layers

    if packed := not_plain(ref.name, inspect(ref).quantization):
        advice = "Findings that need attribution or weights are not applicable on this pair."
        return Check(name=name, state="warn", found=f"{type(model).__name__}; {packed}", advice=advice)
    kind = model.config.model_type
    found = f"{type(model).__name__}, attention {model.config._attn_implementation}"
    try:
        n_layers(model)
    except MeasureError as error:
        advice = "Findings on weights stop on this pair; deselect them with `-k 'not (heads or layers or ffn)'`."
        return Check(name=name, state="warn", found=f"{found}; {error}", advice=advice)
    if kind not in FAST_FAMILIES:
        return Check(
            name=name, state="warn", found=f"{found}; attribution by the generic path",
            advice=f"Exact, and two to three times as slow as the path for {', '.join(FAST_FAMILIES)} "
            "(docs/benchmarks.md).",
        )  # fmt: skip
    return Check(name=name, state="ok", found=f"{found}; attribution by the fast path")


def _skeleton(ref: ModelRef) -> Any:
    """The model without weights, with the attention that loading would choose. Raises as `inspect`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from ..checkpoints.inspection import inspect
    from ..checkpoints.quiet import first_line, quiet

    info = inspect(ref)
    try:
        with quiet(), torch.device("meta"):
            config = AutoConfig.from_pretrained(
                info.folder, local_files_only=True, trust_remote_code=ref.trust_remote_code
            )
            build: Any = AutoModelForCausalLM.from_config  # carries no types
            return build(config, trust_remote_code=ref.trust_remote_code)
    except Exception as error:  # whatever a configuration makes transformers raise
        raise CheckpointError(
            f"Checkpoint {ref.name!r} cannot be built from its configuration: {first_line(error)}. Correct config.json "
            "or install what it asks for; `attn_implementation` there may name a package that is missing."
        ) from error
