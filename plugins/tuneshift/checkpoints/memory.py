"""Memory that ran out: how to know it, and how to give back what is cached."""

from __future__ import annotations

import torch

_WORDS = ("can't allocate memory", "not enough memory", "out of memory")
"""What the allocators of Linux, of Windows and of mps say, which have no class of error of their own."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error says that memory ran out: torch's class on a GPU, Python's, or an allocator's words on a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def empty_cache() -> None:
    """Give memory that torch keeps for itself back to the device; nothing on a CPU."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
