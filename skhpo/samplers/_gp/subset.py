"""Which of many scores the posterior has, and which of the many points that run.

A Gaussian process of all scores costs their square for each point that it is asked about. Where the
next point is decided, around the best ones, it depends on few of them, those nearby (Gramacy and
Apley, 2015, "Local Gaussian process approximation for large computer experiments"; around the best,
as in Eriksson et al., 2019, "Scalable global optimization via local Bayesian optimization").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .acquisition import LogExpectedImprovement
from .coordinates import Coordinates
from .posterior import Posterior
from .settings import SETTINGS

__all__ = ["modelled_rows", "modelled_running", "spread"]

Array = NDArray[np.float64]


def modelled_rows(coordinates: Coordinates, theta: Array, z: Array, y: Array) -> NDArray[np.intp]:
    """Which scores the posterior has: all of few; of many the best, their neighbours, and others.

    Parameters
    ----------
    coordinates : Coordinates
    theta : ndarray of shape (d + 2,)
        Logarithms of length scales first, in which distances are measured.
    z : ndarray of shape (n, n_columns)
    y : ndarray of shape (n,)
        Transformed scores.

    Returns
    -------
    rows : ndarray of int
        Increasing. A quarter are the best; half those nearest to one of the very best; the rest are
        spread evenly over the others, in the order in which they came.
    """
    n = SETTINGS.n_modelled
    if len(y) <= SETTINGS.most_modelled:
        return np.arange(len(y))
    order = np.argsort(-y, kind="stable")
    kept = np.zeros(len(y), dtype=bool)
    kept[order[: n // 4]] = True
    best = z[order[: SETTINGS.n_observed_centres]]
    distances = coordinates.distances(best, z, theta[: coordinates.n_dims]).min(axis=0)
    distances[kept] = np.inf
    kept[np.argsort(distances, kind="stable")[: n // 2]] = True
    kept[spread(np.flatnonzero(~kept), n - int(np.count_nonzero(kept)))] = True
    return np.flatnonzero(kept)


def modelled_running(posterior: Posterior, z: Array) -> Array:
    """Of many points that run, those where most improvement is expected: they are in the way.

    Parameters
    ----------
    posterior : Posterior
        Of the scores that are known.
    z : ndarray of shape (m, n_columns)
    """
    n = max(SETTINGS.most_running, SETTINGS.most_modelled - len(posterior.z))
    if len(z) <= n:
        return z
    expected = LogExpectedImprovement(posterior)(z)
    return z[np.sort(np.argsort(-expected, kind="stable")[:n])]


def spread(rows: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """So many rows, evenly spaced; none where `n` is not positive."""
    chosen: NDArray[np.intp] = rows[np.linspace(0, len(rows) - 1, max(n, 0)).astype(int)]
    return chosen
