"""How far the best score of a search is luck: bootstrap bias-corrected cross-validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ..rows import take_rows
from ._out_of_fold import OutOfFold, metric_of

__all__ = ["CorrectedScore", "bias_corrected_score", "corrected_score"]

# Resamples whose scores are computed at a time.
_AT_A_TIME = 100


@dataclass(frozen=True)
class CorrectedScore:
    """Score of the best candidate of a search on rows by which it was not chosen.

    Parameters
    ----------
    score : float
        The corrected score.
    low, high : float
        Ends of its interval.
    confidence : float
        Share of such intervals that cover the score on new data.
    uncorrected : float
        Score of the best candidate from the same predictions, on all rows: what `score` corrects.
    n_bootstrap : int
        Resamples on which the metric was defined.

    Examples
    --------
    >>> from skhpo.model_selection import CorrectedScore
    >>> print(CorrectedScore(0.8312, 0.8071, 0.8544, 0.95, 0.8463, 1000))
    0.8312 (95% interval 0.8071 to 0.8544); uncorrected 0.8463
    """

    score: float
    low: float
    high: float
    confidence: float
    uncorrected: float
    n_bootstrap: int

    def __str__(self) -> str:
        return (
            f"{self.score:.4g} ({self.confidence:.0%} interval {self.low:.4g} to {self.high:.4g}); "
            f"uncorrected {self.uncorrected:.4g}"
        )


def corrected_score(
    search: Any,
    y: Any = None,
    *,
    metric: Any = None,
    groups: Any = None,
    sample_weight: Any = None,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    random_state: Any = 0,
) -> CorrectedScore:
    """Estimate how well the best candidate of a search does on new data, without further fits.

    `best_score_` is the largest of many scores, and so larger than what the same candidate scores
    on new data. The kept predictions tell by how much: see `bias_corrected_score`. The resamples
    are stratified for classifiers. What is corrected is the choice among the rows whose predictions
    are kept; not that a search which learns has looked at the same rows all along.

    Parameters
    ----------
    search : search of this package
        Fitted with ``return_predictions=True``. Gets the result as its attribute
        `corrected_score_`, which its text view shows beside `best_score_`.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        What ``fit`` got; needed only where that is gone (after unpickling, say).
    metric : str, callable or None, default=None
        A name or a scorer of ``make_scorer``; None for the metric that guides the search. It is
        computed for all rows at once, as far as the splits test no row twice.
    groups : array-like of shape (n_samples,), default=None
        Rows of a group are in a resample together; by default those that ``fit`` got as ``groups``.
    sample_weight : array-like of shape (n_samples,), default=None
        What ``fit`` got, where the scores of the search weigh rows; needed only where that is gone,
        and an error where no rows are weighed.
    n_bootstrap : int, default=1000
        Resamples. Common metrics (accuracy, log loss, Brier score, area under the ROC curve of two
        classes, squared and absolute errors, R2) take seconds; any other is computed once per
        resample and candidate.
    confidence : float, default=0.95
        Of the interval.
    random_state : int, RandomState or None, default=0
        Of the resamples.

    Returns
    -------
    CorrectedScore
        The score, its interval, and how much of the best score was luck.

    Raises
    ------
    NotFittedError
        If the search is not fitted.
    ValueError
        If no predictions were kept, the metric needs others, `y`, `groups` or `sample_weight` are
        needed, or a number is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skhpo import BayesSearchCV
    >>> from skhpo.model_selection import corrected_score
    >>> random = np.random.RandomState(0)
    >>> X, y = random.normal(size=(100, 20)), np.arange(100) % 2
    >>> space = {"max_depth": [1, 2, 3, 4], "min_samples_leaf": [1, 2, 4], "max_features": [1, 5]}
    >>> search = BayesSearchCV(
    ...     DecisionTreeClassifier(), space, n_iter=20, return_predictions=True, random_state=0
    ... ).fit(X, y)
    >>> search.best_score_ > 0.55, corrected_score(search, y).score < search.best_score_
    (True, True)
    """
    check_is_fitted(search, "cv_results_")
    rows = search._rows_to_average("refit", "corrected_score")
    y = search._targets(y, "corrected_score(search, y)")
    found = OutOfFold.of(search.predictions_, rows)
    call = "corrected_score(search, y, sample_weight=sample_weight)"
    scores = metric_of(search, metric, y, found, weight=sample_weight, call=call)
    if sample_weight is not None and scores.sample_weight is None:
        raise ValueError(
            "sample_weight must be what fit got, for a metric that gets it, but fit got none, or "
            "the metric does not get it; leave it out"
        )
    if groups is None:
        groups = search._refit_inputs.argument("groups")
        if groups is None and "groups" in search._refit_inputs.names:
            raise ValueError(
                "rows of a group must be resampled together, but the groups that fit got are gone, "
                "because a search keeps no data; give them: corrected_score(search, groups=groups)"
            )
    if groups is not None:
        groups = np.asarray(groups)[found.tested]
    labels = np.asarray(take_rows(y, found.tested))
    stratified = is_classifier(search.estimator) and labels.ndim == 1 and groups is None

    def of_repeats(weights: NDArray[np.intp]) -> NDArray[np.float64]:
        repeats = range(found.outputs.shape[1])
        values = [found.scores(scores, found.outputs[:, r], weights) for r in repeats]
        return np.asarray(np.mean(values, axis=0))

    corrected = bias_corrected_score(
        of_repeats,
        len(found.tested),
        strata=labels if stratified else None,
        groups=groups,
        n_bootstrap=n_bootstrap,
        confidence=confidence,
        random_state=random_state,
    )
    search.corrected_score_ = corrected
    return corrected


def bias_corrected_score(
    scores: Any,
    n_samples: int,
    *,
    strata: Any = None,
    groups: Any = None,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    random_state: Any = None,
) -> CorrectedScore:
    """Correct the score of the best of many candidates for having been chosen.

    The rows are resampled with replacement. Of each resample the candidate that is best on it is
    scored on the rows that are not in it; the mean of these scores is the corrected one [1]_. They
    are scores of 37% of the rows: the interval has their quantiles, with distances from the mean
    that are reduced as for the jackknife that deletes the other 63% [2]_.

    Parameters
    ----------
    scores : callable
        From how often each row counts, an integer array of shape (n_resamples, n_samples), to
        scores of all candidates, of shape (n_resamples, n_candidates), larger being better, NaN
        where the metric is not defined. For predictions, those of `skhpo.ensembles.OutputMetric`.
    n_samples : int
        Number of rows.
    strata : array-like of shape (n_samples,) or None, default=None
        Rows of each stratum are resampled by themselves, so that its size stays: labels.
    groups : array-like of shape (n_samples,) or None, default=None
        Rows of a group are in a resample together, or not.
    n_bootstrap : int, default=1000
        Number of resamples.
    confidence : float, default=0.95
        Probability of the interval.
    random_state : int, RandomState or None, default=None
        Of the resamples.

    Returns
    -------
    CorrectedScore
        The score, its interval, and how much of the best score was luck.

    Raises
    ------
    ValueError
        If a number is out of its range, or the metric is not defined on any resample.

    References
    ----------
    .. [1] I. Tsamardinos, E. Greasidou, G. Borboudakis. Bootstrapping the out-of-sample predictions
       for efficient and accurate cross-validation. Machine Learning 107 (2018), algorithm 4.
    .. [2] J. Shao, C. F. J. Wu. A general theory for jackknife variance estimation. Annals of
       Statistics 17 (1989), equation 2.3.

    Examples
    --------
    Forty candidates that guess; the best of them is right more often than not:

    >>> import numpy as np
    >>> from skhpo.model_selection import bias_corrected_score
    >>> right = np.random.RandomState(0).rand(40, 100) < 0.5
    >>> def accuracy(counts):
    ...     return counts @ right.T / counts.sum(axis=1, keepdims=True)
    >>> found = bias_corrected_score(accuracy, 100, random_state=0)
    >>> found.uncorrected > 0.6, 0.45 < found.score < 0.55
    (True, True)
    """
    _check(n_samples, n_bootstrap, confidence)
    random = check_random_state(random_state)
    units, n_units, strata = _units(n_samples, strata, groups)
    on_all = np.asarray(scores(np.ones((1, n_samples), dtype=int)))[0]
    if np.isnan(on_all).all():
        raise ValueError("at least one candidate must have a score, but all scores are NaN")
    found: list[NDArray[np.float64]] = []
    share = []
    for start in range(0, n_bootstrap, _AT_A_TIME):
        n = min(_AT_A_TIME, n_bootstrap - start)
        counts = _resampled(random, n, n_units, strata)
        inside, outside = counts[:, units], (counts == 0)[:, units].astype(int)
        share.append((counts == 0).mean(axis=1))
        chosen = _best(scores(inside))
        tested = np.asarray(scores(outside))
        found.append(np.where(chosen < 0, np.nan, tested[np.arange(n), chosen]))
    values = np.concatenate(found)
    values = values[~np.isnan(values)]
    if not len(values):
        raise ValueError(
            "the metric must be defined on resamples of the rows, but is on none of "
            f"{n_bootstrap}: a class may have too few rows; use another metric"
        )
    score = float(values.mean())
    left = float(np.mean(np.concatenate(share)))
    reduced = score + np.sqrt(left / (1 - left)) * (values - score)
    low, high = np.quantile(reduced, [(1 - confidence) / 2, (1 + confidence) / 2])
    best = float(np.nanmax(on_all))
    return CorrectedScore(score, float(low), float(high), float(confidence), best, len(values))


def _check(n_samples: int, n_bootstrap: int, confidence: float) -> None:
    if not (n_samples >= 2 and n_bootstrap >= 1 and 0 < confidence < 1):
        raise ValueError(
            "n_samples >= 2, n_bootstrap >= 1 and 0 < confidence < 1 must hold, but got ("
            f"n_samples={n_samples}, n_bootstrap={n_bootstrap}, confidence={confidence})"
        )


def _units(
    n_samples: int, strata: Any, groups: Any
) -> tuple[NDArray[np.intp], int, NDArray[np.intp]]:
    """Return the unit that each row belongs to, how many there are, and the stratum of each."""
    for name, given in (("strata", strata), ("groups", groups)):
        if given is not None and np.shape(given) != (n_samples,):
            raise ValueError(
                f"{name} must have an entry for each of {n_samples} rows, but its shape is "
                f"{np.shape(given)}"
            )
    if groups is None:
        units = np.arange(n_samples)
        of_unit = np.zeros(n_samples, dtype=np.intp)
        if strata is not None:
            of_unit = np.unique(np.asarray(strata), return_inverse=True)[1]
        return units, n_samples, of_unit
    names, units = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"groups must name two groups at least, but all rows are of {names[0]!r}")
    return units, len(names), np.zeros(len(names), dtype=np.intp)


def _resampled(
    random: np.random.RandomState, n: int, n_units: int, strata: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Return how often each unit is in each of `n` resamples; some unit is not."""
    counts = np.zeros((n, n_units), dtype=np.intp)
    for stratum in range(int(strata.max()) + 1):
        members = np.flatnonzero(strata == stratum)
        drawn = random.randint(len(members), size=(n, len(members)))
        for row, one in zip(counts, drawn, strict=True):
            row[members] = np.bincount(one, minlength=len(members))
    for row in counts:
        while row.all():  # of two units, both are drawn half of the time
            row[:] = np.bincount(random.randint(n_units, size=n_units), minlength=n_units)
    return counts


def _best(scores: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the best candidate of each resample, the first of equal ones; -1 for none."""
    filled = np.where(np.isnan(scores), -np.inf, scores)
    return np.where(np.isnan(scores).all(axis=1), -1, filled.argmax(axis=1))
