"""Rules for `refit` of a search with several objectives: which row of the front."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..objectives import pareto_ranks
from ._one_standard_error import may_win

__all__ = ["FrontRule", "knee_point", "scalarize"]


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
