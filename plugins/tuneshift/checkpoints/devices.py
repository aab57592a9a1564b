"""The device of a run by its name, without torch where there is nothing to choose."""

from __future__ import annotations

import sys
from pathlib import Path

DRIVERS = ("nvidia*", "nvhost*", "nvmap", "kfd", "dxg")
"""Device files on Linux without one of which torch has no cuda: NVIDIA's, Tegra's, AMD's, WSL's."""


def device_name(device: str, *, files: Path = Path("/dev")) -> str:
    """`checkpoints.resolve_device` as text, which is asked only where an accelerator may be here. Raises as that."""
    none_here = sys.platform == "linux" and not any(any(files.glob(name)) for name in DRIVERS)
    if device == "cpu" or (device == "auto" and none_here):
        return "cpu"
    from .loading import resolve_device

    return str(resolve_device(device))
