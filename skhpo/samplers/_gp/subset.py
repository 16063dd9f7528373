"""Subsets of many scores and of many pending points for the posterior.

A prediction costs the square of the number of scores. Around the best points, where the next one is
chosen, it depends on the scores nearby (Gramacy and Apley, 2015, "Local Gaussian process
approximation for large computer experiments"; around the best, as in Eriksson et al., 2019,
"Scalable global optimization via local Bayesian optimization").
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .acquisition import Acquisition
from .coordinates import Coordinates
from .settings import SETTINGS

__all__ = ["modelled_rows", "modelled_running", "spread"]

Array = NDArray[np.float64]


def modelled_rows(
    coordinates: Coordinates, theta: Array, z: Array, preference: Array
) -> NDArray[np.intp]:
    """Rows of the scores in the posterior: all, or of many a subset.

    A quarter of the subset have the largest preference, half are the nearest to one of the very
    best (in the length scales of theta), and the rest are evenly spaced among the others, in the
    order of observation.
    """
    n = SETTINGS.n_modelled
    if len(z) <= SETTINGS.most_modelled:
        return np.arange(len(z))
    order = np.argsort(-preference, kind="stable")
    kept = np.zeros(len(z), dtype=bool)
    kept[order[: n // 4]] = True
    best = z[order[: SETTINGS.n_observed_centres]]
    distances = coordinates.distances(best, z, theta[: coordinates.n_dims]).min(axis=0)
    distances[kept] = np.inf
    kept[np.argsort(distances, kind="stable")[: n // 2]] = True
    kept[spread(np.flatnonzero(~kept), n - int(np.count_nonzero(kept)))] = True
    return np.flatnonzero(kept)


def modelled_running(n_observed: int, z: Array, acquisition: Callable[[], Acquisition]) -> Array:
    """The pending points with the largest acquisition (without them), if there are too many."""
    n = max(SETTINGS.most_running, SETTINGS.most_modelled - n_observed)
    if len(z) <= n:
        return z
    return z[np.sort(np.argsort(-acquisition()(z), kind="stable")[:n])]


def spread(rows: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """`n` evenly spaced rows; none if `n` is not positive."""
    chosen: NDArray[np.intp] = rows[np.linspace(0, len(rows) - 1, max(n, 0)).astype(int)]
    return chosen
