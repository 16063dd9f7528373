"""Training and test data as tensors, and batches of them."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse
import torch

from ..rows import FrameRows, RowSubset, TransformedRows
from .sequences import RaggedRows, Sequences
from .sparse import SparseRows

__all__ = [
    "CHUNK_BYTES",
    "Rows",
    "SubsetRows",
    "as_array",
    "as_container",
    "as_dict",
    "floating_dtype",
    "is_read_by_rows",
    "n_rows",
    "sample_shape",
    "wants_integers",
]

# Largest array that is converted at once; larger ones are converted batch by batch.
MAX_CONVERTED_BYTES = 2**30
# Shuffled rows are gathered for many batches at once, up to this size: on a CPU so much as stays in
# the cache of a core; on a GPU, to which their positions are sent, as much as does not matter.
CHUNK_BYTES = {"cpu": 2**21, "cuda": 2**26}
_CPU = torch.device("cpu")


def n_rows(X: Any) -> int:
    """Return the number of samples of an array or of a dict of arrays."""
    return int(next(iter(as_dict(X).values())).shape[0])


def sample_shape(X: Any) -> Any:
    """Return the shape of a sample, or None if X is not a single array."""
    return tuple(X.shape[1:]) if hasattr(X, "shape") and not isinstance(X, Mapping) else None


def is_read_by_rows(X: Any) -> Any:
    """Whether X is a collection of separate rows.

    Such are lazy sequences (skorch's `SliceDataset`), and rows of several shapes.
    """
    if isinstance(X, Sequence) and not isinstance(X, list | tuple | str):
        return True
    if isinstance(X, np.ndarray):
        return X.dtype == object and X.ndim == 1 and len(X) > 0 and np.ndim(X[0]) > 0
    if not isinstance(X, list | tuple) or not X:
        return False
    if isinstance(X[0], list) and all(isinstance(row, list) for row in X):
        return len({len(row) for row in X}) > 1
    if not isinstance(X[0], torch.Tensor | np.ndarray):
        return False
    return len({np.shape(row) for row in X}) > 1


def as_container(X: Any) -> Any:
    """Convert a list of rows for a `Dataset`: skorch's treats a list as several arrays."""
    if not isinstance(X, list | tuple):
        return X
    rows = np.empty(len(X), dtype=object)
    for i, row in enumerate(X):
        rows[i] = row
    return rows


def wants_integers(module: Any) -> bool:
    """Whether integer inputs must stay integers, because the module has an embedding."""
    lookups = (torch.nn.Embedding, torch.nn.EmbeddingBag)
    return any(isinstance(layer, lookups) for layer in module.modules())


def floating_dtype(module: Any) -> torch.dtype:
    """Return the type of a module's floating parameters; torch's default if it has none."""
    floating = (p.dtype for p in module.parameters() if p.is_floating_point())
    return next(floating, torch.get_default_dtype())


class Rows(torch.utils.data.Dataset[Any]):
    """Samples of which batches are taken by index.

    On a CPU an array of the right dtype is used in place without a copy; others are converted at
    once up to 1 GiB, else batch by batch. To another device all rows are moved at once if they
    take at most half of its free memory, else batch by batch. Rows of a CSR matrix become dense
    batch by batch, unless they stay sparse; those of a `RowSubset` are read batch by batch on a
    CPU, and its whole array is moved to another device if they are a quarter of it, so that folds
    can share it, else the rows alone.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...), CSR matrix, or dict of str to ndarray
        Inputs. It may be a read-only memory map.
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs) or None, default=None
        Encoded targets.
    weight : ndarray of shape (n_samples,) or None, default=None
        Sample weights.
    dtype : torch.dtype, dict of str to torch.dtype or None, default=None
        Of the module's inputs; None is that of `X`.
    device : torch.device, default=cpu
        Of the module.
    """

    # Whether they are items of a dataset, of which little is known before they are read.
    are_items = False
    source: Any
    dtype: Any
    targets: Any
    index: torch.Tensor | None
    read_only: Container[str | None]

    def __init__(
        self,
        X: Any,
        y: Any = None,
        weight: Any = None,
        *,
        dtype: Any = None,
        device: torch.device = _CPU,
    ) -> None:
        self.device = device
        self.index = None
        self.balance = None  # classes, of which batches have equal numbers of rows
        flags = {k: getattr(v, "flags", None) for k, v in as_dict(X).items()}
        self.read_only = {k for k, found in flags.items() if found and not found.writeable}
        source = {k: _alias(v) for k, v in as_dict(X).items()}
        self.dtype = {k: v.dtype for k, v in source.items()} if dtype is None else as_dict(dtype)
        source = {
            k: v.converted(self.dtype[k]) if isinstance(v, _FrameColumns) else v
            for k, v in source.items()
        }
        to_convert = [k for k, v in source.items() if v.dtype != self.dtype[k]]
        n_bytes = {k: v.numel() * self.dtype[k].itemsize for k, v in source.items()}
        if _is_near(device):
            self.resident = sum(n_bytes[k] for k in to_convert) <= MAX_CONVERTED_BYTES
        else:
            # Of many rows of an array the whole array is moved.
            whole = {
                k: v.tensor if type(v) is SubsetRows and v.are_many else v
                for k, v in source.items()
            }
            moved = sum(v.numel() * self.dtype[k].itemsize for k, v in whole.items())
            self.resident = moved <= _free_bytes(device) / 2
            if self.resident:
                source = {
                    k: v.sent(device, self.dtype[k]) if type(v) is SubsetRows else v
                    for k, v in source.items()
                }
        is_sent = {k: isinstance(v, SubsetRows) and v.is_sent for k, v in source.items()}
        if not all(isinstance(v, torch.Tensor) or is_sent[k] for k, v in source.items()):
            self.resident = False
        if self.resident:
            source = {
                k: v if is_sent[k] else v.to(device, self.dtype[k]) for k, v in source.items()
            }
        self._bytes_per_row = max(1, sum(n_bytes.values()) // max(1, n_rows(X)))
        self.source = source if isinstance(X, Mapping) else source[None]
        self.targets = y
        if isinstance(y, Mapping):
            self.targets = {k: torch.as_tensor(v, device=device) for k, v in y.items()}
        elif y is not None:
            self.targets = torch.as_tensor(y, device=device)
        self.weight = None if weight is None else torch.as_tensor(weight, device=device)

    @property
    def X(self) -> Any:
        """The inputs in the given form: arrays, a CSR matrix, or a dict; for scorers and splits."""
        given = {
            k: _as_given(self._chosen(v), k not in self.read_only)
            for k, v in as_dict(self.source).items()
        }
        return given if isinstance(self.source, Mapping) else given[None]

    @property
    def y(self) -> Any:
        """The encoded targets as an array."""
        if isinstance(self.targets, Mapping):
            return {k: _as_given(self._chosen(v)) for k, v in self.targets.items()}
        return None if self.targets is None else _as_given(self._chosen(self.targets))

    @property
    def formats(self) -> Any:
        """Shape and type of a row of the inputs, and of the targets; None if one is several."""
        if isinstance(self.source, Mapping) or isinstance(self.targets, Mapping):
            return None
        inputs = tuple(self.source.shape[1:]), self.dtype[None]
        return inputs, (tuple(self.targets.shape[1:]), self.targets.dtype)

    @property
    def weights(self) -> Any:
        """The sample weights, one for each row, as a tensor or None."""
        return None if self.weight is None else self._chosen(self.weight)

    def _chosen(self, source: Any) -> Any:
        return source if self.index is None else source[self.index]

    def __len__(self) -> int:
        return n_rows(self.source) if self.index is None else len(self.index)

    def __getitem__(self, i: int) -> Any:
        X, y, _ = self.take(torch.as_tensor([i]))
        X = {k: v[0] for k, v in X.items()} if isinstance(X, Mapping) else X[0]
        return X, torch.tensor(0) if y is None else y[0].numpy(force=True)[()]

    @property
    def is_ragged(self) -> Any:
        """Whether rows are sequences, which are padded batch by batch."""
        return any(isinstance(v, RaggedRows) for v in as_dict(self.source).values())

    @property
    def can_be_sparse(self) -> Any:
        """Whether batches of these rows can be sparse."""
        sparse = isinstance(self.source, SparseRows) and self.device.type == "cpu"
        return sparse and self.dtype[None].is_floating_point

    def take(self, index: torch.Tensor, *, sparse: bool = False) -> Any:
        """Return copies of some rows on the device.

        Parameters
        ----------
        index : Tensor of int64, shape (n,)
            On the CPU.
        sparse : bool, default=False
            Whether to return X as a `SparseBatch`; only if `can_be_sparse`.

        Returns
        -------
        X : Tensor of shape (n, ...) or dict of str to Tensor
        y, weight : Tensor of shape (n, ...) or None
        """
        if self.index is not None:
            index = self.index[index]
        on_device = index.to(self.device)
        taken: dict[Any, Any]
        if self.resident:
            taken = {k: v.index_select(0, on_device) for k, v in as_dict(self.source).items()}
        elif sparse:
            taken = {None: self.source.batch(index, self.dtype[None])}
        else:
            taken = {
                k: v.index_select(0, index).to(self.device, self.dtype[k])
                for k, v in as_dict(self.source).items()
            }
        for name, source in as_dict(self.source).items():
            if isinstance(source, RaggedRows):
                taken["lengths", name] = source.lengths[index]
        X = taken if isinstance(self.source, Mapping) else taken[None]
        y: Any
        if isinstance(self.targets, Mapping):
            y = {k: v.index_select(0, on_device) for k, v in self.targets.items()}
        else:
            y = None if self.targets is None else self.targets.index_select(0, on_device)
        weight = None if self.weight is None else self.weight.index_select(0, on_device)
        return X, y, weight

    def few(self, n: int) -> Any:
        """Return the inputs of the first rows."""
        return self.take(torch.arange(n))[0]

    def subset(self, index: torch.Tensor) -> Any:
        """Return the rows of `index` as `Rows`."""
        if self.is_ragged:  # padding all rows to one length takes memory
            return self.view(index)
        index = torch.as_tensor(np.asarray(index), dtype=torch.int64)
        part = copy.copy(self)
        part.source, part.targets, part.weight = self.take(index)
        part.resident, part.index, part.read_only = True, None, ()
        part.balance = None if self.balance is None else self.balance[index.numpy()]
        return part

    def on_cpu(self) -> Any:
        """Return these rows on the CPU, for a `DataLoader`."""
        if self.device.type == "cpu":
            return self
        X, y, weight = self.take(torch.arange(len(self)))
        X = {k: v.cpu() for k, v in as_dict(X).items()}
        return type(self)(X.get(None, X), y, weight)

    def view(self, index: torch.Tensor) -> Any:
        """Return the rows of `index` as `Rows` over the same memory."""
        part = copy.copy(self)
        part.index = torch.as_tensor(np.asarray(index), dtype=torch.int64)
        part.balance = None if self.balance is None else self.balance[part.index.numpy()]
        return part

    def chunks(
        self,
        order: torch.Tensor,
        sizes: list[int],
        *,
        sparse: bool = False,
        targets: Any = True,
    ) -> Iterator[Any]:
        """Yield `(X, y, weight, sizes)`: gathered rows of several batches, and their sizes.

        `sizes` are those of all batches. Without `targets` what makes batches of items need not
        read them.
        """
        # Each batch of sequences is as long as its longest.
        chunk_bytes = CHUNK_BYTES.get(self.device.type, CHUNK_BYTES["cpu"])
        per_chunk = max(1, chunk_bytes // (self._bytes_per_row * max(sizes, default=1)))
        per_chunk = 1 if self.is_ragged else per_chunk
        start = 0
        for first in range(0, len(sizes), per_chunk):
            part = sizes[first : first + per_chunk]
            stop = start + sum(part)
            yield *self.take(order[start:stop], sparse=sparse), part
            start = stop


def as_dict(X: Any) -> Any:
    """Return a dict of arrays unchanged, and an array as the dict ``{None: X}``."""
    return X if isinstance(X, Mapping) else {None: X}


def as_array(X: Any) -> Any:
    """Convert a tensor to an array; return anything else unchanged."""
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu()
        of_numpy = (torch.float16, torch.float32, torch.float64)
        return (X.float() if X.is_floating_point() and X.dtype not in of_numpy else X).numpy()
    return X


def _is_near(device: torch.device) -> bool:
    """Whether a device trains on the rows where they are."""
    return device.type == "cpu"


def _free_bytes(device: torch.device) -> Any:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return 2 * MAX_CONVERTED_BYTES


class _Writeable:
    """The memory of a read-only array, declared as writeable."""

    def __init__(self, array: Any) -> None:
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface
        self.array = array


class SubsetRows:
    """The interface of a tensor that `Rows` needs, over some rows of an array.

    `is_sent` tells whether the array is on the device of training, in the dtype of training.
    """

    is_sent = False

    def __init__(self, subset: Any) -> None:
        self.tensor = _alias(subset.array)
        self.rows = torch.from_numpy(np.array(subset.rows, dtype=np.int64))
        self.shape = subset.shape
        self.dtype = self.tensor.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: torch.Tensor) -> Any:
        part = copy.copy(self)
        part.rows = self.rows[index]
        part.shape = (len(part.rows), *self.shape[1:])
        return part

    def numel(self) -> Any:
        return int(np.prod(self.shape))

    def index_select(self, dim: int, index: torch.Tensor) -> Any:
        return self.tensor.index_select(0, self.rows[index])

    @property
    def are_many(self) -> bool:
        """Whether they are at least a quarter of the array."""
        return 4 * len(self) >= len(self.tensor)

    def sent(self, device: torch.device, dtype: torch.dtype) -> Any:
        """Return the same rows of the whole array, which is moved to a device.

        If they are few, they alone are moved, and returned as a tensor.
        """
        whole = self.are_many
        n = len(self.tensor) if whole else len(self)
        on_device = torch.empty((n, *self.shape[1:]), dtype=dtype, device=device)
        # In parts: the array may be a file, or of another dtype.
        n_at_once = max(1, CHUNK_BYTES["cuda"] // max(1, self.tensor[:1].nbytes))
        for start in range(0, n, n_at_once):
            part = slice(start, start + n_at_once)
            on_device[part].copy_(self.tensor[part if whole else self.rows[part]])
        if not whole:
            return on_device
        moved = copy.copy(self)
        moved.tensor, moved.dtype, moved.is_sent = on_device, dtype, True
        moved.rows = self.rows.to(device)
        return moved


class _TransformedRows(SubsetRows):
    """The same for rows that are transformed when they are read."""

    def __init__(self, subset: Any) -> None:
        self.subset = subset
        self.shape = subset.shape
        self.dtype = _alias(subset.first).dtype

    def __len__(self) -> int:
        return len(self.subset)

    def __getitem__(self, index: torch.Tensor) -> Any:
        return _TransformedRows(self.subset[np.asarray(index)])

    def index_select(self, dim: int, index: torch.Tensor) -> Any:
        return _alias(np.asarray(self.subset[index.numpy()]))


class _FrameColumns:
    """A frame before it is converted to a tensor."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows
        self.dtype = torch.from_numpy(np.empty(0, rows.dtype)).dtype

    def converted(self, dtype: Any) -> Any:
        """Return all rows as a tensor, without another array of their size."""
        tensor = torch.empty(self.rows.shape, dtype=dtype)
        start = 0
        for part in self.rows.chunks():
            # Via the common dtype of all columns, as for an array of all rows.
            tensor[start : start + len(part)] = torch.from_numpy(np.asarray(FrameRows(part)))
            start += len(part)
        return tensor


def _alias(array: Any) -> Any:
    """Return a tensor over the memory of an array, or of a copy if torch needs one."""
    if scipy.sparse.issparse(array):
        return SparseRows(array)
    if isinstance(array, FrameRows):
        return _FrameColumns(array)
    if isinstance(array, TransformedRows):
        return _TransformedRows(array)
    if isinstance(array, RowSubset):
        return SubsetRows(array)
    if isinstance(array, Sequences):
        return RaggedRows(array)
    if isinstance(array, torch.Tensor | SparseRows | SubsetRows | RaggedRows):
        return array
    if any(stride < 0 for stride in array.strides) or not array.dtype.isnative:
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    if array.dtype in (np.uint16, np.uint32, np.uint64):
        array = array.astype(np.int64)
    if array.dtype == np.longdouble:
        array = array.astype(np.float64)
    if not array.flags.writeable:
        # torch warns of read-only arrays because tensors are writeable; here rows are only copied
        # out of the tensor.
        array = np.asarray(_Writeable(array))
    return torch.from_numpy(array)


def _as_given(source: Any, writeable: bool = True) -> Any:
    """Invert `_alias`, except that the dtype is that of training."""
    if isinstance(source, SparseRows):
        return source.matrix
    if isinstance(source, RaggedRows):
        return source.sequences
    if isinstance(source, SubsetRows):
        source = source.index_select(0, torch.arange(len(source)))
    array = as_array(source)
    if not writeable:
        array.flags.writeable = False
    return array
