"""Logarithm of the expected hypervolume improvement of two or three objectives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from ...objectives import pareto_ranks
from .acquisition import Acquisition, log_h
from .boxes import non_dominated_boxes
from .posterior import Posterior

__all__ = ["LogExpectedHypervolumeImprovement", "log_expected_volume", "reference_point"]

Array = NDArray[np.float64]

# How far the reference lies below the worst values, as a share of their range: the ends of a front
# count, too.
_BELOW = 0.1


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
        # By fantasy; none where no point is feasible.
        self._boxes: list[tuple[Array, Array] | None] = []
        for fantasy in range(means.shape[1]):
            known = means[:, fantasy] if feasible is None else means[feasible[:, fantasy], fantasy]
            boxes = None
            if len(known):
                front = known[pareto_ranks(known) == 1]
                boxes = non_dominated_boxes(front, reference_point(known))
            self._boxes.append(boxes)

    def by_fantasy(self, z: Array) -> Array:
        predicted = [posterior.predict(z) for posterior in self.posteriors]
        std = np.stack([std for _, std in predicted], axis=1)
        values = np.zeros((len(z), len(self._boxes)))
        for fantasy, boxes in enumerate(self._boxes):
            if boxes is not None:
                mean = np.stack([mean[:, fantasy] for mean, _ in predicted], axis=1)
                values[:, fantasy] = log_expected_volume(mean, std, *boxes)
        return values


def reference_point(points: Array) -> Array:
    """A reference a little below the worst values of points, of shape (n, n_objectives).

    The worst of all points rather than of their front, whose ends may not have been found.
    """
    spans = np.ptp(points, axis=0)
    return np.asarray(points.min(axis=0) - _BELOW * np.where(spans > 0.0, spans, 1.0))


def log_expected_volume(mean: Array, std: Array, lower: Array, upper: Array) -> Array:
    """Logarithm of the expected volume that a random point dominates in boxes.

    The coordinates of the point are independent and normal. In a box, the expectation is the
    product over the objectives of ``psi(lower) - psi(upper)``, with the expected improvement
    ``psi(a) = E max(y - a, 0)`` (Emmerich et al., 2011, "Hypervolume-based expected improvement:
    monotonicity properties and exact computation"; the logarithm as for `log_h`).

    Parameters
    ----------
    mean, std : ndarray of shape (m, n_objectives)
    lower, upper : ndarray of shape (n_boxes, n_objectives)
        Disjoint boxes that contain, with a point, all that it dominates of their union.

    Returns
    -------
    values : ndarray of shape (m,)
    """
    total = np.zeros((len(mean), len(lower)))
    for mu, sigma, low, high in zip(mean.T, std.T, lower.T, upper.T, strict=True):
        # Boxes share their ends.
        ends, places = np.unique(np.concatenate([low, high]), return_inverse=True)
        is_finite = np.isfinite(ends)
        log_psi = np.full((len(mu), len(ends)), -np.inf)
        x = (mu[:, None] - ends[is_finite]) / sigma[:, None]
        log_psi[:, is_finite] = log_h(x) + np.log(sigma)[:, None]
        at_low, at_high = log_psi[:, places[: len(low)]], log_psi[:, places[len(low) :]]
        with np.errstate(divide="ignore"):
            total += at_low + np.log(-np.expm1(at_high - at_low))
    return np.asarray(logsumexp(total, axis=1))
