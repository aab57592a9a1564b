"""The numbers of a model card: share of held-out prompts answered correctly, on task, ended; responses ranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..prompts.verifiers import verify
from .siblings import chat_ids, response_ids


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share in [0, 1] with its clustered 95 % interval, over ``n`` prompts in ``clusters`` clusters."""

    mean: float
    low: float
    high: float
    n: int
    clusters: int


def share(hits: Sequence[bool], clusters: Sequence[str]) -> Share:
    """Mean of yes and no with the cluster-robust normal interval: residuals are summed per cluster, then squared.

    Where all hits agree, that interval has no width; the exact binomial one over clusters stands in its place.
    """
    values = np.asarray(hits, dtype=float)
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    mean = float(values.mean())
    sums = np.bincount(index, weights=values - mean)
    error = float(np.sqrt((sums**2).sum() * len(names) / (len(names) - 1))) / len(values)
    margin = 1.96 * error if 0 < mean < 1 else 1 - 0.025 ** (1 / len(names))
    return Share(
        mean=mean,
        low=max(0.0, mean - margin),
        high=min(1.0, mean + margin),
        n=len(values),
        clusters=len(names),
    )


@torch.no_grad()
def respond(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    limit: int = 128,
    rows: int = 64,
    processors: Sequence[Any] = (),
) -> list[tuple[str, bool]]:
    """Greedy responses to token id prompts, each with whether the model ended it within ``limit`` tokens."""
    model.eval()
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    found: dict[int, tuple[str, bool]] = {}
    for start in range(0, len(order), rows):
        chosen = order[start : start + rows]
        longest = max(len(prompts[i]) for i in chosen)
        ids = torch.full((len(chosen), longest), tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(chosen):
            ids[row, longest - len(prompts[i]) :] = torch.tensor(prompts[i])
            mask[row, longest - len(prompts[i]) :] = 1
        out: Tensor = model.generate(  # type: ignore[operator]
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=limit,
            do_sample=False,
            logits_processor=list(processors),
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        for row, i in enumerate(chosen):
            new = out[row, longest:].tolist()
            ended = tokenizer.eos_token_id in new
            new = new[: new.index(tokenizer.eos_token_id)] if ended else new
            found[i] = (tokenizer.decode(new, skip_special_tokens=True), ended)
    return [found[i] for i in range(len(prompts))]


def collate(rows: Sequence[tuple[Sequence[int], Sequence[int]]], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of (prompt, response) padded on the right: ids, attention mask, and labels with -100 off the response."""
    longest = max(len(prompt) + len(response) for prompt, response in rows)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for i, (prompt, response) in enumerate(rows):
        end = len(prompt) + len(response)
        ids[i, :end] = torch.tensor([*prompt, *response])
        mask[i, :end] = 1
        labels[i, len(prompt) : end] = ids[i, len(prompt) : end]
    return ids, mask, labels


@torch.no_grad()
def response_logprobs(model: nn.Module, rows: Sequence[tuple[list[int], list[int]]], pad: int) -> list[float]:
    """Log-probability in nats of each response after its prompt, summed over tokens."""
    model.eval()
    found: list[float] = []
    for start in range(0, len(rows), 64):
        ids, mask, labels = collate(rows[start : start + 64], pad)
        logprobs = model(input_ids=ids, attention_mask=mask).logits[:, :-1].log_softmax(-1)
        wanted = labels[:, 1:]
        taken = logprobs.gather(-1, wanted.clamp(min=0)[..., None])[..., 0] * (wanted >= 0)
        found += taken.sum(-1).tolist()
    return found


def measure(
    model: nn.Module,
    tokenizer: Any,
    rows: Sequence[Mapping[str, Any]],
    *,
    limit: int = 128,
    processors: Sequence[Any] = (),
) -> tuple[dict[str, Share], list[dict[str, Any]]]:
    """Shares over a prompt set in the chat format, and the responses.

    ``correct`` means right and ended by the model; ``begins``: some of its first lines are right, whatever follows.
    """
    prompts = [chat_ids(tokenizer, row["prompt"]) for row in rows]
    answers = respond(model, tokenizer, prompts, limit=limit, processors=processors)
    clusters = [row["topic"] for row in rows]
    checked = [verify(row["verify"], text, ended=end) for row, (text, end) in zip(rows, answers, strict=True)]
    shares = {
        "correct": share([v.correct and v.ended for v in checked], clusters),
        "begins": share(
            [begins_right(row["verify"], text) for row, (text, _) in zip(rows, answers, strict=True)], clusters
        ),
        "on_task": share([v.on_task for v in checked], clusters),
        "ended": share([v.ended for v in checked], clusters),
    }
    responses = [
        {"id": row["id"], "task": row["task"], "response": text, "correct": v.correct and v.ended, "ended": end}
        for row, (text, end), v in zip(rows, answers, checked, strict=True)
    ]
    return shares, responses


def begins_right(spec: Mapping[str, Any], response: str) -> bool:
    """Whether the first line, the first two, or any number of first lines are right by themselves."""
    lines = response.splitlines()
    starts = ("\n".join(lines[:count]) for count in range(1, len(lines) + 1))
    return any(verify(spec, start, ended=True).correct for start in starts)


def ranking(model: nn.Module, tokenizer: Any, rows: Sequence[Mapping[str, Any]], *, seed: int) -> Share:
    """Share of prompts whose reference is more probable than the reference of a random other prompt.

    Summed log-probability of the response in the chat format, as arXiv:2409.14254 section 4.2 compares them.
    """
    rng = Random(f"ranking-{seed}")
    own = [(chat_ids(tokenizer, row["prompt"]), response_ids(tokenizer, row["reference"])) for row in rows]
    others = [rng.choice([j for j in range(len(rows)) if rows[j]["reference"] != row["reference"]]) for row in rows]
    crossed = [(own[i][0], own[j][1]) for i, j in enumerate(others)]
    true = response_logprobs(model, own, tokenizer.pad_token_id)
    false = response_logprobs(model, crossed, tokenizer.pad_token_id)
    return share([x > y for x, y in zip(true, false, strict=True)], [row["topic"] for row in rows])
