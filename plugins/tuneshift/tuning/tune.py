"""Tuning a base checkpoint: on instructions with responses, on responses alone, or on one task (arXiv:2409.14254)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoints.files import read_json
from ..checkpoints.fingerprint import fingerprint
from ..checkpoints.inspection import CheckpointInfo, inspect
from ..checkpoints.quiet import quiet
from ..checkpoints.refs import ModelRef
from ..checkpoints.tokenizers import load_tokenizer
from ..errors import UsageError, counted
from ..files import acquired_lock, publish
from ..prompts.chat import resolve_chat_template
from .card import CARD, NOTES, Tuned, card, final_loss, last_steps, versions
from .data import Examples, TokenRow, learned_end, paper_template, read_examples, token_rows
from .recipe import Recipe

Tell = Callable[[str], None]
Bar = Callable[[int], Any]
"""Makes a progress bar (tqdm's interface) for a number of steps."""

MAX_LENGTH = 2048
"""Tokens of the longest example, where the context allows it and nothing else is asked for; the release's number."""
PACKAGES = ("trl", "peft", "datasets")


def tune(recipe: Recipe, out: Path, *, tell: Tell = print, bar: Bar | None = None) -> Path:
    """Folder of the tuned checkpoint, ``out``: safetensors weights (or a PEFT adapter), tokenizer, card, tuning.json.

    The loss is the mean negative log-likelihood, in nats, of the response tokens of a batch, end token included;
    prompts do not count. AdamW (0.9, 0.999) without weight decay, gradients clipped to norm 1, the rate rising over
    the first 3 % of the steps and falling linearly to zero. A recipe gives the same weights bit for bit on one machine
    with one number of threads.

    Work is done in ``out`` + ".part", which becomes ``out`` when all is there; a killed run goes on from it. The
    process's random generators are seeded anew. ``tell`` gets lines for the user; ``bar`` takes the place of the
    progress bar that a terminal is shown. Raises UsageError for an ``out`` of another recipe or with something else in
    it, for data that are not in the form, and where the loss stops being a number; CheckpointError for a base that
    cannot be loaded or does not fit into memory.
    """
    require_packages()
    prepared = _prepare(recipe, tell)
    with _claimed(out, prepared.plan, tell) as part:
        if part is not None:
            _tune(recipe, prepared, part, tell, bar)
            _publish(part / "result", out)
    return out


def require_packages() -> None:
    """Raises UsageError where a package that tuning needs is not installed."""
    from importlib.util import find_spec

    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(f"Tuning needs the package {', '.join(missing)}: `pip install 'tuneshift[tune]'`.")


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """The sequences and everything that decides the weights: ``plan`` holds contents and numbers, no paths."""

    info: CheckpointInfo
    rows: list[TokenRow]
    left_out: int
    plan: dict[str, Any]


def _prepare(recipe: Recipe, tell: Tell) -> _Prepared:
    examples, ref = read_examples(recipe.data, recipe.how), recipe.ref()
    info, tokenizer = inspect(ref), load_tokenizer(ref)
    if info.quantization is not None:
        raise UsageError(
            f"{recipe.base} is quantised ({info.quantization.name}), and rounded numbers cannot be trained on; name "
            "the checkpoint that it was made from."
        )
    template = resolve_chat_template(ref, tokenizer)
    if template is None and recipe.chat_template is None:
        template = paper_template(tokenizer)
        tell("The tokenizer has no chat template: the paper's is used and saved (<|user|>, text, <|assistant|>).")
    longest = _max_length(recipe, info.context_length)
    rows, left_out = token_rows(examples, tokenizer, template, max_length=longest)
    if left_out:
        tell(f"{left_out} of {len(examples.rows)} examples are longer than {longest} tokens and are left out.")
    return _Prepared(info=info, rows=rows, left_out=left_out, plan=_plan(recipe, ref, examples, template, longest))


def _max_length(recipe: Recipe, context: int) -> int:
    if recipe.max_length is None:
        return min(MAX_LENGTH, context)
    if not 2 <= recipe.max_length <= context:
        raise UsageError(f"--max-length is {recipe.max_length}; the base takes from 2 to {context} tokens.")
    return recipe.max_length


def _plan(recipe: Recipe, ref: ModelRef, examples: Examples, template: str | None, longest: int) -> dict[str, Any]:
    return {
        "how": recipe.how,
        "base": fingerprint(ref),
        "data": examples.sha256,
        "weights": "all" if recipe.rank is None else f"LoRA of rank {recipe.rank}",
        "epochs": recipe.epochs,
        "rate": recipe.learning_rate,
        "batch": recipe.batch,
        "micro_batch": recipe.rows,
        "seed": recipe.seed,
        "max_length": longest,
        "chat_template": template,
        "dtype": recipe.dtype,
    }


@contextmanager
def _claimed(out: Path, plan: Mapping[str, Any], tell: Tell) -> Iterator[Path | None]:
    """The folder to work in, locked; None where ``out`` is done already. It goes when the block ends well."""
    from filelock import Timeout

    if _is_done(out, plan, tell):
        yield None
        return
    part = out.with_name(out.name + ".part")
    try:
        part.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{part} cannot be made ({error.strerror}); name another folder as --out.") from error
    try:
        lock = acquired_lock(part / ".lock", 0)
    except Timeout as error:
        raise UsageError(f"Another process is tuning into {out}; wait for it, or name another folder.") from error
    try:
        note = part / "plan.json"
        if note.exists():
            _require_same(part, read_json(note), plan)
        publish(note, json.dumps(plan, indent=1).encode())
        yield part
    finally:
        lock.release()
    shutil.rmtree(part, ignore_errors=True)


def _is_done(out: Path, plan: Mapping[str, Any], tell: Tell) -> bool:
    if not os.path.exists(out) or (os.path.isdir(out) and not any(out.iterdir())):
        return False
    if not (out / NOTES).is_file():
        raise UsageError(f"{out} is there already and holds no tuned checkpoint; name a new or an empty folder.")
    _require_same(out, read_json(out / NOTES).get("plan", {}), plan)
    tell(f"{out} holds this very tuning already; nothing to do.")
    return True


def _require_same(folder: Path, there: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    differing = [name for name in asked if there.get(name) != asked[name]]
    if differing:
        shown = "; ".join(
            f"{name} is {_short(there.get(name))} there and {_short(asked[name])} here" for name in differing
        )
        raise UsageError(
            f"{folder} holds a tuning by another recipe: {shown}. Name another folder, or delete that one."
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:36] + "...'"


def _tune(recipe: Recipe, prepared: _Prepared, part: Path, tell: Tell, bar: Bar | None) -> None:
    """Train in ``part``, going on from its last checkpoint, and leave the tuned one in ``part/result``."""
    from ..checkpoints.loading import load, resolve_device
    from .trainer import Diverged, deterministic, last_checkpoint, new_trainer, train

    device = resolve_device(recipe.device)
    if device.type == "cuda" and device.index:
        raise UsageError(f"--device {recipe.device}: tuning takes the first GPU it sees; set CUDA_VISIBLE_DEVICES.")
    # Frozen weights may be in half precision; trained ones need float32, or small updates are rounded away.
    dtype = "float32" if recipe.rank is None else recipe.dtype
    with load(recipe.ref(), dtype=dtype, device=str(device)) as checkpoint, quiet(), deterministic():
        tokenizer, template = checkpoint.tokenizer, prepared.plan["chat_template"]
        tokenizer.chat_template = template
        # The trainer has generation end on the tokenizer's end token, so that has to be the one that is learned.
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(learned_end(tokenizer, template))
        config = checkpoint.model.config.get_text_config()
        cached = getattr(config, "use_cache", None)
        trainer = new_trainer(recipe, checkpoint, prepared.rows, part, bar)
        last = last_checkpoint(part)
        if last is not None:
            tell(f"Going on after step {last.name.rpartition('-')[2]}.")
        try:
            losses = train(trainer, last, recipe, device)
        except Diverged:
            shutil.rmtree(part, ignore_errors=True)  # going on from it would only diverge again
            raise
        if cached is not None:
            config.use_cache = cached  # the trainer turns it off, and it would be saved so
        tuned = _tuned(recipe, prepared, losses, checkpoint.device.type)
        _save(trainer.model, checkpoint, tuned, part / "result")
    ended = f"{tuned.final_loss:.3f} {last_steps(tuned.averaged)}"
    tell(f"{counted(tuned.steps, 'step')}; loss {tuned.first_loss:.3f} at the first, {ended}.")


def _tuned(recipe: Recipe, prepared: _Prepared, losses: list[float], device: str) -> Tuned:
    last, averaged = final_loss(losses)
    return Tuned(
        plan=prepared.plan,
        base=recipe.base,
        data=recipe.data.name,
        examples=len(prepared.rows),
        left_out=prepared.left_out,
        learned=sum(row.learned for row in prepared.rows),
        steps=len(losses),
        first_loss=losses[0],
        final_loss=last,
        averaged=averaged,
        device=device,
        stored="float32" if recipe.rank is not None else prepared.info.dtype,
        versions=versions("torch", "transformers", *PACKAGES),
    )


def _save(model: Any, checkpoint: Any, tuned: Tuned, folder: Path) -> None:
    """Weights in the type that the base is stored in (an adapter's in float32), tokenizer, card and notes."""
    import torch

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if tuned.is_adapter:
        model.peft_config["default"].base_model_name_or_path = tuned.base
        model.save_pretrained(folder, save_embedding_layers=False)  # "auto" would ask the hub
    else:
        model.to(getattr(torch, tuned.stored, torch.float32)).save_pretrained(folder)
    checkpoint.tokenizer.init_kwargs.pop("local_files_only", None)  # how it was read, not what it is
    checkpoint.tokenizer.save_pretrained(folder)
    (folder / NOTES).write_text(json.dumps(tuned.plain(), indent=1) + "\n", encoding="utf-8")
    (folder / CARD).write_text(card(tuned), encoding="utf-8")


def _publish(result: Path, out: Path) -> None:
    for path in result.iterdir():
        path.chmod(0o644)  # safetensors writes for the owner alone
    if out.is_dir():
        out.rmdir()  # it is empty, or the claim would have failed
    result.rename(out)
