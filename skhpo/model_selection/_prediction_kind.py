"""Which predictions a search keeps, and the meaning of their columns, known before training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.utils.multiclass import type_of_target

from .. import evaluation
from ..space import translated
from ..wrappers import owner_of
from ._base import PREDICTION_METHODS

__all__ = ["prediction_kind"]

# Number of estimators, made with choices of the space, whose methods are compared. Further ones
# differ in numbers, hardly in methods.
_MOST_LOOKED_AT = 64

Splits = Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]]


def prediction_kind(
    estimator: Any, distributions: Any, y: Any, splits: Splits, asked: bool | str
) -> evaluation.PredictionKind:
    """Return what predictions a search keeps.

    Parameters
    ----------
    estimator : estimator
        That of the search.
    distributions : dict or list of dict
        Its space.
    y : array-like
    splits : list of (ndarray, ndarray)
    asked : True or str
        The method; True for the first one that the candidates have.

    Raises
    ------
    ValueError
        If no candidate has the method, or its outputs on some split could mean anything.
    """
    method = _method(estimator, distributions, asked)
    if not is_classifier(estimator):
        return evaluation.PredictionKind(method)
    if y is None:
        raise ValueError(
            "return_predictions needs the labels of a classifier, which say what columns there "
            "are, but y is None; pass y, or set return_predictions=False"
        )
    classes = _classes(estimator, y)
    if method == "decision_function" and isinstance(classes, np.ndarray):
        _refuse_lost_classes(np.asarray(y).ravel(), classes, splits)
    return evaluation.PredictionKind(method, classes)


def _method(estimator: Any, distributions: Any, asked: bool | str) -> str:
    """Return the method that is asked for, or the first one that all candidates have."""
    looked_at = list(islice(_candidates(estimator, distributions), _MOST_LOOKED_AT))
    had = {
        method: [hasattr(candidate, method) for candidate in looked_at]
        for method in PREDICTION_METHODS
    }
    if isinstance(asked, str):
        if not any(had[asked]):
            others = [method for method in PREDICTION_METHODS if any(had[method])]
            raise ValueError(
                f"return_predictions must name a method of the estimator, but "
                f"{type(estimator).__name__} has no {asked}; {_names(others)}"
            )
        return asked
    order = PREDICTION_METHODS if is_classifier(estimator) else ("predict",)
    for enough in (all, any):
        for method in order:
            if enough(had[method]):
                return method
    raise ValueError(
        f"return_predictions=True needs an estimator with one of {', '.join(order)}, but "
        f"{type(estimator).__name__} has none; set return_predictions=False"
    )


def _names(methods: Sequence[str]) -> str:
    return f"it has {' and '.join(methods)}" if methods else "set return_predictions=False"


def _candidates(estimator: Any, distributions: Any) -> Iterator[Any]:
    """Yield an estimator as the space makes it, with each choice that may change its methods."""
    spaces = translated(distributions) if distributions else {}
    for space in [spaces] if isinstance(spaces, Mapping) else spaces:
        lists = {n: v for n, v in space.items() if not hasattr(v, "rvs") and len(v)}
        first = {name: next(iter(values)) for name, values in lists.items()}
        yield from _changed(estimator, first)
        for name, values in lists.items():
            for value in islice(values, 1, None):
                if isinstance(value, bool) or not isinstance(value, int | float | np.number):
                    yield from _changed(estimator, {**first, name: value})


def _changed(estimator: Any, params: Mapping[str, Any]) -> Iterator[Any]:
    try:
        yield clone(estimator).set_params(**clone(dict(params), safe=False))
    except (ValueError, TypeError, AttributeError):
        yield estimator  # choices that do not belong together


def _classes(estimator: Any, y: Any) -> Any:
    """Return all labels, of each output where there are several; None where no labels are told."""
    kind = type_of_target(y)
    if kind in ("multilabel-indicator", "multiclass-multioutput"):
        columns = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
        return tuple(np.unique(column) for column in columns.T)
    labels = np.unique(np.asarray(y).ravel())
    owner, _ = owner_of(estimator)
    named = owner.get_params(deep=False).get("classes")
    if named is not None and not isinstance(named, str):
        labels = np.union1d(labels, named)
    return labels


def _refuse_lost_classes(labels: NDArray[Any], classes: NDArray[Any], splits: Splits) -> None:
    for i, (train, _) in enumerate(splits):
        missing = np.setdiff1d(classes, labels[train])
        if len(missing):
            raise ValueError(
                "a decision function has no value for a class that was not there in training, "
                f"but the training part of split {i} lacks {missing.tolist()}; use stratified "
                "splits, merge rare classes, or set return_predictions='predict_proba', where it "
                "is 0, if the estimator has that"
            )
