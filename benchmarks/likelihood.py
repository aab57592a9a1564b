"""Speed of response ranking's scoring against lm-eval's, side by side in one process: ratios of thread time.

    python benchmarks/likelihood.py [--json] [--device cuda] [--repeats 5] [--prompts 64]

Requests are those of the measure: for each of ``--prompts`` instructions its own response, five others', its own after
five other instructions, and the six unconditionally. No request stands twice. tuneshift scores them with
`response_logprobs`; lm-eval gets the same token ids through `HFLM._loglikelihood_tokens` (what `HFLM.loglikelihood`
calls after tokenising, so its tokenising is left out), at the fastest of several batch sizes. ``--shift-backend=hf``
is timed beside them, at that batch size: it asks lm-eval through tuneshift's own interface to it. Models are the
embedded base, asked with its chat template, and a random Llama (hidden 512, 8 layers, 8 heads, vocabulary 8,000; 40 to
80 prompt and 10 to 60 response tokens). Repetitions interleave; each figure is the median of the ratios within a
repetition. ``ranking`` keeps only the 1 + k responses of each instruction. lm-eval comes with `pip install lm-eval`.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tuneshift.backends.start import answering
from tuneshift.checkpoints.loading import Checkpoint, load
from tuneshift.checkpoints.refs import LMBackend, ModelRef
from tuneshift.checkpoints.scoring import response_logprobs
from tuneshift.measures.draws import draws
from tuneshift.prompts.chat import bare_ids, end_token, resolve_chat_template
from tuneshift.prompts.prompt import Prompt, PromptSource
from tuneshift.prompts.sets import load_prompts
from tuneshift.prompts.tokens import encode, response_ids
from tuneshift.resources import fixture

Ids = npt.NDArray[np.int64]
Requests = list[tuple[Ids, list[Ids]]]
Way = Callable[[Requests], list[float]]

EMBEDDED = "models/micro/base"
VOCAB = 8000
K = 5
BATCHES = (1, 8, 32, 128)


def embedded_requests(checkpoint: Checkpoint, prompts: Sequence[Prompt], *, full: bool) -> Requests:
    """Requests on the shipped prompts, as the measure makes them."""
    template = resolve_chat_template(checkpoint.ref, checkpoint.tokenizer)
    end = end_token(checkpoint.tokenizer, template)
    contexts: dict[str | None, Ids] = {p.id: encode(p.prompt, checkpoint.tokenizer, template).ids for p in prompts}
    contexts[None] = bare_ids(checkpoint.tokenizer, template)
    responses = {
        p.id: np.append(response_ids(p.reference or "", p.prompt, checkpoint.tokenizer, template), end) for p in prompts
    }
    return grouped(contexts, responses, draws(prompts, k=K, seed=0), full=full)


def random_requests(count: int, *, full: bool) -> Requests:
    """Requests of random token ids, none of them special."""
    generator = np.random.default_rng(0)
    prompts = [Prompt(id=str(i), prompt=str(i), instruction_spans=(), reference=str(i)) for i in range(count)]
    contexts: dict[str | None, Ids] = {p.id: generator.integers(5, VOCAB, generator.integers(40, 81)) for p in prompts}
    contexts[None] = np.array([1])
    responses = {p.id: generator.integers(5, VOCAB, generator.integers(10, 61)) for p in prompts}
    return grouped(contexts, responses, draws(prompts, k=K, seed=0), full=full)


def grouped(
    contexts: dict[str | None, Ids], responses: dict[str, Ids], drawn: dict[str, tuple[str, ...]], *, full: bool
) -> Requests:
    """Unique (context, response) pairs of all prompts by context."""
    pairs: dict[tuple[str | None, str], None] = {}
    for own, others in drawn.items():
        pairs |= dict.fromkeys((own, r) for r in (own, *others))
        if full:
            pairs |= dict.fromkeys((None, r) for r in (own, *others))
            pairs |= dict.fromkeys((x, own) for x in others)
    found: dict[str | None, list[Ids]] = {}
    for context, response in pairs:
        found.setdefault(context, []).append(responses[response])
    return [(contexts[context], held) for context, held in found.items()]


def tuneshift_way(checkpoint: Checkpoint) -> Way:
    """tuneshift's scoring, flat."""
    return lambda requests: [float(x) for sums in response_logprobs(checkpoint, requests) for x in sums]


def lm_eval_way(checkpoint: Checkpoint, batch_size: int) -> Way:
    """lm-eval's scoring of the same ids."""
    from lm_eval.models.huggingface import HFLM

    hflm = HFLM(
        pretrained=checkpoint.model, tokenizer=checkpoint.tokenizer, batch_size=batch_size,
        max_length=checkpoint.context_length, device=str(checkpoint.device),
    )  # fmt: skip

    def way(requests: Requests) -> list[float]:
        flat = [(("", str(i)), c.tolist(), r.tolist()) for i, (c, r) in enumerate(_flat(requests))]
        return [score for score, _ in hflm._loglikelihood_tokens(flat, disable_tqdm=True)]

    return way


@contextmanager
def backend_way(checkpoint: Checkpoint, batch_size: int) -> Iterator[Way]:
    """The same through ``--shift-backend=hf``."""
    backend = LMBackend(name="hf", args=f"batch_size={batch_size}")
    with answering(backend, checkpoint.ref, dtype=checkpoint.dtype, checkpoint=checkpoint) as asked:
        yield lambda requests: [float(x) for sums in asked.response_logprobs(requests) for x in sums]


def _flat(requests: Requests) -> Iterator[tuple[Ids, Ids]]:
    return ((context, response) for context, responses in requests for response in responses)


def seconds(way: Way, requests: Requests, device: str) -> float:
    """Time of one call: the thread's on a CPU, synchronised wall time on a GPU."""
    clock = time.thread_time if device == "cpu" else time.perf_counter
    start = clock()
    way(requests)
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


def measure(name: str, checkpoint: Checkpoint, requests: Requests, repeats: int) -> dict[str, Any]:
    """Both ways on one set of requests, interleaved, after lm-eval's fastest batch size has been found."""
    device = checkpoint.device.type
    ours = tuneshift_way(checkpoint)
    peers = {size: lm_eval_way(checkpoint, size) for size in BATCHES}
    trials = {size: min(seconds(way, requests, device) for _ in range(2)) for size, way in peers.items()}
    batch = min(trials, key=lambda size: trials[size])
    apart = np.abs(np.subtract(ours(requests), peers[batch](requests)))
    with backend_way(checkpoint, batch) as backend:
        times = [[seconds(way, requests, device) for way in (ours, peers[batch], backend)] for _ in range(repeats)]
    return {
        "name": name,
        "requests": sum(len(responses) for _, responses in requests),
        "seconds": statistics.median(mine for mine, _, _ in times),
        "lm_eval_over_tuneshift": statistics.median(peer / mine for mine, peer, _ in times),
        "backend_over_tuneshift": statistics.median(through / mine for mine, _, through in times),
        "lm_eval_batch_size": batch,
        "largest_difference": float(apart.max()),
    }


@contextmanager
def random_llama(device: str) -> Iterator[Checkpoint]:
    """The wider model, weights from seed 0, with the embedded tokenizer, which nothing asks anything."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=512, intermediate_size=1376, num_hidden_layers=8, num_attention_heads=8,
        max_position_embeddings=1024,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().requires_grad_(False).to(device)
    from tuneshift.checkpoints.tokenizers import load_tokenizer

    # A backend reads the checkpoint's files for its tokenizer and context length, and takes the loaded model.
    yield Checkpoint(
        ref=embedded(), model=model, tokenizer=load_tokenizer(embedded()),
        device=torch.device(device), dtype="float32", context_length=1024, parameters=model.num_parameters(),
    )  # fmt: skip


def embedded() -> ModelRef:
    """The embedded family's base."""
    return ModelRef(name="micro base", model=str(Path(str(fixture(EMBEDDED)))))


def main() -> None:
    """Run both models and print a line each, or with --json one object last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object of the figures last")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="counted repetitions (default: %(default)s)")
    parser.add_argument("--prompts", type=int, default=64, help="instructions (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    prompts = load_prompts(PromptSource(path="micro-heldout"), pair=None).prompts
    prompts = prompts[:: max(1, len(prompts) // arguments.prompts)][: arguments.prompts]
    rows = []
    for full in (True, False):
        kind = "measure" if full else "ranking"
        with load(embedded(), device=arguments.device) as checkpoint:
            requests = embedded_requests(checkpoint, prompts, full=full)
            rows.append(measure(f"embedded base, {kind}", checkpoint, requests, arguments.repeats))
            print(_line(rows[-1]), flush=True)
        with random_llama(arguments.device) as checkpoint:
            requests = random_requests(arguments.prompts // (1 if arguments.device == "cuda" else 4), full=full)
            rows.append(measure(f"random Llama, {kind}", checkpoint, requests, arguments.repeats))
            print(_line(rows[-1]), flush=True)
    if arguments.json:
        print(json.dumps({"device": arguments.device, "rows": rows}))


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['name']}: {row['lm_eval_over_tuneshift']:.2f}x lm-eval at its batch size {row['lm_eval_batch_size']} "
        f"(target 1x), {row['backend_over_tuneshift']:.2f}x the backend hf; {row['requests']} requests in "
        f"{row['seconds']:.2f} s, differs by {row['largest_difference']:.1e}"
    )


if __name__ == "__main__":
    main()
