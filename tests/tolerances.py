"""How far two computations of one number may lie apart: derived from what they sum and the precision they sum in.

Kernels of another CPU sum in another order, so a tolerance read off one machine fails on the next. Where the question
is which tokens, rows or positions a number is made of, both sides are computed in double precision
(``DoubleThroughout``), where any such mistake is ten orders of magnitude larger than rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch.overrides import TorchFunctionMode


def rounding(terms: int, dtype: torch.dtype = torch.float32) -> float:
    """Largest relative error of a sum of that many terms, whatever their order: n u / (1 - n u), u half an epsilon
    (Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1).

    Of a chain of sums, as a model's pass is one, with the terms of all of them: the errors of independent roundings
    grow with the root only, which leaves a factor of tens for maps that amplify what comes in.
    """
    unit = terms * torch.finfo(dtype).eps / 2
    return unit / (1 - unit)


SINGLE = torch.finfo(torch.float32).eps
"""What a number below 1 loses by being stored in single precision, twice: two sides may round to either neighbour."""


def likely_rounding(terms: int, dtype: torch.dtype) -> float:
    """The same where roundings are independent: they grow with the root of the terms (Higham and Mary 2019, A New
    Approach to Probabilistic Rounding Error Analysis). For half precision, whose worst case exceeds the number."""
    return terms**0.5 * torch.finfo(dtype).eps / 2


def terms(model: torch.nn.Module, positions: int, passes: int = 1) -> int:
    """What a model sums at most on the way from embeddings to probabilities: every map's inputs, every norm's width,
    scores and values over the positions of every layer, and the vocabulary. ``passes``: 1 forward; a derivative runs
    forward and backward, and the product of each of its maps sums over what the forward pass rounded: 3."""
    maps = sum(p[0].numel() if p.ndim > 1 else p.numel() for p in model.parameters())
    config: Any = model.config
    return passes * (maps + 2 * positions * config.num_hidden_layers + config.vocab_size)


def assert_near(found: ArrayLike, expected: ArrayLike, *, terms: int, dtype: torch.dtype = torch.float32) -> None:
    """Each number equals the expected to within the rounding of so many terms of the largest's size.

    Of the largest's, because a small sum of large terms keeps their errors.
    """
    expected = np.asarray(expected, dtype=np.float64)
    size = np.nanmax(np.abs(expected), initial=0.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=size * rounding(terms, dtype))


class DoubleThroughout(TorchFunctionMode):
    """Turns every request for float32 into one for float64: transformers' norms, rotations and softmax cast to float32
    whatever the weights are, so that ``model.double()`` alone is not double precision."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        widened = [torch.float64 if a is torch.float32 else a for a in args]
        options = {k: torch.float64 if v is torch.float32 else v for k, v in (kwargs or {}).items()}
        return (torch.Tensor.double if func is torch.Tensor.float else func)(*widened, **options)
