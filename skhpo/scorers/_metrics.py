"""Scores of the worst class, and of how far probabilities can be believed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import recall_score
from sklearn.utils.metadata_routing import MetadataRequest

__all__ = ["CalibrationError", "PredictionScorer", "worst_class_recall"]

_N_BINS = 15  # as in Guo et al., section 3


def worst_class_recall(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Return the recall of the class of `y_true` whose recall is the smallest.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_samples,) or (n_samples, n_labels)

    Examples
    --------
    >>> from skhpo.scorers import worst_class_recall
    >>> worst_class_recall([0, 0, 1, 1], [0, 0, 0, 1])
    0.5
    """
    known = np.asarray(y_true)
    labels = np.unique(known) if known.ndim == 1 else np.arange(known.shape[1])
    recalls = recall_score(known, y_pred, labels=labels, average=None, zero_division=0)
    return float(np.min(recalls))


class PredictionScorer:
    """Base of scorers that pass X on to the estimator, and do nothing else with it.

    Networks that are scored together may then answer from one forward pass.
    """

    def get_metadata_routing(self) -> MetadataRequest:
        """Return what scikit-learn is to pass: nothing, unless a subclass asks for it."""
        return MetadataRequest(owner=self)

    def _accept_sample_weight(self) -> bool:
        return False


class CalibrationError(PredictionScorer):
    """The expected calibration error [1]_, negated: how far confidence is from accuracy.

    Rows are binned by the largest of their probabilities; in each bin its mean is compared with the
    share of rows that are predicted right.

    Parameters
    ----------
    n_bins : int, default=15
        Bins of equal width.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger. On Calibration of Modern Neural Networks.
       ICML 2017, equation 3.
    """

    def __init__(self, n_bins: int = _N_BINS) -> None:
        self.n_bins = n_bins

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        probabilities = np.asarray(estimator.predict_proba(X))
        confidence = probabilities.max(axis=1)
        right = estimator.classes_[probabilities.argmax(axis=1)] == np.asarray(y)
        edges = np.linspace(0, 1, self.n_bins + 1)
        bins = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, self.n_bins - 1)
        # The share of a bin times what is between its means: the means of both, over all rows.
        gaps = np.bincount(bins, weights=confidence - right, minlength=self.n_bins)
        return -float(np.abs(gaps).sum() / len(confidence))

    def __repr__(self) -> str:
        return f"CalibrationError(n_bins={self.n_bins})"
