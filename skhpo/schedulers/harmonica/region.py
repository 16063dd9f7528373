"""Where a polynomial is largest: a set of configurations, and the way into it."""

from __future__ import annotations

import heapq
import itertools
import math
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .coding import Interval
from .system import ROUNDING, System, Term

__all__ = ["Region"]

Vector = NDArray[np.float64]

# Patterns of values that are tried before the search for more is given up.
_MAX_TRIED = 2_000

# The patterns of which at most one is kept: the 4 best of those of 5 terms.
_ONE_OF = 8


class Region:
    """Configurations at which all terms have the values of one of a few patterns.

    What is fixed is the values of terms, not the parameters in them: of the two settings at which
    ``a * b`` is 1 both stay, so that a later stage can choose between them.

    Parameters
    ----------
    terms : sequence of Term
    patterns : sequence of tuple of float
        Values of all terms, one pattern or more.
    """

    def __init__(
        self, terms: Sequence[Term] = (), patterns: Sequence[tuple[float, ...]] = ((),)
    ) -> None:
        self.terms = list(terms)
        self.patterns = list(patterns)
        self._system = System(self.terms)
        self._witnesses: list[list[int]] = [[]]  # of each pattern, classes that show it

    @property
    def dimensions(self) -> list[int]:
        """The coordinates that it depends on."""
        return sorted(variable.dimension for variable in self._system.variables)

    def restricted(self, terms: Sequence[Term], n_best: int) -> Region:
        """The part of it where further terms, with those before, have their largest sums.

        Parameters
        ----------
        terms : sequence of Term
        n_best : int
            How many patterns of values to keep, the largest sum first; at most one of eight that
            there could be, but one, so that few terms restrict the space as well.
        """
        if not terms:
            return self
        together = [*self.terms, *terms]
        system = System(together)
        new = [system.possible_values(i) for i in range(len(self.terms), len(together))]
        n_patterns = len(self.patterns) * math.prod(map(len, new))
        n_best = min(n_best, max(1, n_patterns // _ONE_OF))
        orders = [range(variable.n_classes) for variable in system.variables]
        heap = [
            (-sum(pattern) - sum(values[0] for values in new), p, (0,) * len(new))
            for p, pattern in enumerate(self.patterns)
        ]
        heapq.heapify(heap)
        seen = {entry[1:] for entry in heap}
        patterns: list[tuple[float, ...]] = []
        witnesses: list[list[int]] = []
        tried = 0
        while heap and len(patterns) < n_best and tried < _MAX_TRIED:
            total, p, ranks = heapq.heappop(heap)
            tried += 1
            added = tuple(values[rank] for values, rank in zip(new, ranks, strict=True))
            pattern = (*self.patterns[p], *added)
            witness = system.solve(pattern, orders)
            if witness is not None:
                patterns.append(pattern)
                witnesses.append(list(witness))
            for i, (values, rank) in enumerate(zip(new, ranks, strict=True)):
                if rank + 1 < len(values):
                    following = (*ranks[:i], rank + 1, *ranks[i + 1 :])
                    if (p, following) not in seen:
                        seen.add((p, following))
                        larger = total + values[rank] - values[rank + 1]
                        heapq.heappush(heap, (larger, p, following))
        if not patterns:
            return self
        region = Region((), patterns)
        region.terms, region._system, region._witnesses = together, system, witnesses
        return region

    def contains(self, points: Vector) -> NDArray[np.bool_]:
        """Which points lie in the region.

        Parameters
        ----------
        points : ndarray of shape (n_points, n_dims)
        """
        inside = np.zeros(len(points), dtype=bool)
        for pattern in self.patterns:
            shown = np.ones(len(points), dtype=bool)
            for term, value in zip(self.terms, pattern, strict=True):
                shown &= np.abs(term(points) - value) <= ROUNDING * abs(term.coefficient)
            inside |= shown
        return inside

    def project(self, point: Vector) -> Vector:
        """A point of the region: the given one, with as much changed as the patterns demand.

        Uniform points become, for each pattern, about uniform ones of its part of the region.
        """
        classes = self._system.classes_at(point)
        p = 0
        rng = None
        if len(self.patterns) > 1:
            if self._pattern_of(classes) is not None:
                return point
            rng = _generator(point)
            p = int(rng.integers(len(self.patterns)))
        preferred = []
        for variable, own in zip(self._system.variables, classes, strict=True):
            others = [c for c in range(variable.n_classes) if c != own]
            if len(others) > 1:
                rng = rng or _generator(point)
                rng.shuffle(others)
            preferred.append([own, *others])
        found = self._system.solve(self.patterns[p], preferred) or self._witnesses[p]
        point = point.copy()
        for variable, own, c in zip(self._system.variables, classes, found, strict=True):
            if c != own:
                point[variable.dimension] = variable.moved(point[variable.dimension], c)
        return point

    def allowed(self, points: Vector) -> dict[int, list[Interval]]:
        """What of each coordinate occurs among points of the region.

        Parameters
        ----------
        points : ndarray of shape (n_points, n_dims)

        Returns
        -------
        allowed : dict of int to list of (float, float)
            Disjoint intervals in order; coordinates that are not restricted are left out.
        """
        found = {}
        for variable in self._system.variables:
            seen = {variable.class_of(u) for u in points[:, variable.dimension]}
            if len(seen) < variable.n_classes:
                found[variable.dimension] = _merged(
                    itertools.chain.from_iterable(variable.intervals[c] for c in seen)
                )
        return found

    def _pattern_of(self, classes: Sequence[int]) -> int | None:
        """Which pattern the terms show, if any."""
        values = self._system.values_at(classes)
        for p, pattern in enumerate(self.patterns):
            if all(
                abs(value - wanted) <= ROUNDING * abs(coefficient)
                for value, wanted, coefficient in zip(
                    values, pattern, self._system.coefficients, strict=True
                )
            ):
                return p
        return None


def _generator(point: Vector) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(point.tobytes()))


def _merged(intervals: itertools.chain[Interval]) -> list[Interval]:
    merged: list[Interval] = []
    for low, high in sorted(intervals):
        if merged and low <= merged[-1][1] + 1e-12:
            merged[-1] = merged[-1][0], high
        else:
            merged.append((low, high))
    return merged
