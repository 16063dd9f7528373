"""Fronts of Pareto, and the order in which points of several objectives are promoted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "bound_violations",
    "pareto_ranks",
    "promotion_order",
    "spread_order",
    "total_violation",
]

Array = NDArray[np.float64]


def bound_violations(value: Any, low: float | None, high: float | None) -> list[Any]:
    """Return how far bounds are exceeded, relative to each bound (itself where that is 0).

    Parameters
    ----------
    value : float or ndarray
    low, high : float or None
        None is no bound.

    Returns
    -------
    list of float or ndarray
        One item per bound: at most 0 where it holds.

    Examples
    --------
    >>> from skhpo.objectives import bound_violations
    >>> bound_violations(60.0, None, 50.0)
    [0.2]
    """
    found = []
    if low is not None:
        found.append((low - value) / (abs(low) or 1.0))
    if high is not None:
        found.append((value - high) / (abs(high) or 1.0))
    return found


def total_violation(violations: ArrayLike) -> Array:
    """Return how far points are from being feasible: the sum of their positive violations.

    Parameters
    ----------
    violations : array-like of shape (n_points, n_constraints)
        Relative to their bounds, so that they can be added.

    Returns
    -------
    ndarray of shape (n_points,)
        0 for feasible points; infinity where a violation is NaN.

    Examples
    --------
    >>> from skhpo.objectives import total_violation
    >>> total_violation([[-1.0, 0.0], [0.5, -3.0], [0.5, 0.25]])
    array([0.  , 0.5 , 0.75])
    """
    given = np.asarray(violations, dtype=float)
    positive = np.where(np.isnan(given), np.inf, np.maximum(given, 0.0))
    total: Array = positive.sum(axis=1)
    return total


def pareto_ranks(values: ArrayLike, violations: ArrayLike | None = None) -> NDArray[np.int32]:
    """Return the number of the front of each point, by non-dominated sorting [1]_.

    A point dominates another one if it is at least as good in all objectives, and better in one.
    Front 1 are the feasible points that no feasible one dominates, front 2 those that only points
    of front 1 dominate, and so on. Infeasible points follow, each after all with a smaller
    `total_violation`, and failed ones come last.

    Parameters
    ----------
    values : array-like of shape (n_points, n_objectives)
        Larger is better; a row with NaN has failed.
    violations : array-like of shape (n_points, n_constraints) or None, default=None
        At most 0 where a constraint holds.

    Returns
    -------
    ndarray of int32, shape (n_points,)
        From 1.

    References
    ----------
    .. [1] K. Deb, A. Pratap, S. Agarwal, T. Meyarivan. A fast and elitist multiobjective genetic
       algorithm: NSGA-II. IEEE Transactions on Evolutionary Computation 6 (2002), sections III.A
       and VI.

    Examples
    --------
    >>> from skhpo.objectives import pareto_ranks
    >>> pareto_ranks([[2.0, 0.0], [1.0, 1.0], [1.0, 0.0], [3.0, float("nan")]])
    array([1, 1, 2, 3], dtype=int32)
    """
    points = np.asarray(values, dtype=float)
    failed = np.isnan(points).any(axis=1)
    violation = np.zeros(len(points)) if violations is None else total_violation(violations)
    ranks = np.zeros(len(points), dtype=np.int32)
    feasible = ~failed & (violation == 0)
    if feasible.any():
        ranks[feasible] = _fronts(points[feasible])
    infeasible = ~failed & (violation > 0)
    if infeasible.any():
        _, order = np.unique(violation[infeasible], return_inverse=True)
        ranks[infeasible] = ranks.max() + 1 + order
    ranks[failed] = ranks.max(initial=0) + 1
    return ranks


def _fronts(points: Array) -> NDArray[np.intp]:
    """Return front numbers of points without NaN.

    From the largest on in lexicographic order no point dominates an earlier one, so that each goes
    to the first front without a point that dominates it, found by bisection: if one of a front
    dominates it, so does one of every earlier front (Zhang et al., 2015, "An efficient approach to
    nondominated sorting for evolutionary multiobjective optimization").
    """
    ascending, place = np.unique(points, axis=0, return_inverse=True)
    fronts: list[Any] = []  # arrays with room for more, and the number of points in each
    sizes: list[int] = []
    number = np.empty(len(ascending), dtype=np.intp)
    for i in range(len(ascending) - 1, -1, -1):
        point = ascending[i]
        low, high = 0, len(fronts)
        while low < high:
            middle = (low + high) // 2
            if (fronts[middle][: sizes[middle]] >= point).all(axis=1).any():
                low = middle + 1
            else:
                high = middle
        if low == len(fronts):
            fronts.append(np.empty((8, points.shape[1])))
            sizes.append(0)
        if sizes[low] == len(fronts[low]):
            fronts[low] = np.concatenate([fronts[low], np.empty_like(fronts[low])])
        fronts[low][sizes[low]] = point
        sizes[low] += 1
        number[i] = low + 1
    return number[place.reshape(-1)]


def spread_order(values: ArrayLike) -> NDArray[np.intp]:
    """Return the order of an epsilon-net [1]_: however many are taken, they are far apart.

    The point that is best in the first objective comes first, then always the one with the largest
    distance to those before it. Each objective is scaled to its range; of equal ones the first
    counts.

    Parameters
    ----------
    values : array-like of shape (n_points, n_objectives)
        Without NaN; those of one front.

    Returns
    -------
    ndarray of int, shape (n_points,)

    References
    ----------
    .. [1] R. Schmucker, M. Donini, M. B. Zafar, D. Salinas, C. Archambeau. Multi-objective
       Asynchronous Successive Halving. arXiv 2106.12639 (2021).

    Examples
    --------
    >>> from skhpo.objectives import spread_order
    >>> spread_order([[0.0, 3.0], [1.0, 2.0], [1.5, 1.5], [3.0, 0.0]])
    array([3, 0, 2, 1])
    """
    # Infinity is farther than all else, and no number to compute with.
    points = np.clip(np.asarray(values, dtype=float), -1e300, 1e300)
    n = len(points)
    order = np.empty(n, dtype=np.intp)
    if not n:
        return order
    half = points / 2  # whose range does not overflow
    span = half.max(axis=0) - half.min(axis=0)
    scaled = (half - half.min(axis=0)) / np.where(span > 0, span, 1.0)
    distance = np.full(n, np.inf)
    chosen = int(np.argmax(points[:, 0]))
    for i in range(n):
        order[i] = chosen
        squares = ((scaled - scaled[chosen]) ** 2).sum(axis=1)
        distance = np.minimum(distance, squares)
        distance[chosen] = -1.0  # which is never the largest again
        chosen = int(np.argmax(distance))
    return order


def promotion_order(values: ArrayLike, violations: ArrayLike | None = None) -> NDArray[np.intp]:
    """Return points in the order of promotion: by `pareto_ranks`, inside a front spread apart.

    Parameters
    ----------
    values, violations
        As of `pareto_ranks`.

    Returns
    -------
    ndarray of int, shape (n_points,)
        Infeasible points by their violation, failed ones in the end; equal ones by number.

    Examples
    --------
    >>> from skhpo.objectives import promotion_order
    >>> promotion_order([[0.0, 0.0], [0.0, 2.0], [1.0, 1.0], [2.0, 0.0]])
    array([3, 1, 2, 0])
    """
    points = np.asarray(values, dtype=float)
    ranks = pareto_ranks(points, violations)
    violation = np.zeros(len(points)) if violations is None else total_violation(violations)
    order = np.argsort(ranks, kind="stable")
    sizes = np.unique(ranks, return_counts=True)[1]
    for front in np.split(order, np.cumsum(sizes)[:-1]) if len(order) else ():
        if violation[front[0]] == 0 and not np.isnan(points[front]).any():
            front[:] = front[spread_order(points[front])]
    return order
