"""Rows of several arrays, of a torch dataset, and of a large array without a copy."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import get_tags

from . import _compat
from ._compat import num_samples

__all__ = [
    "DatasetRows",
    "FrameRows",
    "Inputs",
    "RowSubset",
    "TransformedRows",
    "as_given",
    "is_dataset",
    "is_row_numbers",
    "n_bytes",
    "refuse_loader",
    "row_mask",
    "split_by_rows",
    "take_rows",
    "with_rows",
]

# Size of the portions in which rows are copied, small compared with the array.
_CHUNK_BYTES = 2**23


class RowSubset:
    """Rows of an array, copied only when they are read.

    Replaces ``X[train]`` for arrays too large to be copied for every fit, such as memory maps.

    Parameters
    ----------
    array : ndarray of shape (n_rows, ...)
    rows : ndarray of int, shape (n_samples,)

    Examples
    --------
    >>> import numpy as np
    >>> from skhpo.rows import RowSubset
    >>> some = RowSubset(np.arange(12).reshape(6, 2), np.array([4, 0, 2]))
    >>> some.shape, np.asarray(some[:2]).tolist()
    ((3, 2), [[8, 9], [0, 1]])
    """

    def __init__(self, array: NDArray[Any], rows: Any) -> None:
        self.array = array
        self.rows = rows

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.array.shape[1:])

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return RowSubset(self.array, self.rows[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.array[self.rows], dtype=dtype)

    def chunks(self) -> Iterator[Any]:
        """Yield the rows as arrays of moderate size, at least one."""
        row_bytes = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        step = max(1, _CHUNK_BYTES // max(1, row_bytes))
        for start in range(0, max(1, len(self)), step):
            yield self._chunk(slice(start, start + step))

    def _chunk(self, rows: slice) -> Any:
        return np.asarray(self[rows])


class TransformedRows(RowSubset):
    """Rows of an array that are transformed when they are read.

    `transform` maps an array of rows to as many others, each of which depends on its row only.
    """

    def __init__(
        self, array: NDArray[Any], rows: Any, transform: Callable[[NDArray[Any]], NDArray[Any]]
    ) -> None:
        super().__init__(array, rows)
        self.transform = transform
        self.first = transform(array[rows[:1]])

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.first.shape[1:])

    @property
    def ndim(self) -> int:
        return self.first.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.first.dtype

    def __getitem__(self, index: Any) -> Any:
        part = object.__new__(TransformedRows)
        part.__dict__.update(self.__dict__)
        part.rows = self.rows[index]
        return part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        made = self.transform(self.array[self.rows]) if len(self.rows) else self.first[:0]
        return np.asarray(made, dtype=dtype)


class FrameRows(RowSubset):
    """Rows of a frame with numeric columns of several types, as rows of an array.

    The array, of the common type, is never made as a whole; chunks are frames.
    """

    def __init__(self, frame: Any) -> None:
        self.frame = frame
        self._dtype: np.dtype[Any] = np.result_type(*frame.dtypes)

    @classmethod
    def fits(cls, X: Any) -> bool:
        """Whether X is such a frame, and large."""
        of_pandas = type(X).__module__.partition(".")[0] == "pandas"
        if not (of_pandas and hasattr(X, "iloc") and X.ndim == 2):
            return False
        dtypes = set(X.dtypes)
        if len(dtypes) < 2 or any(getattr(dtype, "kind", "O") not in "biuf" for dtype in dtypes):
            return False
        if not all(isinstance(dtype, np.dtype) for dtype in dtypes):  # pandas' extension types
            return False
        rows = cls(X)
        return rows.dtype.kind in "if" and rows.dtype.itemsize <= 8 and rows.nbytes > _CHUNK_BYTES

    @property
    def shape(self) -> tuple[int, ...]:
        n_rows, n_columns = self.frame.shape
        return n_rows, n_columns

    @property
    def ndim(self) -> int:
        return 2

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, index: Any) -> Any:
        rows = index[0] if isinstance(index, tuple) else index  # an array takes (rows, ...), too
        return FrameRows(self.frame.iloc[rows])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        array: NDArray[Any] = self.frame.to_numpy(self.dtype if dtype is None else dtype)
        return array

    def _chunk(self, rows: slice) -> Any:
        return self.frame.iloc[rows]


class Inputs:
    """Several arrays with the same rows, which a search splits jointly.

    For networks with several inputs; fits and scorers get a dict or a list again.

    Parameters
    ----------
    arrays : dict of str to array-like of shape (n_samples, ...), or list or tuple of them

    Raises
    ------
    ValueError
        If the arrays differ in their numbers of rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skhpo.rows import Inputs, as_given
    >>> both = Inputs({"a": np.arange(3), "b": np.eye(3)})
    >>> len(both), as_given(both[np.array([2, 0])])["a"].tolist()
    (3, [2, 0])
    """

    def __init__(self, arrays: Any) -> None:
        self.kind: type[Any] = dict if isinstance(arrays, Mapping) else type(arrays)
        self.arrays: dict[Any, Any] = dict(arrays if self.kind is dict else enumerate(arrays))
        lengths = {name: num_samples(array) for name, array in self.arrays.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(
                f"all arrays in X must have the same number of rows, but those of X have {lengths}"
            )
        self.shape: tuple[int] = (next(iter(lengths.values())),)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self.arrays[key]
        if isinstance(key, tuple):  # scikit-learn takes rows of arrays as array[rows, ...]
            key = key[0]
        rows = {name: take_rows(array, key) for name, array in self.arrays.items()}
        return Inputs(rows if self.kind is dict else self.kind(rows.values()))

    def given(self) -> Any:
        """Return the arrays as a dict, list or tuple again."""
        return dict(self.arrays) if self.kind is dict else self.kind(self.arrays.values())


def is_dataset(X: Any) -> bool:
    """Whether X is a torch `Dataset`, without importing torch."""
    dataset = getattr(sys.modules.get("torch.utils.data"), "Dataset", None)
    return dataset is not None and isinstance(X, dataset)


def refuse_loader(X: Any) -> None:
    """Raise TypeError if X is a torch `DataLoader`, which has batches and no rows."""
    loader = getattr(sys.modules.get("torch.utils.data"), "DataLoader", None)
    if loader is not None and isinstance(X, loader):
        raise TypeError(
            "X must have rows, but is a torch DataLoader, which has batches; pass its dataset, "
            "X.dataset: batch_size, iterator_train__num_workers and the like are parameters of "
            "the estimator"
        )


class DatasetRows:
    """Rows of a map-style torch `Dataset`, which are read when a network needs them.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
    rows : ndarray of int or None, default=None
        Numbers of its items; None for all.

    Raises
    ------
    TypeError
        If it cannot be read by numbers, or is empty.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> from skhpo.rows import DatasetRows
    >>> rows = DatasetRows(TensorDataset(torch.arange(5), torch.arange(5)))
    >>> part = rows[[4, 2]].given()
    >>> len(part), part[0]
    (2, (tensor(4), tensor(4)))
    """

    def __init__(self, dataset: Any, rows: NDArray[np.intp] | None = None) -> None:
        self.dataset = dataset
        self.rows = rows
        if rows is None:
            self.shape: tuple[int] = (_length(dataset),)
        else:
            self.shape = (len(rows),)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> DatasetRows:
        if isinstance(key, tuple):  # scikit-learn takes rows of arrays as array[rows, ...]
            key = key[0]
        rows = np.arange(len(self)) if self.rows is None else self.rows
        return DatasetRows(self.dataset, np.atleast_1d(rows[key]))

    def given(self) -> Any:
        """Return the dataset itself if these are all its rows, else a `Subset` of it."""
        if self.rows is None:
            return self.dataset
        from torch.utils.data import Subset

        # Integers of Python: some datasets take no others.
        return Subset(self.dataset, self.rows.tolist())


def _length(dataset: Any) -> int:
    from torch.utils.data import IterableDataset

    name = type(dataset).__name__
    fix = "give it __len__ and __getitem__, or read its rows into arrays or a list first"
    if isinstance(dataset, IterableDataset):
        raise TypeError(
            "a search splits X by rows, so a torch Dataset as X must have a length and items by "
            f"number (map style), but is a {name}, an IterableDataset; {fix}"
        )
    try:
        n = len(dataset)
    except TypeError as error:
        raise TypeError(
            "a search splits X by rows, so a torch Dataset as X must have a length and items by "
            f"number (map style), but {name} has no length ({error}); {fix}"
        ) from error
    if n == 0:
        raise TypeError(f"a torch Dataset as X must have items, but this {name} has none")
    return n


def as_given(X: Any) -> Any:
    """Convert `Inputs` and `DatasetRows` to what was given; return anything else unchanged."""
    return X.given() if isinstance(X, Inputs | DatasetRows) else X


def with_rows(X: Any, y: Any = None) -> Any:
    """Return data in a form that can be split by rows.

    A list or tuple contains samples, unless it has as many rows as `y` only as a list of inputs.
    TypeError is raised for data that cannot be split, though a torch estimator accepts it (nested
    dicts, datasets without a length), and ValueError if the arrays of a dict differ in length.
    """
    refuse_loader(X)
    if isinstance(X, Mapping) and not hasattr(X, "shape"):  # what has a shape slices itself
        inner = [type(value).__name__ for value in X.values() if isinstance(value, Mapping)]
        if inner or not X:
            raise TypeError(
                "a search splits X by rows, so a dict as X must hold arrays, but it "
                + (f"holds a {inner[0]}" if inner else "is empty")
            )
        return Inputs(X)
    if type(X) in (list, tuple) and y is not None and all(hasattr(one, "shape") for one in X):
        n = num_samples(y)
        if len(X) != n and X and all(num_samples(one) == n for one in X):
            return Inputs(X)
    return DatasetRows(X) if is_dataset(X) else X


def take_rows(data: Any, rows: Any) -> Any:
    """Return rows of data of any kind; looking for its kind takes longer than copying few rows."""
    kinds = type(data), type(rows)
    if kinds == (np.ndarray, np.ndarray) and data.ndim and rows.dtype.kind in "iub":
        return data[rows]
    return _compat.safe_indexing(data, rows)


def split_by_rows(estimator: Any, X: Any, y: Any, rows: Any, train_rows: Any = None) -> Any:
    """Return rows of inputs and targets; of a kernel matrix also the columns."""
    if get_tags(estimator).input_tags.pairwise:
        return _compat.safe_split(estimator, X, y, rows, train_rows)
    return take_rows(X, rows), None if y is None else take_rows(y, rows)


def is_row_numbers(value: Any) -> bool:
    """Whether a value is numbers of rows, or a mask of them: one dimension, integers or bools."""
    if isinstance(value, list | tuple):
        if not value or not isinstance(value[0], numbers.Integral | np.bool_):
            return False
    elif not isinstance(value, range) and not hasattr(value, "__array__"):
        return False
    array = np.asarray(value)
    return array.ndim == 1 and array.dtype.kind in "iub"


def row_mask(rows: Any, n_samples: int, name: str) -> NDArray[np.bool_]:
    """Return a mask, of shape (n_samples,), of rows given by number or as a mask.

    Raises ValueError, about the argument `name`, if a number is out of range, the mask has another
    length, or it is none or all of the rows.
    """
    rows = np.asarray(rows)
    if rows.dtype.kind == "b":
        if len(rows) != n_samples:
            raise ValueError(
                f"{name} must be a mask of the {n_samples} rows of X, but has {len(rows)} values"
            )
        mask: NDArray[np.bool_] = rows
    else:
        outside = rows[(rows < 0) | (rows >= n_samples)]
        if len(outside):
            raise ValueError(
                f"{name} must have numbers of rows of X, from 0 to {n_samples - 1}, but has "
                f"{outside[0]}"
            )
        mask = np.zeros(n_samples, dtype=bool)
        mask[rows] = True
    if not mask.any() or mask.all():
        raise ValueError(
            f"{name} must name some of the {n_samples} rows of X and leave some to train on, but "
            f"names {'all' if mask.any() else 'none'}"
        )
    return mask


def n_bytes(data: Any) -> int:
    """Return the bytes of arrays, of sparse ones, of frames and of several; 0 of anything else."""
    if isinstance(data, Mapping | Inputs):
        return sum(map(n_bytes, (data.arrays if isinstance(data, Inputs) else data).values()))
    if hasattr(data, "memory_usage"):  # a frame or series
        return int(np.sum(data.memory_usage()))
    arrays = [getattr(data, name, None) for name in ("data", "indices", "indptr")]  # if sparse
    sizes = [getattr(array, "nbytes", 0) for array in (data, *arrays)]
    return int(sizes[0] or sum(sizes[1:]))
