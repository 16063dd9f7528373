"""The expected hypervolume improvement, exactly, from a partition of the space into boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .acquisition import Acquisition, log_h, log_sums
from .posterior import Posterior

__all__ = [
    "LogExpectedHypervolumeImprovement",
    "non_dominated_boxes",
    "reference_point",
]

Array = NDArray[np.float64]

# How far the reference lies below the worst values, as a share of their range: the ends of a front
# count, too.
_BELOW = 0.1
# The same where only some points are feasible. Few of them span little of the front, which else
# would be followed in small steps.
_BELOW_FEASIBLE = 1.0


def non_dominated_boxes(points: Array, reference: Array) -> tuple[Array, Array]:
    """Cut what lies above the reference and is dominated by no point into disjoint boxes.

    Parameters
    ----------
    points : ndarray of shape (n, 2) or (n, 3)
        Points may dominate one another, and lie below the reference.
    reference : ndarray of shape (2,) or (3,)

    Returns
    -------
    lower, upper : ndarray of shape (n_boxes, 2) or (n_boxes, 3)
        Opposite corners, with infinite upper ends: at most ``n + 1`` boxes for two objectives, and
        ``2 n + 1`` for three (Yang et al., 2019, "Efficient computation of expected hypervolume
        improvement using box decomposition algorithms", whose sweep this is).
    """
    points = points[(points > reference).all(axis=1)]
    if len(reference) == 2:
        # A slab of a constant third objective, whose height is left out again.
        points = np.column_stack([points, np.ones(len(points))])
        lower, upper = _sweep(points, np.append(reference, 0.0))
        bottom = lower[:, 2] == 0.0
        return lower[bottom, :2], upper[bottom, :2]
    return _sweep(points, reference)


def _sweep(points: Array, reference: Array) -> tuple[Array, Array]:
    """Move a plane down the third objective, and cut what it crosses into strips.

    A strip is ``(left, right, bottom, top)``: between left and right in the first objective, above
    bottom in the second, and not dominated below top in the third. A point ends the strips of
    which it dominates a part.
    """
    left, bottom, floor = reference.tolist()
    strips = [(left, np.inf, bottom, np.inf)]
    boxes: list[tuple[float, ...]] = []  # lower corner, upper corner
    for x, y, z in points[np.argsort(-points[:, 2], kind="stable")].tolist():
        first = next(i for i, strip in enumerate(strips) if strip[2] < y)
        last = first
        while last < len(strips) and strips[last][0] < x and strips[last][2] < y:
            left, right, bottom, top = strips[last]
            if top > z:
                boxes.append((left, bottom, z, right, np.inf, top))
            last += 1
        if last == first:  # dominated
            continue
        new = [(strips[first][0], x, y, z)]
        _, right, bottom, _ = strips[last - 1]
        if right > x:
            new.append((x, right, bottom, z))
        strips[first:last] = new
    boxes += [(left, bottom, floor, right, np.inf, top) for left, right, bottom, top in strips]
    corners = np.array(boxes)
    return corners[:, :3], corners[:, 3:]


class LogExpectedHypervolumeImprovement(Acquisition):
    """Logarithm of the expected growth of the volume that the posterior means dominate.

    Parameters
    ----------
    posteriors : sequence of Posterior
        Of two or three objectives.
    points : ndarray of shape (n, n_columns)
        Observed and pending points.
    feasible : ndarray of bool, shape (n, s), or None, default=None
        As for `LogExpectedImprovement`.
    """

    def __init__(
        self,
        posteriors: Sequence[Posterior],
        points: Array,
        feasible: NDArray[np.bool_] | None = None,
    ) -> None:
        self.posteriors = posteriors
        wanted = posteriors[0].coordinates.wanted(points)
        means = np.stack([posterior.predict(wanted)[0] for posterior in posteriors], axis=2)
        counts = np.ones(means.shape[:2], dtype=bool) if feasible is None else feasible
        # Where no point is feasible, all are worth the same.
        self._n_fantasies = means.shape[1]
        self._known = np.flatnonzero(counts.any(axis=0))
        boxes = []
        for fantasy in self._known:
            known = means[counts[:, fantasy], fantasy]
            below = _BELOW if counts[:, fantasy].all() else _BELOW_FEASIBLE
            # Nor is it nearer than where all are feasible: few may be much alike.
            least = _BELOW * np.ptp(means[:, fantasy], axis=0)
            reference = reference_point(known, below, least)
            boxes.append(non_dominated_boxes(_best_of(known), reference))
        self._boxes = _Boxes(boxes)

    def by_fantasy(self, z: Array) -> Array:
        predicted = [posterior.predict(z) for posterior in self.posteriors]
        std = np.stack([std for _, std in predicted], axis=1)
        means = np.stack([mean for mean, _ in predicted], axis=2)
        values = np.zeros((len(z), self._n_fantasies))
        if len(self._known):
            values[:, self._known] = self._boxes.log_volumes(means[:, self._known], std)
        return values


class _Boxes:
    """Boxes of several fantasies, of whose ends each is computed once.

    The coordinates of a point are independent and normal. The expected volume that it dominates in
    a box is the product over the objectives of ``psi(lower) - psi(upper)``, with the expected
    improvement ``psi(a) = E max(y - a, 0)`` (Emmerich et al., 2011, "Hypervolume-based expected
    improvement: monotonicity properties and exact computation"; the logarithm as for `log_h`).

    Parameters
    ----------
    boxes : sequence of (lower, upper)
        By fantasy, of shape (n_boxes, n_objectives).
    """

    def __init__(self, boxes: Sequence[tuple[Array, Array]]) -> None:
        sizes = [len(lower) for lower, _ in boxes]
        self._starts = np.cumsum([0, *sizes[:-1]])
        # By objective: finite ends, the fantasy of each, and where those of the boxes are.
        self._ends: list[tuple[Array, NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]] = []
        for k in range(boxes[0][0].shape[1] if boxes else 0):
            ends, owners, low, high = [], [], [], []
            n = 0
            for fantasy, (lower, upper) in enumerate(boxes):
                both = np.concatenate([lower[:, k], upper[:, k]])
                own, places = np.unique(both, return_inverse=True)
                finite = own[np.isfinite(own)]  # an infinite one is the last
                ends.append(finite)
                owners += [fantasy] * len(finite)
                places = np.where(places < len(finite), places + n, -1)
                low.append(places[: len(lower)])
                high.append(places[len(lower) :])
                n += len(finite)
            self._ends.append(
                (
                    np.concatenate(ends),
                    np.array(owners, dtype=np.intp),
                    np.concatenate(low),
                    np.concatenate(high),
                )
            )

    def log_volumes(self, means: Array, std: Array) -> Array:
        """Return expectations of shape (m, s) for means (m, s, n_objectives) and `std`."""
        total: Any = 0.0
        for k, (ends, owners, low, high) in enumerate(self._ends):
            sigma = std[:, [k]]
            # The last column is that of infinite ends.
            log_psi = np.full((len(means), len(ends) + 1), -np.inf)
            log_psi[:, :-1] = log_h((means[:, owners, k] - ends) / sigma) + np.log(sigma)
            at_low, at_high = log_psi[:, low], log_psi[:, high]
            with np.errstate(divide="ignore"):
                total = total + at_low + np.log(-np.expm1(at_high - at_low))
        return log_sums(total, self._starts)


def _best_of(points: Array) -> Array:
    """Return the points that no other one dominates."""
    better = (points[:, None] >= points).all(axis=2) & (points[:, None] > points).any(axis=2)
    return points[~better.any(axis=0)]


def reference_point(points: Array, below: float = _BELOW, least: Array | float = 0.0) -> Array:
    """A reference below the worst values of points, of shape (n, n_objectives).

    The worst of all points rather than of their front, whose ends may not have been found; `below`
    is a share of their range, and `least` the smallest distance.
    """
    spans = np.ptp(points, axis=0)
    distances = np.maximum(below * np.where(spans > 0.0, spans, 1.0), least)
    return np.asarray(points.min(axis=0) - distances)
