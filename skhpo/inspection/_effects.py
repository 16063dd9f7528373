"""The score along one parameter, or two, averaged over the others."""

from __future__ import annotations

from numbers import Number as AnyNumber

import numpy as np
from sklearn.utils import Bunch, check_random_state

from ..arguments import COUNT, check_arguments
from ..samplers import ScoreModel
from ._cells import Cells, dict_of, places_of
from ._importance import checked_rows, variances_of_means
from ._reading import read_search
from ._spaces import is_logarithmic

__all__ = ["effects", "scale_of"]

# Values along one parameter, and along each of two.
_N_VALUES = 41
_N_PAIR_VALUES = 17
# Configurations that a score is averaged over.
_N_OTHERS = 128
# Functions drawn with the same hyperparameters.
_AT_ONCE = 10
# Of a range without an end, this share at each side is not shown.
_TAIL = 0.005


def effects(
    source,
    params,
    *,
    metric=None,
    resource="largest",
    n_individual=30,
    n_draws=50,
    random_state=None,
):
    """Return the mean score along one parameter, or a pair of them, in its own scale.

    Partial dependence (Friedman, 2001) and individual conditional expectation (Goldstein et al.,
    2015) over a Gaussian process of the scores: other parameters are drawn from the space, so the
    curve shows the parameter's effect and not what happened to be tried with it.

    Parameters
    ----------
    source : estimator, str, path-like, (dict, dict or list of dict), or SearchRecord
        As of `read_search`.
    params : str or (str, str)
        One parameter, or two.
    metric : str or None, default=None
        Which score; None is the one that counts.
    resource : "largest", "all" or number, default="largest"
        Rows of which level of the resource.
    n_individual : int, default=30
        Configurations whose own curves are returned beside the mean; of a pair none are.
    n_draws : int, default=50
        Functions drawn from the posterior for the bands.
    random_state : int, RandomState or None, default=None
        The seed.

    Returns
    -------
    found : sklearn.utils.Bunch
        With the attributes

        params : list of str
            Names of the parameters.
        grid_values : list of list
            Of each parameter, the values along it; numbers ascending, choices as listed.
        scales : list of {"linear", "log", "choice"}
            How each is spread.
        mean, low, high : ndarray of shape (n_values,) or (n_values_a, n_values_b)
            Mean score, and the band that it is in with 95% probability. NaN where no
            configuration has both values.
        individual : ndarray of shape (n_individual, n_values)
            Predicted scores along the grid, one line for each configuration.
        tried : list of list
            Values of the rows that have the parameters.
        scores : ndarray of shape (n_tried,)
            Their mean scores.
        rows : ndarray of int, shape (n_tried,)
            Rows of the results that these are.
        metric : str
            Name of the metric.

    Raises
    ------
    ValueError
        If there is no such parameter, metric or level, there are fewer than ten rows, or all of
        them score the same.
    TypeError, NotFittedError, JournalError
        As of `read_search`.

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import RandomizedSearchCV
    >>> from sklearn.svm import SVC
    >>> from skhpo.inspection import effects
    >>> space = {"C": loguniform(1e-3, 1e3), "gamma": loguniform(1e-4, 1)}
    >>> search = RandomizedSearchCV(SVC(), space, n_iter=40, random_state=0)
    >>> found = effects(search.fit(*load_iris(return_X_y=True)), "C", random_state=0)
    >>> found.scales, bool(found.mean[-1] > found.high[0])
    (['log'], True)
    """
    check_arguments(
        "effects",
        {"n_individual": [COUNT], "n_draws": [COUNT]},
        n_individual=n_individual,
        n_draws=n_draws,
    )
    record = read_search(source)
    names = record.checked_names(params)
    if len(names) not in (1, 2) or len(set(names)) < len(names):
        raise ValueError(f"effects are of one parameter or two different ones, but got {names}")
    rows, y = checked_rows(record, "an effect", metric, resource)
    space = record.space
    u = record.units(rows)
    rng = np.random.default_rng(check_random_state(random_state).randint(2**31 - 1))
    model = ScoreModel(space, u, y, variances_of_means(record, metric, rows))
    grids = [
        _values(space, name, _N_VALUES if len(names) == 1 else _N_PAIR_VALUES) for name in names
    ]
    others = space.snap(rng.random((_N_OTHERS, space.n_dims)))
    at, shape = _points(space, names, grids, others)
    there = ~np.isnan(at).any(axis=1)
    points = at[there]

    def averaged(f):
        full = np.full((len(at), f.shape[1]), np.nan)
        full[there] = f
        full = full.reshape(*shape, len(others), -1)
        with np.errstate(invalid="ignore"):
            known = ~np.isnan(full)
            return np.where(known, full, 0).sum(-2) / np.where(known.any(-2), known.sum(-2), np.nan)

    predicted = model.predict(points)[0][:, None]
    draws = [
        averaged(model.draw(points, min(_AT_ONCE, n_draws - start), rng))
        for start in range(0, n_draws, _AT_ONCE)
    ]
    low, high = np.percentile(np.concatenate(draws, axis=-1), [2.5, 97.5], axis=-1)
    individual = np.full(len(at), np.nan)
    individual[there] = predicted[:, 0]
    individual = individual.reshape(*shape, len(others))
    tried = [row for row in rows if all(name in record.params[row] for name in names)]
    return Bunch(
        params=names,
        grid_values=grids,
        scales=[scale_of(space, name) for name in names],
        mean=averaged(predicted)[..., 0],
        low=low,
        high=high,
        individual=individual.T[:n_individual] if len(names) == 1 else np.empty((0, *shape)),
        tried=[[record.params[row][name] for row in tried] for name in names],
        scores=record.means(metric)[tried],
        rows=np.array(tried, dtype=int),
        metric=record.checked_metric(metric),
    )


def scale_of(space, name):
    """Return how the values of a parameter are spread: "linear", "log" or "choice"."""
    places = list(dict.fromkeys(places_of(space, name).values()))
    values = [value for place in places for value in (space.value_at(place, u) for u in (0.0, 1.0))]
    are_numbers = all(isinstance(v, AnyNumber) and not isinstance(v, bool) for v in values)
    varying = [place for place in places if space.dimensions[place].n_levels != 1]
    if not are_numbers or any(space.dimensions[place].kind == "choice" for place in varying):
        return "choice"
    are_log = varying and all(is_logarithmic(space, place) for place in varying)
    return "log" if are_log else "linear"


def _values(space, name, n):
    """Return the values of a parameter that are looked at."""
    found = []
    for place in dict.fromkeys(places_of(space, name).values()):
        cells = Cells(space, place, n)
        if cells.are_levels:
            units = cells.middles
        else:
            units = np.linspace(0.0, 1.0, n)
            if not np.isfinite(space.bounds(name)).all():
                units = np.clip(units, _TAIL, 1 - _TAIL)
        for value in (space.value_at(place, u) for u in units):
            if not any(type(value) is type(one) and value == one for one in found):
                found.append(value)
    if scale_of(space, name) != "choice":
        found.sort()
    return found


def _points(space, names, grids, others):
    """Return points for all values and others, NaN where a dict has no such value."""
    shape = tuple(map(len, grids))
    d, _ = dict_of(space, others)
    points = np.broadcast_to(others, (*shape, *others.shape)).copy()
    for axis, (name, grid) in enumerate(zip(names, grids, strict=True)):
        places = places_of(space, name)
        for i, value in enumerate(grid):
            own = points[(slice(None),) * axis + (i,)]  # a view
            for one in np.unique(d).tolist():
                at = (..., d == one, slice(None))
                part = own[at]
                try:
                    part[..., places[one]] = space.unit_at(places[one], value)
                except (KeyError, ValueError):
                    part[...] = np.nan
                own[at] = part
    return points.reshape(-1, others.shape[1]), shape
