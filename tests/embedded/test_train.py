"""Training: the schedule, the split of parameters, what counts in the loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tuneshift.embedded.train import Windows, collate, descend, new_model, pretrain, ramp, split_parameters, tune

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}


class FakeTokenizer:
    bos_token_id, eos_token_id, pad_token_id = 1, 2, 0

    def __len__(self) -> int:
        return 30


@pytest.fixture
def model() -> nn.Module:
    return new_model(SIZES, FakeTokenizer(), seed=0)


def test_new_model_follows_the_seed() -> None:
    first, second, third = (new_model(SIZES, FakeTokenizer(), seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], third[name]) for name in first)


def test_ramp_rises_to_one_and_falls_to_zero() -> None:
    factors = [ramp(step, 100, 0.1) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == pytest.approx(1.0)
    assert factors[-1] == pytest.approx(1 / 90)
    assert np.all(np.diff(factors[:10]) > 0)
    assert np.all(np.diff(factors[10:]) < 0)
    assert [ramp(step, 100, 0.1, decay=False) for step in range(10, 100)] == [1.0] * 90


def test_matrices_and_rest_are_all_parameters(model: nn.Module) -> None:
    matrices, rest = split_parameters(model)
    assert {id(p) for p in matrices}.isdisjoint(id(p) for p in rest)
    assert {id(p) for p in matrices} | {id(p) for p in rest} == {id(p) for p in model.parameters()}
    assert len(matrices) == 2 * 7
    assert all(p.ndim == 2 for p in matrices)


def test_collate_labels_the_response_alone() -> None:
    ids, mask, labels = collate([([5, 6], [7, 2]), ([8], [9, 10, 11, 2])], pad=0)
    assert ids.tolist() == [[5, 6, 7, 2, 0], [8, 9, 10, 11, 2]]
    assert mask.tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    assert labels.tolist() == [[-100, -100, 7, 2, -100], [-100, 9, 10, 11, 2]]


def test_pretraining_learns_a_pattern(model: nn.Module) -> None:
    losses: list[float] = []
    windows = np.tile(np.arange(3, 19, dtype=np.int32), (200, 1))
    recipe = {"rows": 4, "muon_rate": 0.02, "adam_rate": 0.01, "weight_decay": 0.0, "warmup": 0.1, "parts": 2}
    pretrain(model, windows, recipe, lambda step, loss: losses.append(loss))
    assert len(losses) == 50
    assert losses[0] > 3
    assert losses[-1] < 1.0


def test_parts_together_make_the_whole_step() -> None:
    windows = np.random.default_rng(0).integers(3, 30, (8, 16)).astype(np.int32)
    whole = [ids for ids, _, _ in Windows(windows, 4, 1, [0])[1]]
    halves = [ids for part in (0, 1) for ids, _, _ in Windows(windows, 4, 2, [part])[1]]
    assert torch.equal(torch.cat(whole), torch.cat(halves))
    assert torch.equal(torch.cat(whole), torch.from_numpy(windows[4:]).long())


def test_tuning_learns_the_response_and_nothing_about_the_prompt(model: nn.Module) -> None:
    before = _prompt_loss(model)
    losses: list[float] = []
    recipe = {"epochs": 30, "rows": 2, "rate": 2e-2}
    tune(model, [([4, 5, 6], [7, 8, 2])] * 4, recipe, pad=0, seed=0, tell=lambda step, loss: losses.append(loss))
    assert len(losses) == 60
    assert losses[-1] < 0.1 < losses[0]
    assert _prompt_loss(model) > before - 1.0


def test_masked_positions_give_no_gradient(model: nn.Module) -> None:
    class Still:
        param_groups: tuple[Any, ...] = ()

        def step(self) -> None: ...

        def zero_grad(self) -> None: ...

    ids = torch.tensor([[4, 5, 6, 7]])
    labels = torch.tensor([[-100, -100, -100, 7]])
    other = torch.tensor([[-100, -100, -100, 9]])
    grads = []
    for target in (labels, labels.clone(), other):
        model.zero_grad()
        descend(model, [Still()], [[(ids, torch.ones_like(ids), target)]], lambda step, loss: None, warmup=0.1)
        grads.append(next(model.parameters()).grad.clone())  # type: ignore[union-attr]
    assert torch.equal(grads[0], grads[1])
    assert not torch.allclose(grads[0], grads[2])


def _prompt_loss(model: nn.Module) -> float:
    ids = torch.tensor([[4, 5, 6]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    return float(nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:]))
