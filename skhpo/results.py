"""From trials and fit results to ``cv_results_``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ._compat import masked_param_columns
from .journal import read_trials

if TYPE_CHECKING:
    from .trial import FitResult, Trial

__all__ = ["mean_score", "read_journal", "results_table", "total_seconds", "variance_of_mean"]


def mean_score(results: Sequence[FitResult], name: str, error_score: float) -> float:
    """Return the score of a trial: the mean over splits and repeats of a list of FitResult.

    Failures count as `error_score`.
    """
    return float(np.mean([result.test_scores.get(name, error_score) for result in results]))


def variance_of_mean(results: Sequence[FitResult], name: str, error_score: float) -> float | None:
    """Return the variance of `mean_score`: the sample variance over the number of fits.

    None where it is unknown: with a single fit, or where a score is not finite.
    """
    scores = [result.test_scores.get(name, error_score) for result in results]
    if len(scores) < 2 or not np.isfinite(scores).all():
        return None
    return float(np.var(scores, ddof=1) / len(scores))


def total_seconds(results: Sequence[FitResult]) -> float:
    """Return what the fits of a list of FitResult took together."""
    return float(sum(result.fit_time for result in results))


def results_table(
    trials: Sequence[Trial],
    results: Sequence[Sequence[FitResult]],
    *,
    n_repeats: int = 1,
    metrics: Sequence[str] | None = None,
    resource: str | None = None,
    error_score: float = np.nan,
    return_train_score: bool = False,
) -> dict[str, Any]:
    """Lay out a search as scikit-learn's ``cv_results_``.

    Parameters
    ----------
    trials : list of Trial
        One row each.
    results : list of list of FitResult
        Per trial, one per split and repeat, in that order.
    n_repeats : int, default=1
        Results per split; a table shows their mean.
    metrics : list of str or None, default=None
        Names of the scores. None finds them in the results.
    resource : str or None, default=None
        Name of the resource; unless it is ``"n_samples"`` it becomes part of ``params``.
    error_score : float, default=nan
        The score of a fit that failed.
    return_train_score : bool, default=False

    Returns
    -------
    dict of str to ndarray
        Tags of the trials; ``n_resources`` and ``candidate`` where a resource varies; then
        times, parameters and scores as in ``GridSearchCV``. Values that fits found themselves
        are ``split0_<parameter>``, ..., NaN where a fit failed.
    """
    table: dict[str, Any] = {}
    for tag in trials[0].tags:
        table[tag] = np.array([trial.tags[tag] for trial in trials])
    if resource is not None:
        table["n_resources"] = np.array([trial.resource for trial in trials])
        table["candidate"] = np.array([trial.candidate for trial in trials])
    _mean_and_std(table, "fit_time", _grid(results, n_repeats, lambda result: result.fit_time))
    _mean_and_std(table, "score_time", _grid(results, n_repeats, lambda result: result.score_time))
    params = [_row_params(trial, resource) for trial in trials]
    table.update(masked_param_columns(params))
    table["params"] = params
    table.update(_found(results))
    for name in metrics or _metric_names(results):
        scores = _grid(results, n_repeats, _score_of("test_scores", name, error_score))
        _scores(table, f"test_{name}", scores)
        table[f"rank_test_{name}"] = _ranks(table[f"mean_test_{name}"])
        if return_train_score:
            scores = _grid(results, n_repeats, _score_of("train_scores", name, error_score))
            _scores(table, f"train_{name}", scores)
    return table


def _row_params(trial: Trial, resource: str | None) -> dict[str, Any]:
    params = dict(trial.params)
    if resource not in (None, "n_samples"):
        params[resource] = trial.resource
    return params


def _found(results: Sequence[Sequence[FitResult]]) -> dict[str, NDArray[np.float64]]:
    """Return columns of the values that fits found, one per parameter and split."""
    names = dict.fromkeys(name for row in results for r in row for name in r.found or ())
    return {
        f"split{i}_{name}": np.array([(r.found or {}).get(name, np.nan) for r in column])
        for name in names
        for i, column in enumerate(zip(*results, strict=True))
    }


def _metric_names(results: Sequence[Sequence[FitResult]]) -> Sequence[str]:
    """Return names in the order of the scorer; a result with all of them says it best."""
    names = max((list(r.test_scores) for row in results for r in row), key=len)
    return names or ["score"]


def _score_of(field: str, name: str, error_score: float) -> Callable[[FitResult], float]:
    return lambda result: (getattr(result, field) or {}).get(name, error_score)


def _grid(
    results: Sequence[Sequence[FitResult]], n_repeats: int, value: Callable[[FitResult], float]
) -> NDArray[np.float64]:
    """Return an array of shape (n_trials, n_splits), the mean over repeats."""
    values = np.array([[value(result) for result in row] for row in results], dtype=np.float64)
    return np.asarray(values.reshape(len(results), -1, n_repeats).mean(axis=2))


def _mean_and_std(table: dict[str, Any], name: str, values: NDArray[np.float64]) -> None:
    with np.errstate(invalid="ignore"):  # infinite scores
        table[f"mean_{name}"] = values.mean(axis=1)
        table[f"std_{name}"] = values.std(axis=1)


def _scores(table: dict[str, Any], name: str, values: NDArray[np.float64]) -> None:
    for split, column in enumerate(values.T):
        table[f"split{split}_{name}"] = column.copy()
    _mean_and_std(table, name, values)


def _ranks(means: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return ranks from 1, best first; infinity is the best, NaN the worst, as in scikit-learn."""
    limits = np.finfo(means.dtype)
    filled = np.where(np.isnan(means), -np.inf, np.clip(means, limits.min, limits.max))
    return rankdata(-filled, method="min").astype(np.int32)


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
    rows = [
        (trial, [found[key] for key in sorted(found)])
        for trial, found in zip(trials, results, strict=True)
        if len(found) == n_fits
    ]
    if not rows:
        return {}
    return results_table(
        [trial for trial, _ in rows],
        [fits for _, fits in rows],
        n_repeats=header["n_repeats"],
        resource=header["resource"],
        return_train_score=header["return_train_score"],
    )
