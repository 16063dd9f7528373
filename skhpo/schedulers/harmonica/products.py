"""All products of few functions of different parameters, correlated with something at once.

Notation, here and in `recovery`: n samples, b functions, m pairs ``(n x b)`` a matrix of function
values. A product is a tuple of increasing column numbers whose groups (parameters) differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["Products"]

Product = tuple[int, ...]
Matrix = NDArray[np.float32]

# What is left of a product's variance below which it counts as constant.
_CONSTANT = 1e-4


class Products:
    """Products of up to `degree` columns of different groups, none of which is ever stored.

    Correlations with the products that share all but their last two factors are one matrix
    product, so that a scan over all of them costs about as much as writing them down would.

    Parameters
    ----------
    columns : ndarray of shape (n_samples, n_columns)
        Function values; those of a group stand side by side.
    groups : ndarray of int, shape (n_columns,)
        Not decreasing. A product never has two factors of one group.
    degree : int
        The most factors.

    Attributes
    ----------
    counts : list of int
        Of each degree from 1, how many products there are that are not constant on the samples.
    """

    def __init__(self, columns: NDArray[np.float64], groups: NDArray[np.intp], degree: int) -> None:
        self.columns: Matrix = np.asarray(columns, dtype=np.float32)
        self.groups = groups
        self.degree = degree
        n_columns = len(groups)
        self._after = np.searchsorted(groups, groups, side="right")
        self._allowed = groups[:, None] < groups[None, :]
        self._blocks = list(self._prefixes())
        self._scales: list[Matrix] = []
        self.counts = [0] * degree
        self._singles = np.arange(n_columns)
        self._scales = [self._scale(prefix) for prefix in self._blocks]
        for prefix, scale in zip(self._blocks, self._scales, strict=True):
            size = 1 if prefix is None else len(prefix) + 2
            self.counts[size - 1] += int(np.count_nonzero(scale))

    def values(self, product: Product) -> NDArray[np.float64]:
        """Return the values of a product, of shape (n_samples,)."""
        result: NDArray[np.float64] = np.prod(
            self.columns[:, list(product)], axis=1, dtype=np.float64
        )
        return result

    def best(self, residuals: NDArray[np.float64], n: int) -> list[list[Product]]:
        """For each residual, the products that would reduce it most, the best first.

        Parameters
        ----------
        residuals : ndarray of shape (n_samples, n_residuals)
            Each with mean zero.
        n : int
            How many.

        Returns
        -------
        best : list of list of tuple of int
            Equal ones in the order of degree, then columns.
        """
        wanted: Matrix = np.asarray(residuals, dtype=np.float32)
        kept = [_Best(n) for _ in range(wanted.shape[1])]
        for block, scale in enumerate(self._scales):
            gains = self._correlations(self._blocks[block], wanted)
            np.square(gains, out=gains)
            gains *= scale
            for best, gain in zip(kept, gains, strict=True):
                best.take(block, gain.ravel())
        return [[self._product(*place) for place in best.places()] for best in kept]

    def _prefixes(self) -> Iterator[Product | None]:
        """All but the last two factors of the products; None stands for single columns."""
        yield None
        for length in range(self.degree - 1):
            yield from self._extended((), length)

    def _extended(self, prefix: Product, length: int) -> Iterator[Product]:
        if len(prefix) == length:
            # Two groups must be left for the other factors.
            if self._start(prefix) < self._last_start:
                yield prefix
            return
        for column in range(self._start(prefix), self._last_start):
            yield from self._extended((*prefix, column), length)

    def _start(self, prefix: Product) -> int:
        return int(self._after[prefix[-1]]) if prefix else 0

    @property
    def _last_start(self) -> int:
        return int(np.searchsorted(self.groups, self.groups[-1]))

    def _rest(self, prefix: Product) -> tuple[Matrix, NDArray[np.bool_]]:
        start = self._start(prefix)
        return self.columns[:, start:], self._allowed[start:, start:]

    def _correlations(self, prefix: Product | None, wanted: Matrix) -> Matrix:
        """Sums over samples of a product times each wanted vector: (n_wanted, ...)."""
        if prefix is None:
            return np.ascontiguousarray(wanted.T @ self.columns)
        rest, _ = self._rest(prefix)
        if prefix:
            wanted = wanted * np.prod(self.columns[:, list(prefix)], axis=1)[:, None]
        n, b = rest.shape
        weighted: Matrix = (wanted[:, :, None] * rest[:, None, :]).reshape(n, -1)
        sums: Matrix = weighted.T @ rest
        return sums.reshape(-1, b, b)

    def _scale(self, prefix: Product | None) -> Matrix:
        """One over the centred sum of squares of each product; 0 for what is none or constant."""
        n = len(self.columns)
        ones: Matrix = np.ones((n, 1), dtype=np.float32)
        sums = self._correlations(prefix, ones)[0]
        if prefix is None:
            squares = np.sum(self.columns**2, axis=0)
            possible = np.ones(len(squares), dtype=bool)
        else:
            rest, possible = self._rest(prefix)
            weight = np.prod(self.columns[:, list(prefix)], axis=1)[:, None]
            squares = ((weight * rest) ** 2).T @ rest**2
        left = squares - sums**2 / n
        usable = possible & (left > _CONSTANT * np.maximum(squares, 1.0))
        scale: Matrix = np.zeros_like(left)
        np.divide(1.0, left, out=scale, where=usable)
        return scale

    def _product(self, block: int, place: int) -> Product:
        prefix = self._blocks[block]
        if prefix is None:
            return (place,)
        start = self._start(prefix)
        first, second = divmod(place, len(self.groups) - start)
        return (*prefix, start + first, start + second)


class _Best:
    """The `n` largest of gains that come block by block."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._least = 0.0
        self._gains: list[NDArray[np.float32]] = []
        self._places: list[NDArray[np.intp]] = []
        self._size = 0

    def take(self, block: int, gains: NDArray[np.float32]) -> None:
        found = np.flatnonzero(gains > self._least)
        if not len(found):
            return
        self._gains.append(gains[found])
        self._places.append(np.stack([np.full_like(found, block), found], axis=1))
        self._size += len(found)
        if self._size > 4 * self.n:
            self._shrink()

    def places(self) -> list[tuple[int, int]]:
        if not self._gains:
            return []
        self._shrink()
        return [(int(block), int(place)) for block, place in self._places[0]]

    def _shrink(self) -> None:
        gains = np.concatenate(self._gains)
        # Rounded, so that products that are one and the same on the samples keep their order.
        rounded = np.round(np.log(gains), 4)
        order = np.argsort(-rounded, kind="stable")[: self.n]
        self._gains = [gains[order]]
        self._places = [np.concatenate(self._places)[order]]
        self._size = len(order)
        if self._size == self.n:
            self._least = float(gains[order[-1]]) if math.isfinite(gains[order[-1]]) else 0.0
