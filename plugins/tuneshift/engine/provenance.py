"""What evidence was measured with: versions, device, dtype, time taken."""

from __future__ import annotations

import os
import platform
import sys

from ..checkpoints.refs import ModelRef
from ..plain import Json
from .settings import Settings


def versions() -> dict[str, str]:
    """Versions of what computes: tuneshift, python, torch, transformers, tokenizers, jinja2, numpy, scipy."""
    from importlib.metadata import version

    names = ("tuneshift", "torch", "transformers", "tokenizers", "jinja2", "numpy", "scipy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def provenance(settings: Settings, ref: ModelRef, on: str) -> dict[str, Json]:
    """Versions, machine, names, the device asked for and dtype behind a piece of evidence ``on`` a prompt set."""
    from importlib.metadata import version

    adapter = {} if ref.adapter is None else {"peft": version("peft")}
    return {
        "versions": {**versions(), **adapter},
        "platform": f"{platform.system()} {platform.machine()}",
        "checkpoint": ref.name,
        "on": on,
        "dtype": ref.dtype or settings.dtype,
        "device": settings.device,
        "argv0": os.path.basename(sys.argv[0]) if sys.argv else "",
        "pid": os.getpid(),
    }
