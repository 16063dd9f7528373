"""Solves systems of equations in products of step functions."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .coding import Factor, Interval

__all__ = ["ROUNDING", "System", "Term"]

Vector = NDArray[np.float64]

# Relative differences below this count as rounding.
ROUNDING = 1e-6

# Number of steps after which the search for a solution ends without one.
_MAX_STEPS = 20_000


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """A coefficient times a product of functions of different parameters.

    Parameters
    ----------
    coefficient : float
    factors : tuple of Factor
        May contain several of the same coordinate.
    """

    coefficient: float
    factors: tuple[Factor, ...]

    def __call__(self, points: Vector) -> Vector:
        """Return the values at points of the unit cube, of shape (n_points, n_dims)."""
        values = np.full(len(points), self.coefficient)
        for factor in self.factors:
            values *= factor(points[:, factor.dimension])
        return values


class Variable:
    """A coordinate in some terms; steps on which no term differs form one class."""

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
        """Return the point of another class at the same relative position as `u` in its own."""
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


class System:
    """The coordinates of some terms, ordered so that terms are complete early."""

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
            Variable(d, {i: part[d] for i, part in enumerate(parts) if d in part}) for d in order
        ]
        places = {d: place for place, d in enumerate(order)}
        self.coefficients = [term.coefficient for term in terms]
        self.places = [sorted(places[d] for d in part) for part in parts]
        # For each variable, its terms: the number of the term, how many of the term's variables
        # come before, the factor for each class, and the range of the product of later factors.
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
        """Return all values of a term, largest first, without those that differ by rounding."""
        tables = [self.variables[place].values[i] for place in self.places[i]]
        found = sorted(
            {round(float(np.prod(v)), 9) * self.coefficients[i] for v in itertools.product(*tables)}
        )
        return found[::-1]

    def classes_at(self, point: Vector) -> list[int]:
        """Return the class of each variable at a point of the unit cube."""
        return [variable.class_of(point[variable.dimension]) for variable in self.variables]

    def values_at(self, classes: Sequence[int]) -> list[float]:
        """Return the values of all terms."""
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
        """Find classes of all variables for which the terms have given values.

        Depth first, with jumps back to the latest variable that is part of a contradiction.

        Parameters
        ----------
        targets : sequence of float
            Value of each term.
        preferred : sequence of sequence of int
            For each variable, the order in which its classes are tried.
        """
        chosen = [0] * len(self.variables)
        slacks = [ROUNDING * abs(c) for c in self.coefficients]
        # For each term, products of the coefficient and its first factors.
        partial = [[c] * (len(p) + 1) for c, p in zip(self.coefficients, self.places, strict=True)]
        steps = 0

        def impossible(place: int, c: int) -> int | None:
            """Return the first term that cannot have its target any more."""
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
            """Return None on success, else the earlier places that make it impossible."""
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


def _measure(intervals: Sequence[Interval]) -> float:
    return sum(high - low for low, high in intervals)
