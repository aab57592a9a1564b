"""Pre-training of one small Llama: Muon on the matrices, AdamW on the rest, bf16 autocast.

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
Sync = Callable[[nn.Module], None]


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
    model = LlamaForCausalLM(config)
    # On a CPU, plain matrix products are faster at this size than the fused attention kernel's backward pass.
    model.set_attn_implementation("eager")
    return model


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


def ramp(step: int, steps: int, warmup: float, *, decay: bool = True) -> float:
    """Factor on the learning rates: linear up over the share ``warmup`` of steps, then down to zero, or level."""
    rise = max(1, round(steps * warmup))
    fall = (steps - step) / max(1, steps - rise) if decay else 1.0
    return min((step + 1) / rise, fall)


def descend(
    model: nn.Module,
    opts: Sequence[Any],
    batches: Sequence[Sequence[Tensor]],
    tell: Progress,
    *,
    warmup: float,
    decay: bool = True,
    parts: int = 1,
    sync: Sync = lambda model: None,
) -> None:
    """One pass of updates over token ids [row, position], every one a label.

    A batch is this process's share of its ``parts`` parts; ``sync`` adds up the gradients.
    """
    rates = [[group["lr"] for group in opt.param_groups] for opt in opts]
    model.train()
    for step, batch in enumerate(batches):
        factor = ramp(step, len(batches), warmup, decay=decay)
        for opt, own in zip(opts, rates, strict=True):
            for group, rate in zip(opt.param_groups, own, strict=True):
                group["lr"] = rate * factor
        losses = []
        for ids in batch:
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(input_ids=ids, use_cache=False).logits
            loss = cross_entropy(logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten())
            (loss / parts).backward()  # type: ignore[no-untyped-call]
            losses.append(float(loss.detach()))
        sync(model)
        for opt in opts:
            opt.step()
            opt.zero_grad()
        tell(step, sum(losses) / len(losses))


class Windows(Sequence[list[Tensor]]):
    """Corpus windows as batches of ``rows``, each cut into ``parts``, of which those in ``mine`` are taken."""

    def __init__(self, windows: npt.NDArray[np.int32], rows: int, parts: int, mine: Sequence[int]) -> None:
        self.windows, self.rows, self.size, self.mine = windows, rows, rows // parts, tuple(mine)

    def __len__(self) -> int:
        return len(self.windows) // self.rows

    def __getitem__(self, index: Any) -> Any:
        if index >= len(self):
            raise IndexError(index)
        return [self._part(index * self.rows + part * self.size) for part in self.mine]

    def _part(self, start: int) -> Tensor:
        return torch.from_numpy(self.windows[start : start + self.size].astype(np.int64))


def pretrain(
    model: nn.Module,
    windows: npt.NDArray[np.int32],
    recipe: Mapping[str, Any],
    tell: Progress,
    *,
    decay: bool = True,
    mine: Sequence[int] | None = None,
    sync: Sync = lambda model: None,
) -> None:
    """Train on every window once, in order.

    A step's rows are cut into the recipe's ``parts``. One process takes all of them, or each process takes those in
    ``mine`` and ``sync`` adds up the gradients; both give the same weights.
    """
    opts = optimizers(
        model, muon_rate=recipe["muon_rate"], adam_rate=recipe["adam_rate"], weight_decay=recipe["weight_decay"]
    )
    parts = recipe["parts"]
    batches = Windows(windows, recipe["rows"], parts, range(parts) if mine is None else mine)
    descend(model, opts, batches, tell, warmup=recipe["warmup"], decay=decay, parts=parts, sync=sync)


def add_up_gradients(model: nn.Module) -> None:
    """Sum the gradients over all processes of the group, in one message."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
