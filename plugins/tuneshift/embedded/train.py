"""Pre-training and tuning of one small Llama: Muon on the matrices, AdamW on the rest, bf16 autocast.

Muon orthogonalises the momentum of a matrix's gradient (Jordan et al., https://kellerjordan.github.io/posts/muon/);
torch.optim brings it since 2.9. On this data it beat AdamW alone at equal steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Progress = Callable[[int, float], None]


def new_model(sizes: Mapping[str, Any], tokenizer: Any, *, seed: int) -> nn.Module:
    """A Llama with random weights in the recipe's sizes, tied embeddings, for this tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **sizes,
    )
    return LlamaForCausalLM(config)


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Matrices inside the layers, and all other parameters (embeddings, norms)."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and "embed" not in name else rest).append(parameter)
    return matrices, rest


def optimizers(model: nn.Module, *, muon_rate: float, adam_rate: float, weight_decay: float) -> list[Any]:
    """Muon for the matrices, AdamW for the rest."""
    matrices, rest = split_parameters(model)
    return [
        torch.optim.Muon(matrices, lr=muon_rate, weight_decay=weight_decay),
        torch.optim.AdamW(rest, lr=adam_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def ramp(step: int, steps: int, warmup: float) -> float:
    """Factor on the learning rates: linear up over the share ``warmup`` of steps, then linear down to zero."""
    rise = max(1, round(steps * warmup))
    return min((step + 1) / rise, (steps - step) / max(1, steps - rise))


def descend(
    model: nn.Module,
    opts: Sequence[Any],
    batches: Sequence[tuple[Tensor, Tensor, Tensor]],
    warmup: float,
    tell: Progress,
) -> None:
    """One pass of updates over batches of (ids, attention mask, labels), each [row, position]."""
    rates = [[group["lr"] for group in opt.param_groups] for opt in opts]
    model.train()
    for step, (ids, mask, labels) in enumerate(batches):
        factor = ramp(step, len(batches), warmup)
        for opt, own in zip(opts, rates, strict=True):
            for group, rate in zip(opt.param_groups, own, strict=True):
                group["lr"] = rate * factor
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        loss = cross_entropy(logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        loss.backward()  # type: ignore[no-untyped-call]
        for opt in opts:
            opt.step()
            opt.zero_grad()
        tell(step, float(loss.detach()))


class Windows(Sequence[tuple[Tensor, Any, Tensor]]):
    """Corpus windows as batches; labels are the ids themselves, nothing is masked."""

    def __init__(self, windows: npt.NDArray[np.int32], rows: int) -> None:
        self.windows, self.rows = windows, rows

    def __len__(self) -> int:
        return len(self.windows) // self.rows

    def __getitem__(self, index: Any) -> Any:
        if index >= len(self):
            raise IndexError(index)
        ids = torch.from_numpy(self.windows[index * self.rows : (index + 1) * self.rows].astype(np.int64))
        return ids, None, ids


def pretrain(model: nn.Module, windows: npt.NDArray[np.int32], recipe: Mapping[str, Any], tell: Progress) -> None:
    """Train on every window once, in order."""
    opts = optimizers(
        model,
        muon_rate=recipe["muon_rate"],
        adam_rate=recipe["adam_rate"],
        weight_decay=recipe["weight_decay"],
    )
    descend(model, opts, Windows(windows, recipe["rows"]), recipe["warmup"], tell)


def tune(
    model: nn.Module,
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    recipe: Mapping[str, Any],
    *,
    pad: int,
    seed: int,
    tell: Progress,
) -> None:
    """Train on (prompt ids, response ids); only the response counts in the loss."""
    generator = np.random.default_rng(seed)
    batches: list[tuple[Tensor, Tensor, Tensor]] = []
    for _ in range(recipe["epochs"]):
        order = generator.permutation(len(rows))
        for start in range(0, len(rows), recipe["rows"]):
            batches.append(collate([rows[i] for i in order[start : start + recipe["rows"]]], pad))
    opt = torch.optim.AdamW(model.parameters(), lr=recipe["rate"], betas=(0.9, 0.95), weight_decay=0.0)
    descend(model, [opt], batches, 0.05, tell)


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
