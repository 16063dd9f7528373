"""The rule of linear layers for batches that may be sparse."""

from __future__ import annotations

import torch

from ..sparse import SparseBatch
from ._products import Linear

__all__ = ["SparseLinear"]


class SparseLinear(Linear):
    """A linear layer that computes with the nonzero values of a `SparseBatch`."""

    def forward(self, x):
        if type(x) is not SparseBatch:
            return super().forward(x)
        self._x = x
        out = x.times(self._weight)
        return out if self._bias is None else out.add_(self._bias)

    def backward(self, gradient):
        if type(self._x) is not SparseBatch:
            return super().backward(gradient)
        if self._weight_gradient is not None:
            self._x.gradient_times(gradient, out=self._weight_gradient)
        if self._bias_gradient is not None:
            torch.sum(gradient, 0, out=self._bias_gradient)
        return None  # a batch needs no gradient
