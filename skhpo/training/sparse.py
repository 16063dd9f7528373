"""Sparse rows, and batches of them, for which linear layers skip the zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils._pytree import tree_map_only

__all__ = ["SparseBatch", "SparseRows", "is_worth_it"]

# Time per nonzero value, and per column that is read, relative to the time per value of a dense
# product; measured (docs/benchmarks/scale.md).
_COST_OF_VALUE, _COST_OF_COLUMN = 30, 200
# With fewer columns the overhead of Python exceeds the gain.
_MIN_FEATURES = 4096


def is_worth_it(matrix: Any, batch_size: int) -> bool:
    """Whether products with batches of a CSR matrix are faster than with dense ones."""
    if matrix.shape[1] < _MIN_FEATURES:
        return False
    density: float = matrix.nnz / (matrix.shape[0] * matrix.shape[1])
    columns = min(density, 1 / batch_size)  # that are read, for each row
    return bool(density * _COST_OF_VALUE + columns * _COST_OF_COLUMN < 0.7)


class SparseRows:
    """The interface of a tensor that `Rows` needs, over a CSR matrix."""

    def __init__(self, matrix: Any) -> None:
        self.matrix = matrix
        self.shape = matrix.shape
        self.dtype = torch.from_numpy(matrix.data[:0]).dtype

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, index: torch.Tensor) -> Any:
        return SparseRows(self.matrix[np.asarray(index)])

    def numel(self) -> Any:
        """Return the number of values, zeros included."""
        return self.shape[0] * self.shape[1]

    def index_select(self, dim: int, index: torch.Tensor) -> Any:
        """Return rows as a dense tensor of shape (len(index), n_features)."""
        return torch.from_numpy(self.matrix[index.numpy()].toarray())

    def batch(self, index: torch.Tensor, dtype: Any) -> Any:
        """Return rows as a `SparseBatch`."""
        numpy_dtype = torch.empty(0, dtype=dtype).numpy().dtype
        return SparseBatch(self.matrix[index.numpy()].astype(numpy_dtype, copy=False))


class SparseBatch(torch.Tensor):
    """Rows of a CSR matrix of floats, of shape (n, n_features), as a tensor.

    Linear layers compute with the nonzero values, forward and backward. Every other operation gets
    a dense tensor, so that any module accepts it.
    """

    matrix: Any
    _dense: torch.Tensor | None
    _compact: tuple[torch.Tensor | None, Any] | None
    _is_overwritten: bool

    def __new__(cls, matrix: Any) -> SparseBatch:
        dtype = torch.from_numpy(matrix.data[:0]).dtype
        batch: SparseBatch = torch.Tensor._make_wrapper_subclass(cls, matrix.shape, dtype=dtype)
        batch.matrix = matrix
        batch._dense = batch._compact = None
        batch._is_overwritten = False
        return batch

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is F.linear and _can_multiply(*args, **kwargs):
            return _linear(*args, **kwargs)
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given = args, kwargs or {}
        if function._schema.is_mutable and isinstance(args[0], SparseBatch):
            args[0]._is_overwritten = True
        args, kwargs = tree_map_only(SparseBatch, SparseBatch.to_dense, given)
        return function(*args, **kwargs)

    def __repr__(self) -> str:  # type: ignore[override]
        return f"{type(self).__name__}({self.matrix!r})"

    def numpy(self, *, force: bool = False) -> Any:
        return self.to_dense().numpy()

    def to_dense(self) -> torch.Tensor:  # type: ignore[override]
        """Return a dense tensor, the same one each time."""
        if self._dense is None:
            self._dense = torch.from_numpy(self.matrix.toarray())
        return self._dense

    def split(self, sizes: Sequence[int], dim: int = 0) -> list[SparseBatch]:  # type: ignore[override]
        """Return parts of the rows, of these sizes."""
        stops = np.cumsum(sizes)
        pairs = zip(stops - sizes, stops, strict=True)
        return [SparseBatch(self.matrix[start:stop]) for start, stop in pairs]

    def times(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the product (n, n_units) with the weight (n_units, n_features) of a layer."""
        columns, matrix = self._of_columns()
        if columns is not None:  # twice as fast as index_select
            weight = weight.gather(1, columns.expand(len(weight), -1))
        # NumPy transposes in two thirds of torch's time.
        return torch.from_numpy(matrix @ np.ascontiguousarray(weight.numpy().T))

    def gradient_times(self, gradient: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Write the gradient of that weight into `out`, given that of the product."""
        columns, matrix = self._of_columns()
        product = torch.from_numpy(matrix.T @ gradient.contiguous().numpy()).t()
        if columns is None:
            return out.copy_(product)
        return out.zero_().scatter_(1, columns.expand(len(out), -1), product)

    def _of_columns(self) -> tuple[torch.Tensor | None, Any]:
        """Return the nonzero columns (None for all) and the matrix of these columns."""
        if self._compact is None:
            matrix = self.matrix
            if matrix.nnz >= matrix.shape[1]:
                # CSC order reads the weights sequentially, in two thirds of the time.
                self._compact = None, matrix.tocsc()
            else:
                columns, places = np.unique(matrix.indices, return_inverse=True)
                shape = matrix.shape[0], len(columns)
                compact = type(matrix)((matrix.data, places, matrix.indptr), shape)
                self._compact = torch.from_numpy(columns.astype(np.int64)), compact
        return self._compact


def _can_multiply(batch: Any, weight: torch.Tensor, bias: torch.Tensor | None = None) -> bool:
    return (
        type(batch) is SparseBatch
        and not batch._is_overwritten
        and not batch.requires_grad
        and type(weight) in (torch.Tensor, torch.nn.Parameter)
        and weight.dtype == batch.dtype
        and weight.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
    )


def _linear(
    batch: SparseBatch, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    product: torch.Tensor = _Product.apply(weight, batch)  # type: ignore[no-untyped-call]
    return product if bias is None else product + bias


class _Product(torch.autograd.Function):
    """Product of sparse rows with a weight; it and `_Gradient` are each other's derivative."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, batch: SparseBatch) -> torch.Tensor:
        ctx.batch = batch
        return batch.times(weight.detach())

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, None]:
        return _Gradient.apply(gradient, ctx.batch), None  # type: ignore[no-untyped-call]


class _Gradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: torch.Tensor, batch: SparseBatch) -> torch.Tensor:
        ctx.batch = batch
        out = gradient.new_empty(gradient.shape[1], batch.matrix.shape[1])
        return batch.gradient_times(gradient.detach(), out)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, None]:
        return _Product.apply(gradient, ctx.batch), None  # type: ignore[no-untyped-call]
