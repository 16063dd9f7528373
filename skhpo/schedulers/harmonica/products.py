"""All products of few functions of different parameters, correlated with something at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Product", "Products"]

Product = tuple[int, ...]
Matrix = NDArray[np.float32]

# What is left of a product's variance below which it counts as constant.
_CONSTANT = 1e-4

# Correlations that are computed at a time.
_BLOCK = 2**16


class Products:
    """Products of up to `degree` columns of different groups.

    Those of two factors are stored. Correlations with larger ones are matrix products, of the
    others' factors times what to correlate with, and the stored pairs: a scan over all products
    costs less than writing them down.

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
        self.counts = [0] * degree
        self._after = np.searchsorted(groups, groups, side="right")
        first, second = np.nonzero(groups[:, None] < groups[None, :])
        self._pairs = np.stack([first, second], axis=1)
        self._pair_values: Matrix = np.empty((len(columns), 0), dtype=np.float32)
        if degree > 1:
            self._pair_values = self.columns[:, first] * self.columns[:, second]
        self._blocks = list(self._all_blocks())
        self._scales = [self._scale(block) for block in self._blocks]
        for block, scale in zip(self._blocks, self._scales, strict=True):
            self.counts[block.degree - 1] += int(np.count_nonzero(scale))

    def values(self, product: Product) -> NDArray[np.float64]:
        """Return the values of a product, of shape (n_samples,)."""
        result: NDArray[np.float64] = np.prod(
            self.columns[:, list(product)], axis=1, dtype=np.float64
        )
        return result

    def related(self, product: Product) -> list[Product]:
        """Return the other products of the same groups."""
        columns = [np.flatnonzero(self.groups == self.groups[c]).tolist() for c in product]
        return [other for other in itertools.product(*columns) if other != product]

    def best(self, residuals: NDArray[np.float64], n: int) -> list[list[Product]]:
        """For each residual, the products of each degree that would reduce it most.

        Parameters
        ----------
        residuals : ndarray of shape (n_samples, n_residuals)
            Each with mean zero.
        n : int
            How many of each degree.

        Returns
        -------
        best : list of list of tuple of int
            By degree, then the best first; equal ones in the order of their columns.
        """
        wanted: Matrix = np.asarray(residuals, dtype=np.float32)
        kept = [[_Best(n) for _ in range(self.degree)] for _ in range(wanted.shape[1])]
        for number, (block, scale) in enumerate(zip(self._blocks, self._scales, strict=True)):
            gains = self._sums(block, wanted)
            np.square(gains, out=gains)
            gains *= scale
            for best, gain in zip(kept, gains, strict=True):
                best[block.degree - 1].take(number, gain.ravel())
        return [
            [
                self._product(self._blocks[number], place)
                for of_degree in best
                for number, place in of_degree.places()
            ]
            for best in kept
        ]

    def _all_blocks(self) -> Iterator[_Block]:
        n_columns, n_pairs = len(self.groups), len(self._pairs)
        yield _Block(1, (), 0, n_columns, 0)
        if self.degree > 1:
            yield _Block(2, (), 0, 0, 0)
        for degree in range(3, self.degree + 1):
            for prefix in self._prefixes(degree - 3):
                low = int(self._after[prefix[-1]]) if prefix else 0
                while low < n_columns:
                    start = int(np.searchsorted(self._pairs[:, 0], self._after[low]))
                    if start == n_pairs:
                        break
                    high = min(n_columns, low + max(1, _BLOCK // (n_pairs - start)))
                    yield _Block(degree, prefix, low, high, start)
                    low = high

    def _prefixes(self, length: int) -> Iterator[Product]:
        for prefix in itertools.combinations(range(len(self.groups)), length):
            if all(self.groups[a] < self.groups[b] for a, b in itertools.pairwise(prefix)):
                yield prefix

    def _factors(self, block: _Block) -> tuple[Matrix, Matrix]:
        """Matrices whose columns, one of each, are multiplied to products."""
        ones: Matrix = np.ones((len(self.columns), 1), dtype=np.float32)
        if block.degree == 1:
            return ones, self.columns
        if block.degree == 2:
            return ones, self._pair_values
        left = self.columns[:, block.low : block.high]
        if block.prefix:
            left = left * np.prod(self.columns[:, list(block.prefix)], axis=1)[:, None]
        return left, self._pair_values[:, block.start :]

    def _sums(self, block: _Block, wanted: Matrix) -> Matrix:
        """Sums over samples of each product times each wanted vector: (n_wanted, ...)."""
        left, right = self._factors(block)
        weighted: Matrix = (wanted[:, :, None] * left[:, None, :]).reshape(len(left), -1)
        sums: Matrix = weighted.T @ right
        return sums.reshape(wanted.shape[1], left.shape[1], right.shape[1])

    def _scale(self, block: _Block) -> Matrix:
        """One over the centred sum of squares of each product; 0 for what is none or constant."""
        n = len(self.columns)
        left, right = self._factors(block)
        sums: Matrix = left.T @ right
        squares: Matrix = (left**2).T @ right**2
        rest = squares - sums**2 / n
        usable = rest > _CONSTANT * np.maximum(squares, 1.0)
        if block.degree > 2:
            own = self.groups[block.low : block.high]
            usable &= own[:, None] < self.groups[self._pairs[block.start :, 0]][None, :]
        scale: Matrix = np.zeros_like(rest)
        np.divide(1.0, rest, out=scale, where=usable)
        return scale

    def _product(self, block: _Block, place: int) -> Product:
        if block.degree == 1:
            return (place,)
        column, pair = divmod(place, len(self._pairs) - block.start)
        first, second = self._pairs[block.start + pair].tolist()
        own = (block.low + column,) if block.degree > 2 else ()
        return (*block.prefix, *own, first, second)


@dataclass(frozen=True, slots=True)
class _Block:
    """Products of a prefix, one of some columns, and one of the pairs from some place on."""

    degree: int
    prefix: Product
    low: int
    high: int
    start: int


class _Best:
    """The `n` largest of gains that come block by block."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._least = 0.0
        self._gains = np.empty(0, dtype=np.float32)
        self._places = np.empty((0, 2), dtype=np.intp)

    def take(self, block: int, gains: NDArray[np.float32]) -> None:
        found = np.flatnonzero(gains > self._least)
        if len(found) > 4 * self.n:
            found = np.sort(found[np.argpartition(-gains[found], 2 * self.n)[: 2 * self.n]])
        if not len(found):
            return
        gains = np.concatenate([self._gains, gains[found]])
        places = np.stack([np.full_like(found, block), found], axis=1)
        # Rounded, so that products that are one and the same on the samples keep their order.
        order = np.argsort(-np.round(np.log(gains), 4), kind="stable")[: self.n]
        self._gains = gains[order]
        self._places = np.concatenate([self._places, places])[order]
        if len(order) == self.n:
            self._least = float(self._gains[-1])

    def places(self) -> list[tuple[int, int]]:
        return [(int(block), int(place)) for block, place in self._places]
