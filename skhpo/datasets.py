"""Torch datasets as rows that a search splits by their numbers."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DatasetRows", "check_structure", "is_dataset", "probe_rows", "stored_targets"]

# Items that are read before any training, evenly spaced.
_N_PROBED = 8


def is_dataset(X: Any) -> bool:
    """Whether X is a torch `Dataset`, without importing torch."""
    dataset = getattr(sys.modules.get("torch.utils.data"), "Dataset", None)
    return dataset is not None and isinstance(X, dataset)


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
    >>> from skhpo.datasets import DatasetRows
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


def stored_targets(dataset: Any) -> NDArray[Any] | None:
    """Return the targets of a dataset as an array if it stores them, else None.

    They are the second tensor of a `TensorDataset`, or the attribute ``targets`` or ``y``, also of
    a dataset inside of a `Subset` or of several in a `ConcatDataset`.
    """
    from torch.utils.data import ConcatDataset, Subset, TensorDataset

    if isinstance(dataset, Subset):
        y = stored_targets(dataset.dataset)
        return None if y is None else y[np.asarray(dataset.indices)]
    if isinstance(dataset, ConcatDataset):
        parts = [stored_targets(part) for part in dataset.datasets]
        found = [part for part in parts if part is not None]
        return np.concatenate(found) if len(found) == len(parts) else None
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        return np.asarray(dataset.tensors[1])
    y = getattr(dataset, "y", getattr(dataset, "targets", None))
    return None if y is None or isinstance(y, Mapping) else np.asarray(y)


def probe_rows(n: int) -> list[int]:
    """Return the numbers of a few rows out of `n`, evenly spaced, with the first and the last."""
    return sorted({int(i) for i in np.linspace(0, n - 1, min(n, _N_PROBED)).round()})


def check_structure(items: Iterable[tuple[int, Any]], *, shapes: bool = False) -> None:
    """Raise ValueError if items of a dataset, given with their numbers, differ in structure.

    Lengths of arrays may differ unless `shapes` is true, their dimensions may not.
    """
    first: tuple[int, Any] | None = None
    for number, item in items:
        found = structure_of(item, shapes=shapes)
        if first is None:
            first = number, found
        elif found != first[1]:
            raise ValueError(
                f"all items of a Dataset must have the same structure, but item {first[0]} is "
                f"{first[1]} and item {number} is {found}; return the same kinds in the same order"
                + (", or pad sequences by collate='pad'" if shapes else "")
            )


def structure_of(item: Any, *, shapes: bool = False) -> str:
    """Describe what an item consists of: containers, keys, dimensions or shapes of arrays."""

    def inside(value: Any) -> str:
        return structure_of(value, shapes=shapes)

    if isinstance(item, Mapping):
        inner = ", ".join(f"{key!r}: {inside(value)}" for key, value in item.items())
        return f"{{{inner}}}"
    if isinstance(item, tuple):
        return f"({', '.join(map(inside, item))})"
    if isinstance(item, str | bytes):
        return "a text"
    if isinstance(item, list):
        return "a list"
    shape = getattr(item, "shape", None)
    if isinstance(item, bool | int | float) or (shape is not None and len(shape) == 0):
        return "a number"
    if shape is not None and shapes:
        return f"an array of shape {tuple(shape)}"
    if shape is not None:
        return f"an array of {len(shape)} dimension{'s' if len(shape) > 1 else ''}"
    return f"a {type(item).__name__}"
