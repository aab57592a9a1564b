"""What measuring costs: seconds, tokens, the path taken and peak memory, a row for each measure of a checkpoint."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..plain import Json
from ..store.evidence import EvidenceItem
from .plan import Task

LOADING = "loading"
"""The measure's name in the row of what reading a checkpoint's weights cost."""
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
"""Where Linux tells the largest resident size of this process, and how that is set back to the present one."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one measure of one checkpoint cost in this run; what the store had is not in it.

    ``items``: that were measured. ``tokens``: of prompts and responses that their evidence names, None where it names
    none, as for weights. ``seconds``: on the clock, without loading, which has a row of its own. ``paths``: items by
    the path that computed them (`llama`, `generic`), empty for measures that have one. ``peak_bytes``: the largest
    memory meanwhile, of the GPU where there is one, else resident in this process; ``start_bytes``: the same at the
    start, weights included; None where the system does not tell.
    """

    digest: str
    measure: str
    checkpoint: str
    on: str
    items: int
    tokens: int | None
    seconds: float
    paths: Mapping[str, int]
    start_bytes: int | None
    peak_bytes: int | None

    def plain(self) -> dict[str, Json]:
        """As run records have it: without the digest."""
        return {
            "measure": self.measure, "checkpoint": self.checkpoint, "on": self.on, "items": self.items,
            "tokens": self.tokens, "seconds": round(self.seconds, 3), "paths": dict(self.paths),
            "start_bytes": self.start_bytes, "peak_bytes": self.peak_bytes,
        }  # fmt: skip


@dataclass(kw_only=True)
class Meter:
    """A measure while it is taken: started, told of items, stopped."""

    started: float = field(default_factory=time.monotonic)
    apart: float = 0.0
    """Seconds of it that went into something else, as loading."""
    before: int = 0
    """How many costs were put down before it."""
    items: int = 0
    tokens: int | None = None
    paths: Counter[str] = field(default_factory=Counter)
    start_bytes: int | None = field(default_factory=lambda: _restarted())

    def count(self, item: EvidenceItem) -> None:
        """One more item is there."""
        self.items += 1
        if (told := tokens_of(item)) is not None:
            self.tokens = (self.tokens or 0) + told
        if isinstance(path := item.values.get("path"), str):
            self.paths[path] += 1

    def cost(self, task: Task) -> Cost:
        """What it cost until now."""
        return Cost(
            digest=task.key.digest, measure=task.measure.name, checkpoint=task.ref.name, on=task.on, items=self.items,
            tokens=self.tokens, seconds=time.monotonic() - self.started - self.apart, paths=dict(self.paths),
            start_bytes=self.start_bytes, peak_bytes=_peak(),
        )  # fmt: skip


def tokens_of(item: EvidenceItem) -> int | None:
    """Tokens of the response, and of the prompt where the evidence has it; of likelihoods and texts, those scored.

    None where evidence is of no tokens, or was left out.
    """
    named = [len(item.values[name]) for name in ("tokens", "response_tokens") if name in item.values]
    named += [len(item.arrays[name]) for name in ("response_ids", "thought_ids") if name in item.arrays]
    if "tokens" in item.arrays:
        named.append(int(item.arrays["tokens"]))
    if "lengths" in item.arrays:
        named.append(int(item.arrays["lengths"].sum()))
    return sum(named) if named else None


def _restarted() -> int | None:
    """Memory in use now, from which on the peak counts; None where the system does not tell."""
    if (torch := _gpu()) is not None:
        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    try:
        _RESET.write_text("5")
    except OSError:
        return None
    return _resident("VmRSS")


def _peak() -> int | None:
    if (torch := _gpu()) is not None:
        return int(torch.cuda.max_memory_allocated())
    return _resident("VmHWM")


def _gpu() -> Any:
    """torch, where it is loaded and has worked on a GPU."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized() else None


def _resident(name: str) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = _STATUS.read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])
    return None
