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
        # Of each term: its coefficient, the places of its variables, and between which numbers
        # the product of its factors from each of them on lies.
        self.coefficients = [term.coefficient for term in terms]
        self.places = [sorted(places[d] for d in part) for part in parts]
        self._later: list[dict[int, Interval]] = []
        for i, where in enumerate(self.places):
            low, high = 1.0, 1.0
            later = {}
            for place in reversed(where):
                later[place] = low, high
                values = self.variables[place].values[i]
                ends = [a * b for a in (low, high) for b in (min(values), max(values))]
                low, high = min(ends), max(ends)
            self._later.append(later)

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
        self, targets: Sequence[float | None], preferred: Sequence[Sequence[int]]
    ) -> list[int] | None:
        """Classes of all variables for which the terms have given values.

        Depth first, with jumps back to the latest variable that a contradiction has to do with.

        Parameters
        ----------
        targets : sequence of float or None
            The value of each term, None for any.
        preferred : sequence of sequence of int
            Of each variable, in which order to try its classes.
        """
        chosen = [0] * len(self.variables)
        # Partial products of each term, up to each of its variables.
        partial: list[dict[int, float]] = [{-1: c} for c in self.coefficients]
        before = [{b: a for a, b in itertools.pairwise([-1, *where])} for where in self.places]
        steps = 0

        def wrong(place: int, c: int) -> int | None:
            """The first term that cannot have its value any more."""
            for i, values in self.variables[place].values.items():
                target = targets[i]
                product = partial[i][before[i][place]] * values[c]
                partial[i][place] = product
                if target is not None:
                    low, high = sorted(product * end for end in self._later[i][place])
                    slack = _ROUNDING * abs(self.coefficients[i])
                    if not low - slack <= target <= high + slack:
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
                term = wrong(place, c)
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
    witnesses : sequence of list of int
        Of each pattern, classes of the variables that show it.
    """

    def __init__(
        self,
        terms: Sequence[Term] = (),
        patterns: Sequence[tuple[float, ...]] = ((),),
        witnesses: Sequence[list[int]] = ((),),  # type: ignore[assignment]
    ) -> None:
        self.terms = list(terms)
        self.patterns = list(patterns)
        self._witnesses = list(witnesses)
        self._system = _System(self.terms)

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
            How many patterns of values to keep, the largest sum first.
        """
        if not terms:
            return self
        together = [*self.terms, *terms]
        system = _System(together)
        new = [system.possible_values(i) for i in range(len(self.terms), len(together))]
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
        return Region(together, patterns, witnesses) if patterns else self

    def __contains__(self, point: Vector) -> bool:
        return self._pattern_of(self._system.classes_at(point)) is not None

    def project(self, point: Vector) -> Vector:
        """A point of the region: the given one, with as much changed as the patterns demand.

        Uniform points become, for each pattern, about uniform ones of its part of the region.
        """
        classes = self._system.classes_at(point)
        if self._pattern_of(classes) is not None:
            return point
        rng = np.random.default_rng(zlib.crc32(point.tobytes()))
        p = int(rng.integers(len(self.patterns)))
        preferred = []
        for variable, own in zip(self._system.variables, classes, strict=True):
            others = [c for c in range(variable.n_classes) if c != own]
            preferred.append([own, *(rng.permutation(others) if len(others) > 1 else others)])
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
        everything = map(self.whole.nth, range(self.whole.size or 0))
        return [params for params in everything if self.whole.to_unit(params) in self.region]


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
