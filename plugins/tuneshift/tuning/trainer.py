"""TRL's trainer as tuning uses it: ready labels, the same bits every time, checkpoints by the clock, no reporting."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from ..checkpoints.loading import Checkpoint
from ..errors import CheckpointError, UsageError
from ..parse import parse_json
from .data import TokenRow
from .recipe import Recipe

WARMUP = 0.03
"""Share of the steps over which the rate rises; then it falls linearly to zero. As in the paper's release."""
CHECKPOINT_SECONDS, CHECKPOINT_SHARE = 30.0, 0.05
"""A checkpoint follows the last one after so many seconds, or later where saving would take more than this share."""
RECOMPUTE_FROM = 10**9
"""Parameters from which activations are computed again in the backward pass: a fifth slower, far less memory."""


class Diverged(UsageError):
    """The loss is no number any more."""


class Trainer(SFTTrainer):
    """SFTTrainer without its message to the hub and without model cards of its own."""

    def _send_telemetry(self) -> None:
        """Nothing phones home."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Checkpoints of an unfinished run need no card."""


class Bar(ProgressCallback):
    """A progress bar with the loss at its end, not on a line of its own at every step; ``make(steps)`` makes it."""

    def __init__(self, make: Callable[[int], Any] | None = None) -> None:
        super().__init__()
        self.make = make or (lambda steps: tqdm(total=steps, dynamic_ncols=True))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.training_bar = self.make(state.max_steps)
        self.current_step = 0

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if self.training_bar is not None and "loss" in (logs or {}):
            self.training_bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)


class Checkpoints(TrainerCallback):
    """Asks for a checkpoint by the clock, so that a kill costs little on any model and saving costs little too."""

    def __init__(self, seconds: float, share: float) -> None:
        self.seconds, self.share = seconds, share
        self.saved = self.asked = time.monotonic()
        self.cost = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.monotonic()
        if now - self.saved >= max(self.seconds, self.cost / self.share) and state.global_step < state.max_steps:
            self.asked, control.should_save = now, True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.saved = time.monotonic()
        self.cost = self.saved - self.asked


class Finite(TrainerCallback):
    """Stops where the loss is no number."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            raise Diverged(
                f"The loss is {logs['loss']} at step {state.global_step}: the rate {args.learning_rate:g} is too high "
                f"for this model. Try --rate {args.learning_rate / 10:g}."
            )


@contextmanager
def deterministic() -> Iterator[None]:
    """PyTorch's deterministic algorithms where there are some, and the setting that cuBLAS wants for its own."""
    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)


def new_trainer(
    recipe: Recipe,
    checkpoint: Checkpoint,
    rows: Sequence[TokenRow],
    folder: Path,
    bar: Callable[[int], Any] | None = None,
) -> Trainer:
    """A trainer of the checkpoint's model, unfrozen, or of a new LoRA on it; it saves its checkpoints in ``folder``."""
    tokenizer = checkpoint.tokenizer
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    checkpoint.model.requires_grad_(True)
    trainer = Trainer(
        model=checkpoint.model,
        args=_arguments(recipe, checkpoint, folder),
        data_collator=DataCollatorForLanguageModeling(pad_token_id=pad),
        train_dataset=Dataset.from_list([{"input_ids": list(r.ids), "labels": list(r.labels)} for r in rows]),
        processing_class=tokenizer,
        peft_config=_lora(recipe.rank),
        callbacks=[Checkpoints(CHECKPOINT_SECONDS, CHECKPOINT_SHARE), Finite()],
    )
    trainer.remove_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(Bar(bar))
    return trainer


def train(trainer: Trainer, last: Path | None, recipe: Recipe, device: torch.device) -> list[float]:
    """The loss of every step, in nats per response token, after training to the end from the checkpoint ``last``."""
    try:
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
    except torch.OutOfMemoryError as error:
        raise CheckpointError(
            f"{recipe.base!r} and its training do not fit into the memory of {device}. Try --micro-batch "
            f"{max(1, recipe.rows // 2)}, --dtype bfloat16, --lora or a shorter --max-length."
        ) from error
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written whole; the trainer's state is the last of its files."""
    found = []
    for path in folder.glob("checkpoint-*"):
        with suppress(OSError, ValueError):
            found.append((parse_json((path / "trainer_state.json").read_bytes(), constant=float)["global_step"], path))
    return max(found)[1] if found else None


def _lora(rank: int | None) -> LoraConfig | None:
    """LoRA on every linear layer but the head, scaled by two."""
    if rank is None:
        return None
    return LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")


def _arguments(recipe: Recipe, checkpoint: Checkpoint, folder: Path) -> SFTConfig:
    arguments = SFTConfig(
        output_dir=str(folder),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.rows,
        gradient_accumulation_steps=recipe.batch // recipe.rows,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=WARMUP,
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch",
        seed=recipe.seed,
        bf16=recipe.dtype == "bfloat16",
        use_cpu=checkpoint.device.type == "cpu",
        dataloader_pin_memory=checkpoint.device.type == "cuda",
        gradient_checkpointing=checkpoint.parameters >= RECOMPUTE_FROM,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        save_total_limit=2,
        report_to="none",
        push_to_hub=False,
        disable_tqdm=not sys.stderr.isatty(),
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several visible GPUs would be DataParallel, which TRL refuses
    return arguments
