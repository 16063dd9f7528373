"""What a search found, in one small record that everything in this package reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..arguments import nearest_first
from ..space import SearchSpace
from ._spaces import ordered_space

__all__ = ["Failure", "SearchRecord", "diverged_below"]

# Scores further below the lower quartile than so many times the distance between the quartiles are
# diverged (Tukey's "far out").
_DIVERGED = 3.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A fit that failed.

    Parameters
    ----------
    row, split, repeat : int
    error : str
        Its traceback.

    Examples
    --------
    >>> import os, tempfile, warnings
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from skhpo import BayesSearchCV
    >>> from skhpo.inspection import read_search
    >>> path = os.path.join(tempfile.mkdtemp(), "run.jsonl")
    >>> search = BayesSearchCV(SVC(), {"C": [1.0, -1.0]}, n_iter=2, journal=path)
    >>> with warnings.catch_warnings(action="ignore"):
    ...     _ = search.fit(*load_iris(return_X_y=True))
    >>> failure = read_search(path).failures[0]
    >>> "Got -1.0 instead" in failure.error
    True
    """

    row: int
    split: int
    repeat: int
    error: str


@dataclass(frozen=True, eq=False)
class SearchRecord:
    """What a search found: a row for each configuration at each resource that it was given.

    Made by `read_search`. Scores are larger where a configuration is better, as everywhere in
    scikit-learn.

    Parameters
    ----------
    distributions : dict or list of dict
        The space as it was given to the search; lists of dicts are conditional.
    params : list of dict
        The configuration of each row, without the resource and what is `fixed`.
    scores : dict of str to ndarray of shape (n_rows, n_splits, n_repeats)
        By metric; NaN where a fit failed, or is not there yet.
    has_fit : ndarray of bool, shape (n_rows, n_splits, n_repeats)
        Which fits are finished, failed ones included.
    fit_seconds, score_seconds : ndarray of shape (n_rows, n_splits, n_repeats)
        NaN where a fit is not there. Of a table, and a search of scikit-learn, only the mean over
        splits is known, which each fit is given.
    candidates : ndarray of int, shape (n_rows,)
        Number of the configuration; rows of one configuration differ in their resource.
    resources : ndarray or None, default=None
        What each row was given in total; None where no resource varies.
    resource : str or None, default=None
        Its name.
    fixed : dict, default={}
        Parameters that the search set for all configurations.
    tags : dict of str to ndarray, default={}
        Where the scheduler put each row: ``"bracket"``, ``"iter"``, ``"stage"``.
    metric : str, default="score"
        The metric that counts where no other is asked for.
    chosen : int or None, default=None
        The row that the search itself took for the best by `metric`.
    objectives : sequence of str, default=()
        Metrics that the search was to make large, all of them; empty where there is one.
    violation : ndarray of shape (n_rows,) or None, default=None
        How far each row breaks the constraints of the search, relative to their bounds: 0 where all
        hold. None without constraints.
    constraints : dict of str to ndarray of shape (n_rows,), default={}
        By constraint its number in each row: the mean over fits, NaN where it is unknown.
    bounds : dict of str to (float or None, float or None), default={}
        Lowest and highest number that a constraint allows, where they are known.
    skipped : ndarray of bool, shape (n_rows, n_splits, n_repeats), or None, default=None
        Fits that were not made, because the configuration was known to break a constraint. They
        are finished and have no scores, but did not fail. None where there is none.
    starts : ndarray of shape (n_rows, n_splits, n_repeats) or None, default=None
        When each fit started, in seconds since 1970 by its worker's clock; NaN where that is
        unknown. None where nothing is known.
    workers : ndarray of object, of the same shape, or None, default=None
        What ran it, ``"<host>:<process>"``, and ``":<thread>"`` if not in the main one.
    failures : list of Failure, default=[]
        Only a journal has them.
    curves : list of dict, default=[]
        Of each row the learning curves, by name and then by (split, repeat); only a journal has
        them, and only where a callback asked for them.
    facts : dict, default={}
        What else is known of the search: ``"search"``, ``"seed"``, ``"versions"``,
        ``"estimator"``, and ``"continues"``: whether a rung goes on from the one before.

    Attributes
    ----------
    space : SearchSpace
        Lists of numbers are ordered in it, whatever the search took them for.
    metrics : list of str
    n_rows : int

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import SVC
    >>> from skhpo import BayesSearchCV
    >>> from skhpo.inspection import read_search
    >>> search = BayesSearchCV(SVC(), {"C": [0.1, 1.0, 10.0]}, n_iter=3, cv=3, random_state=0)
    >>> record = read_search(search.fit(*load_iris(return_X_y=True)))
    >>> record.n_rows, record.metrics, record.space.names
    (3, ['score'], ['C'])
    >>> record.params[record.best_row()] == search.best_params_
    True
    >>> record.scores["score"].shape, record.starts.shape
    ((3, 3, 1), (3, 3, 1))
    """

    distributions: Any
    params: list[dict[str, Any]]
    scores: Mapping[str, np.ndarray]
    has_fit: np.ndarray
    fit_seconds: np.ndarray
    score_seconds: np.ndarray
    candidates: np.ndarray
    resources: np.ndarray | None = None
    resource: str | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, np.ndarray] = field(default_factory=dict)
    metric: str = "score"
    chosen: int | None = None
    objectives: Sequence[str] = ()
    violation: np.ndarray | None = None
    constraints: Mapping[str, np.ndarray] = field(default_factory=dict)
    bounds: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    skipped: np.ndarray | None = None
    starts: np.ndarray | None = None
    workers: np.ndarray | None = None
    failures: Sequence[Failure] = ()
    curves: Sequence[Mapping[str, Any]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    space: SearchSpace = field(init=False)
    # Places of rows in the unit cube, which a page asks for again and again.
    _places: dict[int, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self):
        object.__setattr__(self, "space", ordered_space(self.distributions))

    @property
    def metrics(self):
        """Names of the scores."""
        return list(self.scores)

    @property
    def n_rows(self):
        """Number of rows, finished or not."""
        return len(self.params)

    @property
    def is_finished(self):
        """Of each row, whether all of its fits are there; an ndarray of bool."""
        return self.has_fit.all(axis=(1, 2))

    @property
    def levels(self):
        """The levels of the resource, ascending; empty where none varies."""
        return [] if self.resources is None else np.unique(self.resources).tolist()

    @property
    def finished_levels(self):
        """Those of `levels` at which a row is finished."""
        return (
            [] if self.resources is None else np.unique(self.resources[self.is_finished]).tolist()
        )

    def failed(self, metric=None):
        """Return which fits have no score though they were made; an ndarray of bool.

        Parameters
        ----------
        metric : str or None, default=None
            None is the one that counts.
        """
        failed = self.has_fit & np.isnan(self.scores[self.checked_metric(metric)])
        return failed if self.skipped is None else failed & ~self.skipped

    @property
    def n_skipped(self):
        """Number of fits that were not made."""
        return 0 if self.skipped is None else int(self.skipped.sum())

    def checked_metric(self, metric=None):
        """Return the name of a metric, None being the one that counts.

        Raises
        ------
        ValueError
            If there is no such metric.
        """
        if metric is None:
            return self.metric
        if metric not in self.scores:
            raise ValueError(
                f"metric must be one of {nearest_first(metric, self.metrics)}, but got {metric!r}"
            )
        return metric

    def checked_names(self, names):
        """Return names of parameters as a list.

        Raises
        ------
        ValueError
            If the space has no such parameter.
        """
        names = [names] if isinstance(names, str) else list(names)
        for name in names:
            if name not in self.space.names:
                known = nearest_first(name, self.space.names)
                raise ValueError(f"a parameter must be one of {known}, but got {name!r}")
        return names

    def means(self, metric=None):
        """Return the mean score of each row, NaN where a fit failed or is missing.

        Parameters
        ----------
        metric : str or None, default=None
            None is the one that counts.

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        with np.errstate(invalid="ignore"):  # infinite ones of both signs
            return self.scores[self.checked_metric(metric)].mean(axis=(1, 2))

    @property
    def is_feasible(self):
        """Of each row, whether it keeps all constraints; an ndarray of bool."""
        return np.ones(self.n_rows, dtype=bool) if self.violation is None else self.violation == 0

    def checked_objectives(self, names=None):
        """Return names of metrics as a list, None being the objectives of the search.

        Raises
        ------
        ValueError
            If there is no such metric, or the search has one objective.
        """
        if names is None:
            names = self.objectives
            if not names:
                raise ValueError(
                    f"the search has one objective; name those to look at, of {self.metrics}"
                )
        return [self.checked_metric(name) for name in names]

    def objective_values(self, names=None):
        """Return the mean scores of all objectives.

        Parameters
        ----------
        names : sequence of str or None, default=None
            Metrics; None for the objectives of the search.

        Returns
        -------
        ndarray of shape (n_rows, n_objectives)
        """
        return np.column_stack([self.means(name) for name in self.checked_objectives(names)])

    def rows_with(self, names=None):
        """Return the numbers of the rows that have all objectives and can be compared.

        Of subsamples of the data (``"n_samples"``) only the largest can.
        """
        there = np.isfinite(self.objective_values(names)).all(axis=1)
        if self.resource == "n_samples" and there.any():
            there &= self.resources == self.resources[there].max()
        return np.flatnonzero(there)

    def rows(self, metric=None, resource="largest", *, finite=True):
        """Return the rows that can be compared with one another.

        Parameters
        ----------
        metric : str or None, default=None
            None is the one that counts.
        resource : "largest", "all" or number, default="largest"
            Which level of the resource; ignored where none varies.
        finite : bool, default=True
            Leave out rows whose mean score is not finite.

        Returns
        -------
        ndarray of int
            Numbers of rows, ascending.

        Raises
        ------
        ValueError
            If there is no such metric or level.
        """
        means = self.means(metric)
        kept = np.isfinite(means) if finite else self.is_finished
        if self.resources is not None and not (isinstance(resource, str) and resource == "all"):
            kept = kept & (self.resources == self._level(resource))
        return np.flatnonzero(kept)

    def enough_rows(self, n, what, metric=None, resource="largest"):
        """Return `rows`, and raise ValueError if they are fewer than `n`.

        Parameters
        ----------
        n : int
        what : str
            Who needs them, for the message.
        metric, resource
            As of `rows`.
        """
        found = self.rows(metric, resource)
        if len(found) >= n:
            return found
        where, fix = "", "let the search try more configurations"
        if self.resources is not None and not (isinstance(resource, str) and resource == "all"):
            where = f" with {self.resource}={self._level(resource)}"
            counts = {level: len(self.rows(metric, level)) for level in self.levels}
            enough = [level for level, count in counts.items() if count >= n]
            if enough:
                fix = f"ask for a level that has them: resource={max(enough)} has "
                fix += f"{counts[max(enough)]}"
        raise ValueError(
            f"{what} needs at least {n} rows with finite scores on all splits, but there are "
            f"{len(found)}{where}; {fix}"
        )

    def added_resources(self):
        """Return the resource that each fit was trained with itself, without what it continued.

        Returns
        -------
        ndarray of shape (n_rows, n_splits, n_repeats)
            0 where there is no fit.
        """
        added = np.where(self.has_fit, self.resources[:, None, None], 0.0)
        if self.facts.get("continues"):
            order = np.lexsort((self.resources, self.candidates))
            same = np.diff(self.candidates[order]) == 0
            rows, before = order[1:][same], order[:-1][same]
            continued = self.has_fit[rows] & self.has_fit[before]
            added[rows] -= np.where(continued, self.resources[before, None, None], 0.0)
        return added

    def best_row(self, metric=None):
        """Return the row of the best score, None where none is finished.

        By the metric that counts it is the one that the search chose, if that is known. Where there
        are constraints it is among the rows that break them least. Of equal scores the one with
        more of the resource counts, then the first; of subsamples of the data (``"n_samples"``)
        only the largest.
        """
        if self.chosen is not None and metric in (None, self.metric):
            return self.chosen
        means = self.means(metric)
        rows = np.flatnonzero(~np.isnan(means))
        if self.resource == "n_samples" and len(rows):
            rows = rows[self.resources[rows] == self.resources[rows].max()]
        if not len(rows):
            return None
        if self.violation is not None:
            rows = rows[self.violation[rows] == self.violation[rows].min()]
        level = np.zeros(len(rows)) if self.resources is None else self.resources[rows]
        return int(rows[np.lexsort((rows, -level, -means[rows]))[0]])

    def units(self, rows):
        """Return where configurations lie in the unit cube of `space`.

        Parameters
        ----------
        rows : sequence of int

        Returns
        -------
        ndarray of shape (n, n_dims)
        """
        rows = [int(row) for row in rows]
        for row in rows:
            if row not in self._places:
                self._places[row] = self.space.to_unit(self.params[row])
        points = [self._places[row] for row in rows]
        return np.array(points).reshape(len(points), self.space.n_dims)

    def _level(self, resource):
        if isinstance(resource, str) and resource == "largest":
            return self.levels[-1] if len(self.resources) else None
        if resource not in self.levels:
            raise ValueError(
                f'resource must be "largest", "all" or one of the levels {self.levels} of '
                f"{self.resource}, but got {resource!r}"
            )
        return resource


def diverged_below(scores):
    """Return the score below which configurations have diverged, rather than being bad ones."""
    quarter, upper = np.quantile(scores, [0.25, 0.75])
    spread = (upper - quarter) or (scores.max() - quarter)
    return quarter - _DIVERGED * spread if spread > 0 else scores.min()
