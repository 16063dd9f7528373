"""Batches and targets from a `Dataset` and a `DataLoader`."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from ..datasets import check_structure, probe_rows, stored_targets
from .randomness import OwnGenerators, Stream, noticing_seeds, stream_seed

__all__ = [
    "EncodedTargets",
    "LabelledItems",
    "LoaderBatches",
    "MayHaveChildren",
    "as_container",
    "cast_bytes",
    "cast_floats",
    "inputs_of",
    "is_pair",
    "is_read_by_rows",
    "is_same",
    "probed_items",
    "read_items",
    "start_method",
    "targets_of",
    "unpack",
]

# Items whose targets are read in one go.
_ITEMS_AT_ONCE = 64


class LoaderBatches:
    """Iterates over a `DataLoader`, with encoded targets, on the device of `net`.

    The dataset draws random numbers in this thread (augmentation) from `stream`; the workers of a
    loader draw from generators of their own, with seeds of the epoch if `seed` is given.
    """

    def __init__(self, net: Any, loader: Any, stream: Any, seed: int | None = None) -> None:
        self.net = net
        self.loader = loader
        self.seed = seed
        self.change = None  # applied to the inputs of each batch
        self.drawing: AbstractContextManager[Any] = OwnGenerators(stream)
        if getattr(loader, "num_workers", 0):
            # The loader seeds its workers, each differently; they would inherit the mode.
            self.drawing = MayHaveChildren()

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Any:
        prepared = (self.net._prepare_batch(batch) for batch in self.raw())
        return ((self._changed(X), y) for X, y in prepared)

    def triples(self) -> Any:
        """Yield batches as ``(X, y, None)``, without weights."""
        return ((X, y, None) for X, y in self)

    def inputs(self) -> Any:
        """Yield the inputs of the batches; targets are ignored."""
        prepared = (self.net._prepare_inputs(inputs_of(batch)) for batch in self.raw())
        return map(self._changed, prepared)

    def _changed(self, X: Any) -> Any:
        return X if self.change is None else self.change(X)

    def raw(self) -> Iterator[Any]:
        """Yield the batches as the loader makes them."""
        if self.seed is not None:
            epoch = self.net._state.counters.n_epochs
            self.loader.generator.manual_seed(stream_seed(self.seed, "loader", str(epoch)))
        with self.drawing:
            batches = iter(self.loader)
        while True:
            with self.drawing:
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


class MayHaveChildren(AbstractContextManager[Any]):
    """Lets a process that ends with its parent start the workers of a loader.

    Those of Dask and of multiprocessing are such, and Python refuses them children, which might be
    left behind; the workers of a loader end by themselves when their parent is gone.
    """

    def __enter__(self) -> None:
        process = multiprocessing.current_process()
        self.daemon = process.daemon
        if self.daemon:
            process.daemon = False

    def __exit__(self, *error: Any) -> None:
        if self.daemon:
            multiprocessing.current_process().daemon = True


def start_method() -> Any:
    """Return how the workers of a loader are started; None is the way of this process.

    In loky's worker processes that is one of loky's, which starts no other classes of processes.
    """
    known = multiprocessing.get_all_start_methods()
    return None if multiprocessing.get_start_method(allow_none=True) in (None, *known) else known[0]


def read_items(dataset: Any, numbers: list[int]) -> Any:
    """Return items of a map-style dataset, for what collates them.

    A dataset with ``__getitems__``, as torch's loaders use it, reads them together.
    """
    read = getattr(dataset, "__getitems__", None)
    return read(numbers) if callable(read) else [dataset[i] for i in numbers]


class EncodedTargets(torch.utils.data.Dataset[Any]):
    """A user's dataset with targets encoded by `encode`, a function of arrays."""

    def __init__(self, dataset: Any, encode: Any) -> None:
        self.dataset = dataset
        self.encode = encode

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> Any:
        return self._encoded(self.dataset[i])

    def __getitems__(self, numbers: list[int]) -> Any:
        return [self._encoded(item) for item in read_items(self.dataset, numbers)]

    def _encoded(self, item: Any) -> Any:
        X, y, *rest = item
        return X, self.encode(np.asarray([y]))[0], *rest


def unpack(batch: Any) -> Any:
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


def inputs_of(batch: Any) -> Any:
    """Return the inputs of a batch, which is a pair with targets or has inputs only."""
    return batch if isinstance(batch, torch.Tensor | Mapping) else unpack(batch)[0]


def cast_floats(X: Any, dtype: Any, *, integers: bool = False) -> Any:
    """Cast nested tensors of real numbers, and with `integers` of integers, to a dtype."""
    if isinstance(X, torch.Tensor):
        return X.to(dtype) if integers or X.is_floating_point() else X
    if type(X) is dict:
        return {name: cast_floats(value, dtype, integers=integers) for name, value in X.items()}
    if type(X) in (list, tuple):
        return type(X)(cast_floats(value, dtype, integers=integers) for value in X)
    return X


def cast_bytes(X: Any, dtype: Any) -> Any:
    """Cast nested tensors of bytes, as images are read, to a dtype."""
    if isinstance(X, torch.Tensor):
        return X.to(dtype) if X.dtype is torch.uint8 else X
    if type(X) is dict:
        return {name: cast_bytes(value, dtype) for name, value in X.items()}
    if type(X) in (list, tuple):
        return type(X)(cast_bytes(value, dtype) for value in X)
    return X


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


class LabelledItems(torch.utils.data.Dataset[Any]):
    """A dataset whose items are inputs only, with the targets `y`."""

    def __init__(self, dataset: Any, y: Any) -> None:
        self.dataset = dataset
        self.y = y

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> Any:
        return self.dataset[i], self._target(i)

    def __getitems__(self, numbers: list[int]) -> Any:
        items = read_items(self.dataset, numbers)
        return [(item, self._target(i)) for item, i in zip(items, numbers, strict=True)]

    def _target(self, i: int) -> Any:
        if isinstance(self.y, Mapping):
            return {name: value[i] for name, value in self.y.items()}
        return self.y[i]


def probed_items(dataset: Any) -> Any:
    """Return a few items of a map-style dataset as pairs (number, item), and check their structure.

    Raises ValueError if they differ in structure, or one cannot be read; warns if the first one is
    another when it is read again, or items seed torch's generator. No global generator of torch is
    used.
    """
    try:
        numbers = probe_rows(len(dataset))
    except TypeError as error:
        raise TypeError(
            f"a torch Dataset must have a length, but {type(dataset).__name__} has none ({error}); "
            "give it __len__, or make it an IterableDataset"
        ) from error
    items = []
    with noticing_seeds() as seeded, OwnGenerators(Stream(0, "probe")):
        for number in numbers:
            try:
                items.append((number, dataset[number]))
            except Exception as error:
                raise ValueError(
                    f"a Dataset must yield the items 0 to {len(dataset) - 1}, but for item "
                    f"{number} this {type(dataset).__name__} raised {type(error).__name__}: {error}"
                ) from error
        if seeded():
            warnings.warn(
                "what an item of a Dataset draws by torch comes from the seed of the fit, but this "
                f"{type(dataset).__name__} seeds torch's global generator when an item is read, "
                "which has no effect on these draws and disturbs others; draw from a generator of "
                "the item, generator=torch.Generator().manual_seed(number)",
                UserWarning,
                stacklevel=2,
            )
    check_structure(items)
    with OwnGenerators(Stream(0, "probe")):
        again = dataset[items[0][0]]
    if not is_same(items[0][1], again):
        warnings.warn(
            f"an item of a Dataset must be the same when it is read again under the same seed, but "
            f"item {items[0][0]} of this {type(dataset).__name__} is another one, so that the same "
            "random_state gives other results each time; draw random numbers by torch, whose "
            "seed is that of the fit, and not by NumPy, Python's random or a generator of your own",
            UserWarning,
            stacklevel=2,
        )
    return items


def is_same(one: Any, other: Any) -> bool:
    """Whether two items are equal, as far as they consist of numbers."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(is_same(one[k], other[k]) for k in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, torch.Tensor):
        if one.layout is not torch.strided or one.is_nested or one.is_quantized or one.is_meta:
            return True
        if one.is_floating_point():  # types of one byte know hardly any operation
            one, other = one.float(), other.float()
        return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())
    if isinstance(one, np.ndarray | np.generic | int | float):
        kind = np.asarray(one).dtype.kind
        # Objects may have no equality that is one truth value.
        return kind == "O" or np.array_equal(one, other, equal_nan=kind in "fcmM")
    return True


def is_pair(item: Any) -> bool:
    """Whether an item of a dataset is a pair of inputs and target."""
    return isinstance(item, tuple | list) and len(item) == 2


def targets_of(dataset: Any, report: Any = None, *, num_workers: int = 0) -> Any:
    """Return the targets of a map-style dataset as an array, None if its items have none.

    Those that it stores are used if a few items have them, too; else each item is read once.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
    report : callable or None, default=None
        Called with the number of items that were read.
    num_workers : int, default=0
        Processes that read items.
    """
    items = probed_items(dataset)
    if not all(is_pair(item) for _, item in items):
        return None
    y = stored_targets(dataset)
    if y is not None and len(y) == len(dataset) and all(_has(item, y[i]) for i, item in items):
        return y
    generator = torch.Generator().manual_seed(0)
    settings: dict[str, Any] = {
        "batch_size": _ITEMS_AT_ONCE,
        "generator": generator,
        "num_workers": num_workers,
    }
    if num_workers:
        settings["multiprocessing_context"] = start_method()
    targets = []
    with OwnGenerators(Stream(0, "targets")), MayHaveChildren():
        for part in DataLoader(dataset, collate_fn=_targets_only, **settings):
            targets += part
            if report is not None:
                report(len(targets))
    if isinstance(targets[0], Mapping):
        return {name: np.asarray([one[name] for one in targets]) for name in targets[0]}
    return np.asarray(targets)


def _has(item: Any, target: Any) -> Any:
    return np.array_equal(np.asarray(item[1]), np.asarray(target))


def _targets_only(items: Any) -> Any:
    check_structure(enumerate(items))
    return [y if isinstance(y, Mapping) else np.asarray(y) for _, y in items]
