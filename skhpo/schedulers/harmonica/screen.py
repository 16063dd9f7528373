"""Leaves out products of signs whose sums over samples are too small, computed in 16 bits.

A scan asks which of very many sums are at least as large as a bound, and those are few. Where a
processor multiplies numbers of 16 bits several times as fast as those of 32, all sums are computed
so, and the few that reach the bound, less the largest possible error, are computed exactly.

Functions that are 1 or -1 have no error of rounding, so that the error of a sum is at most that of
its weights and of the sum itself:

    |sum - computed| <= sum_i |w_i - rounded w_i| + r |sum|,    r = 2^-8

For `blocks` small matrices and half of the samples are best, here large ones of few shapes: the
sums of several heads are one matrix product, of all samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bfloat16 import ROUNDING, is_fast, rounded
from .blocks import Indices, Matrix, Product

__all__ = ["HEADS", "Screen", "screen_for"]

# Heads of a matrix product, and columns of the first of the last two factors. Numbers of samples
# and columns are filled up to a multiple: others take up to three times as long.
HEADS, _TILE, _SAMPLES = 8, 128, 32

# Products times samples from which it pays (500 functions of 500 samples are half of it).
_WORTH = 2e10

# Bound on the relative error of a sum: twice that of rounding it.
_ERROR = 2 * ROUNDING

# Error of adding up to 100,000 numbers in 32 bits, as a share of the sum of their sizes.
_ADDING = 1e5 * 2.0**-24


class Screen:
    """Columns of 1 and -1 in 16 bits.

    Parameters
    ----------
    columns : ndarray of shape (n, p)
    groups : ndarray of int, shape (p,)
    """

    def __init__(self, columns: Matrix, groups: NDArray[np.intp]) -> None:
        self._signs = columns
        self._groups = groups
        p = len(groups)
        self._width = -(-p // _TILE) * _TILE
        padded = np.pad(columns, ((0, -len(columns) % _SAMPLES), (0, self._width - p)))
        self._columns, self._rows = rounded(padded), rounded(padded.T)

    def n_products(self, prefix: Product) -> int:
        """Return the number of products of a head and two more columns."""
        sizes = np.unique(self._groups[self._start(prefix) :], return_counts=True)[1]
        return int(sizes.sum() ** 2 - (sizes**2).sum()) // 2

    def largest(self, prefixes: Sequence[Product], weights: Matrix) -> list[float]:
        """Return for each head a number that no sum exceeds, of either sign."""
        computed = np.zeros(len(prefixes))
        for _, sums in self._tiles(prefixes, weights):
            of_head = sums.abs().amax(dim=(1, 2)).float().numpy()
            computed = np.maximum(computed, of_head)
        found: list[float] = ((computed + _error_of(weights)) / (1 - _ERROR)).tolist()
        return found

    def reaching(
        self, prefixes: Sequence[Product], weights: Matrix, bounds: Sequence[float], most: int
    ) -> list[Indices | None]:
        """Return for each head the products whose sums may reach its bound.

        Returns
        -------
        products : list of (ndarray of shape (n_products, degree) or None)
            None where there are more than `most`.
        """
        least = (1 - _ERROR) * np.array(bounds) - _error_of(weights)
        found: list[list[Indices] | None] = [[] if bound > 0.0 else None for bound in least]
        if not (least > 0.0).any():
            return [None] * len(prefixes)
        smallest = float(least[least > 0.0].min())
        for row, sums in self._tiles(prefixes, weights):
            if _largest(sums) < smallest:
                continue
            for i, prefix in enumerate(prefixes):
                if (own := found[i]) is None or _largest(sums[i]) < least[i]:
                    continue
                places = np.nonzero(np.abs(sums[i].float().numpy()) >= least[i])
                own.append(self._products(prefix, *(place + row for place in places)))
                if sum(map(len, own)) > most:
                    found[i] = None
        return [
            None if own is None else np.concatenate([np.empty((0, len(prefix) + 2), np.intp), *own])
            for prefix, own in zip(prefixes, found, strict=True)
        ]

    def _products(self, prefix: Product, first: Indices, second: Indices) -> Indices:
        """Return the products of a head and two columns, those that are one."""
        groups = self._groups
        there = (first >= self._start(prefix)) & (second < len(groups))
        first, second = first[there], second[there]
        rising = groups[first] < groups[second]
        own = [np.full(np.count_nonzero(rising), column, np.intp) for column in prefix]
        return np.stack([*own, first[rising], second[rising]], axis=1)

    def _start(self, prefix: Product) -> int:
        """Return the first column that may follow."""
        return int(np.searchsorted(self._groups, self._groups[prefix[-1]], side="right"))

    def _tiles(self, prefixes: Sequence[Product], weights: Matrix) -> Iterator[tuple[int, Any]]:
        """Yield the sums of some columns with all from the first of them on, and its number.

        They are a tensor of shape (n_heads, columns, columns), also of what is no product.
        """
        heads = np.stack([np.prod(self._signs[:, list(prefix)], axis=1) for prefix in prefixes])
        scale = np.zeros((len(heads), 1, self._columns.shape[0]), dtype=np.float32)
        scale[:, 0, : len(weights)] = heads * weights
        scale16 = rounded(scale)
        start = min(map(self._start, prefixes))
        for row in range(start - start % _TILE, self._width, _TILE):
            left = (self._rows[row : row + _TILE] * scale16).flatten(0, 1)
            yield row, (left @ self._columns[:, row:]).unflatten(0, (len(prefixes), _TILE))


def screen_for(columns: Matrix, groups: NDArray[np.intp], n_products: float) -> Screen | None:
    """Return a screen where products of signs are many and 16 bits are faster."""
    worth = n_products * len(columns) >= _WORTH
    return Screen(columns, groups) if worth and is_fast() else None


def _largest(sums: Any) -> float:
    low, high = sums.aminmax()
    return max(float(high), -float(low))


def _error_of(weights: Matrix) -> float:
    """Return the largest error of a sum, without the part that grows with the sum."""
    off = np.abs(weights - rounded(weights).float().numpy())
    return float(off.sum()) + _ADDING * float(np.abs(weights).sum())
