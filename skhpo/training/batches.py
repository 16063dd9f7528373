"""Batches of rows: their sizes, and the order of the rows in an epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["RowBatches", "balanced_order", "batch_sizes", "largest_batch", "order_by_length"]

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
        return X if self.change is None else self.change.without_stream()(X)

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
        for X, y, weight in self._triples(sparse=False):
            if self.on_weight is not None:
                self.on_weight(weight)
            yield X, torch.zeros(len(self.rows)) if y is None else y

    def inputs(self) -> Iterator[Any]:
        """Yield the inputs of the batches."""
        return (X for X, _, _ in self._triples(sparse=self.sparse, targets=False))

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

    def triples(self) -> Iterator[tuple[Any, Any, Any]]:
        """Yield batches as ``(X, y, weight)``."""
        return self._triples(sparse=self.sparse)

    def _triples(self, *, sparse: bool, targets: bool = True) -> Iterator[tuple[Any, Any, Any]]:
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
