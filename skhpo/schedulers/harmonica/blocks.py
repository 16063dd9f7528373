"""Blocks of products, and their sums over samples as matrix products.

Notation: ``n`` samples, ``p`` columns; the *head* of a block is the product of the first columns
that all its products share.

The sums of all products of a head and two more columns are a matrix product of ``p x n`` and
``n x p``. Most functions have the same value on most samples (a bit on half of them, one of ten
choices on nine tenths). On samples where the head has that value, its *base*, the sums follow from
those of the pairs, which are computed once. So a matrix product covers the other samples only. Sums
of a block are in units of the base of its head.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["Block", "Indices", "Matrix", "Product", "Weights", "blocks_of", "heads_of"]

Product = tuple[int, ...]
Matrix = NDArray[np.float32]
Indices = NDArray[np.intp]

# Numbers of columns of the last two factors in a block. The sums fit into the cache of a core
# (512 KB), few useless ones are below the diagonal, and the overhead per block stays small.
_TILE, _WIDTH = 128, 1024

# Largest number of sums of pairs that are kept, 64 MB for each residual.
_MOST_PAIRS = 2**24


class Weights:
    """Weights of the samples in sums of products, or of their squares.

    Parameters
    ----------
    values : ndarray of shape (n,)
    n_columns : int
    squared : bool, default=False
    """

    def __init__(self, values: NDArray[np.float64], n_columns: int, squared: bool = False) -> None:
        self.values: Matrix = np.asarray(values, dtype=np.float32)
        self.squared = squared
        n_kept = n_columns if n_columns**2 <= _MOST_PAIRS else 0
        self.pairs: Matrix = np.zeros((n_kept, n_kept), dtype=np.float32)


class _Head:
    """A product of columns, stored as a constant (`base`) and the samples that differ from it.

    The base is 0 if sums of pairs are not kept.
    """

    def __init__(self, prefix: Product, columns: Matrix, start: int) -> None:
        self.prefix = prefix
        self.start = start
        values = np.prod(columns[:, list(prefix)], axis=1)
        self.base = np.float32(0.0)
        if prefix and columns.shape[1] ** 2 <= _MOST_PAIRS:
            found, counts = np.unique(values, return_counts=True)
            self.base = found[counts.argmax()]
        self.samples = np.flatnonzero(values != self.base)
        self.columns = columns[:, start:][self.samples]  # possible last two factors
        self.unit = float(self.base or 1.0)
        self.deviation = (values[self.samples] - self.base) / np.float32(self.unit)
        squares = values[self.samples] ** 2 - self.base**2
        self.deviation_of_squares = squares / np.float32(self.unit**2)

    @cached_property
    def squares(self) -> Matrix:
        return self.columns**2


@dataclass(frozen=True, slots=True)
class Block:
    """Products of a head and one column of each of two ranges (of one range for degree 1)."""

    degree: int
    head: _Head
    rows: tuple[int, int]
    columns: tuple[int, int]
    allowed: NDArray[np.bool_]  # which are products, for the first of `columns`; all others are

    @property
    def size(self) -> int:
        """Number of products."""
        n_rows, n_columns = self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]
        return n_rows * (n_columns - len(self.allowed.T)) + int(self.allowed.sum())

    def products(self, places: Indices) -> Indices:
        """Return the columns of the products at some places, of shape (n_places, degree)."""
        first, second = np.divmod(places, self.columns[1] - self.columns[0])
        own = [np.full_like(places, column) for column in self.head.prefix]
        factors = [*own, first + self.rows[0], second + self.columns[0]]
        return np.stack(factors[-self.degree :], axis=1)

    def sums(self, weights: Weights) -> Matrix:
        """Return the weighted sum over samples of each product; 0 where there is no product.

        The sums of pairs must be computed before all others.
        """
        head = self.head
        columns, deviation = head.columns, head.deviation
        if weights.squared:
            columns, deviation = head.squares, head.deviation_of_squares
        if self.degree == 1:
            return np.asarray((weights.values @ columns)[None])
        rows, others = slice(*self.rows), slice(*self.columns)
        row, other = self.rows[0] - head.start, self.columns[0] - head.start
        left = columns[:, row : self.rows[1] - head.start]
        left = left * (deviation * weights.values[head.samples])[:, None]
        sums: Matrix = left.T @ columns[:, other : self.columns[1] - head.start]
        if head.base != 0.0:
            sums += weights.pairs[rows, others]
        elif self.degree == 2 and len(weights.pairs):
            weights.pairs[rows, others] = sums
        sums[:, : self.allowed.shape[1]] *= self.allowed
        return sums


def heads_of(groups: NDArray[np.intp], degree: int) -> Iterator[tuple[int, Product]]:
    """Yield all heads with the degree of their products; a head has all but two factors."""
    yield 1, ()
    for length in range(degree - 1):
        for prefix in itertools.combinations(range(len(groups)), length):
            if all(groups[a] < groups[b] for a, b in itertools.pairwise(prefix)):
                yield length + 2, prefix


def blocks_of(
    columns: Matrix, groups: NDArray[np.intp], degree: int, prefix: Product
) -> list[Block]:
    """Return the blocks of all products of a degree that begin with some columns."""
    p = len(groups)
    start = int(np.searchsorted(groups, groups[prefix[-1]], side="right")) if prefix else 0
    head = _Head(prefix, columns, start)
    if degree == 1:
        return [Block(1, head, (0, 1), (0, p), np.empty((1, 0), dtype=bool))]
    blocks = []
    for rows in _ranges(start, p, _TILE):
        own = groups[slice(*rows)]
        end = int(np.searchsorted(groups, own[-1], side="right"))
        for others in _ranges(rows[0], p, _WIDTH):
            allowed = own[:, None] < groups[others[0] : min(others[1], end)]
            if others[1] > end or allowed.any():
                blocks.append(Block(degree, head, rows, others, allowed))
    return blocks


def _ranges(start: int, stop: int, step: int) -> list[tuple[int, int]]:
    return list(itertools.pairwise([*range(start, stop, step), stop]))
