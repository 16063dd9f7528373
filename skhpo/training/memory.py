"""Memory of a forward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["ResultBytes", "row_count"]


class ResultBytes(TorchDispatchMode):
    """Sums the bytes of all results of operations within this context as `n_bytes`.

    A pass without gradients never needs more at once, because it frees some of them earlier.
    """

    def __init__(self):
        super().__init__()
        self.n_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        # A view, such as a transposed weight, takes no memory.
        if not any(returned.alias_info for returned in func._schema.returns):
            self.add(made)
        return made

    def add(self, tensors):
        """Add the bytes of nested tensors."""
        tensors = (leaf for leaf in tree_leaves(tensors) if isinstance(leaf, torch.Tensor))
        self.n_bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def row_count(batch: Any) -> int:
    """Return the number of rows of nested tensors; 0 where there is none."""
    if isinstance(batch, torch.Tensor) and batch.ndim:
        return len(batch)
    tensors = (leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor))
    return next((len(tensor) for tensor in tensors if tensor.ndim), 0)
