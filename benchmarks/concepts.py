"""Concepts of a feed-forward layer: speed and exactness against the usual way, and false alarms of the rotation index.

    python benchmarks/concepts.py [--json] [--repeats 5] [--device cpu] [--runs 100] [--no-noise] [--llama]

The usual way is a float32 SVD of the centred matrix and a full sort of the words of each direction; ours a float64
eigendecomposition of the covariance and a top-k. Repetitions interleave, times are CPU time (the clock's on a GPU),
ratios medians of the ratios within a repetition. The second part counts the top-50 word lists that each way gets wrong
(another word or another order) on ill-conditioned layers, a float64 SVD being the truth. The third is the null model:
12-layer models whose down-projections got noise of several kinds, and how often the interval of the rotation index,
plain and beyond noise, then lies beyond the smallest effect of interest. ``--llama`` times one layer of Llama-7B's
shape instead.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuneshift.checkpoints.refs import ModelRef
from tuneshift.claims.view import View
from tuneshift.measures.concepts import noise_null, principal_directions, top_indices, top_words
from tuneshift.pairs import ModelPair
from tuneshift.quantities.concept_rotation import rotates_knowledge
from tuneshift.store.evidence import EvidenceItem

SHAPE = {"d_model": 512, "d_mlp": 2048, "words": 6000}
LLAMA = {"d_model": 4096, "d_mlp": 11008, "words": 10_000}
CONCEPTS, TOP = 300, 50
SESOI = 0.05
NOISE = {"4 sizes": [0.003, 0.01, 0.03, 0.1], "6 sizes": [0.003, 0.01, 0.03, 0.1, 0.3, 1.0]}
PAIR = ModelPair(name="pair", base=ModelRef(name="b", model="b"), tuned=ModelRef(name="t", model="t"))
Way = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(outputs [d_mlp, d_model], words [word, d_model]) -> directions [concept, d_model], words' indices [concept, TOP]."""


def ours(outputs: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """float64 eigendecomposition of the covariance, top-k of the words."""
    directions = principal_directions(outputs.double()).directions[:CONCEPTS]
    return directions, top_words(directions, words.double(), TOP)[1]


def usual(outputs: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """float32 SVD of the centred matrix, full sort of the words."""
    directions = torch.linalg.svd(outputs - outputs.mean(dim=0), full_matrices=False).Vh[:CONCEPTS]
    scores = (directions @ words.T).abs()
    return directions, scores.argsort(dim=1, descending=True, stable=True)[:, :TOP]


def fp32_eigh(outputs: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """float32 all through: eigendecomposition of the covariance, top-k."""
    centred = outputs - outputs.mean(dim=0)
    directions = torch.linalg.eigh(centred.T @ centred).eigenvectors.T.flip(0)[:CONCEPTS]
    return directions, top_words(directions, words, TOP)[1]


def random_layer(d_mlp: int, d_model: int, words: int, device: str) -> tuple[Tensor, Tensor]:
    """A Gaussian layer and word vectors, float32, from seed 0."""
    generator = torch.Generator().manual_seed(0)
    outputs = 0.02 * torch.randn(d_mlp, d_model, generator=generator)
    vectors = torch.nn.functional.normalize(torch.randn(words, d_model, generator=generator), dim=1)
    return outputs.to(device), vectors.to(device)


def graded_layer(sizes: np.ndarray) -> Tensor:
    """A layer, float32 [d_mlp, d_model], with these standard deviations along random directions."""
    rng = np.random.default_rng(0)
    u, _ = np.linalg.qr(rng.standard_normal((SHAPE["d_mlp"], SHAPE["d_model"])))
    q, _ = np.linalg.qr(rng.standard_normal((SHAPE["d_model"], SHAPE["d_model"])))
    return torch.from_numpy((u * sizes) @ q.T).float()


def speed(repeats: int, device: str) -> dict[str, Any]:
    """Seconds of the whole and of its two parts, and ratios to the usual way."""
    outputs, words = random_layer(SHAPE["d_mlp"], SHAPE["d_model"], SHAPE["words"], device)
    directions = principal_directions(outputs.double()).directions[:CONCEPTS]

    scores = (directions.float() @ words.T).abs()

    parts: dict[str, Callable[[], Any]] = {
        "whole, usual": lambda: usual(outputs, words),
        "whole, ours": lambda: ours(outputs, words),
        "directions, usual": lambda: torch.linalg.svd(outputs - outputs.mean(dim=0), full_matrices=False),
        "directions, ours": lambda: principal_directions(outputs.double()),
        "selection of words, usual": lambda: scores.argsort(dim=1, descending=True, stable=True),
        "selection of words, ours": lambda: top_indices(scores, TOP),
    }
    times: dict[str, list[float]] = {name: [] for name in parts}
    for repeat in range(repeats + 1):
        for name, part in parts.items():
            seconds = timed(part, device)
            if repeat:  # the first is warm-up
                times[name].append(seconds)
    result: dict[str, Any] = {"shape": SHAPE, "seconds": {name: statistics.median(t) for name, t in times.items()}}
    for what in ("whole", "directions", "selection of words"):
        pairs = zip(times[f"{what}, usual"], times[f"{what}, ours"], strict=True)
        result[f"{what}, ratio"] = statistics.median(a / b for a, b in pairs)
    return result


def timed(part: Callable[[], Any], device: str) -> float:
    """Seconds: of all threads on a CPU, of the clock with the queue emptied on a GPU."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    part()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


def wrong_lists() -> dict[str, Any]:
    """Share of top-50 lists that differ from those of a float64 SVD of the same float32 weights, per layer and way."""
    ways: dict[str, Way] = {"float64 eigh (ours)": ours, "float32 SVD": usual, "float32 eigh": fp32_eigh}
    _, words = random_layer(1, SHAPE["d_model"], SHAPE["words"], "cpu")
    n = SHAPE["d_model"]
    flat = np.linspace(1.2, 0.8, n)
    layers = {
        "standard deviations over 2 decades": np.logspace(0, -2, n),
        "over 4 decades": np.logspace(0, -4, n),
        "0.8 to 1.2, one direction of 100": np.r_[100, flat[1:]],
        "0.8 to 1.2, one direction of 1000": np.r_[1000, flat[1:]],
    }
    found: dict[str, Any] = {}
    for label, sizes in layers.items():
        layer = graded_layer(sizes)
        exact = layer.double() - layer.double().mean(dim=0)
        truth = top_words(torch.linalg.svd(exact, full_matrices=False).Vh[:CONCEPTS], words.double(), TOP)[1]
        found[label] = {
            name: float((way(layer, words)[1] != truth).any(dim=1).float().mean()) for name, way in ways.items()
        }
    return found


def false_alarms(runs: int) -> list[dict[str, Any]]:
    """How often noise alone puts the interval of the index beyond the sesoi, and how often a rotation does.

    Layers of 64 dimensions and 256 neurons, 16 leading directions; models of 12 layers, level 0.95.
    """
    rows = []
    for kind in ("gaussian", "power law"):
        rng = np.random.default_rng(1)
        bases = [fresh(kind, rng) for _ in range(12 * runs)]
        nulls = {n: [item(x, sizes, seed=i) for i, x in enumerate(bases)] for n, sizes in NOISE.items()}
        for change in ("noise", "noise of unequal neurons", "low rank", "within the span"):
            for size in (0.005, 0.02, 0.05, 0.1, 0.2, 0.5):
                tuned = [item(x + moved(change, size, x, rng), [], seed=0) for x in bases]
                row: dict[str, Any] = {"layers": kind, "change": change, "size": size}
                row["plain"], row["plain, mean"] = alarms(nulls["6 sizes"], tuned, beyond_noise=False)
                for name, null in nulls.items():
                    row[f"beyond noise, {name}"], row[f"{name}, mean"] = alarms(null, tuned, beyond_noise=True)
                rows.append(row)
    return rows


def fresh(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Neurons' outputs [256, 64]: Gaussian, or with standard deviations that fall as rank ** -0.5."""
    x = rng.standard_normal((256, 64))
    if kind == "gaussian":
        return x
    q, _ = np.linalg.qr(rng.standard_normal((64, 64)))
    return (x * np.arange(1, 65) ** -0.5) @ q.T


def moved(change: str, size: float, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A change of the weights with ``size`` times their Frobenius norm."""
    r = rng.standard_normal(x.shape)
    if change == "noise of unequal neurons":
        r *= np.exp(rng.standard_normal((len(x), 1)))
    elif change == "low rank":
        r = rng.standard_normal((len(x), 4)) @ rng.standard_normal((4, x.shape[1]))
    elif change == "within the span":
        span = principal_directions(torch.from_numpy(x)).directions[:16].numpy()
        r = r @ span.T @ span
    return size * r * np.linalg.norm(x) / np.linalg.norm(r)


def item(x: np.ndarray, sizes: Sequence[float], *, seed: int) -> EvidenceItem:
    """A layer's evidence, as measures/concepts.py stores it."""
    outputs = torch.from_numpy(x)
    directions = principal_directions(outputs).directions[:16]
    overlap, match = noise_null(outputs, directions, sizes, seed=seed)
    arrays = {"directions": directions.float().numpy(), "noise_overlap": overlap, "noise_match": match}
    return EvidenceItem(id=f"layer.{seed}", arrays=arrays, values={"rotation_k": 16, "d_model": x.shape[1]})


def alarms(base: list[EvidenceItem], tuned: list[EvidenceItem], *, beyond_noise: bool) -> tuple[float, float]:
    """Share of 12-layer models whose interval lies beyond the sesoi, and the mean effect."""
    quantity, effects, reached = rotates_knowledge(beyond_noise=beyond_noise), [], 0
    for start in range(0, len(base), 12):
        sides = {
            role: {f"layer.{i}": found for i, found in enumerate(all_items[start : start + 12])}
            for role, all_items in (("base", base), ("tuned", tuned))
        }
        view = View(pair=PAIR, prompts=(), items=lambda role, need, s=sides: s[role], level=0.95, seed=0)
        found = quantity(view)
        effects.append(found.effect)
        reached += found.interval[0] > SESOI
    return reached / len(effects), float(np.mean(effects))


def llama_layer(device: str) -> dict[str, Any]:
    """Seconds of the steps of one layer of Llama-7B's shape, and minutes of 32 of them."""
    outputs, words = (x.double() for x in random_layer(LLAMA["d_mlp"], LLAMA["d_model"], LLAMA["words"], device))
    directions = principal_directions(outputs).directions[:CONCEPTS]
    seconds = {
        "principal directions": timed(lambda: principal_directions(outputs), device),
        "words": timed(lambda: top_words(directions, words, 30), device),
        "noise null, per size": timed(lambda: noise_null(outputs, directions, [0.01], seed=0), device),
    }
    noise = len(NOISE["6 sizes"]) * seconds["noise null, per size"]
    return {
        "shape": LLAMA,
        "seconds": seconds,
        "32 layers, minutes": 32 * (seconds["principal directions"] + seconds["words"]) / 60,
        "their noise null of six sizes, minutes": 32 * noise / 60,
    }


def main() -> None:
    """Run the parts asked for and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=100, help="simulated models per row of the null model")
    parser.add_argument("--no-noise", action="store_true", help="leave the null model out")
    parser.add_argument("--llama", action="store_true", help="only one layer of Llama-7B's shape")
    chosen = parser.parse_args()
    if chosen.device == "cpu":
        torch.set_num_threads(1)
    if chosen.llama:
        found: dict[str, Any] = {"llama": llama_layer(chosen.device)}
    else:
        found = {"speed": speed(chosen.repeats, chosen.device), "wrong lists": wrong_lists()}
        if not chosen.no_noise:
            found["null model"] = false_alarms(chosen.runs)
    print(json.dumps(found, indent=1) if chosen.json else shown(found))


def shown(value: Any, indent: str = "") -> str:
    """Nested results as indented lines."""
    if isinstance(value, dict):
        return "\n".join(f"{indent}{name}: {_line(item, indent)}" for name, item in value.items())
    return "\n".join(f"{indent}{_line(item, indent)}" for item in value)


def _line(item: Any, indent: str) -> str:
    if isinstance(item, dict) and not any(isinstance(x, (dict, list)) for x in item.values()):
        return ", ".join(f"{name} {_line(x, '')}" for name, x in item.items())
    if isinstance(item, (dict, list)):
        return "\n" + shown(item, indent + "  ")
    return f"{item:.3g}" if isinstance(item, float) and math.isfinite(item) else str(item)


if __name__ == "__main__":
    main()
