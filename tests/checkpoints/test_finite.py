"""NaN and infinite numbers, in every type that weights are stored in."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from tuneshift.checkpoints.finite import not_finite, require_finite_files
from tuneshift.errors import CheckpointError

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e5m2)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_every_number_that_is_none_is_counted(dtype, bad):
    weights = torch.ones(4, 5)
    assert not_finite(weights.to(dtype)) == 0
    weights[1, 2] = weights[3, 4] = bad
    assert not_finite(weights.to(dtype)) == 2


def test_a_sum_that_overflows_is_no_number_that_is_none():
    assert not_finite(torch.full((8,), 3e38)) == 0
    assert not_finite(torch.full((100,), 60000.0, dtype=torch.float16)) == 0


def test_infinities_that_cancel_are_counted():
    assert not_finite(torch.tensor([float("inf"), -float("inf"), 1.0])) == 2


def test_whole_numbers_are_all_numbers():
    assert not_finite(torch.full((4,), 127, dtype=torch.int8)) == 0


def test_files_are_read_and_their_bad_tensors_named(tmp_path):
    save_file({"a": torch.ones(3)}, tmp_path / "1.safetensors")
    save_file({"b": torch.tensor([1.0, float("nan")]), "c": torch.ones(2)}, tmp_path / "2.safetensors")
    require_finite_files("X", [tmp_path / "1.safetensors"])
    with pytest.raises(CheckpointError, match=r"'X' has NaN or infinite weights in 1 tensor: b \(1 of"):
        require_finite_files("X", [tmp_path / "1.safetensors", tmp_path / "2.safetensors"])
