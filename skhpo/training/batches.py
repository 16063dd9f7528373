"""Batches: of rows, by their sizes and the order of an epoch; and of a `DataLoader`."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .randomness import OwnGenerators, Stream

__all__ = [
    "LoaderBatches",
    "MayHaveChildren",
    "RowBatches",
    "balanced_order",
    "batch_sizes",
    "inputs_of",
    "largest_batch",
    "order_by_length",
    "read_loader",
    "start_method",
    "unpack",
]

# Batches whose rows are sorted by length together: many enough that those of a batch are about
# equal, few enough that the order of an epoch stays random.
_BATCHES_SORTED_TOGETHER = 50
# A last batch that has less than this share of the others' rows is joined to the one before
# (docs/benchmarks/last_batch.md).
_LEAST_LAST = 0.25
# Rows of which a transform shows what it makes of a batch: as many as it gets before training.
_FEW = 8


def batch_sizes(
    n: int, batch_size: int, *, joins: bool = True, drop_last: bool = False
) -> list[int]:
    """Return the sizes of the batches of `n` rows.

    The last one may be smaller, unless it is dropped. With `joins`, for training, a few rows are
    joined to the batch before: an epoch, and so training, would end with a whole step of the
    optimizer by the gradient of these few, which is mostly noise. (And batch normalization cannot
    be trained on one row.) Without, no batch has more than `batch_size` rows; one row that is left
    over gets another one, as modules that squeeze their outputs lose the dimension of a single row.
    """
    sizes = [batch_size] * (n // batch_size)
    rest = 0 if drop_last else n % batch_size
    if joins and sizes and 0 < rest < max(2, _LEAST_LAST * batch_size):
        sizes[-1] += rest
    elif not joins and sizes and rest == 1 and batch_size > 2:
        sizes[-1:] = [batch_size - 1, 2]
    elif rest:
        sizes.append(rest)
    return sizes


def largest_batch(batch_size: int) -> int:
    """Return the most rows that a batch of training may have, with those that are joined."""
    most_joined = math.ceil(max(2, _LEAST_LAST * batch_size)) - 1
    return batch_size + min(batch_size - 1, most_joined)


class RowBatches:
    """Iterates over batches of `Rows`, in a new random order each time.

    Parameters
    ----------
    rows : Rows
    batch_size : int
    generator : torch.Generator or None, default=None
        Draws the order; None keeps the order of the rows.
    drop_last : bool, default=False
        Whether a smaller last batch is left out.
    on_weight : callable or None, default=None
        Called with the weights of a batch before the batch is yielded as ``(X, y)``.
    balance : ndarray of shape (n_samples,) or None, default=None
        Classes of the rows; batches have equal numbers of each.
    sparse : bool, default=False
        Whether `triples` and `inputs` may yield a `SparseBatch`.
    lengths : array-like of int, shape (n_samples,), or None, default=None
        Lengths of the rows; those of a batch have about the same.
    joins : bool, default=True
        Whether a few rows that are left over join the last batch; see `batch_sizes`. Not in
        predictions, whose batches are as large as the memory allows.
    """

    def __init__(
        self,
        rows: Any,
        batch_size: int,
        generator: torch.Generator | None = None,
        drop_last: bool = False,
        on_weight: Callable[[torch.Tensor | None], object] | None = None,
        balance: NDArray[Any] | None = None,
        *,
        sparse: bool = False,
        lengths: Any = None,
        joins: bool = True,
    ) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.generator = generator
        self.drop_last = drop_last
        self.on_weight = on_weight
        self.balance = balance
        self.sparse = sparse
        self.lengths = None if lengths is None else torch.as_tensor(lengths)
        self.joins = joins
        self.change: Any = None  # applied to the inputs of each batch
        self._formats: Any = None

    def __len__(self) -> int:
        return len(self.sizes())

    def few(self, n: int) -> Any:
        """Return the inputs of the first rows as a batch has them, drawing from no stream."""
        X = self.rows.few(n)
        return X if self.change is None else self.change.probe()(X)

    @property
    def formats(self) -> Any:
        """Shape and type of a row of the inputs of a batch, and of the targets.

        None if one is several, or they are only known of a batch.
        """
        if self.change is None or self.rows.formats is None:
            return self.rows.formats
        if self._formats is None:
            X = self.few(min(_FEW, len(self.rows)))
            # A transform may make several inputs of one.
            inputs = (tuple(X.shape[1:]), X.dtype) if isinstance(X, torch.Tensor) else None
            self._formats = inputs, self.rows.formats[1]
        return None if self._formats[0] is None else self._formats

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for X, y, weight in self.triples(sparse=False):
            if self.on_weight is not None:
                self.on_weight(weight)
            yield X, torch.zeros(len(self.rows)) if y is None else y

    def inputs(self) -> Iterator[Any]:
        """Yield the inputs of the batches."""
        return (X for X, _, _ in self.triples(targets=False))

    def order(self) -> torch.Tensor:
        """Draw the order of the rows in an epoch."""
        n = len(self.rows)
        n_kept = n // self.batch_size * self.batch_size if self.drop_last else n
        if self.generator is None:
            order = torch.arange(n)
        elif self.balance is not None:
            order = balanced_order(self.balance, self.generator)
        else:
            order = torch.randperm(n, generator=self.generator)
        order = order[:n_kept]  # before rows are sorted: the longest would always be dropped
        if self.generator is not None and self.lengths is not None:
            order = order_by_length(order, self.lengths, self.batch_size, self.generator)
        return order

    def sizes(self) -> list[int]:
        """Return the sizes of an epoch's batches."""
        n = len(self.rows)
        return batch_sizes(n, self.batch_size, joins=self.joins, drop_last=self.drop_last)

    def triples(
        self, *, sparse: bool | None = None, targets: bool = True
    ) -> Iterator[tuple[Any, Any, Any]]:
        """Yield batches as ``(X, y, weight)``; y may be None without `targets`."""
        sparse = self.sparse if sparse is None else sparse
        chunks = self.rows.chunks(self.order(), self.sizes(), sparse=sparse, targets=targets)
        for X, y, weight, sizes in chunks:
            if len(sizes) == 1:
                yield X if self.change is None else self.change(X), y, weight
                continue
            batches = _split(X, sizes)
            missing = [None] * len(sizes)
            ys = missing if y is None else _split(y, sizes)
            weights = missing if weight is None else weight.split(sizes)
            if self.change is not None:
                batches = map(self.change, batches)
            yield from zip(batches, ys, weights, strict=True)


def _split(rows: Any, sizes: list[int]) -> Any:
    """Split a tensor, or a dict of them, into batches."""
    if not isinstance(rows, Mapping):
        return rows.split(sizes)
    columns = zip(*(v.split(sizes) for v in rows.values()), strict=True)
    return [dict(zip(rows, column, strict=True)) for column in columns]


def balanced_order(classes: NDArray[Any], generator: torch.Generator) -> torch.Tensor:
    """Return an order of n_samples rows in which the classes alternate.

    Rows of rare classes occur several times, in a new order each time; of frequent classes only
    some rows occur.
    """
    n, present = len(classes), np.unique(classes)
    order = torch.empty(n, dtype=torch.int64)
    for turn, label in enumerate(present):
        mine = torch.from_numpy(np.flatnonzero(classes == label))
        places = order[turn :: len(present)]
        n_rounds = -(-len(places) // len(mine))
        rounds = [mine[torch.randperm(len(mine), generator=generator)] for _ in range(n_rounds)]
        places.copy_(torch.cat(rounds)[: len(places)])
    return order


def order_by_length(
    order: torch.Tensor, lengths: torch.Tensor, batch_size: int, generator: torch.Generator
) -> torch.Tensor:
    """Return an order of an epoch in which the rows of a batch have about the same length.

    Rows that are left over come last, after the batch that they would be joined to. They may have
    any length: where they are cut out of the sorted rows is random.

    Parameters
    ----------
    order : Tensor of int64, shape (n,)
        A random order.
    lengths : Tensor of int64, shape (n_samples,)
    batch_size : int
    generator : torch.Generator
        Draws the order of the batches.
    """
    n_full, n_left = divmod(len(order), batch_size)
    n_parts = max(1, math.ceil(n_full / _BATCHES_SORTED_TOGETHER))
    per_part = [n_full * (i + 1) // n_parts - n_full * i // n_parts for i in range(n_parts)]
    sizes = [n * batch_size for n in per_part]
    sizes[-1] += n_left
    parts = [part[torch.argsort(lengths[part], stable=True)] for part in order.split(sizes)]
    if n_full == 0:
        return torch.cat(parts)
    turns = torch.randperm(n_full, generator=generator)
    if n_left == 0:
        return torch.flatten(torch.cat(parts).view(n_full, batch_size)[turns])
    cut = int(torch.randint(per_part[-1] + 1, (), generator=generator))
    before, left, after = parts[-1].split(
        [cut * batch_size, n_left, (per_part[-1] - cut) * batch_size]
    )
    batches = torch.cat([*parts[:-1], before, after]).view(n_full, batch_size)
    adjacent = min(n_full - per_part[-1] + cut, n_full - 1)
    turns = turns[turns != adjacent]
    return torch.cat([batches[turns].flatten(), batches[adjacent], left])


class LoaderBatches:
    """Iterates over what a `DataLoader`, or an iterator of the user's, yields.

    Parameters
    ----------
    loader : iterable of batches
    stream : Stream
        See `read_loader`.
    prepare : callable
        ``prepare(batch, targets=True)`` returns the inputs and the encoded targets of a batch as
        the network gets them; without `targets` these are None.
    """

    def __init__(self, loader: Any, stream: Stream, prepare: Callable[..., Any]) -> None:
        self.loader = loader
        self.stream = stream
        self.prepare = prepare
        self.change: Any = None  # applied to the inputs of each batch

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return ((X, y) for X, y, _ in self.triples())

    def triples(self, *, targets: bool = True) -> Iterator[tuple[Any, Any, None]]:
        """Yield batches as ``(X, y, None)``, without weights."""
        for batch in read_loader(self.loader, self.stream):
            X, y = self.prepare(batch, targets=targets)
            yield X if self.change is None else self.change(X), y, None

    def inputs(self) -> Iterator[Any]:
        """Yield the inputs of the batches; targets are ignored."""
        return (X for X, _, _ in self.triples(targets=False))


def read_loader(loader: Any, stream: Stream) -> Iterator[Any]:
    """Yield the batches as a loader makes them.

    The dataset draws random numbers in this thread (augmentation) from `stream`; the workers of a
    loader draw from generators of their own.
    """
    drawing: AbstractContextManager[Any] = OwnGenerators(stream)
    if getattr(loader, "num_workers", 0):
        # The loader seeds its workers, each differently; they would inherit the mode.
        drawing = MayHaveChildren()
    with drawing:
        batches = iter(loader)
    while True:
        with drawing:
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
