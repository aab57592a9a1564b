"""Speed of exact attribution, side by side in one process: ratios of thread time, float32, one thread.

    python benchmarks/attribution.py [--json] [--device cuda] [--repeats 5]
    python benchmarks/attribution.py --shapes [--repeats 3]       # shapes of two public models: real_shapes.py

The model is a random Llama (hidden 512, 8 layers, 8 heads, vocabulary 8,000). For (N, M) prompt and response tokens it
compares tuneshift's fast and generic paths with the reference way (one forward pass, then M backward passes that also
compute every weight's gradient) and, at (32, 32), with inseq (input x gradient, probability) and captum (layer
gradient x activation). Repetitions interleave; each figure is the median of the ratios within a repetition. inseq and
captum come with `pip install tuneshift[bench]`; where one is missing its ratios are null.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import real_shapes
import torch
from real_shapes import Machine, figures, print_table
from torch import Tensor
from torch.utils import flop_counter
from transformers import LlamaConfig, LlamaForCausalLM

from tuneshift.checkpoints.llama import LlamaBlocks, llama_blocks
from tuneshift.measures.attribution.backend import GenericBackend, LlamaBackend, choose_backend
from tuneshift.measures.attribution.density import importance_levels
from tuneshift.measures.attribution.llama import LlamaAttribution

SHAPES = ((32, 32), (64, 128), (256, 64))
PEERS_AT = (32, 32)
VOCAB = 8000
TARGETS = {(32, 32): 4.0, (64, 128): 5.5, (256, 64): 2.8}
Way = Callable[[Tensor, Tensor], Tensor]


def random_llama(device: str) -> Any:
    """The benchmark's model: 8 layers of hidden size 512, weights from seed 0."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=512, intermediate_size=1376, num_hidden_layers=8, num_attention_heads=8,
        max_position_embeddings=1024,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval().to(device)


def reference(model: Any) -> Way:
    """The reference way: M backward passes, each with the gradient of every weight."""
    weights = [p for p in model.parameters() if p is not model.model.embed_tokens.weight]

    def way(prompt: Tensor, response: Tensor) -> Tensor:
        for weight in weights:
            weight.requires_grad_(True)
        embeds = model.get_input_embeddings()(torch.cat([prompt, response[:-1]])).detach().requires_grad_(True)
        probabilities = model(inputs_embeds=embeds[None], use_cache=False).logits[0].softmax(-1)
        columns = []
        for m, y in enumerate(response):
            chosen = probabilities[len(prompt) - 1 + m, y]
            gradient = torch.autograd.grad(chosen, [embeds, *weights], retain_graph=True)[0]
            columns.append((gradient * embeds.detach())[: len(prompt)].sum(-1))
        for weight in weights:
            weight.requires_grad_(False)
        return torch.stack(columns, dim=1)

    return way


def captum_way(model: Any) -> Way | None:
    """Captum's layer gradient x activation at the embedding, one response token after the other."""
    try:
        from captum.attr import LayerGradientXActivation
    except ImportError:
        return None

    def way(prompt: Tensor, response: Tensor) -> Tensor:
        columns = []
        for m, y in enumerate(response):

            def probability(ids: Tensor, y: Tensor = y) -> Tensor:
                return model(input_ids=ids, use_cache=False).logits[:, -1].softmax(-1)[:, y]

            ids = torch.cat([prompt, response[:m]])[None]
            model.requires_grad_(True)
            found = LayerGradientXActivation(probability, model.get_input_embeddings()).attribute(ids)
            model.requires_grad_(False)
            columns.append(found[0, : len(prompt)].sum(-1).detach())
        return torch.stack(columns, dim=1)

    return way


def inseq_way(model: Any) -> Way | None:
    """inseq's input x gradient of the probability, on a word tokenizer in which token i is the word ``wi``."""
    try:
        import inseq
    except ImportError:
        return None
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="w0", eos_token="w1", unk_token="w0")
    model.config.name_or_path = "random-llama"
    attributed = inseq.load_model(model, "input_x_gradient", tokenizer=tokenizer)

    def text(ids: Tensor) -> str:
        return " ".join(f"w{i}" for i in ids.tolist())

    def way(prompt: Tensor, response: Tensor) -> Tensor:
        model.requires_grad_(True)
        out = attributed.attribute(
            text(prompt), text(torch.cat([prompt, response])), attributed_fn="probability", show_progress=False
        )
        model.requires_grad_(False)
        return torch.as_tensor(out[0].target_attributions)[: len(prompt)].sum(-1)

    return way


def tokens(n: int, m: int, device: str) -> tuple[Tensor, Tensor]:
    """Random token ids, none of them special."""
    drawn = torch.randint(5, VOCAB, (n + m,), generator=torch.Generator().manual_seed(n * 1000 + m)).to(device)
    return drawn[:n], drawn[n:]


def seconds(way: Way, prompt: Tensor, response: Tensor, device: str) -> float:
    """Time of one call: the thread's on a CPU, synchronised wall time on a GPU."""
    if device == "cpu":
        start = time.thread_time()
        way(prompt, response)
        return time.thread_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    way(prompt, response)
    torch.cuda.synchronize()
    return time.perf_counter() - start


def floor_flops(blocks: LlamaBlocks, n: int, m: int) -> float:
    """Least matrix work: one forward pass, the head forth and back, and N M passes over one position."""
    per_position = 2 * blocks.parameters_in_blocks
    hidden = blocks.embedding.shape[1]
    return per_position * (n + m - 1) + 4 * VOCAB * hidden * m + per_position * n * m


def flops(way: Way, prompt: Tensor, response: Tensor) -> float:
    """Matrix work of one call as torch counts it, the in-place products included, which it leaves out by default."""
    products = {torch.ops.aten.addmm_: flop_counter.mm_flop, torch.ops.aten.baddbmm_: flop_counter.bmm_flop}
    in_place = {op: _accumulated(count) for op, count in products.items()}
    with flop_counter.FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        way(prompt, response)
    return float(counter.get_total_flops())


def _accumulated(count: Callable[..., int]) -> Callable[..., int]:
    """The count of an accumulating product, from its shapes (total, left, right)."""

    def flops_of(_total: torch.Size, left: torch.Size, right: torch.Size, **_: Any) -> int:
        return count(left, right)

    return flops_of


@contextmanager
def quiet() -> Iterator[None]:
    """Without the peers' warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def extra_memory(way: Way, prompt: Tensor, response: Tensor, device: str) -> float:
    """Peak memory of a call beyond what was in use before it, MB. On a CPU the growth of a forked process's peak."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        way(prompt, response)
        return float(torch.cuda.max_memory_allocated() - before) / 1e6
    reader, writer = multiprocessing.Pipe(duplex=False)

    def call() -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # a fork's peak starts at what it has now
        way(prompt, response)
        writer.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3)

    child = multiprocessing.get_context("fork").Process(target=call)
    child.start()
    child.join()
    if child.exitcode:
        raise SystemExit(f"the memory measurement ended with exit code {child.exitcode}")
    return float(reader.recv())


MACHINE = Machine(tokens=tokens, seconds=seconds, extra_memory=extra_memory)


def agreement(blocks: LlamaBlocks, way: Way, prompt: Tensor, response: Tensor) -> tuple[float, int]:
    """Relative error (Frobenius) against the same computation in float64, and levels that differ from it."""
    exact = LlamaAttribution(blocks, torch.float64).importance(prompt, response, rows=4096, tangent_bytes=2**31)
    got = way(prompt, response).double()
    levels = [importance_levels(x.cpu().numpy()) for x in (got, exact)]
    return float((got - exact).norm() / exact.norm()), int(np.sum(levels[0] != levels[1]))


def measure(shape: tuple[int, int], model: Any, ways: dict[str, Way], repeats: int, device: str) -> dict[str, Any]:
    """All ways on one shape, interleaved; every ratio is of the same repetition."""
    prompt, response = tokens(*shape, device)
    times: dict[str, list[float]] = {name: [] for name in ways}
    with quiet():
        for repetition in range(repeats + 1):
            for name, way in ways.items():
                spent = seconds(way, prompt, response, device)
                if repetition:  # the first warms up
                    times[name].append(spent)
    blocks = llama_blocks(model)
    assert isinstance(blocks, LlamaBlocks)
    error, moved = agreement(blocks, ways["fast"], prompt, response)
    result: dict[str, Any] = {
        "n": shape[0],
        "m": shape[1],
        "fast_s": statistics.median(times["fast"]),
        "flops_over_floor": flops(ways["fast"], prompt, response) / floor_flops(blocks, *shape),
        "relative_error_to_float64": error,
        "levels_that_differ": moved,
    }
    for name in ("reference", "inseq", "captum"):
        held = times.get(name)
        result[f"{name}_over_fast"] = _median_ratio(held, times["fast"]) if held else None
    result["reference_over_generic"] = _median_ratio(times["reference"], times["generic"])
    return result


def _median_ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def main() -> None:
    """Run all shapes and print a table, or with --json one object last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object of the figures last")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="counted repetitions (default: %(default)s)")
    parser.add_argument("--shapes", action="store_true", help="SmolLM2-135M's and Gemma 3 270M's, random weights, CPU")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.shapes:
        print_table({name: figures(build, MACHINE, arguments.repeats) for name, build in real_shapes.SHAPES.items()})
        return
    model = random_llama(arguments.device)
    fast = choose_backend(model)
    assert isinstance(fast, LlamaBackend), fast.reason
    memory = {f"{n},{m}": extra_memory(fast, *tokens(n, m, arguments.device), arguments.device) for n, m in SHAPES}
    ways: dict[str, Way] = {"fast": fast, "generic": GenericBackend(model=model), "reference": reference(model)}
    peers = {"inseq": inseq_way(model), "captum": captum_way(model)}
    missing = [name for name, way in peers.items() if way is None]
    if missing:
        print(f"not installed, left out: {', '.join(missing)}")
    rows = []
    for shape in SHAPES:
        present = {k: w for k, w in peers.items() if w is not None and shape == PEERS_AT}
        rows.append(measure(shape, model, {**ways, **present}, arguments.repeats, arguments.device))
        print(_line(rows[-1], memory))
    if arguments.json:
        print(json.dumps({"device": arguments.device, "shapes": rows, "peak_extra_mb": memory}))


def _line(row: dict[str, Any], memory: dict[str, float]) -> str:
    n, m = row["n"], row["m"]
    peers = "".join(
        f", {name} {row[f'{name}_over_fast']:.1f}x" for name in ("inseq", "captum") if row[f"{name}_over_fast"]
    )
    return (
        f"N={n} M={m}: fast {row['reference_over_fast']:.2f}x over the reference (target {TARGETS[n, m]}x), "
        f"generic {row['reference_over_generic']:.2f}x{peers}; {1e3 * row['fast_s']:.0f} ms, "
        f"{row['flops_over_floor']:.2f} of the floor's FLOPs, {memory[f'{n},{m}']:.0f} MB more at peak, "
        f"error {row['relative_error_to_float64']:.1e}, {row['levels_that_differ']} levels differ"
    )


if __name__ == "__main__":
    main()
