"""What a search found, as a study of Optuna."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np

from .._late import import_extra
from ..journal import as_read
from ..process import ignoring
from ._reading import read_search
from ._spaces import is_logarithmic

__all__ = ["to_optuna"]


def to_optuna(source, *, metric=None, study_name=None, storage=None):
    """Return what a search found as a study of Optuna.

    So `optuna-dashboard` opens it, and Optuna's plots and importances take it.

    Parameters
    ----------
    source : estimator, str, path-like, (dict, dict or list of dict), or SearchRecord
        As of `read_search`.
    metric : str, sequence of str or None, default=None
        Which score, or scores, one of each direction of the study. None are the objectives of a
        search with several, else the score that counts.
    study_name : str or None, default=None
        Name of the study; None leaves it to Optuna.
    storage : str, optuna.storages.BaseStorage or None, default=None
        Where the study is kept, as of `optuna.create_study`: ``"sqlite:///run.db"`` is a file
        that `optuna-dashboard` opens. None keeps it in memory.

    Returns
    -------
    optuna.Study
        To be maximised. A trial is a candidate: its value is its mean score at the largest
        resource that it was given, its intermediate values are those at all of them. It is
        complete if it reached the largest level of the search, else pruned, failed if its score
        is not a number. With several scores all are values of the trial, which has no intermediate
        ones and is never pruned, because Optuna knows neither then, and a front has candidates of
        every level. Where the search has constraints, trials have their violation, so that
        ``best_trials`` are feasible. User attributes are the candidate, its rows, the scores of
        splits and the seconds of its fits. Trials whose fits are not all finished are left out. A
        trial starts when its first fit did, and takes as long as its fits together; where starts
        are not known, of tables and other searches, they are made up so that the last trial ends
        now.

    Raises
    ------
    ImportError
        If Optuna is not installed.
    ValueError
        If there is no such metric.
    TypeError, NotFittedError, JournalError
        As of `read_search`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skhpo.inspection import to_optuna
    >>> search = GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2, 3]})
    >>> study = to_optuna(search.fit(*load_iris(return_X_y=True)))
    >>> study.best_params
    {'max_depth': 3}
    """
    optuna = import_extra("optuna", "to_optuna")
    record = read_search(source)
    metrics = _metrics(record, metric)
    distributions = {name: _distribution(optuna, record, name) for name in record.space.names}
    rows_of = {}
    for row in record.rows(metrics[0], "all", finite=False).tolist():
        rows_of.setdefault(int(record.candidates[row]), []).append(row)
    study = optuna.create_study(
        directions=["maximize"] * len(metrics), study_name=study_name, storage=storage
    )
    if len(metrics) > 1:
        with ignoring(optuna.exceptions.ExperimentalWarning):
            study.set_metric_names(metrics)
    seconds = {
        candidate: float(np.nansum(record.fit_seconds[rows] + record.score_seconds[rows]))
        for candidate, rows in rows_of.items()
    }
    start = datetime.now() - timedelta(seconds=sum(seconds.values()))
    starts = {} if record.starts is None else _starts(record, rows_of)
    for candidate in sorted(rows_of):
        trial = _trial(optuna, record, metrics, rows_of[candidate], distributions)
        trial.datetime_start = start = starts.get(candidate, start)
        start = trial.datetime_complete = start + timedelta(seconds=seconds[candidate])
        study.add_trial(trial)
    return study


def _starts(record, rows_of):
    """Return when the first fit of each candidate started, where that is known."""
    known = {
        candidate: record.starts[rows][np.isfinite(record.starts[rows])]
        for candidate, rows in rows_of.items()
    }
    return {
        candidate: datetime.fromtimestamp(starts.min())
        for candidate, starts in known.items()
        if len(starts)
    }


def _metrics(record, given):
    """Return names of metrics as a list."""
    if given is None and len(record.objectives) > 1:
        given = record.objectives
    if given is None or isinstance(given, str):
        return [record.checked_metric(given)]
    return record.checked_objectives(given)


def _trial(optuna, record, metrics, rows, distributions):
    means = np.column_stack([record.means(name) for name in metrics])
    if record.resources is not None:
        rows = sorted(rows, key=lambda row: record.resources[row])
    last = rows[-1]
    state, values = optuna.trial.TrialState.COMPLETE, means[last].tolist()
    steps = {}
    if record.resources is not None and len(metrics) == 1:
        steps = {
            int(record.resources[row]): float(means[row, 0])
            for row in rows
            if not np.isnan(means[row, 0])
        }
        if record.resources[last] < record.levels[-1]:
            state = optuna.trial.TrialState.PRUNED
    if any(math.isnan(value) for value in values):
        state, values = optuna.trial.TrialState.FAIL, None
    constraints = {}
    if record.violation is not None:
        constraints = {"constraints": [float(record.violation[last])]}
    params = record.params[last]
    return optuna.trial.create_trial(
        state=state,
        values=values,
        params={name: _plain(params[name]) for name in params},
        distributions={name: distributions[name] for name in params},
        intermediate_values=steps,
        user_attrs={
            "candidate": int(record.candidates[last]),
            "rows": rows,
            "split_scores": [
                repr(s) for name in metrics for s in record.scores[name][last].ravel().tolist()
            ],
            "fit_seconds": float(np.nansum(record.fit_seconds[rows])),
        },
        system_attrs=constraints,
    )


def _plain(value):
    """Return a value of a type that Optuna keeps: anything else as text."""
    if isinstance(value, np.generic):
        value = value.item()
    return as_read(value)


def _distribution(optuna, record, name):
    """Return the distribution of a parameter, over all dicts of the space."""
    given = record.distributions
    dicts = [given] if isinstance(given, Mapping) else given
    places = [i for i, dim in enumerate(record.space.dimensions) if dim.name == name]
    kinds = {record.space.dimensions[place].kind for place in places}
    lists = [
        isinstance(one[name], list | tuple | np.ndarray) or hasattr(one[name], "weights")
        for one in dicts
        if name in one
    ]
    seen = [_plain(params[name]) for params in record.params if name in params]
    if any(lists) or "choice" in kinds:
        listed = [
            _plain(value)
            for one, is_list in zip([d for d in dicts if name in d], lists, strict=True)
            if is_list
            for value in one[name]
        ]
        choices = {(type(value), value): value for value in [*listed, *seen]}
        return optuna.distributions.CategoricalDistribution(list(choices.values()))
    low, high = record.space.bounds(name)
    low = low if math.isfinite(low) else min(seen, default=0.0)
    high = high if math.isfinite(high) else max(seen, default=1.0)
    log = low > 0 and all(is_logarithmic(record.space, place) for place in places)
    if kinds == {"integer"}:
        return optuna.distributions.IntDistribution(int(low), int(high), log=log)
    return optuna.distributions.FloatDistribution(float(low), float(high), log=log)
