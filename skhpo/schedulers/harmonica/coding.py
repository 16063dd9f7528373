"""Codes parameters of any kind by a few functions of mean 0 and variance 1 on the unit interval."""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...space import SearchSpace

__all__ = ["WHOLE", "Factor", "Interval", "code", "levels_within"]

Interval = tuple[float, float]

WHOLE: list[Interval] = [(0.0, 1.0)]


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """A step function of one coordinate of the unit cube.

    Parameters
    ----------
    dimension : int
        The coordinate.
    ends : ndarray of shape (n_steps,)
        Upper ends of the steps, increasing up to 1.
    values : ndarray of shape (n_steps,)
        Value of the function on each step.
    label : object
        Where the function is largest: a value, or a text such as ``"> 0.01"``.
    """

    dimension: int
    ends: NDArray[np.float64]
    values: NDArray[np.float64]
    label: Any

    def __call__(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the values at some points of the coordinate."""
        step = np.minimum(np.searchsorted(self.ends, u, side="right"), len(self.ends) - 1)
        values: NDArray[np.float64] = self.values[step]
        return values


def code(space: SearchSpace, dimension: int, allowed: Sequence[Interval]) -> list[Factor]:
    """Return the functions that code a coordinate which is uniform on the allowed intervals.

    They have mean 0 and variance 1 there, and are 0 elsewhere.

    * *Two levels*: one function, +1 and -1 if both are equally likely (the bit of the paper).
    * *Choices*: one function per level, which separates it from all others.
    * *Numbers*, and sorted lists of numbers: the half of the range, and for each half the quarter
      in it (Haar wavelets). They are orthogonal, and halves and quarters are as equal in
      probability as the levels allow. A quarter of the half that is kept is chosen by what is
      known of that half: functions of all quarters would choose it by the other half, too. The
      allowed intervals shrink from stage to stage, and the halves and quarters with them.

    Parameters
    ----------
    space : SearchSpace
    dimension : int
    allowed : sequence of (float, float)
        Disjoint sorted intervals of the coordinate.

    Returns
    -------
    factors : list of Factor
        Empty if only one level is allowed.
    """
    levels = levels_within(space, dimension, allowed)
    if levels is not None and len(levels) < 2:
        return []
    if levels is not None and not _is_ordered(space, dimension, levels):
        return _choices(space, dimension, levels)
    left, right = _halves(levels, allowed)
    cells = [*left, *right]
    weights = np.array([_measure(cell) for cell in cells])
    weights /= weights.sum()
    side = np.repeat([-1.0, 1.0], [len(left), len(right)])
    fine = np.concatenate([[-1.0, 1.0] if len(half) == 2 else [0.0] for half in (left, right)])
    quarters = [np.where(side == half, fine, 0.0) for half in (-1.0, 1.0)]
    functions = _orthonormal([side, *quarters], weights)
    return [
        _factor(dimension, cells, values, _range_label(space, dimension, cells, values))
        for values in functions
    ]


def levels_within(
    space: SearchSpace, dimension: int, allowed: Sequence[Interval]
) -> list[Interval] | None:
    """Return the intervals of the allowed levels, or None for a continuous coordinate."""
    ends = space.level_ends(dimension)
    if ends is None:
        return None
    cells = itertools.pairwise([0.0, *ends])
    return [
        (low, high)
        for low, high in cells
        if high > low and any(a <= (low + high) / 2 < b for a, b in allowed)
    ]


def _is_ordered(space: SearchSpace, dimension: int, levels: Sequence[Interval]) -> bool:
    if space.dimensions[dimension].kind != "choice":
        return True
    values = [space.value_at(dimension, (low + high) / 2) for low, high in levels]
    if space.dimensions[dimension].name is None or len(values) < 3:
        return False
    if not all(isinstance(v, numbers.Real) and not isinstance(v, bool) for v in values):
        return False
    steps = [b > a for a, b in itertools.pairwise(values)]
    return all(steps) or not any(steps)


def _choices(space: SearchSpace, dimension: int, levels: Sequence[Interval]) -> list[Factor]:
    weights = np.array([high - low for low, high in levels])
    weights /= weights.sum()
    factors = []
    for i in range(1 if len(levels) == 2 else 0, len(levels)):
        one = np.arange(len(levels)) == i
        p = weights[i]
        values = np.where(one, 1 - p, -p) / np.sqrt(p * (1 - p))
        label = space.value_at(dimension, sum(levels[i]) / 2)
        factors.append(_factor(dimension, [[level] for level in levels], values, label))
    return factors


def _halves(
    levels: Sequence[Interval] | None, allowed: Sequence[Interval]
) -> tuple[list[list[Interval]], list[list[Interval]]]:
    """Return the allowed quarters of the lower half and of the upper half."""
    if levels is None:
        lower, upper = _cut(allowed)
        return [*map(list, _cut(lower))], [*map(list, _cut(upper))]
    low_levels, high_levels = _split(levels)
    return (
        [*map(list, _split(low_levels))] if len(low_levels) > 1 else [list(low_levels)],
        [*map(list, _split(high_levels))] if len(high_levels) > 1 else [list(high_levels)],
    )


def _cut(intervals: Sequence[Interval]) -> tuple[list[Interval], list[Interval]]:
    """Cut intervals at half of their total length."""
    left = _measure(intervals) / 2
    lower: list[Interval] = []
    upper: list[Interval] = []
    for low, high in intervals:
        middle = min(low + left, high)
        left -= middle - low
        if middle > low:
            lower.append((low, middle))
        if high > middle:
            upper.append((middle, high))
    return lower, upper


def _split(levels: Sequence[Interval]) -> tuple[Sequence[Interval], Sequence[Interval]]:
    """Split two or more levels into two parts of most equal probability."""
    sums = np.cumsum([high - low for low, high in levels])
    place = 1 + int(np.argmin(np.abs(sums[:-1] - sums[-1] / 2)))
    return levels[:place], levels[place:]


def _measure(intervals: Sequence[Interval]) -> float:
    return sum(high - low for low, high in intervals)


def _orthonormal(
    functions: Sequence[NDArray[np.float64]], weights: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Orthonormalize (Gram-Schmidt) after the constant, and drop dependent functions."""
    basis = [np.ones_like(weights)]
    for function in functions:
        rest = function - sum((weights @ (function * other)) * other for other in basis)
        size = float(np.sqrt(weights @ rest**2))
        if size > 1e-6:
            basis.append(rest / size)
    return basis[1:]


def _factor(
    dimension: int, cells: Sequence[Sequence[Interval]], values: NDArray[np.float64], label: Any
) -> Factor:
    steps = sorted(
        (low, high, float(value))
        for cell, value in zip(cells, values, strict=True)
        for low, high in cell
    )
    ends: list[float] = []
    heights: list[float] = []
    reached = 0.0
    for low, high, value in steps:
        if low > reached:
            ends.append(low)
            heights.append(0.0)
        ends.append(high)
        heights.append(value)
        reached = high
    if reached < 1.0:
        ends.append(1.0)
        heights.append(0.0)
    return Factor(dimension, np.array(ends), np.array(heights), label)


def _range_label(
    space: SearchSpace,
    dimension: int,
    cells: Sequence[Sequence[Interval]],
    values: NDArray[np.float64],
) -> str:
    """Return as text where a function of numbers is positive."""
    steps = sorted(
        (low, high, value > 1e-9)
        for cell, value in zip(cells, values, strict=True)
        for low, high in cell
    )
    merged: list[list[Any]] = []
    for low, high, positive in steps:
        if merged and merged[-1][2] == positive:
            merged[-1][1] = high
        else:
            merged.append([low, high, positive])
    discrete = space.level_ends(dimension) is not None
    parts = []
    for place, (low, high, positive) in enumerate(merged):
        if positive:
            first, last = place == 0, place == len(merged) - 1
            parts.append(_range_text(space, dimension, low, high, first, last, discrete))
    return " or ".join(parts)


def _range_text(
    space: SearchSpace,
    dimension: int,
    low: float,
    high: float,
    first: bool,
    last: bool,
    discrete: bool,
) -> str:
    inside = (high - low) * 1e-6
    lower = space.value_at(dimension, low + inside if discrete else low)
    upper = space.value_at(dimension, high - inside if discrete else high)
    if discrete and lower == upper:
        return f"{lower:.4g}"
    if first and not last:
        return f"<= {upper:.4g}"
    if last and not first:
        return f">= {lower:.4g}"
    return f"{lower:.4g} to {upper:.4g}"
