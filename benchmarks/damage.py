"""Copies of a checkpoint with damaged weights: rounded to few bits, or with normal noise.

    python benchmarks/damage.py CHECKPOINT DIR [--name NAME]

Writes DIR/NAME-int8, NAME-int4, NAME-noise10 and NAME-noise30, folders that hold what CHECKPOINT (a folder or a GGUF
file) holds but for the weights' numbers. Rounding is symmetric and to nearest, and the rounded numbers are stored in
float32, so that every measure runs on them: int8 takes a scale for each row, int4 one for 32 numbers of a row, as the
4-bit formats of llama.cpp do. Noise is a share of each tensor's standard deviation, from a seed.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tuneshift.checkpoints.inspection import inspect
from tuneshift.checkpoints.refs import ModelRef

Tensor = torch.Tensor


def rounded(weights: Tensor, bits: int, group: int = 0) -> Tensor:
    """Matrices on ``2 ** bits - 1`` levels from the largest size of a row, or of ``group`` numbers of a row; vectors,
    and matrices whose rows are no multiple of ``group``, as they are."""
    if weights.ndim < 2 or (group and weights.shape[-1] % group):
        return weights
    parts = weights.reshape(*weights.shape[:-1], -1, group or weights.shape[-1])
    largest = 2 ** (bits - 1) - 1
    scale = parts.abs().amax(dim=-1, keepdim=True).clamp(min=1e-12) / largest
    return ((parts / scale).round().clamp(-largest, largest) * scale).reshape(weights.shape)


def noisy(share: float) -> Callable[[Tensor], Tensor]:
    """Adds normal noise of ``share`` of a tensor's standard deviation."""
    generator = torch.Generator().manual_seed(0)
    return lambda weights: weights + share * weights.std() * torch.randn(weights.shape, generator=generator)


def rungs() -> Mapping[str, Callable[[Tensor], Tensor]]:
    """The damages by name, each with a generator of its own."""
    return {
        "int8": lambda weights: rounded(weights, 8),
        "int4": lambda weights: rounded(weights, 4, group=32),
        "noise10": noisy(0.1),
        "noise30": noisy(0.3),
    }


def write_damaged(source: Path, folder: Path, change: Callable[[Tensor], Tensor]) -> None:
    """A copy of a checkpoint's folder with changed weights in float32, whole or not at all."""
    if folder.exists():
        return
    scratch = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(source, scratch, ignore=shutil.ignore_patterns("*.safetensors"))
    for path in sorted(source.glob("*.safetensors")):
        weights = {name: change(tensor.float()).contiguous() for name, tensor in sorted(load_file(path).items())}
        save_file(weights, scratch / path.name, {"format": "pt"})
    scratch.rename(folder)


def main() -> None:
    """Write the copies."""
    parser = argparse.ArgumentParser(description="Copies of a checkpoint with damaged weights.")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a folder or a GGUF file")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--name", default="smollm2", help="beginning of the copies' names (default: %(default)s)")
    given = parser.parse_args()
    source = inspect(ModelRef(name="checkpoint", model=given.checkpoint)).folder
    for name, change in rungs().items():
        write_damaged(source, given.folder / f"{given.name}-{name}", change)
        print(given.folder / f"{given.name}-{name}", flush=True)


if __name__ == "__main__":
    main()
