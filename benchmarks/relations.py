"""Speed of head relations, side by side in one process: ratios of thread time, float32, one thread.

    python benchmarks/relations.py [--json] [--device cuda] [--repeats 5]
    python benchmarks/relations.py --llama [--json] [--device cuda]

Without ``--llama``: a layer of 8 heads of 64 neurons, d_model 512, 6,000 words with 384-dimensional vectors. The
vectorised computation is compared with the straightforward one: per neuron an argsort of both columns, the similarities
of the top words in one product, a Python loop over the pairs. The pairs must be the same. Repetitions interleave; the
figure is the median of the ratios within a repetition. On a GPU the straightforward version stays on the CPU and the
ratio is of wall time.

``--llama`` measures one random layer of Llama-7B's shape (d_model 4,096, 32 heads of 128, 10,000 words): seconds, peak
memory, stored bytes, and from them the plan for 32 layers.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuneshift.checkpoints.weight_maps import AttentionMap
from tuneshift.measures.relations import LayerRelations, WordTable, layer_relations
from tuneshift.words.spaces import similarity_thresholds

TARGET = 8.0
TOP = 100
DIM = 384
"""Of MiniLM's vectors, the default word space."""
SMALL = {"words": 6_000, "d_model": 512, "heads": 8}
LLAMA = {"words": 10_000, "d_model": 4_096, "heads": 32}
LLAMA_LAYERS = 32
Problem = tuple[AttentionMap, Tensor, WordTable]


def problem(words: int, d_model: int, heads: int, device: str, dtype: torch.dtype = torch.float32) -> Problem:
    """A random layer, random word embeddings, and word vectors in clusters, as real ones are."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    centres = normal(words // 20, DIM)
    vectors = centres[torch.randint(len(centres), (words,), generator=generator)] + 1.5 * normal(words, DIM)
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    thresholds = torch.from_numpy(similarity_thresholds(vectors.numpy()))
    maps = [(normal(heads, d_model // heads, d_model) / d_model**0.5).to(device, dtype) for _ in range(2)]
    attention = AttentionMap(norm=(1 + 0.1 * normal(d_model)).to(device, dtype), q=maps[0], k=maps[1])
    names = tuple(str(i) for i in range(words))
    table = WordTable(words=names, vectors=vectors.to(device), thresholds=thresholds.to(device))
    return attention, normal(words, d_model).to(device), table


def straightforward(attention: AttentionMap, embeddings: Tensor, table: WordTable) -> list[list[tuple[int, int]]]:
    """(key word, query word) per neuron, as one would first write it."""
    scaled = embeddings.numpy() * attention.norm.numpy()
    vectors, thresholds = table.vectors.numpy(), table.thresholds.numpy()
    result = []
    for head in range(len(attention.q)):
        queries, keys = scaled @ attention.q[head].numpy().T, scaled @ attention.k[head].numpy().T
        for neuron in range(queries.shape[1]):
            query, key = queries[:, neuron], keys[:, neuron]
            top_query = np.argsort(-np.abs(query), kind="stable")[:TOP]
            top_key = np.argsort(-np.abs(key), kind="stable")[:TOP]
            similarity = vectors[top_query] @ vectors[top_key].T
            found = []
            for a, i in enumerate(top_query):
                for b, j in enumerate(top_key):
                    score = similarity[a, b]
                    if i != j and query[i] * key[j] > 0 and score > thresholds[i] and score > thresholds[j]:
                        found.append((-score, a, b, int(j), int(i)))
            result.append([(j, i) for _, _, _, j, i in sorted(found)])
    return result


def by_neuron(found: LayerRelations) -> list[list[tuple[int, int]]]:
    """The vectorised result in the straightforward one's form."""
    ends = np.cumsum(found.counts.cpu().numpy().ravel())[:-1]
    return [[(int(j), int(i)) for j, i in pairs] for pairs in np.split(found.pairs.cpu().numpy(), ends)]


def seconds(call: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Time of one call and its result: the thread's time on a CPU, synchronised wall time on a GPU."""
    clock = time.thread_time if device == "cpu" else time.perf_counter
    start = clock()
    result = call()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start, result


def same_pairs(ours: list[list[tuple[int, int]]], theirs: list[list[tuple[int, int]]]) -> dict[str, int]:
    """Neurons, pairs, and how many neurons list the same pairs in the same order. SystemExit where a pair differs."""
    for neuron, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if set(a) != set(b):
            raise SystemExit(f"neuron {neuron} differs in {sorted(set(a) ^ set(b))[:5]}")
    ordered = sum(a == b for a, b in zip(ours, theirs, strict=True))
    return {"neurons": len(ours), "pairs": sum(map(len, ours)), "neurons_in_the_same_order": ordered}


def compare(device: str, repeats: int) -> dict[str, Any]:
    """Ratios of the straightforward version's time to ours, and that both find the same."""
    attention, embeddings, table = problem(**SMALL, device=device)
    on_cpu = AttentionMap(norm=attention.norm.cpu(), q=attention.q.cpu(), k=attention.k.cpu())
    cpu_table = WordTable(words=table.words, vectors=table.vectors.cpu(), thresholds=table.thresholds.cpu())
    cpu_embeddings = embeddings.cpu()
    layer_relations(attention, embeddings, table, top=TOP)  # first calls build kernels and warm caches
    rows = []
    for _ in range(repeats):
        ours, found = seconds(lambda: layer_relations(attention, embeddings, table, top=TOP), device)
        theirs, naive = seconds(lambda: straightforward(on_cpu, cpu_embeddings, cpu_table), device)
        rows.append({"ours_s": ours, "straightforward_s": theirs, "ratio": theirs / ours})
    assert found is not None
    return {
        **SMALL,
        "device": device,
        **same_pairs(by_neuron(found), naive),
        "repeats": rows,
        "ratio": statistics.median(row["ratio"] for row in rows),
        "target": TARGET,
    }


def llama(device: str) -> dict[str, Any]:
    """One layer of Llama-7B's shape in bfloat16, and what 32 of them cost."""
    attention, embeddings, table = problem(**LLAMA, device=device, dtype=torch.bfloat16)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if device != "cpu":
        layer_relations(attention, embeddings, table, top=TOP)
        torch.cuda.reset_peak_memory_stats()
    wall = time.perf_counter()
    spent, found = seconds(lambda: layer_relations(attention, embeddings, table, top=TOP), device)
    wall = time.perf_counter() - wall
    assert found is not None
    words, d, neurons = LLAMA["words"], LLAMA["d_model"], LLAMA["d_model"]
    flops = {
        "projections": 2 * 2 * words * d * neurons,
        "similarities": 2 * neurons * TOP * TOP * DIM,
    }
    if device == "cpu":
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        memory = {"peak_of_process_bytes": after * 1024, "grown_by_bytes": (after - before) * 1024}
    else:
        memory = {"peak_on_device_bytes": torch.cuda.max_memory_allocated()}
    pairs = len(found.pairs)
    stored = 12 * pairs + 4 * neurons
    return {
        **LLAMA,
        "device": torch.cuda.get_device_name() if device != "cpu" else "cpu",
        "threads": torch.get_num_threads(),
        "layer_s": spent,
        "layer_wall_s": wall,
        "layer_flops": flops,
        "layer_pairs": pairs,
        "layer_stored_bytes": stored,
        **memory,
        "plan": {
            "layers": LLAMA_LAYERS,
            "flops": LLAMA_LAYERS * sum(flops.values()),
            "seconds": LLAMA_LAYERS * spent,
            "stored_bytes": LLAMA_LAYERS * stored,
            "weights_read_bytes_bfloat16": LLAMA_LAYERS * 2 * 2 * d * neurons,
        },
    }


def main() -> int:
    """Print the figures; exit code 1 under the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--llama", action="store_true", help="measure one layer of Llama-7B's shape instead")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.device == "cpu":
        torch.set_num_threads(1)
    with torch.inference_mode():
        found = llama(options.device) if options.llama else compare(options.device, options.repeats)
    if options.json:
        print(json.dumps(found))
    elif options.llama:
        print(f"one layer: {found['layer_s']:.2f} s ({found['device']}), {found['layer_pairs']:,} pairs")
        for name in ("layer_flops", "plan"):
            print(f"{name}: " + ", ".join(f"{key} {value:,.4g}" for key, value in found[name].items()))
        print(", ".join(f"{key} {value / 1e9:.2f} GB" for key, value in found.items() if key.endswith("_bytes")))
    else:
        last = found["repeats"][-1]
        print(f"{found['pairs']:,} pairs in {found['neurons']} neurons, the same; last repetition "
              f"{last['straightforward_s']:.2f} s against {last['ours_s']:.3f} s")  # fmt: skip
        print(f"ratio {found['ratio']:.1f} (target {TARGET:g})")
    return 0 if options.llama or found["ratio"] >= TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
