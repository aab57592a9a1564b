"""Exact attribution on real checkpoints: the figures of `attribution.py --shapes`, of models as they are.

    OMP_NUM_THREADS=1 python benchmarks/real.py gemma-3-270m.gguf smollm2-135m-instruct.gguf [--repeats 3]

Paths are folders or GGUF files, which are turned into safetensors once (`pip install tuneshift[gguf]`).
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch
from attribution import MACHINE
from real_shapes import figures, print_table

from tuneshift.checkpoints.loading import loaded
from tuneshift.checkpoints.refs import ModelRef


def model_of(ref: ModelRef) -> Any:
    """The checkpoint's model, in float32 on the CPU."""
    return loaded(ref, dtype="float32", device="cpu").model


def main() -> None:
    """Print a table with a column for each checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    parser.add_argument("--repeats", type=int, default=3, help="(default: %(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    columns = {}
    for path in given.paths:
        ref = ModelRef(name=path.stem, model=str(path))
        columns[path.stem] = figures(partial(model_of, ref), MACHINE, given.repeats)
    print_table(columns)


if __name__ == "__main__":
    main()
