"""The data of a search: rows, targets, and the classes that its splits have."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, is_classifier
from sklearn.utils import indexable
from sklearn.utils.multiclass import type_of_target

from .._compat import num_samples
from ..rows import DatasetRows, Inputs, with_rows
from ..scorers import looks_at_predictions_only
from ..searchable import search_tags
from ..wrappers import inside

__all__ = [
    "check_classes",
    "check_lengths",
    "check_metrics_take",
    "has_classes",
    "rows_and_targets",
]

_log = logging.getLogger(__name__)

# Seconds between two reports of the number of targets that were read.
_EVERY = 2.0


def rows_and_targets(estimator: Any, X: Any, y: Any = None, verbose: int = 0) -> tuple[Any, Any]:
    """Return data that can be split by rows, and a target for each row.

    Parameters
    ----------
    estimator : estimator
        Of the search.
    X, y : object
        What ``fit`` got.
    verbose : int, default=0
        Whether to tell how many targets of a dataset were read.

    Raises
    ------
    TypeError
        If the rows cannot be told apart, or a dataset has no targets.
    ValueError
        If there are more or fewer targets than rows.
    """
    y = Inputs(y) if isinstance(y, Mapping) and not hasattr(y, "shape") else y
    X = with_rows(X, y)
    if isinstance(X, DatasetRows):
        _check_takes_datasets(estimator, X)
        if y is None:
            y = _read(estimator, X, verbose)
        elif num_samples(y) != len(X):
            raise ValueError(
                f"y must have a target for each of the {len(X)} items of the Dataset X, but has "
                f"{num_samples(y)}; leave y out where the Dataset yields pairs (X, y)"
            )
    X, y = indexable(X, y)
    return X, y


def _check_takes_datasets(estimator: Any, X: DatasetRows) -> None:
    """Raise TypeError if the first step that gets X takes arrays only."""
    found = inside(estimator)
    name = type(X.dataset).__name__
    if found.transforms_X:
        raise TypeError(
            f"transformers of a pipeline take arrays, but X is a torch Dataset ({name}); transform "
            "items where the Dataset makes them, or give X and y as arrays"
        )
    own = type(found.estimator)
    if own.__module__.partition(".")[0] == "sklearn":
        raise TypeError(
            f"an estimator must take what X is, but {own.__name__} takes arrays and X is a torch "
            f"Dataset ({name}); use a TorchClassifier or TorchRegressor, or give X and y as arrays"
        )


def _read(estimator: Any, X: DatasetRows, verbose: int) -> Any:
    from ..training.items import targets_of

    read = search_tags(inside(estimator).estimator).dataset_targets
    report = _Reading(len(X), verbose > 0)
    y = (read or targets_of)(X.dataset, report)
    report.finish()
    y = Inputs(y) if isinstance(y, Mapping) else y
    if y is None:
        raise TypeError(
            "a search needs a target for each row, y or a torch Dataset of pairs (X, y), but y is "
            f"None and X is a {type(X.dataset).__name__} whose items are no pairs; give y"
        )
    if len(y) != len(X):
        raise ValueError(
            f"a Dataset must yield a target for each of its {len(X)} items, but {len(y)} were "
            "read; what collates its items must not drop any"
        )
    return y


class _Reading:
    """Reports the number of targets that were read, on stderr or in the log."""

    def __init__(self, n: int, printed: bool) -> None:
        self.n = n
        self.printed = printed
        self.n_read = 0
        self._start = self._told = time.monotonic()

    def __call__(self, n_read: int) -> None:
        self.n_read = n_read
        if time.monotonic() - self._told > _EVERY:
            self._told = time.monotonic()
            self._tell(f"read {n_read} of {self.n} targets of the dataset")

    def finish(self) -> None:
        seconds = time.monotonic() - self._start
        if self.n_read and seconds > _EVERY:
            self._tell(
                f"read {self.n_read} targets of the dataset in {seconds:.0f} s; pass them as y, or "
                "store them in an attribute `targets`, and they need not be read"
            )

    def _tell(self, line: str) -> None:
        if self.printed:
            print(line, file=sys.stderr, flush=True)
        else:
            _log.info(line)


def check_lengths(X: Any, params: Mapping[str, Any]) -> None:
    """Raise ValueError if the groups are not those of the rows.

    Parameters
    ----------
    X : array-like
    params : dict
        Metadata of ``fit``.
    """
    groups = params.get("groups")
    if groups is not None and np.ndim(groups) > 0 and num_samples(groups) != num_samples(X):
        raise ValueError(
            f"groups must have an entry for each of the {num_samples(X)} rows of X, but has "
            f"{num_samples(groups)}; inconsistent numbers of samples cannot be split"
        )


def has_classes(estimator: Any, y: Any) -> bool:
    """Whether an estimator is a classifier, and targets are one label per row."""
    if y is None or not is_classifier(estimator):
        return False
    return type_of_target(y) in {"binary", "multiclass"}


def check_classes(
    estimator: Any,
    y: Any,
    splits: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]],
    scorer: Any,
    metric: Any,
    error_score: Any = np.nan,
) -> None:
    """Warn where the training part of a split lacks a class.

    Parameters
    ----------
    estimator : estimator
    y : array-like
    splits : list of (ndarray, ndarray)
    scorer : callable
    metric : str or bool
        By which the best row is found.
    error_score : float or "raise", default=nan
        The score where the scorer raises an error.

    Raises
    ------
    ValueError
        If a network, which predicts the classes of its training part, has no score on a split
        whatever it predicts: the mean over the splits, by which candidates are compared, is then
        NaN for all of them.
    """
    if not has_classes(estimator, y):
        return
    labels = np.asarray(y)
    classes = np.unique(labels)
    for i, (train, test) in enumerate(splits):
        missing = np.setdiff1d(classes, labels[train])
        untested = np.setdiff1d(classes, labels[test])
        if len(missing) or len(untested):
            scored = _scored_alone(estimator, scorer, metric)
            if scored is not None:
                _check_has_score(scored, metric, error_score, labels, i, train, test)
        if len(missing):
            warnings.warn(
                f"the training part of split {i} lacks the classes {missing.tolist()}, so fits "
                f"on it cannot predict them; use fewer splits, stratified ones, or merge rare "
                f"classes",
                UserWarning,
                stacklevel=5,
            )


def check_metrics_take(y: Any, scorer: Any) -> None:
    """Raise ValueError for a metric of scikit-learn where targets have more than two dimensions.

    It would fail in all fits, which `GridSearchCV` shows only after training them. `y` has such
    targets, or is `Inputs`, a dict of targets.
    """
    several = isinstance(y, Inputs)
    for name, one in getattr(scorer, "_scorers", {"scoring": scorer}).items():
        metric = getattr(one, "_score_func", None)
        if metric is not None and metric.__module__.startswith("sklearn."):
            found = "is a dict" if several else f"has the shape {np.shape(y)}"
            raise ValueError(
                f"metrics of scikit-learn take targets of one or two dimensions, but y {found} and "
                f"{name} is {metric.__name__}; leave scoring at None, which is the estimator's own "
                "score, or give a function of your own (estimator, X, y)"
            )


def _scored_alone(estimator: Any, scorer: Any, metric: Any) -> Any:
    """Return the scorer of the metric by which the best row is found, None if it is unknown."""
    owner = inside(estimator).estimator
    if not search_tags(owner).predicts_seen_classes:
        return None
    scorer = getattr(scorer, "_scorers", {}).get(metric, scorer)
    if hasattr(scorer, "_scorers"):  # no metric is named, as with refit=False
        return None
    known = type(scorer).__module__.startswith("sklearn.")
    return scorer if known and looks_at_predictions_only(scorer) else None


def _check_has_score(
    scorer: Any,
    metric: str,
    error_score: Any,
    labels: NDArray[Any],
    split: int,
    train: NDArray[np.intp],
    test: NDArray[np.intp],
) -> None:
    seen = np.unique(labels[train])
    frequencies = np.array([np.mean(labels[train] == label) for label in seen])
    # A network may predict a constant, or most rows well; some scores are NaN for one of them.
    known = 0.9 * (labels[test][:, None] == seen) + 0.1 * frequencies
    constant = np.tile(frequencies, (len(test), 1))
    reason = "the score is NaN"
    score = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for outputs in (constant, known / known.sum(1, keepdims=True)):
            try:
                score = scorer(_StandIn(seen, outputs), np.zeros((len(test), 1)), labels[test])
            except Exception as error:
                score = np.nan if error_score == "raise" else error_score
                reason = f"{type(error).__name__}: {error}"
            if not np.isnan(score):
                return
    parts = (np.unique(labels[part]).tolist() for part in (train, test))
    raise ValueError(
        "a network must have a score on each split, but on split {} no prediction has one: "
        "its training part has the classes {}, its test part {} ({}{}); use fewer splits, "
        "stratified ones, merge rare classes, or set `classes` to all labels".format(
            split, *parts, "" if metric == "score" else f"{metric}: ", reason
        )
    )


class _StandIn(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Predicts given probabilities, as a network that has seen these classes does."""

    def __init__(self, classes: NDArray[Any], outputs: NDArray[np.float64]) -> None:
        self.classes = classes
        self.outputs = outputs
        self.classes_ = classes

    def fit(self, X: Any, y: Any) -> _StandIn:
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        found: NDArray[Any] = self.classes[self.outputs.argmax(1)]
        return found

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        return self.outputs
