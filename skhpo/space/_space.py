"""Configurations and their positions in the unit cube."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._axes import Axis, Kind, make_axes
from ._forbidden import MOST_REFUSED, make_forbidden
from ._foreign import translated
from ._identity import identity
from ._views import Line, as_html, as_text, line_of

__all__ = ["Dimension", "SearchSpace"]


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


class SearchSpace:
    """Configurations, and their positions in the unit cube.

    A point drawn uniformly from the cube is a configuration drawn from the space: all dicts of a
    conditional space are equally likely, as are all choices of a list, and numbers follow their
    distribution.

    Parameters
    ----------
    param_distributions : dict of str to list, array or distribution, or a list of such dicts
        As in `sklearn.model_selection.RandomizedSearchCV`. A list (tuple, 1-D array) always
        means choices, of any type. Distributions are frozen univariate ones of `scipy.stats`, or
        `log_randint`; ranges and categories of scikit-optimize and Optuna are accepted, too.
        `ordered` is a list of numbers whose order counts. A list of dicts is a conditional space.
    forbidden : callable, list of dict or None, default=None
        What is never tried: a function of a dict of parameters that returns True for it, or dicts
        with values that must not occur together: ``[{"solver": "lbfgs", "penalty": "l1"}]``.
        Points of the cube and numbers of configurations stay as they are: see `allows`.

    Attributes
    ----------
    names : list of str
        All parameters, sorted.
    dimensions : tuple of Dimension
        The coordinates. With several dicts, the first selects one; a parameter with the same values
        in several dicts has the same coordinate in them.
    n_dims : int
        Number of coordinates.
    size : int or None
        Number of configurations; None if infinite. Choices that are listed twice count once; a
        configuration in several dicts counts in each; forbidden ones count.

    Raises
    ------
    TypeError
        If the values of a parameter are neither choices nor a frozen distribution.
    ValueError
        If the space, or a parameter in it, is empty, if what is forbidden is not in it, or nothing
        else is found in it by 10,000 draws.

    See Also
    --------
    log_randint : Integers on a logarithmic scale.
    distributions_of : The space of a builder that asks for its hyperparameters.
    sklearn.model_selection.ParameterSampler : Draws configurations without positions.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from skhpo import SearchSpace
    >>> space = SearchSpace({"lr": loguniform(1e-4, 1), "activation": ["relu", "tanh"]})
    >>> space.names, space.n_dims, space.size
    (['activation', 'lr'], 2, None)
    >>> params = space.from_unit([0.75, 0.5])
    >>> params["activation"], round(params["lr"], 6)
    ('tanh', 0.01)
    >>> space.to_unit(params).round(6)
    array([0.75, 0.5 ])

    Printed, and in a notebook, it is a table:

    >>> print(space)
    2 parameters, infinitely many configurations
      activation  choice      'relu', 'tanh'
      lr          continuous  0.0001 to 1     loguniform(0.0001, 1)
    """

    def __init__(
        self,
        param_distributions: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        forbidden: Callable[[dict[str, Any]], bool] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        dicts = _checked_dicts(translated(param_distributions))
        axes: list[Axis] = []
        positions: dict[Hashable, int] = {}
        members: list[list[int]] = []
        self._dicts: list[dict[str, int]] = []  # for each dict, from names to positions in axes
        self._given = dicts
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
        self.names = sorted({axis.name for axis in axes})
        self.n_dims = len(self.dimensions)
        self._sizes = [self._dict_size(places) for places in self._dicts]
        sizes = [size for size in self._sizes if size is not None]
        self.size = sum(sizes) if len(sizes) == len(dicts) else None
        self._forbidden = make_forbidden(
            forbidden,
            [{name: axes[place] for name, place in places.items()} for places in self._dicts],
        )
        if self._forbidden is not None:
            self._check_something_allowed()

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
        if type(self).from_unit is not SearchSpace.from_unit:
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

    @property
    def forbids(self) -> bool:
        """Whether something is forbidden."""
        return self._forbidden is not None

    def allows(self, params: Mapping[str, Any]) -> bool:
        """Whether a configuration of the space is not forbidden.

        Samplers propose no other.

        Parameters
        ----------
        params : mapping of str to object
            The configuration.

        Returns
        -------
        allowed : bool
            False if it is forbidden.

        Raises
        ------
        TypeError, ValueError
            If a function that says what is forbidden fails or returns no bool.
        """
        return self._forbidden is None or not self._forbidden(params)

    def allowed_points(self, u: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each point has a configuration that is not forbidden.

        Parameters
        ----------
        u : ndarray of shape (n_points, n_dims)
            Points of the unit cube.

        Returns
        -------
        allowed : ndarray of bool, shape (n_points,)
            For each point.
        """
        if self._forbidden is None:
            return np.ones(len(u), dtype=bool)
        return np.array([self.allows(params) for params in self.from_units(u)], dtype=bool)

    def check_refused(self, n: int) -> None:
        """Check that so many draws in a row, all forbidden, are not too many.

        Parameters
        ----------
        n : int
            Number of draws.

        Raises
        ------
        ValueError
            If they are too many.
        """
        if n >= MOST_REFUSED:
            raise ValueError(
                f"forbidden must leave something to try, but forbids each of {n:,} configurations "
                "that were drawn in a row; choose ranges, or a list of dicts, so that less of "
                "the space is forbidden"
            )

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

    def choices(self, name: str) -> list[Any]:
        """List the choices of a parameter in all dicts; empty if it has a distribution.

        Parameters
        ----------
        name : str
            Of the parameter.

        Returns
        -------
        choices : list
            Each value once.
        """
        return [
            axis.level(i)
            for axis in self._axes
            if axis.name == name and axis.kind == "choice"
            for i in range(axis.n_levels or 0)
        ]

    def bounds(self, name: str) -> tuple[float, float] | None:
        """Return the ends of a parameter in all dicts; None if it has choices only.

        Parameters
        ----------
        name : str
            Of the parameter.

        Returns
        -------
        bounds : (float, float) or None
            Smallest and largest number.
        """
        found = [axis.bounds for axis in self._axes if axis.name == name]
        ends = [bounds for bounds in found if bounds is not None]
        if not ends:
            return None
        return min(low for low, _ in ends), max(high for _, high in ends)

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

    def __repr__(self) -> str:
        return f"SearchSpace(names={self.names}, n_dims={self.n_dims}, size={self.size})"

    def __str__(self) -> str:
        return as_text(self._title(), self._lines())

    def _repr_html_(self) -> str:
        return as_html(self._title(), self._lines())

    def _title(self) -> str:
        n_names = len(self.names)
        size = "infinitely many" if self.size is None else f"{self.size:,}"
        return (
            f"{n_names} parameter{'' if n_names == 1 else 's'}, {size} "
            f"configuration{'' if self.size == 1 else 's'}"
            f"{', some of them forbidden' if self.forbids else ''}"
        )

    def _lines(self) -> list[list[Line]]:
        return [
            [line_of(self._axes[place], given[name]) for name, place in places.items()]
            for places, given in zip(self._dicts, self._given, strict=True)
        ]

    def _check_something_allowed(self) -> None:
        """Raise ValueError if all is forbidden; also finds functions that fail."""
        if self.size is not None and self.size <= MOST_REFUSED:
            # All of them, so that a function that fails does so here.
            if not sum(self.allows(self.nth(i)) for i in range(self.size)):
                raise ValueError(
                    "forbidden must leave something to try, but forbids all "
                    f"{self.size} configurations of the space"
                )
            return
        rng = np.random.default_rng(0)
        n_refused = 0
        while not self.allowed_points(rng.random((250, self.n_dims))).any():
            n_refused += 250
            self.check_refused(n_refused)

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


def _checked_dicts(
    param_distributions: Mapping[str, Any] | Sequence[Mapping[str, Any]],
) -> list[Mapping[str, Any]]:
    is_dict = isinstance(param_distributions, Mapping)
    if not is_dict and not isinstance(param_distributions, list | tuple):
        raise TypeError(
            "param_distributions must be a dict or a list of dicts, "
            f"but got {param_distributions!r}"
        )
    dicts: list[Any] = [param_distributions] if is_dict else list(param_distributions)
    for distributions in dicts:
        if not isinstance(distributions, Mapping):
            raise TypeError(
                "param_distributions must be a dict or a list of dicts, "
                f"but got {distributions!r} in the list"
            )
    if not dicts or not all(dicts):
        raise ValueError(
            "a search space needs at least one parameter, "
            f"but got param_distributions={param_distributions!r}; for a fixed configuration give "
            "lists of one value"
        )
    return dicts
