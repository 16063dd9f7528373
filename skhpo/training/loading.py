"""Batches and targets from a `Dataset` and a `DataLoader`."""

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
    """Iterates over a `DataLoader`, with encoded targets, on the device of `net`.

    The dataset draws random numbers in this thread (augmentation) from `stream`.
    """

    def __init__(self, net, loader, stream):
        self.net = net
        self.loader = loader
        self.drawing = OwnGenerators(stream)
        if getattr(loader, "num_workers", 0):
            # The loader seeds its workers, each differently; they would inherit the mode.
            self.drawing = contextlib.nullcontext()

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        return (self.net._prepare_batch(batch) for batch in self._drawn())

    def triples(self):
        """Yield batches as ``(X, y, None)``, without weights."""
        return ((X, y, None) for X, y in self)

    def inputs(self):
        """Yield the inputs of the batches; targets are ignored."""
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
    """A user's dataset with targets encoded by `encode`, a function of arrays."""

    def __init__(self, dataset, encode):
        self.dataset = dataset
        self.encode = encode

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, i):
        X, y, *rest = self.dataset[i]
        return X, self.encode(np.asarray([y]))[0], *rest


def unpack(batch):
    """Return a batch ``(X, y)``; ValueError if it is something else."""
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
    """Cast nested tensors of real numbers, and with `integers` of integers, to a dtype."""
    if isinstance(X, torch.Tensor):
        return X.to(dtype) if integers or X.is_floating_point() else X
    if type(X) is dict:
        return {name: cast_floats(value, dtype, integers=integers) for name, value in X.items()}
    if type(X) in (list, tuple):
        return type(X)(cast_floats(value, dtype, integers=integers) for value in X)
    return X


def is_read_by_rows(X):
    """Whether X is a collection of separate rows.

    Such are lazy sequences (skorch's `SliceDataset`), and rows of several shapes.
    """
    if isinstance(X, Sequence) and not isinstance(X, list | tuple | str):
        return True
    if isinstance(X, np.ndarray):
        return X.dtype == object and X.ndim == 1 and len(X) > 0 and np.ndim(X[0]) > 0
    if not isinstance(X, list | tuple) or not X or not isinstance(X[0], torch.Tensor | np.ndarray):
        return False
    return len({np.shape(row) for row in X}) > 1


def as_container(X):
    """Convert a list of rows for a `Dataset`: skorch's treats a list as several arrays."""
    if not isinstance(X, list | tuple):
        return X
    rows = np.empty(len(X), dtype=object)
    for i, row in enumerate(X):
        rows[i] = row
    return rows


def targets_at_hand(dataset):
    """Return the targets of a dataset as an array if it stores them, else None."""
    if isinstance(dataset, Subset):
        y = targets_at_hand(dataset.dataset)
        return None if y is None else y[np.asarray(dataset.indices)]
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        return np.asarray(dataset.tensors[1])
    y = getattr(dataset, "y", getattr(dataset, "targets", None))
    return None if y is None or isinstance(y, Mapping) else np.asarray(y)


def read_targets(loader):
    """Read the targets of all batches, without global generators."""
    with OwnGenerators(Stream(0, "targets")):
        return np.concatenate([np.asarray(unpack(batch)[1]) for batch in loader])
