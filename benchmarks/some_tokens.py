"""What is saved where some tokens are attributed in place of all: ratios of thread time, float32, one thread.

    OMP_NUM_THREADS=1 python benchmarks/some_tokens.py [--repeats 3]
    python benchmarks/some_tokens.py --stores YES NO

The model is `attribution.py`'s random Llama, on the fast and on the generic path. A prompt of N tokens has the user's
text in the places that a chat template leaves it: 54 % of the tokens are the template's, nearly all of them before the
text. "text" is `--shift-attribute-template=no`, "N of M" `--shift-attribute-tokens`. Passes are those over one position
that derivatives take on the fast path; the forward pass comes to both sides of a ratio.

``--stores`` compares the levels over the user's text of two evidence stores, one with and one without the template's
rows, and counts those that differ.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from pathlib import Path

import numpy as np
import torch
from attribution import random_llama, seconds, tokens
from real_shapes import text_tokens
from torch import Tensor

from tuneshift.checkpoints.llama import LlamaBlocks, llama_blocks
from tuneshift.measures.attribution.backend import TANGENT_BYTES, GenericBackend, LlamaBackend
from tuneshift.measures.attribution.density import SPARSE_BELOW, importance_levels
from tuneshift.measures.attribution.llama import LlamaAttribution
from tuneshift.measures.attribution.thinning import evenly_spaced
from tuneshift.store.store import Store

SHAPES = ((84, 32), (84, 100), (128, 128))
FEWER = 32


def main() -> None:
    """Print one of the tables as Markdown."""
    parser = argparse.ArgumentParser(description="What is saved where some tokens are attributed in place of all.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--stores", nargs=2, type=Path, metavar="STORE")
    given = parser.parse_args()
    if given.stores is not None:
        print_levels(*given.stores)
    else:
        print_times(given.repeats)


def print_times(repeats: int) -> None:
    """A row for each path and shape: all tokens against some, in time and in passes."""
    torch.set_num_threads(1)
    model = random_llama("cpu")
    blocks = llama_blocks(model)
    assert isinstance(blocks, LlamaBlocks)
    paths = {"fast": LlamaBackend(model=model, blocks=blocks), "generic": GenericBackend(model=model)}
    print("| path, N, M | all / text | passes | all / 32 of M | passes | all / both | passes |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, backend in paths.items():
        for n, m in SHAPES:
            x, y = tokens(n, m, "cpu")
            text = text_tokens(n)
            fewer = torch.from_numpy(evenly_spaced(m, FEWER))
            asked = [(None, None), (text, None), (None, fewer), (text, fewer)]
            taken: list[list[float]] = []
            for _ in range(repeats):
                taken.append([seconds(partial(backend, prompt_tokens=rows, response_tokens=columns), x, y, "cpu")
                              for rows, columns in asked])  # fmt: skip
            work = [passes(blocks, n, m, *one) if name == "fast" else None for one in asked]
            cells = []
            for k in (1, 2, 3):
                cells.append(f"{statistics.median(row[0] / row[k] for row in taken):.2f}")
                cells.append("" if work[k] is None else f"{work[0] / work[k]:.2f}")  # type: ignore[operator]
            print(f"| {name}, {n}, {m} | " + " | ".join(cells) + " |", flush=True)


def passes(blocks: LlamaBlocks, n: int, m: int, rows: Tensor | None, columns: Tensor | None) -> int:
    """Passes over one position of the fast path at its cut."""
    starts = list(range(n)) if rows is None else rows.tolist()
    ends = [n + c for c in (range(m) if columns is None else columns.tolist())]
    cut = LlamaAttribution(blocks, torch.float32).cut(starts, ends, TANGENT_BYTES)
    return sum(max(0, cut - start) for start in starts) + sum(max(0, end - cut) for end in ends)


def print_levels(*folders: Path) -> None:
    """A row for each piece of evidence that both stores have: levels over the user's text, and those that differ."""
    found = []
    for folder in folders:
        store = Store(folder)
        read = (store.read(stored.key) for stored in store.list() if stored.measure == "attribution")
        whole = [e for e in read if e.key.params["attributed_response_tokens"] == "all"]
        found.append({(e.provenance["checkpoint"], e.key.params["response"]): e for e in whole})
    print("| checkpoint, response | levels | differ | differ above 7 | rows | rows left out |")
    print("| --- | --- | --- | --- | --- | --- |")
    for key in sorted(found[0].keys() & found[1].keys()):
        levels = moved = sparse = rows = left_out = 0
        for items in zip(found[0][key].items, found[1][key].items, strict=True):
            if items[0].left_out is None:
                text = items[0].arrays["offsets"][:, 0] >= 0
                mine, other = (importance_levels(item.arrays["importance"], scope=text) for item in items)
                levels, moved = levels + mine.size, moved + int((mine != other).sum())
                sparse += int(((mine != other) & (np.maximum(mine, other) > SPARSE_BELOW)).sum())
                rows += len(text)
                left_out += int(np.isnan(items[1].arrays["importance"]).any(axis=1).sum())
        print(f"| {key[0]}, {key[1]} | {levels:,} | {moved} | {sparse} | {rows:,} | {left_out:,} |")


if __name__ == "__main__":
    main()
