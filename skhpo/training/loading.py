"""What comes out of a `Dataset` and a `DataLoader`: batches, and targets."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.utils.data import Subset, TensorDataset

from .randomness import OwnGenerators, Stream

__all__ = [
    "EncodedTargets",
    "LoaderBatches",
    "as_container",
    "cast_floats",
    "is_read_by_rows",
    "read_targets",
    "targets_at_hand",
    "unpack",
]


class LoaderBatches:
    """Iterates over a `DataLoader`, with targets encoded and everything on the device.

    Parameters
    ----------
    net : estimator
    loader : iterable of (X, y)
    stream : Stream
        What the dataset draws in this thread (augmentation) comes from here.
    """

    def __init__(self, net, loader, stream):
        self.net = net
        self.loader = loader
        self.drawing = OwnGenerators(stream)
        if getattr(loader, "num_workers", 0):
            # Workers are seeded by the loader, each differently; a mode would be copied to them.
            self.drawing = contextlib.nullcontext()

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        return (self.net._prepare_batch(batch) for batch in self._drawn())

    def triples(self):
        """Yield batches as ``(X, y, None)``; the last are the weights of `RowBatches`."""
        return ((X, y, None) for X, y in self)

    def inputs(self):
        """Yield the inputs of the batches; targets are not looked at."""
        return (self.net._prepare_inputs(unpack(batch)[0]) for batch in self._drawn())

    def _drawn(self):
        with self.drawing:
            batches = iter(self.loader)
        while True:
            with self.drawing:
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


class EncodedTargets(torch.utils.data.Dataset):
    """A dataset of the user's whose targets become what those of `X` and `y` are.

    Parameters
    ----------
    dataset : torch Dataset
    encode : callable
        From an array of targets to their encoding.
    """

    def __init__(self, dataset, encode):
        self.dataset = dataset
        self.encode = encode

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, i):
        X, y, *rest = self.dataset[i]
        return X, self.encode(np.asarray([y]))[0], *rest


def unpack(batch):
    """Return a batch as ``(X, y)``.

    Raises
    ------
    ValueError
        If it is something else.
    """
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch
    found = f"a {type(batch).__name__}"
    if isinstance(batch, tuple | list):
        found += f" of {len(batch)} items"
    raise ValueError(
        f"a Dataset, and what collates its rows, must yield pairs (X, y), but yields {found}; put "
        "several inputs into a dict, whose keys the module's forward takes"
    )


def cast_floats(X, dtype, *, integers=False):
    """Return a batch with tensors of real numbers as those of a type; all else is left alone.

    Parameters
    ----------
    X : Tensor, or dict, list or tuple of tensors, or anything
    dtype : torch.dtype
    integers : bool, default=False
        Whether integers are cast, too.
    """
    if isinstance(X, torch.Tensor):
        return X.to(dtype) if integers or X.is_floating_point() else X
    if type(X) is dict:
        return {name: cast_floats(value, dtype, integers=integers) for name, value in X.items()}
    if type(X) in (list, tuple):
        return type(X)(cast_floats(value, dtype, integers=integers) for value in X)
    return X


def is_read_by_rows(X):
    """Tell whether rows are things of their own, to be asked for one by one.

    Such are the rows of a lazy sequence (skorch's `SliceDataset`), and arrays of several shapes.
    """
    if isinstance(X, Sequence) and not isinstance(X, list | tuple | str):
        return True
    if isinstance(X, np.ndarray):
        return X.dtype == object and X.ndim == 1 and len(X) > 0 and np.ndim(X[0]) > 0
    if not isinstance(X, list | tuple) or not X or not isinstance(X[0], torch.Tensor | np.ndarray):
        return False
    return len({np.shape(row) for row in X}) > 1


def as_container(X):
    """Return what a `Dataset` reads rows from: skorch's takes a list for several arrays."""
    if not isinstance(X, list | tuple):
        return X
    rows = np.empty(len(X), dtype=object)
    for i, row in enumerate(X):
        rows[i] = row
    return rows


def targets_at_hand(dataset):
    """Return the targets of a dataset as an array if it holds them, else None."""
    if isinstance(dataset, Subset):
        y = targets_at_hand(dataset.dataset)
        return None if y is None else y[np.asarray(dataset.indices)]
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        return np.asarray(dataset.tensors[1])
    y = getattr(dataset, "y", getattr(dataset, "targets", None))
    return None if y is None or isinstance(y, Mapping) else np.asarray(y)


def read_targets(loader):
    """Read all batches for the sake of their targets; global generators are left alone."""
    with OwnGenerators(Stream(0, "targets")):
        return np.concatenate([np.asarray(unpack(batch)[1]) for batch in loader])
