"""Maximisation of an acquisition function: global points, rounds around the best, other choices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from ...space import SearchSpace
from .settings import SETTINGS

__all__ = ["AcquisitionSearch"]

Array = NDArray[np.float64]


class AcquisitionSearch:
    """Finds points of high acquisition in a space."""

    def __init__(self, space: SearchSpace, rng: np.random.Generator) -> None:
        self.space = space
        self._rng = rng
        self._listed: Array | None = None
        if space.size is not None and space.size <= SETTINGS.most_listed:
            self._listed = np.array([space.to_unit(space.nth(i)) for i in range(space.size)])
        else:
            exponent = SETTINGS.n_global.bit_length() - 1
            self._sobol = qmc.Sobol(space.n_dims, rng=rng).random_base2(exponent)
        self._is_choice = np.array([dim.kind == "choice" for dim in space.dimensions])

    def maximise(
        self,
        acquisition: Callable[[Array], Array],
        is_excluded: Callable[[Array], NDArray[np.bool_]],
        centres: Array,
        n_around: int = SETTINGS.n_around,
    ) -> tuple[Array, Array]:
        """Points of the cube and their values, the best first.

        Parameters
        ----------
        acquisition : callable
            From snapped points of shape (m, n_dims) to values of shape (m,).
        is_excluded : callable
            From snapped points to whether they are excluded.
        centres : ndarray of shape (k, n_dims)
            The best observed points, around which the search starts, too.
        n_around : int, default=160
            Points around each centre, at each radius.

        Returns
        -------
        u : ndarray of shape (m, n_dims)
            Points that are not excluded.
        values : ndarray of shape (m,)
        """
        points = np.empty((0, self.space.n_dims))
        values = np.empty(0)
        new = self._listed if self._listed is not None else self._start(centres, n_around)
        for radius in (*SETTINGS.radii, None):
            new = new[~is_excluded(new)]
            if len(new):
                points = np.vstack([points, new])
                values = np.concatenate([values, acquisition(new)])
                best = np.argsort(-values, kind="stable")[: 4 * SETTINGS.n_found_centres]
                points, values = points[best], values[best]
            if radius is None or self._listed is not None or not len(points):
                break
            new = self._around(points[: SETTINGS.n_found_centres], radius, n_around)
        return points, values

    def _start(self, centres: Array, n_around: int) -> Array:
        shifted = (self._sobol + self._rng.random(self.space.n_dims)) % 1.0
        radii = SETTINGS.start_radii if len(centres) else ()
        around = [self._around(centres, radius, n_around) for radius in radii]
        return self.space.snap(np.vstack([self.space.snap(shifted), *around]))

    def _around(self, centres: Array, radius: float, n_around: int) -> Array:
        """Centres with some coordinates changed: numbers by about `radius`, choices at random."""
        points = np.repeat(centres, n_around, axis=0)
        n_dims = points.shape[1]
        moved = self._rng.random(points.shape) < max(0.3, 1.0 / n_dims)
        # At least one coordinate moves.
        moved[np.arange(len(points)), self._rng.integers(n_dims, size=len(points))] = True
        steps = radius * self._rng.standard_normal(points.shape)
        anywhere = self._rng.random(points.shape)
        numbers = np.abs(points + steps)
        numbers = np.where(numbers > 1.0, 2.0 - numbers, numbers)  # reflected at both ends
        points = np.where(moved, np.where(self._is_choice, anywhere, numbers), points)
        return self.space.snap(np.clip(points, 0.0, 1.0))

    def other_choices(self, points: Array) -> tuple[Array, NDArray[np.intp]]:
        """Return points with one choice changed, and the coordinate of that choice in each.

        Parameters
        ----------
        points : ndarray of shape (k, n_dims)
        """
        changed, dims = [points[:0]], [np.empty(0, dtype=int)]
        for j, dim in enumerate(self.space.dimensions):
            if dim.kind == "choice" and (n := dim.n_levels) and len(points):
                levels = np.arange(n)
                if n > SETTINGS.most_listed:
                    levels = self._rng.choice(n, SETTINGS.most_listed, replace=False)
                changed.append(np.repeat(points, len(levels), axis=0))
                changed[-1][:, j] = np.tile((levels + 0.5) / n, len(points))
                dims.append(np.full(len(changed[-1]), j))
        return self.space.snap(np.vstack(changed)), np.concatenate(dims)

    def edge_penalty(self, u: Array) -> Array:
        """Penalty on the logarithm of the acquisition near the ends of numeric ranges.

        Uncertainty is largest at the ends, so that with much noise all points would be there. A
        large expected improvement at an end outweighs the penalty.
        """
        squares = (2.0 * u[:, ~self._is_choice] - 1.0) ** 2  # ** 4 would take ten times as long
        return np.asarray(SETTINGS.edge_penalty * (squares**2).sum(axis=1))
