"""Scores at several levels of resource in one model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .coordinates import Coordinates
from .settings import SETTINGS
from .subset import spread

__all__ = ["LevelCoordinates", "at_top", "heights_of", "useful_rows"]

Array = NDArray[np.float64]


class LevelCoordinates(Coordinates):
    """Coordinates with a further one: the height of a score's level of resource, from 0 to 1.

    Its length scale is the correlation between levels. Predictions are at the top.
    """

    def __init__(self, coordinates: Coordinates) -> None:
        self.__dict__.update(coordinates.__dict__)
        self.n_dims = coordinates.n_dims + 1

    def encode(self, u: Array, height: Array | float = 1.0) -> Array:
        """Append the height, of shape (n,) or a number, to the encoded coordinates."""
        return np.column_stack([super().encode(u), np.broadcast_to(height, len(u))])

    def wanted(self, z: Array) -> Array:
        """The same configurations at the top level."""
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
    """Rows to model: those of the top level if they are enough, else of the highest levels.

    `levels` are resources, `n_dims` the number of coordinates without that of the level. If a level
    has too many, evenly spaced ones are used.
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
    """Shift the scores of all levels to the highest one, and return the heights of the levels.

    The shift is the median gain of a level's configurations on the next level; a configuration on
    the upper level is compared with the nearest one on the lower. Heights are evenly spaced from 0
    to 1.
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
    return shifted, heights_of(levels)


def heights_of(levels: Array) -> Array:
    """Heights of levels, evenly spaced from 0 to 1."""
    known = np.unique(levels)
    return np.asarray(np.searchsorted(known, levels) / max(len(known) - 1, 1))
