"""The region where a polynomial is largest, and projections of points onto it."""

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

# Number of patterns of values that are tried before the search for more ends.
_MAX_TRIED = 2_000

# Number of solutions that are kept.
_MAX_SOLVED = 10_000

# At most one of so many patterns is kept: of 5 terms with two values each, the 4 best of 32.
_ONE_OF = 8


class Region:
    """The configurations at which the values of all terms form one of a few patterns.

    The values of the terms are fixed, not the parameters in them: both settings with
    ``a * b == 1`` stay in the region, so that a later stage can choose between them.

    Parameters
    ----------
    terms : sequence of Term
    patterns : sequence of tuple of float
        One or more patterns; each has a value for every term.
    """

    def __init__(
        self, terms: Sequence[Term] = (), patterns: Sequence[tuple[float, ...]] = ((),)
    ) -> None:
        self.terms = list(terms)
        self.patterns = list(patterns)
        self._system = System(self.terms)
        self._witnesses: list[list[int]] = [[]]  # for each pattern, classes that produce it
        self._solved: dict[tuple[int, tuple[tuple[int, ...], ...]], list[int]] = {}

    @property
    def dimensions(self) -> list[int]:
        """The coordinates on which the region depends."""
        return sorted(variable.dimension for variable in self._system.variables)

    def restricted(self, terms: Sequence[Term], n_best: int) -> Region:
        """Return the part where the old and the new terms together have their largest sums.

        Parameters
        ----------
        terms : sequence of Term
        n_best : int
            Number of patterns of values to keep, largest sum first. At least one, and at most an
            eighth of the possible ones, so that few terms also restrict the space.
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
        """Return which points lie in the region.

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
        """Return a point of the region, changed only as far as a pattern requires.

        Uniform points become nearly uniform points of the part of the region of each pattern.
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
        found = self._found(p, tuple(map(tuple, preferred)))
        point = point.copy()
        for variable, own, c in zip(self._system.variables, classes, found, strict=True):
            if c != own:
                point[variable.dimension] = variable.moved(point[variable.dimension], c)
        return point

    def project_all(self, points: Vector) -> Vector:
        """Return what `project` returns for each of several points, of shape (n_points, n_dims)."""
        projected = np.array(points)
        for i in np.flatnonzero(~self.contains(projected)):
            projected[i] = self.project(projected[i])
        return projected

    def _found(self, p: int, preferred: tuple[tuple[int, ...], ...]) -> list[int]:
        """Return classes that produce a pattern; nearby points ask for the same again and again."""
        found = self._solved.get((p, preferred))
        if found is None:
            found = self._system.solve(self.patterns[p], preferred) or self._witnesses[p]
            if len(self._solved) < _MAX_SOLVED:
                self._solved[p, preferred] = found
        return found

    def allowed(self, points: Vector) -> dict[int, list[Interval]]:
        """Return the intervals of each coordinate that occur among points of the region.

        Parameters
        ----------
        points : ndarray of shape (n_points, n_dims)

        Returns
        -------
        allowed : dict of int to list of (float, float)
            Disjoint sorted intervals, without coordinates that are not restricted.
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
        """Return the number of the pattern that the values of the terms form, if any."""
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
