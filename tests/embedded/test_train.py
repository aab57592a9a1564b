"""Pre-training: the schedule, the split of parameters, the parts of a step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tuneshift.embedded.train import Windows, new_model, pretrain, ramp, split_parameters

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


@pytest.mark.numerics
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
    whole = Windows(windows, 4, 1, [0])[1]
    halves = [ids for part in (0, 1) for ids in Windows(windows, 4, 2, [part])[1]]
    assert torch.equal(torch.cat(whole), torch.cat(halves))
    assert torch.equal(torch.cat(whole), torch.from_numpy(windows[4:]).long())
