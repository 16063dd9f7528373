"""Estimators that average the outputs of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    RegressorMixin,
    clone,
    is_classifier,
    is_regressor,
)
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, column_or_1d

from .. import evaluation
from .._compat import StrOptions, fit_context, routing_enabled
from ..wrappers import fitted_inside
from ._metrics import labels_of
from ._outputs import aligned, common_method, outputs_of

__all__ = ["EnsembleClassifier", "EnsembleRegressor"]


class _Ensemble(MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """Members, how much each counts, and their average."""

    _parameter_constraints: dict[str, list[Any]] = {
        "estimators": [list, tuple],
        "weights": ["array-like", None],
    }
    # What members must be, by name and as a function.
    _kind: tuple[str, Callable[[Any], bool]]

    estimators: Sequence[Any]
    weights: Any
    members_: list[Any]
    weights_: NDArray[np.float64]

    @classmethod
    def from_fitted(
        cls, members: Sequence[Any], weights: Any = None, *, per_estimator: int = 1, **params: Any
    ) -> Self:
        """Make an ensemble of fitted estimators, which are used as they are.

        Parameters
        ----------
        members : list of estimator
            Fitted on data of the same columns, and classes.
        weights : array-like of shape (n_members,), default=None
            None counts all alike.
        per_estimator : int, default=1
            Members that follow one another and are the same estimator, fitted on different parts of
            the data: ``fit`` of the ensemble trains one clone of them.
        **params : dict
            Further arguments of the class.

        Returns
        -------
        ensemble : estimator
            Fitted.
        """
        checked = cls._checked_weights(weights, len(members))
        estimators = [clone(member) for member in members[::per_estimator]]
        own = None if weights is None else checked.reshape(-1, per_estimator).sum(axis=1)
        return cls(estimators, weights=own, **params)._take(list(members), checked)

    @fit_context(prefer_skip_nested_validation=False)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, **params: Any) -> Self:
        """Train a clone of each estimator on all of the data, networks in lockstep where it pays.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        **params : dict
            Metadata for ``fit`` of all estimators, such as ``sample_weight``; with metadata routing
            for those that request it.

        Returns
        -------
        self : object
            The fitted ensemble.

        Raises
        ------
        ValueError
            Before any training if there is no estimator, one is of the wrong kind, or weights are
            negative, all 0 or not as many.
        """
        name, is_kind = self._kind
        wrong = [one for one in self.estimators if not (hasattr(one, "fit") and is_kind(one))]
        if wrong or not self.estimators:
            what = f"one is {wrong[0]!r}" if wrong else "there is none"
            raise ValueError(f"estimators must be a list of {name}s, but {what}")
        weights = self._checked_weights(self.weights, len(self.estimators))
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        shape = np.asarray(y).shape
        column = len(shape) == 2 and shape[1] == 1
        if column and not get_tags(self).target_tags.multi_output:
            y = column_or_1d(y, warn=True)
        members = [clone(estimator) for estimator in self.estimators]
        self._fit_members(members, X, y, params)
        return self._take(members, weights)

    def _fit_members(self, members: list[Any], X: Any, y: Any, params: dict[str, Any]) -> None:
        own = [params] * len(members)
        if routing_enabled():
            routed = process_routing(self, "fit", **params)
            own = [dict(routed[f"estimator_{i}"].fit) for i in range(len(members))]
        if all(one == own[0] for one in own[1:]) or not params:
            setting = evaluation.Setting(estimator=None, scorer=None, seed=0, fit_params=own[0])
            evaluation.refit_together(members, setting, X, y)
            return
        for member, given in zip(members, own, strict=True):
            member.fit(X, y, **given)

    @staticmethod
    def _checked_weights(weights: Any, n: int) -> NDArray[np.float64]:
        if weights is None:
            return np.full(n, 1 / n)
        given = np.asarray(weights, dtype=float)
        if given.shape != (n,) or not (np.isfinite(given) & (given >= 0)).all() or not given.any():
            raise ValueError(
                f"weights must be {n} numbers from 0 on, one for each member, and not all 0, but "
                f"got {weights!r}"
            )
        return np.asarray(given / given.sum())

    def _take(self, members: list[Any], weights: NDArray[np.float64]) -> Self:
        self.members_ = members
        self.weights_ = weights
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "members_")

    @property
    def n_parameters_(self) -> int:
        """Numbers in the parameters of all members, each counted once: an int."""
        distinct = {id(member): member for member in self.members_}.values()
        found = [_n_parameters(member) for member in distinct]
        if None in found:
            raise AttributeError(
                f"{type(self).__name__} has no n_parameters_, because not all members have it"
            )
        return sum(n for n in found if n is not None)

    @property
    def n_features_in_(self) -> int:
        """Columns of `X` in ``fit``: an int."""
        return int(self._of_first("n_features_in_"))

    @property
    def feature_names_in_(self) -> Any:
        """Names of the columns, where they had some: an ndarray of str."""
        return self._of_first("feature_names_in_")

    def _of_first(self, name: str) -> Any:
        if not hasattr(self, "members_"):
            raise AttributeError(f"{type(self).__name__} has no {name} before fit")
        return getattr(self.members_[0], name)

    def _average(self, X: Any, method: str) -> NDArray[np.floating[Any]]:
        """Return the average of what members return, no more precise than the least of them."""
        check_is_fitted(self)
        used = [i for i, weight in enumerate(self.weights_) if weight > 0]
        outputs = outputs_of([self.members_[i] for i in used], method, X)
        total: Any = 0.0
        for i, output in zip(used, outputs, strict=True):
            total = total + self.weights_[i] * self._column_by_class(output, self.members_[i])
        # Probabilities of float32 networks sum to one in float32 only.
        single = any(output.dtype == np.float32 for output in outputs)
        return np.asarray(total, np.float32 if single else np.float64)

    def _column_by_class(self, output: NDArray[Any], member: Any) -> NDArray[Any]:
        return output

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = [get_tags(one) for one in self.estimators if hasattr(one, "fit")]
        if inner:
            tags.input_tags.sparse = all(one.input_tags.sparse for one in inner)
            tags.input_tags.allow_nan = all(one.input_tags.allow_nan for one in inner)
            tags.target_tags.multi_output = all(one.target_tags.multi_output for one in inner)
            if tags.classifier_tags is not None:
                tags.classifier_tags.multi_label = all(
                    one.classifier_tags is not None and one.classifier_tags.multi_label
                    for one in inner
                )
        return tags

    def get_metadata_routing(self) -> MetadataRouter:
        """Return which estimators get which metadata.

        Returns
        -------
        routing : MetadataRouter
            With the requests of all estimators.
        """
        router = MetadataRouter(owner=type(self).__name__)
        for i, estimator in enumerate(self.estimators):
            mapping = MethodMapping().add(caller="fit", callee="fit")
            router.add(**{f"estimator_{i}": estimator}, method_mapping=mapping)
        return router


def _n_parameters(member: Any) -> int | None:
    found: int | None = getattr(fitted_inside(member), "n_parameters_", None)
    return found


def _uses(name: str) -> Callable[[Any], bool]:
    return lambda self: bool(self._method() == name)


class EnsembleClassifier(ClassifierMixin, _Ensemble):  # type: ignore[misc]
    """Classifier that averages what others return.

    A search makes one of its candidates, see ``ensemble`` of the search classes and
    docs/predictions.md. Torch networks that share a graph are trained in lockstep, and predict in
    one forward pass.

    Parameters
    ----------
    estimators : list of estimator
        Classifiers; ``fit`` trains clones of them.
    weights : array-like of shape (n_estimators,), default=None
        How much each counts, from 0 on; None counts all alike.
    method : {"auto", "predict_proba", "decision_function", "predict"}, default="auto"
        What is averaged: probabilities, decision values, or votes for labels. "auto" is the first
        one that all members have.

    Attributes
    ----------
    members_ : list of estimator
        The fitted members. Those of a search with ``members="folds"`` are its fits, more than
        `estimators`.
    weights_ : ndarray of shape (n_members,)
        How much each counts; their sum is 1.
    classes_ : ndarray of shape (n_classes,)
        Labels that at least one member knows, sorted.
    method_ : str
        What is averaged.
    oof_score_ : float
        Score of the average of the out-of-fold predictions from which members were selected; only
        of ensembles that a search made. The selection has seen it: see `corrected_score`.
    n_parameters_ : int
        Numbers in the parameters of all networks; only where all members are some.
    n_features_in_, feature_names_in_
        As of the first member.

    See Also
    --------
    sklearn.ensemble.VotingClassifier : Members with names, of any kind, fitted one by one.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skhpo import EnsembleClassifier
    >>> both = EnsembleClassifier(
    ...     [LogisticRegression(max_iter=200), DecisionTreeClassifier(max_depth=2)], weights=[2, 1]
    ... )
    >>> X, y = load_iris(return_X_y=True)
    >>> both.fit(X, y).score(X, y) > 0.95
    True
    """

    _parameter_constraints = {
        **_Ensemble._parameter_constraints,
        "method": [StrOptions({"auto", "predict_proba", "decision_function", "predict"})],
    }
    _kind = ("classifier", is_classifier)

    classes_: NDArray[Any]
    method_: str

    def __init__(self, estimators: Any, *, weights: Any = None, method: str = "auto") -> None:
        self.estimators = estimators
        self.weights = weights
        self.method = method

    def _method(self) -> str:
        if self.method != "auto":
            return str(self.method)
        members = getattr(self, "members_", self.estimators)
        return common_method(members) if len(members) else "predict"

    def _take(self, members: list[Any], weights: NDArray[np.float64]) -> Self:
        super()._take(members, weights)
        self.method_ = self._method()
        if members[0].classes_.ndim == 2:
            self.classes_ = members[0].classes_
        else:
            self.classes_ = np.unique(np.concatenate([member.classes_ for member in members]))
        return self

    def _column_by_class(self, output: NDArray[Any], member: Any) -> NDArray[Any]:
        return aligned(output, self.method_, member.classes_, self.classes_)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the label of the largest average.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_labels)
            A label for each sample.
        """
        check_is_fitted(self)
        outputs = self._average(X, self.method_)
        return labels_of(outputs, self.method_, self.classes_)

    @available_if(_uses("predict_proba"))  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> NDArray[np.floating[Any]]:
        """Predict the probabilities of the classes: the average of those of the members.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes) or (n_samples, n_labels)
        """
        return self._average(X, "predict_proba")

    @available_if(_uses("decision_function"))  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> NDArray[np.floating[Any]]:
        """Return the average of the decision values of the members.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        values : ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        return self._average(X, "decision_function")


class EnsembleRegressor(RegressorMixin, _Ensemble):  # type: ignore[misc]
    """Regressor that averages what others predict.

    A search makes one of its candidates, see ``ensemble`` of the search classes and
    docs/predictions.md. Torch networks that share a graph are trained in lockstep, and predict in
    one forward pass.

    Parameters
    ----------
    estimators : list of estimator
        Regressors; ``fit`` trains clones of them.
    weights : array-like of shape (n_estimators,), default=None
        How much each counts, from 0 on; None counts all alike.

    Attributes
    ----------
    members_ : list of estimator
        The fitted members. Those of a search with ``members="folds"`` are its fits, more than
        `estimators`.
    weights_ : ndarray of shape (n_members,)
        How much each counts; their sum is 1.
    oof_score_ : float
        Score of the average of the out-of-fold predictions from which members were selected; only
        of ensembles that a search made. The selection has seen it: see `corrected_score`.
    n_parameters_ : int
        Numbers in the parameters of all networks; only where all members are some.
    n_features_in_, feature_names_in_
        As of the first member.

    See Also
    --------
    sklearn.ensemble.VotingRegressor : Members with names, of any kind, fitted one by one.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.tree import DecisionTreeRegressor
    >>> from skhpo import EnsembleRegressor
    >>> both = EnsembleRegressor([Ridge(), DecisionTreeRegressor(max_depth=3)])
    >>> X, y = load_diabetes(return_X_y=True)
    >>> both.fit(X, y).score(X, y) > 0.5
    True
    """

    _kind = ("regressor", is_regressor)

    def __init__(self, estimators: Any, *, weights: Any = None) -> None:
        self.estimators = estimators
        self.weights = weights

    def predict(self, X: Any) -> NDArray[np.floating[Any]]:
        """Predict the average.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            The weighted average of the members.
        """
        return self._average(X, "predict")
