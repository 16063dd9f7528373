"""What a search found, as a tidy table for pandas."""

from __future__ import annotations

import numpy as np

from .._late import import_extra
from ._reading import read_search

__all__ = ["objects", "to_pandas"]


def to_pandas(source):
    """Return what a search found as a tidy table: one row for each fit.

    Parameters
    ----------
    source : estimator, str, path-like, (dict, dict or list of dict), or SearchRecord
        As of `read_search`.

    Returns
    -------
    pandas.DataFrame
        Of all finished fits, in the order of ``cv_results_``, then of splits and repeats:
        ``row``, ``candidate``, ``split``, ``repeat``, the tags of the scheduler (``bracket``,
        ``iter``, ``stage``) and ``resource`` where one varies, ``score`` (or
        ``score_<metric>`` of several), NaN where the fit failed, ``fit_time`` and
        ``score_time`` in seconds, where it is known ``start`` (seconds since 1970) and ``worker``,
        and ``param_<name>``, missing where a configuration has no such parameter. Of a table, and
        of searches of scikit-learn, only means are known of seconds: all fits of a row have the
        same.

    Raises
    ------
    ImportError
        If pandas is not installed.
    TypeError, NotFittedError, JournalError, ValueError
        As of `read_search`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skhpo.inspection import to_pandas
    >>> search = GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2]}, cv=3)
    >>> frame = to_pandas(search.fit(*load_iris(return_X_y=True)))
    >>> frame[["candidate", "split", "param_max_depth"]].tail(2).values.tolist()
    [[1, 1, 2], [1, 2, 2]]
    >>> int(frame.groupby("param_max_depth")["score"].mean().idxmax())
    2
    """
    pandas = import_extra("pandas", "to_pandas", "plot")
    record = read_search(source)
    rows, splits, repeats = np.nonzero(record.has_fit)
    columns = {
        "row": rows,
        "candidate": record.candidates[rows],
        **{name: tags[rows] for name, tags in record.tags.items()},
        "split": splits,
        "repeat": repeats,
    }
    if record.resources is not None:
        columns["resource"] = record.resources[rows]
    for name, scores in record.scores.items():
        columns["score" if len(record.scores) == 1 else f"score_{name}"] = scores[record.has_fit]
    columns["fit_time"] = record.fit_seconds[record.has_fit]
    columns["score_time"] = record.score_seconds[record.has_fit]
    if record.starts is not None:
        columns["start"] = record.starts[record.has_fit]
        columns["worker"] = record.workers[record.has_fit]
    for name in record.space.names:
        # As a list, so that pandas chooses the type: numbers stay numbers.
        columns[f"param_{name}"] = _column(pandas, [record.params[row].get(name) for row in rows])
    return pandas.DataFrame(columns)


def _column(pandas, values):
    """Return a column; values that are sequences stay single objects."""
    if any(isinstance(value, list | tuple | dict | set | np.ndarray) for value in values):
        return pandas.Series(objects(values))
    return pandas.Series(values)


def objects(values):
    """Return an array of objects, also of sequences."""
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array
