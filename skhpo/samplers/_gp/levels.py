"""Scores that were taken at several resources, in one model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .coordinates import Coordinates
from .settings import SETTINGS
from .subset import spread

__all__ = ["LevelCoordinates", "at_top", "useful_rows"]

Array = NDArray[np.float64]


class LevelCoordinates(Coordinates):
    """Coordinates with one more: how high on the ladder of resources a score was taken.

    So the kernel learns how much a short fit says about a long one. Points without a height are
    at the top, where predictions are wanted.
    """

    def __init__(self, coordinates: Coordinates) -> None:
        self.__dict__.update(coordinates.__dict__)
        self.n_dims = coordinates.n_dims + 1

    def encode(self, u: Array, height: Array | float = 1.0) -> Array:
        """As of `Coordinates`; `height` of shape (n,) or a number, from 0 to 1, is appended."""
        return np.column_stack([super().encode(u), np.broadcast_to(height, len(u))])

    def wanted(self, z: Array) -> Array:
        """The same configurations at the top."""
        return np.column_stack([z[:, :-1], np.ones(len(z))])

    def differences(self, z: Array) -> Array:
        i, j = np.tril_indices(len(z), -1)
        out = super().differences(z)
        out[-1] = (z[i, -1] - z[j, -1]) ** 2
        return out

    def distances(self, a: Array, b: Array, log_length: Array) -> Array:
        between = (a[:, None, -1] - b[None, :, -1]) ** 2
        out = super().distances(a, b, log_length) + np.exp(-2.0 * log_length[-1]) * between
        return np.asarray(out)


def useful_rows(levels: Array, scores: Array, n_dims: int) -> NDArray[np.int_]:
    """Which observations to fit: those at the top once they are enough, else the highest levels.

    Of the level that does not fit as a whole, evenly spaced ones.

    Parameters
    ----------
    levels : ndarray of shape (n,)
        Resources.
    scores : ndarray of shape (n,)
    n_dims : int
        Number of coordinates without that of the level.

    Returns
    -------
    rows : ndarray of int
        Increasing.
    """
    top = np.flatnonzero(levels == levels.max(initial=0.0))
    if np.isfinite(scores[top]).sum() >= SETTINGS.enough_per_coordinate * n_dims:
        return top
    rows = np.empty(0, dtype=int)
    for level in np.unique(levels)[::-1]:
        more = np.flatnonzero(levels == level)
        room = SETTINGS.most_rows - len(rows)
        if len(more) > room and len(rows):
            more = spread(more, room)
        rows = np.concatenate([rows, more])
    return np.sort(rows)


def at_top(levels: Array, scores: Array, u: Array) -> tuple[Array, Array]:
    """Bring the scores of all levels to the highest one.

    Parameters
    ----------
    levels : ndarray of shape (n,)
        Resources.
    scores : ndarray of shape (n,)
        NaN and infinite ones stay as they are.
    u : ndarray of shape (n, n_dims)
        Points of the unit cube.

    Returns
    -------
    scores : ndarray of shape (n,)
        Shifted by what a level's configurations gain on the next level, in the median. A
        configuration that is not on both is compared with the nearest one that is on the lower.
    heights : ndarray of shape (n,)
        Of the levels, evenly spaced from 0 to 1.
    """
    known = np.unique(levels)
    shifted = scores.copy()
    for lower, upper in zip(known[-2::-1], known[:0:-1], strict=True):
        below = np.flatnonzero((levels == lower) & np.isfinite(scores))
        above = np.flatnonzero((levels == upper) & np.isfinite(scores))
        if len(below) and len(above):
            distances = ((u[above, None, :] - u[None, below, :]) ** 2).sum(axis=2)
            with np.errstate(over="ignore"):
                gain = np.median(scores[above] - scores[below[distances.argmin(axis=1)]])
                shifted[levels <= lower] += gain if np.isfinite(gain) else 0.0
    return shifted, np.searchsorted(known, levels) / max(len(known) - 1, 1)
