"""The unit cube of a space: from points to configurations and back."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._axes import Axis, Kind, identity, make_axes

__all__ = ["Dimension", "UnitCube"]


@dataclass(frozen=True, slots=True)
class Dimension:
    """One coordinate of the unit cube.

    Parameters
    ----------
    name : str or None
        The parameter; None for the coordinate that selects a dict of a conditional space.
    kind : {"choice", "integer", "continuous"}
        Choices have no order. "integer" includes all ordered values in steps.
    n_levels : int or None
        Number of values; None if infinite.
    dicts : tuple of int
        The dicts of a conditional space in which the coordinate is active.
    """

    name: str | None
    kind: Kind
    n_levels: int | None
    dicts: tuple[int, ...]


class UnitCube:
    """Points of the unit cube, and the configurations there.

    Parameters
    ----------
    dicts : sequence of dict of str to list, array or distribution
        Checked, and without ranges of other packages.

    Attributes
    ----------
    dimensions, n_dims, size
        As of `SearchSpace`.
    """

    def __init__(self, dicts: Sequence[Mapping[str, Any]]) -> None:
        axes: list[Axis] = []
        positions: dict[Hashable, int] = {}
        members: list[list[int]] = []
        self._dicts: list[dict[str, int]] = []  # for each dict, from names to positions in axes
        for d, distributions in enumerate(dicts):
            places: dict[str, int] = {}
            for name, axis in make_axes(distributions).items():
                place = positions.setdefault((name, identity(distributions[name])), len(axes))
                if place == len(axes):
                    axes.append(axis)
                    members.append([])
                members[place].append(d)
                places[name] = place
            self._dicts.append(places)
        self._axes = axes
        selector = [Dimension(None, "choice", len(dicts), tuple(range(len(dicts))))]
        self.dimensions = tuple(
            (selector if len(dicts) > 1 else [])
            + [
                Dimension(axis.name, axis.kind, axis.n_levels, tuple(member))
                for axis, member in zip(axes, members, strict=True)
            ]
        )
        self.n_dims = len(self.dimensions)
        self._sizes = [self._dict_size(places) for places in self._dicts]
        sizes = [size for size in self._sizes if size is not None]
        self.size = sum(sizes) if len(sizes) == len(dicts) else None

    def from_unit(self, u: ArrayLike) -> dict[str, Any]:
        """The configuration at a point.

        Parameters
        ----------
        u : array-like of shape (n_dims,)
            Coordinates; those outside [0, 1] are clipped.

        Returns
        -------
        params : dict of str to object
            Scalars are Python's own types.
        """
        point = self._checked(u, (self.n_dims,)).tolist()
        d = 0
        if len(self._dicts) > 1:
            d = self._dict_at(point.pop(0))
        return {
            name: self._axes[place].value(point[place]) for name, place in self._dicts[d].items()
        }

    def from_units(self, u: ArrayLike) -> list[dict[str, Any]]:
        """The configurations at many points; faster than ``from_unit`` of each.

        Parameters
        ----------
        u : array-like of shape (n_points, n_dims)
            Points of the unit cube.

        Returns
        -------
        list of dict
            A configuration for each point.
        """
        points = np.asarray(u, dtype=float)
        if type(self).from_unit is not UnitCube.from_unit:
            return [self.from_unit(point) for point in points]
        points = self._checked(points, (len(points), self.n_dims))
        if len(self._dicts) == 1:
            return self._configurations(0, points)
        chosen = np.array([self._dict_at(first) for first in points[:, 0].tolist()])
        found: list[dict[str, Any]] = [{}] * len(points)
        for d in range(len(self._dicts)):
            rows = np.flatnonzero(chosen == d)
            configurations = self._configurations(d, points[rows, 1:])
            for row, params in zip(rows.tolist(), configurations, strict=True):
                found[row] = params
        return found

    def _checked(self, u: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
        points = np.asarray(u, dtype=float)
        if points.shape != shape or np.isnan(points).any():
            raise ValueError(
                f"a point of this space is {self.n_dims} numbers in [0, 1], but got {u!r}"
            )
        return np.asarray(np.clip(points, 0.0, 1.0))

    def _dict_at(self, u: float) -> int:
        return min(int(u * len(self._dicts)), len(self._dicts) - 1)

    def _configurations(self, d: int, points: NDArray[np.float64]) -> list[dict[str, Any]]:
        places = self._dicts[d]
        columns = [self._axes[place].values(points[:, place]) for place in places.values()]
        return [dict(zip(places, row, strict=True)) for row in zip(*columns, strict=True)]

    def to_unit(self, params: Mapping[str, Any]) -> NDArray[np.float64]:
        """The point of a configuration.

        Parameters
        ----------
        params : mapping of str to object
            A configuration of this space.

        Returns
        -------
        u : ndarray of shape (n_dims,)
            The centre of the cell of a discrete parameter; 0.5 at inactive coordinates.

        Raises
        ------
        ValueError
            If `params` is not in the space.
        """
        d, _ = self._locate(params)
        coordinates = [0.5] * len(self._axes)
        for name, place in self._dicts[d].items():
            coordinates[place] = self._axes[place].unit(params[name])
        if len(self._dicts) > 1:
            coordinates.insert(0, (d + 0.5) / len(self._dicts))
        return np.array(coordinates)

    def snap(self, u: ArrayLike) -> NDArray[np.float64]:
        """Snap points to the cells of discrete parameters: ``to_unit(from_unit(u))`` of each.

        Parameters
        ----------
        u : array-like of shape (n_points, n_dims)
            Points of the unit cube.

        Returns
        -------
        u : ndarray of shape (n_points, n_dims)
            Continuous coordinates are unchanged. The dict of each point stays, even if an earlier
            one has the same configuration.
        """
        points = np.clip(np.asarray(u, dtype=float), 0.0, 1.0)
        n_dicts = len(self._dicts)
        if n_dicts == 1:
            columns = zip(self._axes, points.T, strict=True)
            return np.stack([axis.snap(column) for axis, column in columns], axis=1)
        snapped = np.full(points.shape, 0.5)
        d = np.minimum((points[:, 0] * n_dicts).astype(int), n_dicts - 1)
        snapped[:, 0] = (d + 0.5) / n_dicts
        for place, axis in enumerate(self._axes, start=1):
            rows = np.isin(d, self.dimensions[place].dicts)
            snapped[rows, place] = axis.snap(points[rows, place])
        return snapped

    def key(self, params: Mapping[str, Any]) -> Hashable:
        """Return what identifies a configuration, whatever types its values have.

        Parameters
        ----------
        params : mapping of str to object
            The configuration.

        Returns
        -------
        key : hashable
            Equal for equal configurations.
        """
        return self._locate(params)

    def probability(self, params: Mapping[str, Any]) -> float:
        """Return how likely exactly this configuration is; 0.0 with a continuous parameter.

        Parameters
        ----------
        params : mapping of str to object
            The configuration.

        Returns
        -------
        probability : float
            From 0 to 1.
        """
        self._locate(params)
        total = 0.0
        for places in self._dicts:
            if places.keys() == params.keys():
                try:
                    total += math.prod(
                        self._axes[place].probability(params[name])
                        for name, place in places.items()
                    )
                except ValueError:  # in another dict of the same names
                    continue
        return total / len(self._dicts)

    def nth(self, index: int) -> dict[str, Any]:
        """Return configuration number `index` of a finite space, in the order of `ParameterGrid`.

        Parameters
        ----------
        index : int
            From 0 to ``size - 1``. The last parameter changes fastest.

        Returns
        -------
        params : dict of str to object
            The configuration.
        """
        if self.size is None:
            raise TypeError("the configurations of an infinite space have no number")
        if not 0 <= index < self.size:
            raise IndexError(f"0 <= index < {self.size} must hold, but got {index}")
        d = 0
        while index >= (size := self._sizes[d] or 0):
            index -= size
            d += 1
        params = {}
        for name, place in reversed(self._dicts[d].items()):
            axis = self._axes[place]
            index, level = divmod(index, axis.n_levels or 1)
            params[name] = axis.level(level)
        return dict(reversed(params.items()))

    def level_ends(self, dimension: int) -> list[float] | None:
        """Upper ends of the cells of a coordinate's levels, increasing to 1.

        Parameters
        ----------
        dimension : int
            Number of the coordinate.

        Returns
        -------
        ends : list of float or None
            None for continuous numbers, and for too many integers to have cells.
        """
        axis = self._axis(dimension)
        if axis is None:
            return [(d + 1) / len(self._dicts) for d in range(len(self._dicts))]
        return axis.ends

    def value_at(self, dimension: int, u: float) -> Any:
        """Return the value of a coordinate's parameter, or the number of the selected dict, at `u`.

        Parameters
        ----------
        dimension : int
            Number of the coordinate.
        u : float
            A position, from 0 to 1.

        Returns
        -------
        value : object
            The value there.
        """
        axis = self._axis(dimension)
        if axis is None:
            return self._dict_at(u)
        return axis.value(u)

    def unit_at(self, dimension: int, value: Any) -> float:
        """Return the position of a value along a coordinate.

        Parameters
        ----------
        dimension : int
            Number of the coordinate.
        value : object
            A value of its parameter, or the number of a dict.

        Returns
        -------
        u : float
            The position, from 0 to 1.

        Raises
        ------
        ValueError
            If the value is not on the coordinate.
        """
        axis = self._axis(dimension)
        if axis is not None:
            return axis.unit(value)
        if not 0 <= value < len(self._dicts):
            raise ValueError(f"there are {len(self._dicts)} dicts, but got number {value!r}")
        return (float(value) + 0.5) / len(self._dicts)

    def _axis(self, dimension: int) -> Axis | None:
        """The axis of a coordinate; None for the one that selects a dict."""
        place = dimension - (len(self._dicts) > 1)
        return None if place < 0 else self._axes[place]

    def _dict_size(self, places: Mapping[str, int]) -> int | None:
        size = 1
        for place in places.values():
            n_levels = self._axes[place].n_levels
            if n_levels is None:
                return None
            size *= n_levels
        return size

    def _locate(self, params: Mapping[str, Any]) -> tuple[int, tuple[Hashable, ...]]:
        """The first dict that contains `params`, and the identities of their values."""
        problem = None
        for d, places in enumerate(self._dicts):
            if params.keys() == places.keys():
                try:
                    return d, tuple(
                        self._axes[place].key(params[name]) for name, place in places.items()
                    )
                except ValueError as error:
                    problem = error
        if problem is not None:
            raise problem
        expected = " or ".join(str(list(places)) for places in self._dicts)
        raise ValueError(
            f"a configuration of this space has the parameters {expected}, but got {sorted(params)}"
        )
