"""What a user believes of good values, as a density over a space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata, rv_continuous, rv_discrete
from scipy.stats import t as student

from ..space import SearchSpace

__all__ = ["CONFIDENCE", "Prior", "active_coordinates", "trust"]

Array = NDArray[np.float64]

# The standard deviation around a single value, as a share of the parameter's range, and the
# probability of a single choice beside its equal share (the former as in NePS; Mallik et al., 2023,
# "PriorBand", appendix D.2).
CONFIDENCE = {"low": (0.5, 0.25), "medium": (0.25, 0.5), "high": (0.125, 0.75)}

# Cells of the unit interval of a parameter without levels.
_N_CELLS = 512

# The density is nowhere less than this share of the uniform one: nothing is ruled out.
_LEAST = 1e-3

# With fewer configurations a correlation of ranks says nothing.
_LEAST_TRIED = 4


class Prior:
    """Where good configurations are believed to be, as a density over the unit cube.

    The density is a product over coordinates, each constant in cells, and 1 along coordinates of
    which nothing is believed. Where the space draws from, its own distribution, has density 1. Of
    a conditional space, dicts that have what is believed of their parameters are likelier than
    those that cannot have it, as the single choice of a list is.

    Parameters
    ----------
    space : SearchSpace
        What the density is over.
    beliefs : mapping of str to object
        By parameter: a value of the space, around which the density is normal on the scale of the
        parameter's distribution (or, for a choice, its probability is raised); or a frozen
        distribution of `scipy.stats` over the values, for numbers only.
    confidence : {"low", "medium", "high"}, default="medium"
        How narrow the density around a single value is: half, a quarter or an eighth of the
        parameter's range as standard deviation.

    Raises
    ------
    ValueError
        If a name or a value is not in the space.
    TypeError
        If a choice has a distribution, or one is not frozen.

    See Also
    --------
    PriorBandSampler : Draws from a prior, for Hyperband.
    BayesSampler : Weighs the expected improvement with a prior.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from skhpo import SearchSpace
    >>> from skhpo.samplers import Prior
    >>> space = SearchSpace({"lr": loguniform(1e-5, 1), "optimizer": ["adam", "sgd"]})
    >>> prior = Prior(space, {"lr": 1e-3, "optimizer": "adam"})
    >>> prior.log_density(space.to_unit({"lr": 1e-3, "optimizer": "adam"})[None]).round(1)
    array([0.9])
    >>> prior.log_density(space.to_unit({"lr": 0.5, "optimizer": "sgd"})[None]).round(1)
    array([-2.5])
    """

    def __init__(
        self, space: SearchSpace, beliefs: Mapping[str, Any], confidence: str = "medium"
    ) -> None:
        for name in beliefs:
            if name not in space.names:
                near = get_close_matches(str(name), space.names, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {space.names}"
                raise ValueError(
                    f"every name in priors must be in the space, but {name!r} is not; {hint}"
                )
        self.space = space
        first = space.dimensions[0]
        self._n_dicts = (first.n_levels or 1) if first.name is None else 1
        # By coordinate: upper ends of cells, the density in each, and the likeliest point.
        self._cells: dict[int, tuple[Array, Array, float]] = {}
        self._values: dict[int, float] = {}  # single ones, which a position has up to rounding
        impossible: set[int] = set()  # dicts without what is believed of one of their parameters
        for name, belief in beliefs.items():
            problem = None
            found = False
            for place, dimension in enumerate(space.dimensions):
                if dimension.name == name:
                    try:
                        self._cells[place] = _cells(space, place, belief, confidence)
                    except ValueError as error:
                        problem = error
                        impossible.update(dimension.dicts)
                    else:
                        found = True
                        if space.level_ends(place) is None and not hasattr(belief, "cdf"):
                            is_integer = dimension.kind == "integer"
                            self._values[place] = int(belief) if is_integer else float(belief)
            if not found and problem is not None:
                raise problem
        possible = sorted(set(range(self._n_dicts)) - impossible)
        if impossible and possible:
            self._cells[0] = _cells_of_dicts(self._n_dicts, possible, confidence)

    def log_density(self, u: Array) -> Array:
        """Return the logarithm of the density at points.

        Parameters
        ----------
        u : ndarray of shape (n_points, n_dims)
            Points of the unit cube.

        Returns
        -------
        ndarray of shape (n_points,)
            0 where the density is that of the space.
        """
        total = np.zeros(len(u))
        is_active = active_coordinates(self.space, u)
        for place, (ends, density, _) in self._cells.items():
            cells = np.searchsorted(ends, u[:, place], side="right")
            logs = np.log(density[np.minimum(cells, len(ends) - 1)])
            total += np.where(is_active[:, place], logs, 0.0)
        return total

    def points(self, u: Array) -> Array:
        """Map uniform points to points drawn from the prior.

        Parameters
        ----------
        u : ndarray of shape (n_points, n_dims)
            Uniform points of the unit cube.

        Returns
        -------
        ndarray of shape (n_points, n_dims)
            A new array.
        """
        points = u.copy()
        for place, (ends, density, _) in self._cells.items():
            starts = np.concatenate([[0.0], ends[:-1]])
            mass = np.cumsum(density * (ends - starts))
            cells = np.minimum(np.searchsorted(mass, u[:, place], side="right"), len(ends) - 1)
            before = np.concatenate([[0.0], mass[:-1]])[cells]
            share = np.clip((u[:, place] - before) / (mass[cells] - before), 0.0, 1.0)
            points[:, place] = starts[cells] + share * (ends - starts)[cells]
        return points

    def mode(self, u: Array) -> Array:
        """Return the points, with the likeliest value in each coordinate that has a belief.

        Parameters
        ----------
        u : ndarray of shape (n_points, n_dims)
            Points of the unit cube.

        Returns
        -------
        ndarray of shape (n_points, n_dims)
            A new array.
        """
        points = u.copy()
        for place, (_, _, likeliest) in self._cells.items():
            points[:, place] = likeliest
        return points

    def likeliest(self, u: Array) -> dict[str, Any]:
        """Return the configuration at a point, with the likeliest value of what has a belief.

        Parameters
        ----------
        u : ndarray of shape (n_dims,)
            A point of the unit cube.

        Returns
        -------
        params : dict of str to object
            Single values are what was given, without rounding.
        """
        points = self.mode(u[None])
        is_active = active_coordinates(self.space, points)[0]
        values = {
            str(self.space.dimensions[place].name): value
            for place, value in self._values.items()
            if is_active[place]
        }
        return {**self.space.from_unit(points[0]), **values}


def trust(log_density: Array) -> float:
    """Return how far scores leave a prior its influence: from 1 to 0, where they contradict it.

    Under a prior that helps, denser configurations are the better ones. The trust is the odds of a
    positive rank correlation of density and score (of the t statistic of Spearman's coefficient),
    and 1 where these are even or better.

    Parameters
    ----------
    log_density : ndarray of shape (n,)
        Of the configurations that were tried, the best one first.
    """
    n = len(log_density)
    if n < _LEAST_TRIED or np.ptp(log_density) == 0.0:
        return 1.0
    correlation = np.corrcoef(rankdata(log_density), np.arange(n, 0, -1))[0, 1]
    if correlation >= 0:
        return 1.0
    statistic = correlation * np.sqrt((n - 2) / max(1.0 - correlation**2, 1e-12))
    return float(student.cdf(statistic, n - 2) / student.sf(statistic, n - 2))


def active_coordinates(space: SearchSpace, u: Array) -> NDArray[np.bool_]:
    """Which coordinates of points of shape (n, n_dims) are of a parameter that they have."""
    first = space.dimensions[0]
    if first.name is not None:
        return np.ones(u.shape, dtype=bool)
    n_dicts = first.n_levels or 1
    chosen = np.minimum((u[:, 0] * n_dicts).astype(int), n_dicts - 1)
    return np.stack([np.isin(chosen, one.dicts) for one in space.dimensions], axis=1)


def _cells_of_dicts(
    n_dicts: int, possible: Sequence[int], confidence: str
) -> tuple[Array, Array, float]:
    """As `_cells`, of the coordinate that selects a dict, of which some have what is believed."""
    _, share = CONFIDENCE[confidence]
    density = np.full(n_dicts, 1.0 - share)
    density[list(possible)] += share * n_dicts / len(possible)
    return np.arange(1.0, n_dicts + 1.0) / n_dicts, density, (possible[0] + 0.5) / n_dicts


def _cells(
    space: SearchSpace, place: int, belief: Any, confidence: str
) -> tuple[Array, Array, float]:
    """Upper ends of the cells of a coordinate, the density in each, and the likeliest point."""
    dimension = space.dimensions[place]
    width, share = CONFIDENCE[confidence]
    if isinstance(belief, rv_continuous | rv_discrete):
        raise TypeError(
            f"distributions in priors must be frozen, but {dimension.name!r} got the unfrozen "
            f"{belief.name!r}; call it with its arguments, as in scipy.stats.norm(0.2, 0.1)"
        )
    levels = space.level_ends(place)
    ends = np.linspace(0.0, 1.0, _N_CELLS + 1)[1:] if levels is None else np.array(levels)
    starts = np.concatenate([[0.0], ends[:-1]])
    centres, sizes = (starts + ends) / 2.0, ends - starts
    if not hasattr(belief, "cdf"):
        try:
            centre = space.unit_at(place, belief)
        except ValueError as error:
            raise ValueError(f"priors must lie in the space, but {error}") from error
        if dimension.kind == "choice":
            mass = (1.0 - share) * sizes
            mass[int(np.searchsorted(ends, centre, side="right"))] += share
        else:
            mass = norm.cdf(ends, centre, width) - norm.cdf(starts, centre, width)
    else:
        if dimension.kind == "choice":
            raise TypeError(
                f"a distribution in priors must be that of a number, but {dimension.name!r} has "
                "choices; give the choice that is likely to be good, or make the list ordered"
            )
        mass = _mass(space, place, belief, centres, starts, ends, is_listed=levels is not None)
    total = float(mass.sum())
    if not total > 0.0:
        low, high = space.value_at(place, 0.0), space.value_at(place, 1.0)
        raise ValueError(
            f"priors must lie in the space, but that of {dimension.name!r} has no probability "
            f"from {low:g} to {high:g}"
        )
    density = mass / total / sizes
    if hasattr(belief, "cdf"):
        centre = float(centres[density.argmax()])
    return ends, np.asarray((1.0 - _LEAST) * density + _LEAST), centre


def _mass(
    space: SearchSpace,
    place: int,
    belief: Any,
    centres: Array,
    starts: Array,
    ends: Array,
    *,
    is_listed: bool,
) -> Array:
    """The probability of each cell under a distribution over values."""

    def at(u: Array) -> Array:
        return np.array([float(space.value_at(place, x)) for x in u.tolist()])

    if not is_listed:
        return np.asarray(np.maximum(belief.cdf(at(ends)) - belief.cdf(at(starts)), 0.0))
    weight = belief.pmf if _is_discrete(belief) else belief.pdf
    return np.asarray(weight(at(centres)), dtype=float)


def _is_discrete(belief: Any) -> bool:
    middle = belief.ppf(0.5) if hasattr(belief, "ppf") else belief.icdf(0.5)
    return hasattr(belief, "pmf") and isinstance(middle, Real) and belief.pmf(middle) > 0
