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

    def widen(self, n_columns: int) -> None:
        """Append columns of NaN until there are so many."""
        missing = n_columns - self._room.shape[1]
        if missing > 0:
            self._room = np.pad(self._room, ((0, 0), (0, missing)), constant_values=np.nan)


class Observations(Rows):
    """Values in the order of observation.

    Attributes
    ----------
    places : ndarray of int, shape (n,)
        Numbers of the configurations, in the order of their first appearance.
    levels : ndarray of shape (n,)
        Resources; infinite for a full fit.
    seconds : ndarray of shape (n,)
        Durations of the fits; NaN where unknown.
    objectives : ndarray of shape (n, n_objectives)
        Values of all objectives; all NaN where one is (a failed fit).
    noise : ndarray of shape (n, n_objectives)
        Their variances; NaN where unknown, and of failed fits.
    violations : ndarray of shape (n, n_constraints)
        At most 0 where a constraint holds; NaN where unknown.
    """

    def __init__(self) -> None:
        super().__init__(3)
        self._objectives = Rows(1)
        self._noise = Rows(1)
        self._violations = Rows(0)

    @property
    def places(self) -> NDArray[np.intp]:
        return self.values[:, 0].astype(np.intp)

    @property
    def levels(self) -> Array:
        return self.values[:, 1]

    @property
    def seconds(self) -> Array:
        return self.values[:, 2]

    @property
    def objectives(self) -> Array:
        return self._objectives.values

    @property
    def noise(self) -> Array:
        return self._noise.values

    @property
    def violations(self) -> Array:
        return self._violations.values

    @property
    def n_objectives(self) -> int:
        return int(self.objectives.shape[1])

    @property
    def n_constraints(self) -> int:
        return int(self.violations.shape[1])

    @property
    def is_feasible(self) -> NDArray[np.bool_]:
        """Which observations are known to break no constraint."""
        return np.asarray((self.violations <= 0.0).all(axis=1))

    @property
    def is_measured(self) -> NDArray[np.bool_]:
        """Which observations have values, or failed; the others broke a constraint before a fit."""
        is_broken = (self.violations > 0.0).any(axis=1)
        return np.asarray(~(is_broken & np.isnan(self.objectives[:, 0])))

    def add(
        self,
        place: int,
        values: ArrayLike,
        resource: int | None,
        noise: ArrayLike | None,
        seconds: float | None,
        violations: ArrayLike | None = None,
    ) -> None:
        """Append an observation.

        Parameters
        ----------
        place : int
        values : float or array-like of shape (n_objectives,)
            A single NaN stands for any number of objectives.
        resource : int or None
        noise : float, array-like of shape (n_objectives,) or None
        seconds : float or None
        violations : array-like of shape (n_constraints,) or None, default=None

        Raises
        ------
        ValueError
            If there are as many objectives or constraints as in no other observation.
        """
        row = np.atleast_1d(np.asarray(values, dtype=float))
        broken = np.asarray(() if violations is None else violations, dtype=float)
        if np.isnan(row).any():
            row = np.full(len(row), np.nan)
        if not (len(row) == self.n_objectives or np.isnan(row).all()):
            if not np.isnan(self.objectives).all():
                raise ValueError(
                    "all observations must have values of the same objectives, but there are "
                    f"{len(row)} values after {self.n_objectives}"
                )
            self._objectives.widen(len(row))
            self._noise.widen(len(row))
        if len(broken) != self.n_constraints and len(broken):
            if self.n_constraints:
                raise ValueError(
                    "all observations must have violations of the same constraints, but there are "
                    f"{len(broken)} violations after {self.n_constraints}"
                )
            self._violations.widen(len(broken))
        level = math.inf if resource is None else resource
        self.append([place, level, math.nan if seconds is None else seconds])
        self._objectives.append(row if len(row) == self.n_objectives else np.nan)
        self._noise.append(np.nan if noise is None or np.isnan(row).all() else noise)
        self._violations.append(broken if len(broken) else np.nan)
