"""Points of a search space by coordinate, and the covariance between their scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...space import SearchSpace
from .kernel import matern52
from .settings import SETTINGS

__all__ = ["Coordinates"]

Array = NDArray[np.float64]

# The code of a choice that is not in a point's dict: different from every choice.
_INACTIVE = -1.0


class Coordinates:
    """Squared differences between configurations by coordinate, and the covariance of their scores.

    Numbers differ by the squared difference of their positions in the unit interval, choices by 0
    or 1. In a conditional space, a coordinate that is inactive for two points differs by 0, and by
    1 if it is active for only one of them. For this to be a distance (and the kernel positive
    definite), the numbers of such a coordinate lie on an arc of radius 1 and length 1, with
    inactive points in its centre (after Hutter and Osborne, 2013, "A kernel for hierarchical
    parameter spaces").

    Attributes
    ----------
    dimensions : list of int
        The coordinates of the unit cube with more than one value, in the kernel's order.
    n_dims : int
        Their number.
    choices : list of int
        Which of the coordinates are choices.
    variance : float
        That of a score, for a signal variance of 1: with choices more, by their offsets.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._dicts = 1
        if space.dimensions[0].name is None:
            self._dicts = space.dimensions[0].n_levels or 1
        self.dimensions = [place for place, dim in enumerate(space.dimensions) if dim.n_levels != 1]
        self.n_dims = len(self.dimensions)
        self._members = [
            np.isin(np.arange(self._dicts), space.dimensions[place].dicts)
            for place in self.dimensions
        ]
        self._is_choice = [space.dimensions[place].kind == "choice" for place in self.dimensions]
        # The coordinate of each column of z.
        self._owners: list[int] = []
        self.choices: list[int] = []
        for j, (member, is_choice) in enumerate(zip(self._members, self._is_choice, strict=True)):
            if is_choice:
                self.choices.append(j)
            else:
                self._owners += [j] if member.all() else [j, j]
        self._n_numbers = len(self._owners)
        self.variance = 1.0 + SETTINGS.offset * bool(self.choices)

    def encode(self, u: Array) -> Array:
        """Encode snapped points u as z, with columns of numbers first, then codes of choices."""
        d = np.zeros(len(u), dtype=int)
        if self._dicts > 1:
            d = np.minimum((u[:, 0] * self._dicts).astype(int), self._dicts - 1)
        numbers: list[Array] = []
        codes: list[Array] = []
        for place, member, is_choice in zip(
            self.dimensions, self._members, self._is_choice, strict=True
        ):
            x, active = u[:, place], member[d]
            if is_choice:
                codes.append(np.where(active, x, _INACTIVE))
            elif member.all():
                numbers.append(x)
            else:
                numbers += [np.cos(x) * active, np.sin(x) * active]
        columns = numbers + codes
        return np.stack(columns, axis=1) if columns else np.zeros((len(u), 0))

    def wanted(self, z: Array) -> Array:
        """The points at which to predict; here, the same ones."""
        return z

    def differences(self, z: Array) -> Array:
        """D, squared differences of the pairs i > j of points, of shape (d, n (n - 1) / 2)."""
        i, j = np.tril_indices(len(z), -1)
        out = np.zeros((self.n_dims, len(i)))
        for column, place in enumerate(self._owners):
            out[place] += (z[i, column] - z[j, column]) ** 2
        for column, place in enumerate(self.choices, start=self._n_numbers):
            out[place] = z[i, column] != z[j, column]
        return out

    def covariance(self, a: Array, b: Array, log_length: Array) -> Array:
        """Covariance of scores for a signal variance of 1, of shape (len(a), len(b)).

        That of the Matern kernel, and the share of choices that are the same: each choice has an
        offset, whatever the numbers.
        """
        out = matern52(self.distances(a, b, log_length))
        for column in self.choice_columns:
            out += self.offset * (a[:, column, None] == b[None, :, column])
        return out

    @property
    def choice_columns(self) -> range:
        """The columns of z that are codes of choices."""
        return range(self._n_numbers, self._n_numbers + len(self.choices))

    @property
    def offset(self) -> float:
        """Variance of the offsets of a choice, for a signal variance of 1."""
        return SETTINGS.offset / max(len(self.choices), 1)

    def distances(self, a: Array, b: Array, log_length: Array) -> Array:
        """r2, squared distances in length scales, of shape (len(a), len(b))."""
        weights = np.exp(-log_length)
        scaled = weights[self._owners]
        x, y = a[:, : self._n_numbers] * scaled, b[:, : self._n_numbers] * scaled
        out = (-2.0 * x) @ y.T
        out += (x**2).sum(axis=1)[:, None]
        out += (y**2).sum(axis=1)
        np.maximum(out, 0.0, out=out)
        for column, j in enumerate(self.choices, start=self._n_numbers):
            out += weights[j] ** 2 * (a[:, column, None] != b[None, :, column])
        return np.asarray(out)

    def embed(self, z: Array, log_length: Array) -> Array:
        """Points of a Euclidean space that are as far from one another as `distances` says.

        Parameters
        ----------
        z : ndarray of shape (n, n_columns)
            All points that are to be compared: a choice is a column for each value in them.
        log_length : ndarray of shape (d,)

        Returns
        -------
        x : ndarray of shape (n, n_embedded)
        """
        weights = np.exp(-log_length)
        columns = [z[:, : self._n_numbers] * weights[self._owners]]
        for column, j in enumerate(self.choices, start=self._n_numbers):
            codes = np.unique(z[:, column])
            # Two points with different choices differ in two of these columns.
            columns.append((z[:, column, None] == codes) * (weights[j] / np.sqrt(2.0)))
        return np.concatenate(columns, axis=1)
