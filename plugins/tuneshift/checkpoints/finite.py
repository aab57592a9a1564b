"""NaN and infinite numbers among weights, in memory and in files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError, counted

_SHOWN = 5


def not_finite(tensor: Tensor) -> int:
    """How many numbers of a tensor are NaN or infinite; 0 for whole numbers."""
    if not tensor.is_floating_point():
        return 0
    if tensor.element_size() < 2:  # 8-bit floats have no arithmetic of their own
        tensor = tensor.to(torch.float32)
    # NaN and infinity survive a sum, so one cheap pass clears nearly every tensor; a sum may also overflow.
    if torch.isfinite(tensor.sum(dtype=torch.float32)):
        return 0
    return int((~torch.isfinite(tensor)).sum())


def require_finite_files(name: str, files: Iterable[Path]) -> None:
    """Read every tensor of safetensors files, one at a time. Raises CheckpointError naming those with NaN or infinite
    numbers."""
    from safetensors import safe_open

    bad: list[str] = []
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for tensor in opened.keys():  # noqa: SIM118 - it is no mapping
                if count := not_finite(opened.get_tensor(tensor)):
                    bad.append(f"{tensor} ({count} of them)")
    if bad:
        shown = ", ".join(bad[:_SHOWN]) + (" ..." if len(bad) > _SHOWN else "")
        raise CheckpointError(
            f"Checkpoint {name!r} has NaN or infinite weights in {counted(len(bad), 'tensor')}: {shown}. "
            "Nothing can be measured on it."
        )
