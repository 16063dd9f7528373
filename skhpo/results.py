"""From trials and fit results to ``cv_results_``."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from .journal import read_trials
from .trial import FitResult, Trial

__all__ = [
    "TrialTable",
    "mean_measure",
    "mean_score",
    "read_journal",
    "results_table",
    "total_seconds",
    "variance_of_mean",
]


def mean_score(results: Sequence[FitResult], name: str, error_score: float) -> float:
    """Return the score of a trial: the mean over splits and repeats of a list of FitResult.

    Failures count as `error_score`; where a fit was not made because the configuration breaks a
    constraint it is NaN. Of a trial on some of the splits it is the mean over those.
    """
    results = _made(results)
    if any(result.skipped for result in results):
        return np.nan
    scores = [result.test_scores.get(name, error_score) for result in results]
    return float(np.mean(scores)) if len(scores) > 1 else float(scores[0])


def variance_of_mean(results: Sequence[FitResult], name: str, error_score: float) -> float | None:
    """Return the variance of `mean_score`: the sample variance over the number of fits.

    None where it is unknown: with a single fit, or where a score is not finite.
    """
    results = _made(results)
    if len(results) < 2 or any(result.skipped for result in results):
        return None
    scores = [result.test_scores.get(name, error_score) for result in results]
    if not np.isfinite(scores).all():
        return None
    return float(np.var(scores, ddof=1) / len(scores))


def _made(results: Sequence[FitResult]) -> Sequence[FitResult]:
    """Return the results without those of fits that were left out."""
    if not any(result.skipped for result in results):  # as in most searches
        return results
    return [result for result in results if not result.is_left_out]


def mean_measure(results: Sequence[FitResult], name: str) -> float:
    """Return the mean of a measure over the fits of a list of FitResult that have it, else NaN."""
    measures = [result.measures or {} for result in results]
    values = [found[name] for found in measures if name in found]
    return float(np.mean(values)) if values else np.nan


def total_seconds(results: Sequence[FitResult]) -> float:
    """Return what the fits of a list of FitResult took together, without those left out."""
    return float(sum(result.fit_time for result in _made(results)))


class Numbers:
    """Columns of numbers by name, in which a row may lack some."""

    def __init__(self) -> None:
        self.names: Sequence[str] = ()  # of the row that has most
        self._values: dict[str, array[float]] = {}
        self._is_there: dict[str, bytearray] = {}
        self._n_rows = 0

    def add(self, numbers: Mapping[str, float]) -> None:
        """Add a row."""
        if not numbers and not self._values:  # as most rows of most searches
            self._n_rows += 1
            return
        if len(numbers) > len(self.names):
            self.names = list(numbers)
        for name in numbers:
            if name not in self._values:
                self._values[name] = array("d", bytes(8 * self._n_rows))
                self._is_there[name] = bytearray(self._n_rows)
        for name, values in self._values.items():
            values.append(numbers.get(name, 0.0))
            self._is_there[name].append(name in numbers)
        self._n_rows += 1

    def column(self, name: str, missing: float) -> NDArray[np.float64]:
        """Return a column with a number in the place of those that are missing."""
        if name not in self._values:
            return np.full(self._n_rows, missing)
        values = np.array(self._values[name])
        values[~np.array(self._is_there[name], dtype=bool)] = missing
        return values

    def given(self) -> Iterator[tuple[str, NDArray[np.float64]]]:
        """Yield the names of all columns, and the numbers that are there."""
        for name, values in self._values.items():
            yield name, np.array(values)[np.array(self._is_there[name], dtype=bool)]


class TrialTable:
    """Finished trials and their results in columns, which need little memory.

    Parameters
    ----------
    n_fits : int
        Per trial.

    Attributes
    ----------
    errors, score_errors : Errors
        Of the fits that failed, and of scorers.
    places : set of str
        Machines, and kinds of device, on which fits ran, as far as they are known.
    workers : list of str
        What ran the fits.
    """

    def __init__(self, n_fits: int) -> None:
        self.n_fits = n_fits
        self.test_scores, self.train_scores, self.found = Numbers(), Numbers(), Numbers()
        self.measures = Numbers()
        self.places: set[str] = set()
        self._is_skipped, self._is_left_out = bytearray(), bytearray()  # by fit
        self.errors, self.score_errors = Errors(), Errors()
        self._numbers, self._candidates, self._parents = array("i"), array("i"), array("i")
        self._resources: list[int | None] = []
        self._params: list[Mapping[str, Any]] = []
        self._tags: list[Mapping[str, int]] = []
        self._fit_time, self._score_time, self._start = array("d"), array("d"), array("d")
        self.workers: list[str] = []
        self._place_of: dict[str, int] = {}  # of each in the list
        self._worker = array("i")  # of each fit; -1 where it is unknown

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def n_made(self) -> int:
        """Fits that were not left out."""
        return len(self._is_left_out) - sum(self._is_left_out)

    def add(self, trial: Trial, results: Sequence[FitResult]) -> None:
        """Add a trial and its results, in order of split and repeat."""
        self._numbers.append(trial.number)
        self._candidates.append(trial.candidate)
        self._parents.append(-1 if trial.parent is None else trial.parent)
        self._resources.append(trial.resource)
        self._params.append(trial.params)
        self._tags.append(trial.tags)
        for result in results:
            self._fit_time.append(result.fit_time)
            self._score_time.append(result.score_time)
            self._start.append(np.nan if result.start is None else result.start)
            self._worker.append(self._place(result.worker))
            self.test_scores.add(result.test_scores)
            self.train_scores.add(result.train_scores or {})
            self.found.add(result.found or {})
            self.measures.add(result.measures or {})
            if result.worker is not None and result.skipped is None:
                kind = (result.device or "cpu").partition(":")[0]
                self.places.add(f"{result.worker.partition(':')[0]} ({kind})")
            self._is_skipped.append(result.skipped is not None)
            self._is_left_out.append(result.is_left_out)
            self.errors.add(trial.number, result.error)
            self.score_errors.add(trial.number, result.score_error)

    def _place(self, worker: str | None) -> int:
        if worker is None:
            return -1
        if worker not in self._place_of:
            self._place_of[worker] = len(self.workers)
            self.workers.append(worker)
        return self._place_of[worker]

    def timing(self, n_repeats: int = 1) -> dict[str, NDArray[Any]]:
        """Return when, where and how long each fit ran: (n_trials, n_splits, n_repeats) arrays.

        Rows are by number of the trial: ``"start"`` in seconds since 1970, NaN where it is unknown,
        ``"worker"``, None then, ``"fit_time"`` and ``"score_time"`` in seconds, ``"skipped"`` where
        it was not made, because the configuration was known to break a constraint.
        """
        names = np.array([*self.workers, None], dtype=object)  # -1 is the last one
        order = self._order()

        def by_number(values: NDArray[Any]) -> NDArray[Any]:
            return values.reshape(len(self), -1, n_repeats)[order]

        skipped = np.array(self._is_skipped, bool) & ~np.array(self._is_left_out, bool)
        return {
            "start": by_number(np.array(self._start)),
            "worker": by_number(names[np.array(self._worker)]),
            "fit_time": by_number(np.array(self._fit_time)),
            "score_time": by_number(np.array(self._score_time)),
            "skipped": by_number(skipped),
        }

    def candidates(self) -> Sequence[int]:
        """Return the candidate of each trial, by number."""
        return array("i", np.array(self._candidates)[self._order()].tobytes())

    def trials(self) -> list[Trial]:
        """Return the trials by number."""
        return [
            Trial(
                number=self._numbers[row],
                candidate=self._candidates[row],
                params=self._params[row],
                resource=self._resources[row],
                parent=None if self._parents[row] < 0 else self._parents[row],
                tags=self._tags[row],
            )
            for row in self._order().tolist()
        ]

    def scores(self, part: str, name: str, missing: float) -> NDArray[np.float64]:
        """Return scores fit by fit, on the "test" or "train" part, with `missing` for failed ones.

        Of fits that were not made they are NaN.
        """
        numbers = self.test_scores if part == "test" else self.train_scores
        column = numbers.column(name, missing)
        column[np.array(self._is_skipped, dtype=bool)] = np.nan
        return column

    def _order(self) -> NDArray[np.intp]:
        return np.argsort(np.array(self._numbers), kind="stable")


class Errors:
    """How many things failed, and what the first one of the smallest trial said."""

    def __init__(self) -> None:
        self.n = 0
        self.first: str | None = None
        self._trial = -1

    def add(self, trial: int, error: str | None) -> None:
        """Take note of an error of a trial; None is none."""
        if error is not None:
            if not self.n or trial < self._trial:
                self.first, self._trial = error, trial
            self.n += 1


def results_table(
    table: TrialTable,
    *,
    n_repeats: int = 1,
    metrics: Sequence[str] | None = None,
    resource: str | None = None,
    fixed: Mapping[str, Any] = MappingProxyType({}),
    error_score: float = np.nan,
    return_train_score: bool = False,
    n_splits_done: bool = False,
) -> dict[str, Any]:
    """Lay out a search as scikit-learn's ``cv_results_``.

    Parameters
    ----------
    table : TrialTable
        With one trial at least; one row each.
    n_repeats : int, default=1
        Results per split; a table shows their mean, and, where there are several, the scores of
        each as ``split0_repeat0_test_score``, ....
    metrics : list of str or None, default=None
        Names of the scores. None finds them in the results.
    resource : str or None, default=None
        Name of the resource; unless it is ``"n_samples"`` it becomes part of ``params``.
    fixed : mapping of str to object, default={}
        Parameters that the search set for all candidates; they, too, become part of ``params``.
    error_score : float, default=nan
        The score of a fit that failed.
    return_train_score : bool, default=False
    n_splits_done : bool, default=False
        Whether to say on how many splits each row was fitted.

    Returns
    -------
    dict of str to ndarray
        Tags of the trials; ``n_resources`` and ``candidate`` where a resource varies; then
        times, parameters and scores as in ``GridSearchCV``. Values that fits found themselves
        are ``split0_<parameter>``, ..., NaN where a fit failed; ``constraint_<name>`` the means of
        what constraints are about. Where fits were left out, ``n_splits_done`` has the number of
        splits that a row was fitted on; its means are over those, and it ranks behind the rows that
        have a score on most splits.
    """
    order = table._order()
    columns: dict[str, Any] = {}
    for tag in table._tags[order[0]]:
        columns[tag] = np.array([tags[tag] for tags in table._tags])[order]
    if resource is not None:
        columns["n_resources"] = np.array(table._resources)[order]
        columns["candidate"] = np.array(table._candidates)[order].astype(np.int64)

    def by_split(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return an array of shape (n_trials, n_splits, n_repeats)."""
        return values.reshape(len(table), -1, n_repeats)[order]

    is_left_out = np.array(table._is_left_out, dtype=bool).reshape(len(table), -1, n_repeats)
    is_made = ~is_left_out[order][:, :, 0]
    for name, seconds in (("fit_time", table._fit_time), ("score_time", table._score_time)):
        _mean_and_std(columns, name, by_split(np.array(seconds)).mean(axis=2), is_made)
    n_made = np.asarray(is_made.sum(axis=1))
    if n_splits_done:
        columns["n_splits_done"] = n_made
    params: Any = [table._params[row] for row in order.tolist()]
    own = {name: np.full(len(table), value, dtype=object) for name, value in fixed.items()}
    if resource not in (None, "n_samples"):
        own[resource] = columns["n_resources"]
    columns.update(param_columns(params, own))
    columns["params"] = params
    for name in table.found.names:
        found = table.found.column(name, np.nan).reshape(len(table), -1, n_repeats)
        values = found[order].mean(axis=2)
        columns.update({f"split{i}_{name}": column.copy() for i, column in enumerate(values.T)})
    # In the order of the scorer; a result with all of them says it best.
    for name in metrics or table.test_scores.names or ["score"]:
        _scores(columns, f"test_{name}", by_split(table.scores("test", name, error_score)), is_made)
        columns[f"rank_test_{name}"] = _ranks(columns[f"mean_test_{name}"], n_made)
        if return_train_score:
            scores = by_split(table.scores("train", name, error_score))
            _scores(columns, f"train_{name}", scores, is_made)
    for name in table.measures.names:
        measured = by_split(table.measures.column(name, np.nan)).reshape(len(table), -1)
        there = ~np.isnan(measured)
        sums = np.where(there, measured, 0.0).sum(axis=1)
        columns[f"constraint_{name}"] = np.divide(
            sums, there.sum(axis=1), out=np.full(len(table), np.nan), where=there.any(axis=1)
        )
    if own or resource is not None:  # last, because the dicts take more memory than all columns
        columns["params"] = list(map(dict, params))
    for name, values in own.items():
        for one, value in zip(columns["params"], values.tolist(), strict=True):
            one[name] = value
    return columns


def param_columns(
    rows: Sequence[Mapping[str, Any]], more: Mapping[str, NDArray[Any]] = MappingProxyType({})
) -> dict[str, np.ma.MaskedArray[Any, Any]]:
    """Return the columns ``param_<name>`` of configurations, masked where one has no such name.

    Of the types that `GridSearchCV` gives them; filled at once, which takes a tenth of the time.
    `more` are columns without gaps, which come after the parameters of the first row.
    """
    columns = {}
    for name in dict.fromkeys(itertools.chain(rows[0], more, *rows) if rows else ()):
        if name in more:
            is_masked = np.zeros(len(rows), dtype=bool)
            columns[f"param_{name}"] = np.ma.MaskedArray(more[name].copy(), mask=is_masked)
            continue
        there = np.array([name in params for params in rows])
        values = [params[name] for params in rows if name in params]
        try:
            array = np.array(values)
        except ValueError:  # sequences of different lengths
            array = np.empty(0, dtype=object)
        data: NDArray[Any]
        if array.ndim == 1 and array.dtype.kind not in "UO":
            data = np.empty(len(rows), dtype=array.dtype)
            data[there] = array
        else:
            data = np.empty(len(rows), dtype=object)
            for row, value in zip(np.flatnonzero(there).tolist(), values, strict=True):
                data[row] = value
        columns[f"param_{name}"] = np.ma.MaskedArray(data, mask=~there)
    return columns


def _mean_and_std(
    columns: dict[str, Any], name: str, values: NDArray[np.float64], is_made: NDArray[np.bool_]
) -> None:
    """Add mean and standard deviation over the splits, of each row over those that were fitted."""
    with np.errstate(invalid="ignore"):  # infinite scores
        columns[f"mean_{name}"] = values.mean(axis=1)
        columns[f"std_{name}"] = values.std(axis=1)
        for row in np.flatnonzero(~is_made.all(axis=1)):
            done = values[row, is_made[row]]
            columns[f"mean_{name}"][row], columns[f"std_{name}"][row] = done.mean(), done.std()


def _scores(
    columns: dict[str, Any], name: str, values: NDArray[np.float64], is_made: NDArray[np.bool_]
) -> None:
    """Add the columns of scores of shape (n_trials, n_splits, n_repeats)."""
    means = values.mean(axis=2)
    for split, column in enumerate(means.T):
        columns[f"split{split}_{name}"] = column.copy()
        if values.shape[2] > 1:
            for repeat, scores in enumerate(values[:, split].T):
                columns[f"split{split}_repeat{repeat}_{name}"] = scores.copy()
    _mean_and_std(columns, name, means, is_made)


def _ranks(means: NDArray[np.float64], n_splits: NDArray[np.intp]) -> NDArray[np.int32]:
    """Return ranks from 1, best first; infinity is the best, NaN the worst, as in scikit-learn.

    Rows with a score on most splits come before the others: on all, unless the search ended early.
    """
    limits = np.finfo(means.dtype)
    filled = np.where(np.isnan(means), -np.inf, np.clip(means, limits.min, limits.max))
    ranks = rankdata(-filled, method="min").astype(np.int32)
    scored = ~np.isnan(means)
    if scored.any() and (n_splits != n_splits[0]).any():
        on_most = n_splits == n_splits[scored].max()
        for rows, first in ((on_most, 0), (~on_most, on_most.sum())):
            ranks[rows] = first + rankdata(-filled[rows], method="min")
    return ranks


def read_journal(path: str | PathLike[str]) -> dict[str, Any]:
    """Read the results of a search from its journal, also while it runs.

    Parameters
    ----------
    path : str or path-like
        The `journal` of a search.

    Returns
    -------
    dict of str to ndarray
        As `cv_results_`, for the trials that are finished on all splits. Parameters that are no
        numbers or strings are shown by their `repr`. A failed fit counts as NaN.

    Raises
    ------
    JournalError
        If the file cannot be read, or is no journal.

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import SGDClassifier
    >>> from skhpo import HalvingHyperbandSearchCV, read_journal
    >>> path = os.path.join(tempfile.mkdtemp(), "run.jsonl")
    >>> search = HalvingHyperbandSearchCV(
    ...     SGDClassifier(),
    ...     {"alpha": [1e-4, 1e-2]},
    ...     resource="max_iter",
    ...     max_resources=3,
    ...     journal=path,
    ... )
    >>> _ = search.fit(*load_iris(return_X_y=True))
    >>> read_journal(path)["n_resources"]
    array([3, 1, 3])
    """
    header, trials, results = read_trials(path)
    n_fits = header["n_splits"] * header["n_repeats"]
    table = TrialTable(n_fits)
    for trial, found in zip(trials, results, strict=True):
        if len(found) == n_fits:
            table.add(trial, [found[key] for key in sorted(found)])
    if not len(table):
        return {}
    return results_table(
        table,
        n_repeats=header["n_repeats"],
        resource=header["resource"],
        fixed=header.get("fixed", {}),
        return_train_score=header["return_train_score"],
        n_splits_done=any(table._is_left_out),
    )
