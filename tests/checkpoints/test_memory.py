"""What counts as memory that ran out."""

from __future__ import annotations

import pytest
import torch

from tuneshift.checkpoints.memory import is_out_of_memory


def test_this_machines_own_allocator_is_understood():
    with pytest.raises(RuntimeError) as error:
        torch.empty(10**15)
    assert is_out_of_memory(error.value)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("MPS backend out of memory")]
)
def test_other_devices_and_python_say_it_too(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("out of memory")])
def test_other_errors_are_not_about_memory(error):
    assert not is_out_of_memory(error)
