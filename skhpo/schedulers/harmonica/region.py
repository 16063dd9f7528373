"""Where a polynomial is largest: a set of configurations, and the way into it."""

from __future__ import annotations

import heapq
import itertools
import math
import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...space import Dimension, SearchSpace
from .coding import Factor, Interval, levels_within

__all__ = ["Region", "RestrictedSpace", "Term"]

Vector = NDArray[np.float64]

# Steps of a search for a configuration with given values of the terms, and how many such values
# are tried, before it is given up.
_MAX_STEPS = 20_000
_MAX_TRIED = 2_000

# The patterns of which at most one is kept: the 4 best of those of 5 terms.
_ONE_OF = 8

# Finite spaces up to this size are listed where they are restricted.
_MAX_LISTED = 4096

# Points that show what is left of each coordinate.
_PILOTS = 200

# What differs by less, as a share, is one and the same.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """A coefficient times a product of functions of different parameters.

    Parameters
    ----------
    coefficient : float
    factors : tuple of Factor
        Several of the same coordinate may occur.
    """

    coefficient: float
    factors: tuple[Factor, ...]

    def __call__(self, points: Vector) -> Vector:
        """Values at points of the unit cube, of shape (n_points, n_dims)."""
        values = np.full(len(points), self.coefficient)
        for factor in self.factors:
            values *= factor(points[:, factor.dimension])
        return values


class _Variable:
    """A coordinate that terms depend on: its steps, those alike for all terms taken together."""

    def __init__(self, dimension: int, factors: Mapping[int, Sequence[Factor]]) -> None:
        self.dimension = dimension
        ends = np.unique(np.concatenate([f.ends for some in factors.values() for f in some]))
        starts = np.concatenate([[0.0], ends[:-1]])
        middle = (starts + ends) / 2
        table = np.array([np.prod([f(middle) for f in some], axis=0) for some in factors.values()])
        _, first, group = np.unique(
            np.round(table, 9), axis=1, return_index=True, return_inverse=True
        )
        group = group.ravel()
        self.n_classes = len(first)
        self.values = {
            number: row[first].tolist() for number, row in zip(factors, table, strict=True)
        }
        self.intervals: list[list[Interval]] = [
            [(float(starts[i]), float(ends[i])) for i in np.flatnonzero(group == c)]
            for c in range(self.n_classes)
        ]
        self._ends: list[float] = ends.tolist()
        self._group: list[int] = group.tolist()

    def class_of(self, u: float) -> int:
        return self._group[min(bisect_right(self._ends, u), len(self._ends) - 1)]

    def moved(self, u: float, target: int) -> float:
        """The place in another class that is as far along as `u` is in its own."""
        done = 0.0
        for low, high in self.intervals[self.class_of(u)]:
            done += min(max(u - low, 0.0), high - low)
        share = done / _measure(self.intervals[self.class_of(u)])
        left = share * _measure(self.intervals[target])
        for low, high in self.intervals[target]:
            if left <= high - low:
                break
            left -= high - low
        return min(low + left, low + (high - low) * (1 - 1e-9))


class _System:
    """The coordinates that terms depend on, ordered so that terms are complete early."""

    def __init__(self, terms: Sequence[Term]) -> None:
        parts: list[dict[int, list[Factor]]] = []
        for term in terms:
            part: dict[int, list[Factor]] = {}
            for factor in term.factors:
                part.setdefault(factor.dimension, []).append(factor)
            parts.append(part)
        order: list[int] = []
        waiting = list(range(len(terms)))
        while waiting:
            waiting.sort(key=lambda i: len(parts[i].keys() - set(order)))
            order += sorted(parts[waiting.pop(0)].keys() - set(order))
        self.variables = [
            _Variable(d, {i: part[d] for i, part in enumerate(parts) if d in part}) for d in order
        ]
        places = {d: place for place, d in enumerate(order)}
        self.coefficients = [term.coefficient for term in terms]
        self.places = [sorted(places[d] for d in part) for part in parts]
        # Of each variable, the terms that it is in: the term, how many of its variables come
        # before, its factor for each class, and the range of the product of its later factors.
        self._uses: list[list[tuple[int, int, list[float], float, float]]] = [
            [] for _ in self.variables
        ]
        for i, where in enumerate(self.places):
            low, high = 1.0, 1.0
            for k, place in reversed(list(enumerate(where))):
                values = self.variables[place].values[i]
                self._uses[place].append((i, k, values, low, high))
                ends = [a * b for a in (low, high) for b in (min(values), max(values))]
                low, high = min(ends), max(ends)

    def possible_values(self, i: int) -> list[float]:
        """All values of a term, the largest first; those that differ by rounding are one."""
        tables = [self.variables[place].values[i] for place in self.places[i]]
        found = sorted(
            {round(float(np.prod(v)), 9) * self.coefficients[i] for v in itertools.product(*tables)}
        )
        return found[::-1]

    def classes_at(self, point: Vector) -> list[int]:
        """The class of each variable at a point of the unit cube."""
        return [variable.class_of(point[variable.dimension]) for variable in self.variables]

    def values_at(self, classes: Sequence[int]) -> list[float]:
        """The values of all terms."""
        return [
            coefficient
            * math.prod(self.variables[place].values[i][classes[place]] for place in where)
            for i, (coefficient, where) in enumerate(
                zip(self.coefficients, self.places, strict=True)
            )
        ]

    def solve(
        self, targets: Sequence[float], preferred: Sequence[Sequence[int]]
    ) -> list[int] | None:
        """Classes of all variables for which the terms have given values.

        Depth first, with jumps back to the latest variable that a contradiction has to do with.

        Parameters
        ----------
        targets : sequence of float
            The value of each term.
        preferred : sequence of sequence of int
            Of each variable, in which order to try its classes.
        """
        chosen = [0] * len(self.variables)
        slacks = [_ROUNDING * abs(c) for c in self.coefficients]
        # Products of the coefficient and the first factors of each term.
        partial = [[c] * (len(p) + 1) for c, p in zip(self.coefficients, self.places, strict=True)]
        steps = 0

        def impossible(place: int, c: int) -> int | None:
            """The first term that cannot have its value any more."""
            for i, k, values, low, high in self._uses[place]:
                product = partial[i][k] * values[c]
                partial[i][k + 1] = product
                least, most = product * low, product * high
                if least > most:
                    least, most = most, least
                if not least - slacks[i] <= targets[i] <= most + slacks[i]:
                    return i
            return None

        def assign(place: int) -> set[int] | None:
            """None if all is well; else the earlier places that make it impossible."""
            nonlocal steps
            if place == len(self.variables):
                return None
            culprits: set[int] = set()
            for c in preferred[place]:
                steps += 1
                if steps > _MAX_STEPS:
                    return set()
                term = impossible(place, c)
                if term is not None:
                    culprits.update(p for p in self.places[term] if p < place)
                    continue
                chosen[place] = c
                found = assign(place + 1)
                if found is None:
                    return None
                if place not in found:
                    return found
                culprits |= found - {place}
            return culprits

        return chosen if assign(0) is None else None


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
        self._system = _System(self.terms)
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
        system = _System(together)
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
                shown &= np.abs(term(points) - value) <= _ROUNDING * abs(term.coefficient)
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
                abs(value - wanted) <= _ROUNDING * abs(coefficient)
                for value, wanted, coefficient in zip(
                    values, pattern, self._system.coefficients, strict=True
                )
            ):
                return p
        return None


class RestrictedSpace(SearchSpace):
    """A space of which only a region is left, with the same coordinates.

    Points outside the region stand for configurations in it, so that every sampler of the whole
    space is one of the region.

    Parameters
    ----------
    space : SearchSpace
    region : Region

    Attributes
    ----------
    whole : SearchSpace
        The space as it was.
    """

    def __init__(self, space: SearchSpace, region: Region) -> None:
        vars(self).update({k: v for k, v in vars(space).items() if k != "dimensions"})
        self.region = region
        self.whole = space
        if space.size is not None and space.size <= _MAX_LISTED:
            self.size = len(self._listed)

    def from_unit(self, u: ArrayLike) -> dict[str, Any]:
        point = np.asarray(u, dtype=float)
        if point.shape == (self.n_dims,) and not np.isnan(point).any():
            point = self.region.project(np.clip(point, 0.0, 1.0))
        return self.whole.from_unit(point)

    def nth(self, index: int) -> dict[str, Any]:
        if self.whole.size is None or self.whole.size > _MAX_LISTED:
            raise TypeError("the configurations of a large space that is restricted have no number")
        return dict(self._listed[index])

    @cached_property
    def dimensions(self) -> tuple[Dimension, ...]:  # type: ignore[override]
        """The coordinates; those of which one level is left have one level."""
        points = np.random.default_rng(0).random((_PILOTS, self.n_dims))
        allowed = self.region.allowed(np.array([self.region.project(point) for point in points]))
        dimensions = list(self.whole.dimensions)
        for d, intervals in allowed.items():
            if len(levels_within(self.whole, d, intervals) or ()) == 1:
                dimensions[d] = replace(dimensions[d], n_levels=1)
        return tuple(dimensions)

    @cached_property
    def _listed(self) -> list[dict[str, Any]]:
        everything = [self.whole.nth(i) for i in range(self.whole.size or 0)]
        inside = self.region.contains(np.array([self.whole.to_unit(p) for p in everything]))
        return [params for params, kept in zip(everything, inside, strict=True) if kept]


def _generator(point: Vector) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(point.tobytes()))


def _measure(intervals: Sequence[Interval]) -> float:
    return sum(high - low for low, high in intervals)


def _merged(intervals: itertools.chain[Interval]) -> list[Interval]:
    merged: list[Interval] = []
    for low, high in sorted(intervals):
        if merged and low <= merged[-1][1] + 1e-12:
            merged[-1] = merged[-1][0], high
        else:
            merged.append((low, high))
    return merged
