"""Scorers of what a mean over all rows hides: the worst class, and groups of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import recall_score
from sklearn.utils.metadata_routing import MetadataRequest

from .._compat import num_samples
from ..rows import as_given, take_rows, with_rows
from ._names import get_scorer

__all__ = [
    "CalibrationError",
    "GroupScorer",
    "PredictionScorer",
    "make_group_scorer",
    "worst_class_recall",
]

_N_BINS = 15  # as in Guo et al., section 3

_HOW = ("min", "gap")


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


class GroupScorer:
    """A scorer that scores each group of rows apart; see `make_group_scorer`.

    Parameters
    ----------
    scorer : callable
        ``scorer(estimator, X, y)``.
    groups : str
    how : {"min", "gap"}
    """

    def __init__(self, scorer: Callable[..., float], groups: str, how: str) -> None:
        self.scorer = scorer
        self.groups = groups
        self.how = how

    def __call__(self, estimator: Any, X: Any, y: Any = None, **metadata: Any) -> float:
        groups = metadata.get(self.groups)
        if groups is None:
            raise ValueError(
                f"a group scorer needs the group of each row, but {self.groups!r} was not passed; "
                f"call sklearn.set_config(enable_metadata_routing=True) and "
                f"fit(X, y, {self.groups}=...)"
            )
        groups = np.asarray(groups)
        given = with_rows(X)
        if groups.shape != (num_samples(given),):
            raise ValueError(
                f"{self.groups!r} must have a group for each of {num_samples(given)} rows, but has "
                f"shape {groups.shape}"
            )
        scores = []
        for group in np.unique(groups):
            rows = np.flatnonzero(groups == group)
            part = as_given(take_rows(given, rows))
            targets = () if y is None else (take_rows(y, rows),)
            scores.append(float(self.scorer(estimator, part, *targets)))
        worst = min(scores)
        return worst if self.how == "min" else worst - max(scores)

    def get_metadata_routing(self) -> MetadataRequest:
        """Return what scikit-learn is to pass: the groups."""
        request = MetadataRequest(owner=self)
        request.score.add_request(param=self.groups, alias=True)
        return request

    def _accept_sample_weight(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"make_group_scorer({self.scorer!r}, {self.groups!r}, how={self.how!r})"


def make_group_scorer(scorer: Any, groups: str, how: str = "min") -> GroupScorer:
    """Make a scorer of fairness between groups of rows.

    Parameters
    ----------
    scorer : str or callable
        A name, or ``scorer(estimator, X, y)``: what each group is scored by. Larger is better.
    groups : str
        Name of the metadata with the group of each row, which ``fit`` is passed; scikit-learn's
        metadata routing must be enabled.
    how : {"min", "gap"}, default="min"
        "min" is the score of the worst group, "gap" how far it is behind the best one (negative,
        0 where all are equal).

    Returns
    -------
    scorer : callable
        Called as ``scorer(estimator, X, y, **{groups: array})``, for `scoring` of a search.

    Raises
    ------
    ValueError
        If an argument is none of these.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skhpo.scorers import make_group_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=500).fit(X, y)
    >>> worst = make_group_scorer("accuracy", "region")
    >>> worst(model, X, y, region=np.arange(150) % 2) <= model.score(X, y)
    True
    """
    if how not in _HOW:
        raise ValueError(f"how must be one of {list(_HOW)}, but got {how!r}")
    if not isinstance(groups, str) or not groups.isidentifier():
        raise ValueError(
            f"groups must be the name of the metadata that fit is passed, but got {groups!r}; give "
            "a name such as 'sex', and the groups of the rows to fit: fit(X, y, sex=...)"
        )
    if not (isinstance(scorer, str) or callable(scorer)):
        raise ValueError(f"scorer must be a name or a callable, but got {scorer!r}")
    return GroupScorer(get_scorer(scorer), groups, how)
