"""Scores of predictions that are there already: of many candidates, on many resamples of the rows.

A scorer of scikit-learn asks an estimator; here it asks `_Answering`, which looks its answers up.
For the common metrics that is not needed: their scores are functions of means over the rows, and
the means of many candidates on many resamples are one product of matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target

from .._compat import PassthroughScorer, scorer_parts
from ..process import ignoring

__all__ = ["OutputMetric", "labels_of"]

Array = NDArray[Any]

# Probabilities are kept as float32, and log_loss clips them where that type can.
_EPS = float(np.finfo(np.float32).eps)
# Numbers that are weighted at a time.
_MOST_NUMBERS = 2**24


class OutputMetric:
    """A scorer applied to outputs of estimators.

    Parameters
    ----------
    scorer : callable
        Of scikit-learn's kind, ``scorer(estimator, X, y)``.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Targets of all rows.
    method : {"predict_proba", "decision_function", "predict"}
        What the outputs are.
    classes : ndarray or None, default=None
        Sorted labels; None for a regressor. Outputs of ``predict`` are positions in them.
    sample_weight : array-like of shape (n_samples,) or None, default=None
        What each row counts; None counts all alike.

    Raises
    ------
    ValueError
        If the scorer needs something else than these outputs.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.metrics import get_scorer
    >>> from skhpo.ensembles import OutputMetric
    >>> y, classes = np.array([0, 1, 1]), np.array([0, 1])
    >>> metric = OutputMetric(
    ...     get_scorer("accuracy"), y, method="predict_proba", classes=classes
    ... )
    >>> right = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    >>> metric.scores(np.stack([right, right[::-1]]))  # of two candidates
    array([1.        , 0.33333333])
    >>> metric.scores(right[None], weights=np.array([[1, 1, 1], [3, 0, 0]]))  # two resamples
    array([[1.],
           [1.]])
    """

    def __init__(
        self,
        scorer: Any,
        y: Any,
        *,
        method: str,
        classes: Array | None = None,
        sample_weight: Any = None,
    ) -> None:
        self.scorer = scorer
        self.y = np.asarray(y)
        self.method = method
        self.classes = classes
        self.sample_weight = None if sample_weight is None else np.asarray(sample_weight, float)
        self._check()
        self._rows, self._finish, self._sign = _fast_parts(scorer, self.y, method, classes)

    def scores(self, outputs: Array, weights: Array | None = None) -> NDArray[np.float64]:
        """Return scores, larger being better.

        Parameters
        ----------
        outputs : ndarray of shape (n_candidates, n_samples[, n_outputs])
        weights : ndarray of int, shape (n_resamples, n_samples), or None, default=None
            How often each row is in each resample; None for all rows once.

        Returns
        -------
        scores : ndarray of shape (n_candidates,) or (n_resamples, n_candidates)
            NaN where the metric is not defined, because a resample lacks a class.
        """
        once = weights is None
        if weights is None:
            weights = np.ones((1, len(self.y)), dtype=int)
        weighted = weights if self.sample_weight is None else weights * self.sample_weight
        if self._rows is not None:
            scores = self._by_rows(outputs, weighted)
        elif self._is_binary_auc():
            scores = np.stack([self._auc(one, weighted) for one in outputs], axis=1)
        else:
            scores = np.array([[self._asked(one, row) for one in outputs] for row in weights])
        return np.asarray(scores[0] if once else scores, dtype=float)

    def _by_rows(self, outputs: Array, weights: Array) -> Array:
        assert self._rows is not None
        values = self._rows(outputs)
        step = max(1, _MOST_NUMBERS // max(1, values.shape[1]))
        found = []
        for start in range(0, len(weights), step):
            part = weights[start : start + step].astype(float)
            with np.errstate(invalid="ignore", divide="ignore"):
                means = part @ values.T / part.sum(axis=1, keepdims=True)
                found.append(self._sign * self._finish(means, part))
        return np.concatenate(found)

    def _is_binary_auc(self) -> bool:
        parts = scorer_parts(self.scorer)
        binary = self.classes is not None and self.classes.shape == (2,)
        return binary and parts is not None and parts[:2] == (metrics.roc_auc_score, 1)

    def _auc(self, outputs: Array, weights: Array) -> Array:
        """Return the area under the ROC curve: pairs in the right order, ties counting half."""
        assert self.classes is not None
        given = outputs[:, 1] if outputs.ndim == 2 else outputs
        _, position = np.unique(given, return_inverse=True)
        order = np.argsort(position, kind="stable")
        starts = np.flatnonzero(np.diff(position[order], prepend=-1))
        is_second = (self.y == self.classes[1])[order]
        counts = weights[:, order].astype(float)
        second = np.add.reduceat(counts * is_second, starts, axis=1)
        first = np.add.reduceat(counts * ~is_second, starts, axis=1)
        below = np.cumsum(first, axis=1) - first
        pairs = (second * (below + first / 2)).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(pairs / (first.sum(axis=1) * second.sum(axis=1)))

    def _asked(self, outputs: Array, counts: Array) -> float:
        """Ask the scorer itself."""
        rows = np.repeat(np.arange(len(self.y)), counts)
        weight = self.sample_weight
        more = {} if weight is None else {"sample_weight": weight[rows]}
        with ignoring(UndefinedMetricWarning):
            try:
                return float(self.scorer(self._answering(outputs), rows, self.y[rows], **more))
            except ValueError:
                if np.all(counts == 1):
                    raise
                return float("nan")

    def _answering(self, outputs: Array) -> Any:
        kind = _AnsweringRegressor if self.classes is None else _AnsweringClassifier
        return kind(self.method, outputs, self.classes)

    def _check(self) -> None:
        parts = scorer_parts(self.scorer)
        wanted = None if parts is None else parts[2]
        if wanted is None:  # its own score, or a function: it asks what it likes
            return
        names = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        stand_in = self._answering(np.empty(0))
        if not any(hasattr(stand_in, name) for name in names):
            raise ValueError(
                f"the metric must be computed from what was kept, outputs of {self.method}, but it "
                f"needs those of {' or '.join(names)}; fit the search with "
                f"return_predictions={names[-1]!r}, or give another metric"
            )


class _Answering(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no annotations
    """Answers with outputs that are there; rows are asked for by number."""

    def __init__(self, method: str, outputs: Any, classes: Any) -> None:
        self.method = method
        self.outputs = outputs
        self.classes = classes

    def __sklearn_is_fitted__(self) -> bool:
        return True


def _is_method(name: str) -> Callable[[Any], bool]:
    return lambda self: bool(self.method == name)


class _AnsweringClassifier(ClassifierMixin, _Answering):  # type: ignore[misc]
    @property
    def classes_(self) -> Any:
        return self.classes

    @available_if(_is_method("predict_proba"))  # type: ignore[untyped-decorator]
    def predict_proba(self, rows: Array) -> Any:
        return self.outputs[rows].astype(np.float32)

    @available_if(_is_method("decision_function"))  # type: ignore[untyped-decorator]
    def decision_function(self, rows: Array) -> Any:
        return self.outputs[rows]

    def predict(self, rows: Array) -> Any:
        return labels_of(self.outputs[rows], self.method, self.classes)


class _AnsweringRegressor(RegressorMixin, _Answering):  # type: ignore[misc]
    def predict(self, rows: Array) -> Any:
        return self.outputs[rows]


def labels_of(outputs: Array, method: str, classes: Array) -> Array:
    """Return the labels that outputs of a classifier stand for.

    Parameters
    ----------
    outputs : ndarray of shape (n_samples[, n_outputs])
    method : {"predict_proba", "decision_function", "predict"}
        Outputs of "predict" are positions in `classes`, or a column of votes for each.
    classes : ndarray of shape (n_classes,), or (n_labels, 2) for several labels

    Returns
    -------
    ndarray of shape (n_samples,) or (n_samples, n_labels)

    Examples
    --------
    >>> import numpy as np
    >>> from skhpo.ensembles import labels_of
    >>> outputs = np.array([[0.9, 0.1], [0.2, 0.8]])
    >>> labels_of(outputs, "predict_proba", np.array(["no", "yes"])).tolist()
    ['no', 'yes']
    """
    if classes.ndim == 2:
        limit = 0 if method == "decision_function" else 0.5
        return (outputs > limit).astype(int)
    if outputs.ndim == 1:
        positions = (outputs > 0).astype(int) if method == "decision_function" else outputs
        return np.asarray(classes[np.asarray(positions, dtype=int)])
    return np.asarray(classes[outputs.argmax(axis=1)])


_Rows = Callable[[Array], Array]
_Finish = Callable[[Array, Array], Array]


def _plain(means: Array, weights: Array) -> Array:
    return means


def _root(means: Array, weights: Array) -> Array:
    return np.sqrt(means)


def _fast_parts(
    scorer: Any, y: Array, method: str, classes: Array | None
) -> tuple[_Rows | None, _Finish, int]:
    """Return a metric as a function of means over rows: their values, and what is made of these.

    None in the place of the first where it is no such function, or not known here.
    """
    parts = scorer_parts(scorer)
    if parts is None:
        if not isinstance(scorer, PassthroughScorer):
            return None, _plain, 1
        function: Any = metrics.r2_score if classes is None else metrics.accuracy_score
        parts = (function, 1, "predict")
    function, sign = parts[:2]
    if classes is None:
        rows, finish = _of_regressor(function, y)
    elif classes.ndim == 1 and y.ndim == 1:
        rows, finish = _of_classifier(function, y, method, classes), _plain
    else:
        rows, finish = None, _plain
    return rows, finish, sign


def _of_regressor(function: Any, y: Array) -> tuple[_Rows | None, _Finish]:
    if y.ndim != 1:
        return None, _plain

    def errors(outputs: Array) -> Array:
        return outputs.reshape(len(outputs), len(y)).astype(float) - y

    def share_explained(means: Array, weights: Array) -> Array:
        total = weights.sum(axis=1)
        mean = weights @ y / total
        variance = weights @ np.square(y) / total - np.square(mean)
        return np.asarray(1 - means / variance[:, None])

    known: dict[Any, tuple[_Rows, _Finish]] = {
        metrics.mean_absolute_error: (lambda outputs: np.abs(errors(outputs)), _plain),
        metrics.mean_squared_error: (lambda outputs: np.square(errors(outputs)), _plain),
        metrics.root_mean_squared_error: (lambda outputs: np.square(errors(outputs)), _root),
        metrics.r2_score: (lambda outputs: np.square(errors(outputs)), share_explained),
    }
    return known.get(function, (None, _plain))


def _of_classifier(function: Any, y: Array, method: str, classes: Array) -> _Rows | None:
    if not np.isin(y, classes).all():
        return None  # the scorer says what is wrong
    position = np.searchsorted(classes, y)
    row = np.arange(len(y))

    def is_right(outputs: Array) -> Array:
        chosen = np.stack([labels_of(one, method, classes) for one in outputs])
        return np.asarray(chosen == y, dtype=float)

    def log_likelihood(outputs: Array) -> Array:
        own = outputs[:, row, position].astype(float)
        return np.asarray(-np.log(np.clip(own, _EPS, 1 - _EPS)))

    def distance(outputs: Array) -> Array:
        truth = (position[:, None] == np.arange(len(classes))).astype(float)
        half = 0.5 if len(classes) == 2 else 1.0
        return np.asarray(half * np.square(outputs.astype(float) - truth).sum(axis=2))

    if function is metrics.accuracy_score:
        return is_right
    if method != "predict_proba" or type_of_target(y) not in ("binary", "multiclass"):
        return None
    of_probabilities = {
        metrics.log_loss: log_likelihood,
        metrics.brier_score_loss: distance,
    }
    return of_probabilities.get(function)
