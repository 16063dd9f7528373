"""What loggers write of a trial: its name, parameters, numbers and curves."""

from __future__ import annotations

import numpy as np

__all__ = ["TrialLogger", "curves_of", "is_failed", "name_of", "scalars_of", "values_of"]


class TrialLogger:
    """Base of the search callbacks that log whole trials.

    A subclass sets `_logged`, the numbers of the trials that are logged already, when the search
    begins, and logs one in ``_log(search, trial, results)``.
    """

    def on_trial_end(self, search, trial, results, score):
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


def name_of(trial):
    """Return a name for a trial: its row, and its candidate where a resource varies."""
    name = f"trial-{trial.number:04}"
    return name if trial.resource is None else f"{name}-c{trial.candidate:04}"


def values_of(search, trial):
    """Return the parameters of a trial; the resource is one of them."""
    values = dict(trial.params)
    if trial.resource is not None:
        values[search.resource_] = trial.resource
    return values


def is_failed(results):
    """Whether a fit or a scorer failed."""
    return any((result.error or result.score_error) is not None for result in results)


def scalars_of(search, results):
    """Yield (tag, value) of all that a trial has one number of."""
    error_score = np.nan if search.error_score == "raise" else search.error_score
    for part in ("test", "train") if search.return_train_score else ("test",):
        scores = [getattr(result, f"{part}_scores") or {} for result in results]
        for name in max(map(list, scores), key=len):
            numbers = [found.get(name, error_score) for found in scores]
            yield f"mean_{part}_{name}", float(np.mean(numbers))
            for split, found in _by_split(results, numbers).items():
                yield f"{part}_{name}/split{split}", float(np.mean(found))
    yield "mean_fit_time", float(np.mean([result.fit_time for result in results]))


def curves_of(results):
    """Yield (tag, curve) of every split, and their mean as far as all of them go."""
    fits = [result for result in results if result.curves]  # a failed one has none
    for name in dict.fromkeys(name for fit in fits for name in fit.curves):
        having = [fit for fit in fits if name in fit.curves]
        splits = _by_split(having, [fit.curves[name] for fit in having])
        curves = {split: _mean(found) for split, found in splits.items()}
        for split, curve in curves.items():
            yield f"epoch_{name}/split{split}", curve
        yield f"epoch_{name}/mean", _mean(list(curves.values()))


def _by_split(results, values):
    splits = {}
    for result, value in zip(results, values, strict=True):
        splits.setdefault(result.split, []).append(value)
    return splits


def _mean(curves):
    length = min(map(len, curves))
    return np.mean([curve[:length] for curve in curves], axis=0).tolist()
