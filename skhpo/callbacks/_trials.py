"""What loggers write of a trial: its name, parameters, numbers and curves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from ..model_selection import SearchStart
from ..trial import FitResult, Trial

__all__ = [
    "TrialLogger",
    "answered_trials",
    "description_of",
    "is_failed",
    "name_of",
    "points_of",
    "scalars_of",
    "seconds_of",
    "values_of",
]

T = TypeVar("T")


class TrialLogger:
    """Base of the search callbacks that log whole trials.

    A subclass sets `_logged`, the numbers of the trials that are logged already, when the search
    begins, and logs one in `_log`.
    """

    _logged: set[int]

    def _log(self, search: Any, trial: Trial, results: Sequence[FitResult]) -> None:
        raise NotImplementedError

    def on_search_begin(self, search: Any, start: SearchStart) -> None:
        """Prepare the log, and find out what it has already.

        Parameters
        ----------
        search : estimator
            The search that is fitted.
        start : SearchStart
            What the search is about to do, and what its journal has.
        """
        raise NotImplementedError

    def on_trial_end(
        self, search: Any, trial: Trial, results: Sequence[FitResult], score: float
    ) -> None:
        """Log a trial, unless it was logged before.

        Parameters
        ----------
        search : estimator
            The search that is fitted.
        trial : Trial
            The trial that has ended.
        results : list of FitResult
            One for each split and repeat.
        score : float
            Mean score of the trial, NaN if a fit failed.
        """
        if trial.number not in self._logged:
            self._log(search, trial, results)


def name_of(trial: Trial) -> str:
    """Return a name for a trial: its row, and its candidate where a resource varies."""
    name = f"trial-{trial.number:04}"
    return name if trial.resource is None else f"{name}-c{trial.candidate:04}"


def values_of(search: Any, trial: Trial) -> dict[str, Any]:
    """Return the parameters of a trial, as its row has them: the resource is one of them."""
    values = {**trial.params, **getattr(search, "_fixed", {})}
    if trial.resource is not None:
        values[search.resource_] = trial.resource
    return values


def description_of(search: Any) -> str:
    """Return a name for a search."""
    return f"{type(search).__name__} of {type(search.estimator).__name__}"


def answered_trials(search: Any, start: SearchStart) -> set[int]:
    """Return the trials of which a journal answers all fits."""
    n_fits = search.n_splits_ * search.n_repeats
    counts = Counter(trial for trial, _, _ in start.known)
    return {trial for trial, count in counts.items() if count == n_fits}


def seconds_of(results: Iterable[FitResult]) -> float:
    """Return the seconds that a trial took, fits one after another."""
    return sum(result.fit_time + result.score_time for result in results)


def is_failed(results: Iterable[FitResult]) -> bool:
    """Whether a fit or a scorer failed."""
    return any((result.error or result.score_error) is not None for result in results)


def scalars_of(search: Any, results: Sequence[FitResult]) -> Iterator[tuple[str, float]]:
    """Yield (tag, value) of all that a trial has one finite number of."""
    for tag, value in _scalars_of(search, results):
        if math.isfinite(value):
            yield tag, value


def _scalars_of(search: Any, results: Sequence[FitResult]) -> Iterator[tuple[str, float]]:
    error_score = np.nan if search.error_score == "raise" else search.error_score
    for part in ("test", "train") if search.return_train_score else ("test",):
        scores = [getattr(result, f"{part}_scores") or {} for result in results]
        for name in max(map(list, scores), key=len):
            numbers = [found.get(name, error_score) for found in scores]
            yield f"mean_{part}_{name}", float(np.mean(numbers))
            for split, found in _by_split(results, numbers).items():
                yield f"{part}_{name}/split{split}", float(np.mean(found))
    yield "mean_fit_time", float(np.mean([result.fit_time for result in results]))


def points_of(results: Sequence[FitResult]) -> Iterator[tuple[int, str, float]]:
    """Yield (epoch, tag, value) of the finite points of all learning curves."""
    for tag, curve in _curves_of(results):
        for epoch, value in enumerate(curve, start=1):
            if math.isfinite(value):
                yield epoch, tag, value


def _curves_of(results: Sequence[FitResult]) -> Iterator[tuple[str, Sequence[float]]]:
    """Yield (tag, curve) of every split, and their mean as far as all of them go."""
    curves_of_fits = [result.curves or {} for result in results]  # a failed one has none
    for name in dict.fromkeys(name for curves in curves_of_fits for name in curves):
        having = [i for i, curves in enumerate(curves_of_fits) if name in curves]
        found = [curves_of_fits[i][name] for i in having]
        splits = _by_split([results[i] for i in having], found)
        curves = {split: _mean(several) for split, several in splits.items()}
        for split, curve in curves.items():
            yield f"epoch_{name}/split{split}", curve
        yield f"epoch_{name}/mean", _mean(list(curves.values()))


def _by_split(results: Iterable[FitResult], values: Iterable[T]) -> dict[int, list[T]]:
    splits: dict[int, list[T]] = {}
    for result, value in zip(results, values, strict=True):
        splits.setdefault(result.split, []).append(value)
    return splits


def _mean(curves: Sequence[Sequence[float]]) -> list[float]:
    length = min(map(len, curves))
    mean: list[float] = np.mean([curve[:length] for curve in curves], axis=0).tolist()
    return mean
