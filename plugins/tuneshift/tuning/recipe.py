"""The numbers and names that a tuning is asked for by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ..checkpoints.files import EMBEDDED
from ..checkpoints.refs import ModelRef
from ..errors import UsageError, did_you_mean
from .data import HOW

DTYPES = ("float32", "bfloat16")
FULL_RATE, LORA_RATE = 1e-5, 2e-4
"""Learning rates where none is asked for: that of the paper's release for all weights, open-instruct's for LoRA."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to tune. ``rate`` None: 1e-5 for all weights, 2e-4 for LoRA; ``rank`` None: all weights are trained.

    ``batch`` counts the examples of an update, ``micro_batch`` those in memory at once. ``max_length`` None: 2048
    tokens or the context, whichever is shorter. ``chat_template`` None: the tokenizer's own, else the paper's; a Jinja
    file, or "none" for plain prompts. ``dtype`` is what is computed in; trained weights are float32 meanwhile. Raises
    UsageError for values out of range.
    """

    base: str
    how: str
    data: Path
    epochs: int = 5
    rate: float | None = None
    batch: int = 64
    micro_batch: int = 8
    rank: int | None = None
    seed: int = 0
    max_length: int | None = None
    chat_template: str | None = None
    device: str = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.how not in HOW:
            raise UsageError(f"--how {self.how}: no such kind of tuning; {did_you_mean(self.how, HOW)}.")
        if self.dtype not in DTYPES:
            raise UsageError(f"--dtype {self.dtype}: tuning is computed in one of {', '.join(DTYPES)}.")
        for name in ("epochs", "batch", "micro_batch", "rank"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} is {value}; a number of at least 1 is wanted.")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UsageError(f"--rate is {self.rate}; a number above 0 is wanted, as 1e-5.")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed is {self.seed}; a number from 0 to {2**32 - 1} is wanted.")
        if self.batch % self.rows:
            raise UsageError(f"--micro-batch {self.micro_batch} does not divide --batch {self.batch}.")

    @property
    def learning_rate(self) -> float:
        """The highest learning rate, at the end of the warm-up."""
        if self.rate is not None:
            return self.rate
        return FULL_RATE if self.rank is None else LORA_RATE

    @property
    def rows(self) -> int:
        """Examples in memory at once."""
        return min(self.batch, self.micro_batch)

    def ref(self) -> ModelRef:
        """The base with the chat template that was asked for."""
        return ModelRef(name=self.base.removeprefix(EMBEDDED), model=self.base, chat_template=self.chat_template)
