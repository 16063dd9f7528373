"""From a fitted search, a journal or a table to a `SearchRecord`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import numpy as np
from sklearn.exceptions import NotFittedError

from ..space import translated
from ._from_journal import TAGS, any_flag, record_of_journal
from ._record import SearchRecord

__all__ = ["read_search"]

_FIT = re.compile(r"split(\d+)(?:_repeat(\d+))?_test_(.+)", re.DOTALL)
_ACCEPTED = (
    "a fitted search of skhpo or scikit-learn, the path of a journal, or a pair "
    "(cv_results_, param_distributions)"
)


def read_search(source):
    """Read what a search found, from whatever has it.

    Parameters
    ----------
    source : estimator, str, path-like, (dict, dict or list of dict), or SearchRecord
        A fitted search of this package or of scikit-learn (`GridSearchCV`,
        `RandomizedSearchCV`, the halving ones); the path of a journal, also of a search that
        still runs, which is read up to its last whole line; or a table like ``cv_results_``
        together with the space that was searched. A record is given back.

    Returns
    -------
    SearchRecord
        What the search found, as arrays.

    Raises
    ------
    TypeError
        If `source` is something else.
    NotFittedError
        If the search is not fitted.
    JournalError
        If the path names no journal, a damaged one, or one of another version.
    ValueError
        If a table has no scores, or configurations that are not in the space.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skhpo.inspection import read_search
    >>> search = GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2, 3]})
    >>> record = read_search(search.fit(*load_iris(return_X_y=True)))
    >>> record.params[record.best_row()]
    {'max_depth': 3}
    >>> record.scores["score"].shape
    (3, 5, 1)
    """
    if isinstance(source, SearchRecord):
        return source
    if isinstance(source, str | os.PathLike):
        return record_of_journal(source)
    if isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], Mapping):
        return _of_table(*source)
    if isinstance(source, Mapping):
        raise TypeError(
            "a table of results says nothing of the space that was searched; give both, "
            "(cv_results_, param_distributions)"
        )
    space = _space_of(source)
    if space is None or isinstance(source, type):
        raise TypeError(f"the results of a search are read from {_ACCEPTED}, but got {source!r}")
    if not hasattr(source, "cv_results_"):
        raise NotFittedError(
            f"this {type(source).__name__} is not fitted yet; call fit first, or give the path of "
            "its journal while it runs"
        )
    refit = getattr(source, "refit", None)
    return _of_table(
        source.cv_results_,
        space,
        metric=refit if isinstance(refit, str) else None,
        resource=getattr(source, "resource_", getattr(source, "resource", None)),
        chosen=getattr(source, "best_index_", None),
        timing=getattr(source, "timing_", None),
        objectives=tuple(getattr(source, "objectives", None) or ()),
        bounds=_bounds(getattr(source, "constraints", None)),
        facts={
            "search": type(source).__name__,
            "estimator": " ".join(repr(source.estimator).split()),
            "seed": getattr(source, "random_state", None),
            "continues": hasattr(source, "param_distributions_"),  # a search of ours
        },
    )


def _space_of(search):
    """Return the space of a search, None for what is no search."""
    for name in ("param_distributions_", "param_distributions", "param_grid"):
        space = getattr(search, name, None)
        if space is not None:
            return space
    return None


def _of_table(
    table,
    distributions,
    *,
    metric=None,
    resource=None,
    chosen=None,
    timing=None,
    objectives=(),
    bounds=None,
    facts=None,
):
    distributions = translated(distributions)
    metrics = [key.removeprefix("mean_test_") for key in table if key.startswith("mean_test_")]
    if not metrics or "params" not in table:
        raise ValueError(
            'a table of results must have "params" and "mean_test_<metric>", as cv_results_ has, '
            f"but this one has {list(table)}"
        )
    n_rows = len(table["params"])
    resources = None
    if "n_resources" in table:
        resources = np.asarray(table["n_resources"])
    params = [dict(one) for one in table["params"]]
    is_own = "candidate" in table  # other searches set nothing but the resource
    resource, fixed = _take_fixed(params, resource, resources, distributions, is_own)
    scores = {name: _scores(table, name) for name in metrics}
    shape = scores[metrics[0]].shape
    n_splits_done = np.asarray(table.get("n_splits_done", np.full(n_rows, shape[1])))
    has_fit = np.broadcast_to(np.arange(shape[1]) < n_splits_done[:, None], shape[:2])
    # Of a table the halving searches of scikit-learn leave out no fit.
    timing = timing or {
        name: np.broadcast_to(
            np.asarray(table.get(f"mean_{name}", np.full(n_rows, np.nan)))[:, None, None], shape
        )
        for name in ("fit_time", "score_time")
    }
    record = SearchRecord(
        distributions=distributions,
        params=params,
        scores=scores,
        has_fit=np.broadcast_to(has_fit[:, :, None], shape).copy(),
        fit_seconds=timing["fit_time"],
        score_seconds=timing["score_time"],
        starts=timing.get("start"),
        workers=timing.get("worker"),
        candidates=_candidates(table, params),
        resources=resources,
        resource=resource,
        fixed=fixed,
        tags={name: np.asarray(table[name]) for name in TAGS if name in table},
        metric=(objectives or metrics)[0] if metric is None else metric,
        objectives=objectives,
        violation=table.get("violation"),
        constraints={
            key.removeprefix("constraint_"): np.asarray(table[key], dtype=float)
            for key in table
            if key.startswith("constraint_")
        },
        bounds=bounds or {},
        skipped=any_flag(timing.get("skipped")),
        chosen=None if chosen is None else int(chosen),
        facts=facts or {},
    )
    _check_in_space(record)
    return record


def _bounds(constraints):
    """Return the bounds of the constraints of a search by name."""
    return {
        key if isinstance(key, str) else getattr(key, "__name__", type(key).__name__): tuple(bounds)
        for key, bounds in (constraints or {}).items()
    }


def _take_fixed(params, resource, resources, distributions, is_own):
    """Take what is not searched out of configurations.

    Returns
    -------
    resource : str or None
        Its name; None where no resource varies.
    fixed : dict
        Parameters that are not in the space and have one value in all rows.
    """
    dicts = [distributions] if isinstance(distributions, Mapping) else distributions
    known = {name for one in dicts for name in one}
    extra = [name for name in (params[0] if params else {}) if name not in known]
    if resources is None:
        resource = None
    elif resource is None:
        found = [
            name
            for name in extra
            if np.array_equal([one.get(name, np.nan) for one in params], resources)
        ]
        resource = found[0] if len(found) == 1 else "n_resources"
    if resource in extra:
        extra.remove(resource)
        for one in params:
            one.pop(resource, None)
    fixed = {
        name: params[0][name]
        for name in (extra if is_own else ())
        if all(name in one and np.array_equal(one[name], params[0][name]) for one in params)
    }
    for one in params:
        for name in fixed:
            del one[name]
    return resource, fixed


def _scores(table, metric):
    """Return the scores of shape (n_rows, n_splits, n_repeats); of what is not there means."""
    splits, repeats = {}, {}
    for key in table:
        match = _FIT.fullmatch(key)
        if match and match[3] == metric:
            found, place = (splits, 0) if match[2] is None else (repeats, int(match[2]))
            found[int(match[1]), place] = np.asarray(table[key], dtype=float)
    columns = repeats or splits
    columns = columns or {(0, 0): np.asarray(table[f"mean_test_{metric}"], dtype=float)}
    n_splits, n_repeats = (max(numbers) + 1 for numbers in zip(*columns, strict=True))
    first = next(iter(columns.values()))
    scores = np.full((len(first), n_splits, n_repeats), np.nan)
    for place, values in columns.items():
        scores[:, *place] = values
    return scores


def _candidates(table, params):
    if "candidate" in table:
        return np.asarray(table["candidate"])
    numbers = {}
    keys = [repr(sorted((name, repr(value)) for name, value in one.items())) for one in params]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=int)


def _check_in_space(record):
    for row, params in enumerate(record.params):
        try:
            record.space.to_unit(params)
        except ValueError as error:
            raise ValueError(
                f"every configuration must be in the space, but row {row} is not: {error}; give "
                "the space that was searched"
            ) from error
