"""Finds the products of functions of different parameters that reduce a residual most.

Products are processed in blocks that are not stored. Only those are computed exactly whose weighted
sum is large enough for the smallest gain among the best so far, given the smallest variance in
their block. No product that this leaves out can be among the best.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ...process import TORCH_THREADS, one_thread
from .blocks import Block, Indices, Matrix, Product, Weights, blocks_of, heads_of
from .screen import HEADS, Screen, screen_for

__all__ = ["Product", "Products"]

Array = NDArray[np.float64]
T = TypeVar("T")

# Of a block: how many products are not constant, their smallest variance, and all if they are kept.
_Known = tuple[int, float, Matrix | None]
# Products of some degree, which are to be added to the best ones, and their gains.
_Found = tuple["_Best", Indices, Array]

# A product whose variance is a smaller share than this of its square counts as constant.
_CONSTANT = 1e-4

# Relative differences below this count as rounding, also that of small variances.
_SAME = 1e-3

# Up to so many products of a block, or such a share of it, are computed one by one; for more it is
# faster to compute the variances of the whole block.
_ONE_BY_ONE = 64, 1 / 256

# How many numbers are kept between scans: 64 MB of blocks, 128 MB of variances.
_MOST_OF_BLOCKS, _MOST_VARIANCES = 2**23, 2**25

_TINY = float(np.finfo(np.float32).tiny)


class Products:
    """Products of up to `degree` columns of different groups.

    Parameters
    ----------
    columns : ndarray of shape (n_samples, n_columns)
        Function values; columns of a group are adjacent.
    groups : ndarray of int, shape (n_columns,)
        Group of each column, not decreasing. A product has at most one factor of a group.
    degree : int
        Largest number of factors.

    Attributes
    ----------
    counts : list of int
        For each degree from 1, the number of products that are not constant on the samples.
    """

    def __init__(self, columns: Array | Matrix, groups: NDArray[np.intp], degree: int) -> None:
        self.columns: Matrix = np.asarray(columns, dtype=np.float32)
        self.groups = groups
        self.degree = degree
        self.counts = [0] * degree
        n_samples, p = columns.shape
        self._ones = Weights(np.ones(n_samples), p)
        self._of_squares = Weights(np.ones(n_samples), p, squared=True)
        self._is_of_signs = bool((np.abs(self.columns) == 1.0).all())
        self._heads = list(heads_of(groups, degree))
        self._blocks: list[list[Block]] = []
        if n_samples * p * len(self._heads) <= _MOST_OF_BLOCKS:
            self._blocks = [blocks_of(self.columns, groups, *head) for head in self._heads]
        keep = not self._is_of_signs and p * p * len(self._heads) <= 6 * _MOST_VARIANCES
        self._screen: Screen | None = None
        if self._is_of_signs and not self._blocks:
            self._screen = screen_for(self.columns, groups, len(self._heads) * p * p / 6)

        def measured(numbers: range) -> list[list[_Known]]:
            prefixes = [self._heads[number][1] for number in numbers]
            found = [(0, 0.0)] * len(numbers)
            if self._screen is not None and all(prefixes):
                largest = self._screen.largest(prefixes, self._ones.values)
                found = [
                    (self._screen.n_products(prefix), n_samples - sums**2 / n_samples)
                    for prefix, sums in zip(prefixes, largest, strict=True)
                ]
            return [
                [(*of_head, None)]
                if of_head[1] > 2 * _CONSTANT * n_samples
                else [self._measured(block, keep) for block in self._blocks_of(number)]
                for number, of_head in zip(numbers, found, strict=True)
            ]

        # For each block of each head; where the products of a head were screened, for all of them.
        self._known = list(self._of_each_head(measured))
        for (d, _), of_head in zip(self._heads, self._known, strict=True):
            self.counts[d - 1] += sum(count for count, _, _ in of_head)

    def values(self, products: Sequence[Product]) -> NDArray[np.float64]:
        """Return the values of some products, of shape (n_samples, n_products)."""
        values = np.ones((len(self.columns), len(products)))
        for length in {len(product) for product in products}:
            own = [place for place, product in enumerate(products) if len(product) == length]
            values[:, own] = self._values(np.array([products[place] for place in own]))
        return values

    def related(self, product: Product) -> list[Product]:
        """Return the other products of the same groups."""
        columns = [np.flatnonzero(self.groups == self.groups[c]).tolist() for c in product]
        return [other for other in itertools.product(*columns) if other != product]

    def best(self, residuals: NDArray[np.float64], n: int) -> list[list[Product]]:
        """Return for each residual the products of each degree that would reduce it most.

        Parameters
        ----------
        residuals : ndarray of shape (n_samples, n_residuals)
            Each with mean zero.
        n : int
            Number of products of each degree.

        Returns
        -------
        best : list of list of tuple of int
            By degree, then best first; equal ones in the order of their columns.
        """
        wanted = [Weights(residual, len(self.groups)) for residual in residuals.T]
        kept = [[_Best(n, d + 1) for d in range(self.degree)] for _ in wanted]

        def screened(numbers: range) -> list[list[_Found | None]]:
            """Return for each head and each residual what reaches the least gain of the best."""
            prefixes = [self._heads[number][1] for number in numbers]
            if self._screen is None or not all(prefixes):
                return [[None] * len(wanted)] * len(numbers)
            new = []
            for weights, best, residual in zip(wanted, kept, residuals.T, strict=True):
                of_degree = [best[self._heads[number][0] - 1] for number in numbers]
                bounds = [
                    _least_sum(own.least, min((v for _, v, _ in self._known[number]), default=0.0))
                    for own, number in zip(of_degree, numbers, strict=True)
                ]
                reached = self._screen.reaching(prefixes, weights.values, bounds, _ONE_BY_ONE[0])
                new.append(
                    [
                        None
                        if products is None
                        else (own, products, self._gains(products, residual))
                        for own, products in zip(of_degree, reached, strict=True)
                    ]
                )
            return list(map(list, zip(*new, strict=True)))

        def found(numbers: range) -> list[list[_Found]]:
            new = []
            for number, of_head in zip(numbers, screened(numbers), strict=True):
                left = [i for i, own in enumerate(of_head) if own is None]
                new.append([own for own in of_head if own is not None])
                if left:
                    new[-1] += scanned(number, left)
            return new

        def scanned(number: int, left: list[int]) -> list[_Found]:
            new = []
            known = itertools.cycle(self._known[number])
            for block, (_, smallest, variances) in zip(
                self._blocks_of(number), known, strict=False
            ):
                for i in left:
                    of_degree = kept[i][block.degree - 1]
                    sums = block.sums(wanted[i])
                    bound = _least_sum(of_degree.least, smallest)
                    if smallest == np.inf or max(sums.max(), -sums.min()) < bound:
                        continue
                    places = np.flatnonzero(np.abs(sums) >= bound)
                    many = len(places) > _ONE_BY_ONE[0] + _ONE_BY_ONE[1] * sums.size
                    if many and variances is None:
                        variances = self._variances(block)
                    if variances is not None:
                        places = _gaining(sums**2 / variances, of_degree.least, n)
                    products = block.products(places)
                    new.append((of_degree, products, self._gains(products, residuals[:, i])))
            return new

        for of_head in self._of_each_head(found):
            for of_degree, products, gains in of_head:
                of_degree.take(products, gains)
        return [[p for of_degree in best for p in of_degree.products()] for best in kept]

    def _blocks_of(self, number: int) -> list[Block]:
        if self._blocks:
            return self._blocks[number]
        return blocks_of(self.columns, self.groups, *self._heads[number])

    def _of_each_head(self, task: Callable[[range], list[T]]) -> Iterator[T]:
        """Yield the results of a task for the numbers of some heads; those of pairs come first."""
        size = 1 if self._screen is None else HEADS
        n_heads = len(self._heads)
        starts = [*range(min(2, n_heads)), *range(2, n_heads, size)]
        numbers = [range(*ends) for ends in itertools.pairwise([*starts, n_heads])]
        with one_thread(), TORCH_THREADS:
            if self._screen is not None:
                TORCH_THREADS.set(1)
            yield from itertools.chain.from_iterable(map(task, numbers[:2]))
            if self._blocks:
                yield from itertools.chain.from_iterable(map(task, numbers[2:]))
                return
            with ThreadPoolExecutor(_n_cores()) as pool:
                yield from itertools.chain.from_iterable(pool.map(task, numbers[2:]))

    def _measured(self, block: Block, keep: bool) -> _Known:
        """Return how many products are not constant, the smallest variance, and all if kept."""
        if self._is_of_signs:
            # Of products that are 1 or -1 the one with the largest sum has the smallest variance.
            sums = block.sums(self._ones)
            n = len(self.columns)
            smallest = n - max(float(sums.max()), -float(sums.min())) ** 2 / n
            if smallest > 2 * _CONSTANT * n:
                return block.size, smallest, None
        variances = self._variances(block)
        kept = variances if keep else None
        return int(np.isfinite(variances).sum()), float(variances.min()), kept

    def _variances(self, block: Block) -> Matrix:
        """Return the centred sum of squares of each product; infinite if none or constant."""
        squares: Matrix | float = float(len(self.columns))
        if not self._is_of_signs:
            squares = block.sums(self._of_squares)
        sums = block.sums(self._ones)
        variances: Matrix = np.asarray(squares - sums**2 / len(self.columns), dtype=np.float32)
        usable = variances > _CONSTANT * np.maximum(squares, block.head.unit**-2)
        usable[:, : block.allowed.shape[1]] &= block.allowed
        variances[~usable] = np.inf
        return variances

    def _gains(self, products: Indices, residual: Array) -> Array:
        """Return how much each product reduces the squared residual; 0 for constant ones."""
        values = self._values(products)
        squares = np.einsum("nk,nk->k", values, values)
        variances = squares - values.sum(axis=0) ** 2 / len(values)
        gains = np.zeros(len(products))
        usable = variances > _CONSTANT * np.maximum(squares, 1.0)
        np.divide((residual @ values) ** 2, variances, out=gains, where=usable)
        return gains

    def _values(self, products: Indices) -> Array:
        values = np.ones((len(self.columns), len(products)))
        for factor in products.T:
            values *= self.columns[:, factor]
        return values


def _n_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _least_sum(gain: float, variance: float) -> float:
    """Return the least sum of a product that may gain so much with such a variance.

    It is positive, because the sum of what is not a product is 0.
    """
    return max((1 - _SAME) * float(np.sqrt(gain * variance)), _TINY)


def _gaining(gains: Matrix, least: float, n: int) -> Indices:
    """Return where gains are among the `n` largest and not below `least`."""
    flat = gains.ravel()
    places = np.flatnonzero(flat >= max((1 - _SAME) * least, _TINY))
    if len(places) > n:
        least = float(np.partition(flat[places], -n)[-n])
        places = places[flat[places] >= (1 - _SAME) * least]
    return places


class _Best:
    """Collects the `n` largest gains over all blocks."""

    def __init__(self, n: int, degree: int) -> None:
        self.n = n
        self.least = 0.0
        self._gains = np.empty(0)
        self._products = np.empty((0, degree), dtype=np.intp)

    def take(self, products: Indices, gains: Array) -> None:
        new = gains > 0.0
        gains = np.concatenate([self._gains, gains[new]])
        products = np.concatenate([self._products, products[new]])
        # Rounded, so that products with the same values on the samples keep their order.
        keys = -np.round(np.log(gains), 4)
        order = np.lexsort([*products.T[::-1], keys])[: self.n]
        self._gains, self._products = gains[order], products[order]
        if len(order) == self.n:
            self.least = float(self._gains.min())

    def products(self) -> list[Product]:
        return [tuple(product) for product in self._products.tolist()]
