"""Splits that lack a class, on which no prediction of a network may have a score."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin

from ..process import ignoring
from ..scorers import looks_at_predictions_only
from ..searchable import search_tags
from ..wrappers import inside

__all__ = ["check_has_score"]


def check_has_score(
    estimator: Any,
    scorer: Any,
    metric: Any,
    error_score: Any,
    labels: NDArray[Any],
    split: int,
    train: NDArray[np.intp],
    test: NDArray[np.intp],
) -> None:
    """Raise ValueError if a network has no score on a split, whatever it predicts.

    Parameters
    ----------
    estimator : estimator
    scorer : callable
    metric : str or bool
        By which the best row is found.
    error_score : float or "raise"
    labels : ndarray of shape (n_samples,)
    split : int
        Its number, for the message.
    train, test : ndarray of int
        Its rows.
    """
    scorer = _scored_alone(estimator, scorer, metric)
    if scorer is None:
        return
    seen = np.unique(labels[train])
    frequencies = np.array([np.mean(labels[train] == label) for label in seen])
    # A network may predict a constant, or most rows well; some scores are NaN for one of them.
    known = 0.9 * (labels[test][:, None] == seen) + 0.1 * frequencies
    constant = np.tile(frequencies, (len(test), 1))
    reason = "the score is NaN"
    score = np.nan
    with ignoring(Warning):
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
