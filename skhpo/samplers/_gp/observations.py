"""Observations as growing arrays."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Observations", "Rows"]

Array = NDArray[np.float64]


class Rows:
    """Rows of numbers; appending takes constant time."""

    def __init__(self, n_columns: int) -> None:
        self._room = np.empty((64, n_columns))
        self._n = 0

    def __len__(self) -> int:
        return self._n

    @property
    def values(self) -> Array:
        """All rows, of shape (n, n_columns); a view that may be written to."""
        return self._room[: self._n]

    def append(self, row: ArrayLike) -> None:
        if self._n == len(self._room):
            self._room = np.concatenate([self._room, np.empty_like(self._room)])
        self._room[self._n] = row
        self._n += 1


class Observations(Rows):
    """Scores in the order of observation.

    Attributes
    ----------
    places : ndarray of int, shape (n,)
        Numbers of the configurations, in the order of their first appearance.
    scores : ndarray of shape (n,)
    levels : ndarray of shape (n,)
        Resources; infinite for a full fit.
    noise, seconds : ndarray of shape (n,)
        Variances of the scores and durations of the fits; NaN where unknown.
    """

    def __init__(self) -> None:
        super().__init__(5)

    @property
    def places(self) -> NDArray[np.intp]:
        return self.values[:, 0].astype(np.intp)

    @property
    def scores(self) -> Array:
        return self.values[:, 1]

    @property
    def levels(self) -> Array:
        return self.values[:, 2]

    @property
    def noise(self) -> Array:
        return self.values[:, 3]

    @property
    def seconds(self) -> Array:
        return self.values[:, 4]

    def add(
        self,
        place: int,
        score: float,
        resource: int | None,
        noise: float | None,
        seconds: float | None,
    ) -> None:
        level = math.inf if resource is None else resource
        row = [place, score, level, noise, seconds]
        self.append([math.nan if value is None else value for value in row])
