"""Splits that lack a class: a warning, or an error where their fits could not be scored."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, is_classifier
from sklearn.utils.multiclass import type_of_target

from ..rows import Inputs
from ..scorers import looks_at_predictions_only
from ..searchable import search_tags
from ..wrappers import inside

__all__ = ["check_classes", "check_metrics_take", "has_classes"]


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
    scored = _scored_alone(estimator, scorer, metric)
    for i, (train, test) in enumerate(splits):
        missing = np.setdiff1d(classes, labels[train])
        untested = np.setdiff1d(classes, labels[test])
        if scored is not None and (len(missing) or len(untested)):
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
