"""Scores of groups of rows: of the one that does worst, or how far they are apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils.metadata_routing import MetadataRequest

from .._compat import num_samples, safe_indexing
from ..rows import as_given, with_rows
from ._names import get_scorer

__all__ = ["GroupScorer", "make_group_scorer"]

_HOW = ("min", "gap")


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
            part = as_given(safe_indexing(given, rows))
            targets = () if y is None else (safe_indexing(y, rows),)
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
