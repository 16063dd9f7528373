"""Rules for `refit`: the simplest of the good rows, or one of the front."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..objectives import pareto_ranks

__all__ = [
    "FrontRule",
    "OneStandardError",
    "knee_point",
    "may_win",
    "one_standard_error",
    "scalarize",
]


def one_standard_error(
    complexity: str | Callable[[Mapping[str, Any]], float] = "n_parameters",
    metric: str | None = None,
) -> OneStandardError:
    """Return a rule for `refit`: the least complex row within one standard error of the best.

    Scores are compared split by split: a row counts as good as the best if the mean of its
    differences to it is at most their standard error. Splits that are hard for all rows thus do not
    make rows alike. The rule is that of [1]_, section 3.4.3, with paired differences.

    Parameters
    ----------
    complexity : str or callable, default="n_parameters"
        What is to be small: a column of `cv_results_` ("mean_fit_time"), a parameter ("max_depth",
        "net__n_units"), or a fitted attribute of the estimators ("n_parameters", with or without
        the underscore at its end), which our searches then note of each fit, the one inside of
        pipelines included; or a function from a row's parameters, a dict, to a number.
    metric : str or None, default=None
        Name of the score that counts; None where there is one only.

    Returns
    -------
    rule : callable
        From `cv_results_` to a row, as `refit` of `GridSearchCV` takes it, too. Called, it raises
        ValueError where a table has fewer than two splits or no score, or does not tell the
        complexity of a row that may win.

    References
    ----------
    .. [1] L. Breiman, J. Friedman, R. Olshen, C. Stone. Classification and Regression Trees.
       Wadsworth, 1984.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skhpo.model_selection import one_standard_error
    >>> search = GridSearchCV(
    ...     DecisionTreeClassifier(random_state=0),
    ...     {"max_depth": [8, 4, 3, 2, 1]},
    ...     refit=one_standard_error("max_depth"),
    ... )
    >>> search.fit(*load_iris(return_X_y=True)).best_params_
    {'max_depth': 3}
    """
    return OneStandardError(complexity, metric)


class OneStandardError:
    """See `one_standard_error`; a class, so that a search with one can be pickled.

    Parameters
    ----------
    complexity, metric
        As of `one_standard_error`.
    """

    def __init__(
        self,
        complexity: str | Callable[[Mapping[str, Any]], float] = "n_parameters",
        metric: str | None = None,
    ) -> None:
        if not (isinstance(complexity, str) or callable(complexity)):
            raise TypeError(
                "complexity must be the name of a column, a parameter or a fitted attribute, or a "
                f"function of a row's parameters, but is {complexity!r}"
            )
        self.complexity = complexity
        self.metric = metric

    def __repr__(self) -> str:
        metric = "" if self.metric is None else f", metric={self.metric!r}"
        return f"one_standard_error({self.complexity!r}{metric})"

    def noted_attribute(self, param_names: Any) -> str | None:
        """Return the fitted attribute that fits have to note for this rule, if it needs one.

        Parameters
        ----------
        param_names : collection of str
            Names of the space.
        """
        name = self.complexity
        if (
            not isinstance(name, str)
            or name in param_names
            or name.removeprefix("param_") in param_names
            or name.startswith(("mean_", "std_", "rank_", "split", "n_resources"))
        ):
            return None
        return name if name.endswith("_") else f"{name}_"

    def __call__(self, cv_results: Mapping[str, Any]) -> int:
        """Return the row to refit.

        Parameters
        ----------
        cv_results : dict of str to array
        """
        scores = self._scores(cv_results)
        # Where a search with a fold_schedule was cut short, rows may have some of the splits only.
        n_splits = int(np.max(cv_results.get("n_splits_done", scores.shape[1])))
        scores = scores[:, :n_splits]
        means = scores.mean(axis=1)
        means[~may_win(cv_results)] = np.nan
        if np.isnan(means).all():
            raise ValueError(f"{self!r} needs a row with scores on all splits, but there is none")
        best = int(np.nanargmax(means))
        behind = scores[best] - scores
        # One split alone says nothing of how far they vary: only the best row is as good.
        error = behind.std(axis=1, ddof=1) / np.sqrt(n_splits) if n_splits > 1 else 0.0
        close = np.flatnonzero(~np.isnan(means) & (behind.mean(axis=1) <= error))
        complexity = self._complexity(cv_results, close)
        least = close[complexity == complexity.min()]
        return int(least[np.argmax(means[least])])

    def _scores(self, table: Mapping[str, Any]) -> NDArray[np.float64]:
        names = [key[len("mean_test_") :] for key in table if key.startswith("mean_test_")]
        if self.metric is None and len(names) != 1:
            raise ValueError(
                f"{self!r} needs to know which score counts, but there are {', '.join(names)}; "
                f"give one, as in one_standard_error({self.complexity!r}, metric={names[0]!r})"
            )
        metric = names[0] if self.metric is None else self.metric
        if metric not in names:
            raise ValueError(f"metric must be one of {', '.join(names)}, but is {metric!r}")
        columns: list[NDArray[np.float64]] = []
        while (key := f"split{len(columns)}_test_{metric}") in table:
            columns.append(np.array(table[key], dtype=float))
        if len(columns) < 2:
            raise ValueError(
                f"{self!r} needs scores of two splits at least, which say how far they vary, but "
                f"there is {len(columns)}; use another cv"
            )
        return np.column_stack(columns)

    def _complexity(self, table: Mapping[str, Any], rows: NDArray[np.intp]) -> NDArray[np.float64]:
        if callable(self.complexity):
            values = [self.complexity(table["params"][row]) for row in rows]
        else:
            values = [_value(column, row) for column in [self._column(table)] for row in rows]
        try:
            found = np.array(values, dtype=float)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"complexity must be a number, but {self.complexity!r} of the best rows is "
                f"{values[:5]!r}; give a function from a row's parameters to a number"
            ) from error
        if np.isnan(found).any():
            row = int(rows[np.isnan(found)][0])
            raise ValueError(
                f"complexity must be known of every row that may win, but {self.complexity!r} of "
                f"row {row} ({table['params'][row]!r}) is not"
            )
        return found

    def _column(self, table: Mapping[str, Any]) -> Any:
        name = self.complexity
        assert isinstance(name, str)
        for key in (name, f"param_{name}"):
            if key in table:
                return table[key]
        attribute = name if name.endswith("_") else f"{name}_"
        splits: list[Any] = []
        while (key := f"split{len(splits)}_{attribute}") in table:
            splits.append(table[key])
        if splits:
            return np.mean(splits, axis=0)
        raise ValueError(
            f"complexity must be a column of cv_results_, a parameter, or an attribute that the "
            f"fitted estimators have, but {name!r} is none; columns are "
            f"{', '.join(key for key in table if not key.startswith('split'))}"
        )


def _value(column: Any, row: int) -> Any:
    value = column[row]
    return np.nan if value is np.ma.masked or value is None else value


def may_win(table: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return which rows may win: those that keep the constraints, of the largest subsamples.

    The refit has all rows, and what was found with few of them says little of it. Nor do rows win
    that racing stopped.
    """
    feasible = np.asarray(table.get("feasible", ()), dtype=bool)
    allowed = np.ones(len(next(iter(table.values()))), dtype=bool)
    if feasible.any():
        allowed &= feasible
    if (n_done := table.get("n_splits_done")) is not None:
        allowed &= n_done == np.max(n_done)
    levels = table.get("n_resources")
    if levels is None or any(
        key.startswith("param_") and np.array_equal(np.ma.getdata(table[key]), levels)
        for key in table
    ):
        return allowed
    return np.asarray(allowed & (levels == np.max(levels)))


class FrontRule(ABC):
    """A rule for `refit`: from `cv_results_` to a row of the front."""

    objectives: Sequence[str] | None

    def __call__(self, cv_results: Mapping[str, Any]) -> int:
        """Return the row to refit.

        Parameters
        ----------
        cv_results : dict of str to array
        """
        return self.choose(cv_results, None, lambda means: may_win(cv_results))

    def choose(
        self,
        table: Mapping[str, Any],
        objectives: Sequence[str] | None,
        comparable: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
    ) -> int:
        """Return the row of the front that the rule chooses.

        Parameters
        ----------
        table : dict of str to array
        objectives : sequence of str or None
            Of the search, where the rule has none of its own.
        comparable : callable
            From mean scores to which rows can be compared.
        """
        metrics = [key[len("mean_test_") :] for key in table if key.startswith("mean_test_")]
        names = self.names(objectives, metrics)
        values = np.column_stack([table[f"mean_test_{name}"] for name in names])
        allowed = np.isfinite(values).all(axis=1) & comparable(values[:, 0])
        violation = np.asarray(table.get("violation", np.zeros(len(values))))
        if allowed.any():
            allowed &= violation <= violation[allowed].min()
        rows = np.flatnonzero(allowed)
        if not len(rows):
            raise ValueError(f"{self!r} needs a row with all of its scores, but there is none")
        rows = rows[pareto_ranks(values[rows]) == 1]
        return int(rows[self.best(values[rows], names)])

    def names(
        self, objectives: Sequence[str] | None, metrics: Sequence[str] | None
    ) -> Sequence[str]:
        """Return what the rule compares.

        Parameters
        ----------
        objectives : sequence of str or None
            Of the search, where the rule has none of its own.
        metrics : sequence of str or None
            Of the search; None if they are not known yet.

        Raises
        ------
        ValueError
            If there are no objectives, or one is no metric.
        """
        names = self.objectives or objectives
        if not names:
            raise ValueError(
                f"{self!r} needs to know the objectives; give them to the search, or to the rule: "
                "knee_point(['accuracy', 'time'])"
            )
        missing = [] if metrics is None else [name for name in names if name not in metrics]
        if missing:
            known = ", ".join(map(repr, metrics or ()))
            raise ValueError(f"{self!r} needs scores of {missing[0]!r}, but there are {known}")
        return names

    @abstractmethod
    def best(self, values: NDArray[np.float64], names: Sequence[str]) -> int:
        """Return the number of the chosen point of a front, of shape (n_points, n_objectives)."""


def knee_point(objectives: Sequence[str] | None = None) -> KneePoint:
    """Return a rule for `refit`: the row at the knee of the front.

    Each objective is scaled to its range on the front. The knee is the point farthest, on the side
    of better values, from the plane through the points that have all of one objective and the
    least of the others [1]_: beyond it, a little more of one costs much of another.

    Parameters
    ----------
    objectives : sequence of str or None, default=None
        Names of metrics; None for those of the search.

    Returns
    -------
    rule : callable
        From `cv_results_` to a row.

    References
    ----------
    .. [1] I. Das. On characterizing the "knee" of the Pareto curve based on normal-boundary
       intersection. Structural Optimization 18 (1999).

    Examples
    --------
    >>> import numpy as np
    >>> from skhpo.model_selection import knee_point
    >>> table = {
    ...     "mean_test_accuracy": np.array([0.5, 0.9, 0.92]),
    ...     "mean_test_time": np.array([-1.0, -2.0, -9.0]),
    ... }
    >>> knee_point(["accuracy", "time"])(table)
    1
    """
    return KneePoint(objectives)


class KneePoint(FrontRule):
    """See `knee_point`; a class, so that a search with one can be pickled."""

    def __init__(self, objectives: Sequence[str] | None = None) -> None:
        self.objectives = objectives

    def __repr__(self) -> str:
        return f"knee_point({'' if self.objectives is None else list(self.objectives)})"

    def best(self, values: NDArray[np.float64], names: Sequence[str]) -> int:
        span = np.ptp(values, axis=0)
        scaled = (values - values.min(axis=0)) / np.where(span > 0, span, 1.0)
        # The plane through the unit vectors: its distance grows with the sum of coordinates.
        return int(np.argmax(scaled.sum(axis=1)))


def scalarize(weights: Mapping[str, float]) -> Scalarize:
    """Return a rule for `refit`: the row with the largest weighted sum of scores.

    Parameters
    ----------
    weights : dict of str to float
        Of metrics, in units of their scores: with ``{"accuracy": 1, "time": 0.1}`` a second is
        worth a tenth. Positive, because all scores are to be large.

    Returns
    -------
    rule : callable
        From `cv_results_` to a row.

    Raises
    ------
    ValueError
        If the weights are no positive numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from skhpo.model_selection import scalarize
    >>> table = {
    ...     "mean_test_accuracy": np.array([0.5, 0.9, 0.92]),
    ...     "mean_test_time": np.array([-1.0, -2.0, -9.0]),
    ... }
    >>> scalarize({"accuracy": 1, "time": 0.001})(table)
    2
    """
    if not isinstance(weights, Mapping) or not weights:
        raise ValueError(
            f"weights must be a dict from metrics to numbers, but got {weights!r}; write "
            "scalarize({'accuracy': 1, 'time': 0.1})"
        )
    for name, weight in weights.items():
        is_number = isinstance(weight, Real) and not isinstance(weight, bool)
        if not is_number or not 0 < float(weight) < np.inf:
            raise ValueError(
                f"weights must be positive numbers, but that of {name!r} is {weight!r}; leave out "
                "a metric that does not count"
            )
    return Scalarize(weights)


class Scalarize(FrontRule):
    """See `scalarize`; a class, so that a search with one can be pickled."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = weights
        self.objectives = tuple(weights)

    def __repr__(self) -> str:
        return f"scalarize({dict(self.weights)})"

    def best(self, values: NDArray[np.float64], names: Sequence[str]) -> int:
        return int(np.argmax(values @ [float(self.weights[name]) for name in names]))
