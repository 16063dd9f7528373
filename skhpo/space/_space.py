"""The search space: what is in it, what is forbidden, how it is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._cube import UnitCube
from ._distributions import known
from ._forbidden import MOST_REFUSED, make_forbidden
from ._views import Line, as_html, as_text, line_of

__all__ = ["SearchSpace", "nearest", "translated"]


class SearchSpace(UnitCube):
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
    dicts : list of dict
        What was given, a single dict too; ranges of other packages are distributions of this one.
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
        self.dicts = _checked_dicts(translated(param_distributions))
        super().__init__(self.dicts)
        self.names = sorted({axis.name for axis in self._axes})
        self._forbidden = None
        if forbidden is not None:
            axes = [
                {name: self._axes[place] for name, place in places.items()}
                for places in self._dicts
            ]
            self._forbidden = make_forbidden(forbidden, axes)
        if self._forbidden is not None:
            self._check_something_allowed()

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
            for places, given in zip(self._dicts, self.dicts, strict=True)
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


def translated(param_distributions: Any) -> Any:
    """Return a space in which the distributions of other packages are of this one; see `known`.

    Anything else than a dict or a list of dicts is returned as given.
    """
    if isinstance(param_distributions, Mapping):
        return {
            name: values if type(values) is list else known(name, values)
            for name, values in param_distributions.items()
        }
    if isinstance(param_distributions, list | tuple):
        return [
            translated(item) if isinstance(item, Mapping) else item for item in param_distributions
        ]
    return param_distributions


def nearest(space: SearchSpace, own: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """Return the configuration of a space that is nearest to the parameters of an estimator.

    A number outside its range becomes the nearest end of it. A dict of a conditional space that
    needs none of that comes before one that does.

    Returns
    -------
    params : dict or None
        None where a parameter is a choice that is not listed, no number (None, "scale"), or not
        there.
    reason : str
        What is the matter then.
    """
    found, reason = None, ""
    for distributions in space.dicts:
        try:
            params, is_exact = _nearest(SearchSpace(distributions), own)
        except ValueError as error:
            reason = reason or str(error)
            continue
        if is_exact:
            return params, ""
        found = found or params
    return found, reason


def _nearest(space: SearchSpace, own: Mapping[str, Any]) -> Any:
    """Return the configuration of one dict nearest to an estimator's, and whether it is equal."""
    missing = [name for name in space.names if name not in own]
    if missing:
        raise ValueError(f"the estimator has no {missing[0]} to begin with")
    params = {name: own[name] for name in space.names}
    is_exact = True
    for place, dimension in enumerate(space.dimensions):
        name = str(dimension.name)
        if dimension.kind == "choice":
            params[name] = space.value_at(place, space.unit_at(place, own[name]))
        elif isinstance(own[name], Real) and not isinstance(own[name], bool):
            ends: Any = space.bounds(name)
            low, high = ends
            params[name] = min(max(own[name], low), high)
            if dimension.kind == "integer":
                params[name] = _in_steps(space, place, params[name])
            is_exact = is_exact and params[name] == own[name]
    space.to_unit(params)
    return params, is_exact


def _in_steps(space: SearchSpace, place: int, number: Any) -> Any:
    """Return a number of a coordinate with steps, the nearest integer if it is none of these."""
    try:
        return space.value_at(place, space.unit_at(place, number))
    except ValueError:
        return round(number)
