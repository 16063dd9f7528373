"""Numbers of estimators, fitted or not, for which constraints set bounds."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Mapping
from itertools import pairwise
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils.multiclass import type_of_target

from ..scorers import n_parameters
from ..searchable import search_tags
from ..wrappers import fitted_inside
from ._continuation import is_one_of

if TYPE_CHECKING:
    from ._setup import Work

__all__ = ["known_before", "measured"]

_PERCEPTRONS = ("neural_network.MLPClassifier", "neural_network.MLPRegressor")


def measured(
    measures: Mapping[str, Any], fitted: Any, scores: Collection[str]
) -> dict[str, float] | None:
    """Return the measures of a fit, or None.

    Parameters
    ----------
    measures : mapping of str to (str or callable)
        As of `Setting`.
    fitted : estimator
    scores : collection of str
        Names of its scores, which are no attributes.

    Raises
    ------
    ValueError
        If one is no number: no fit is to blame for that.
    """
    found = {
        name: _number(name, fitted, what, scores)
        for name, what in measures.items()
        if callable(what) or name not in scores
    }
    return found or None


def _number(name: str, fitted: Any, what: Any, scores: Collection[str]) -> float:
    owner = fitted_inside(fitted)
    if callable(what):
        value = what(fitted)
    elif name == "n_parameters":
        value = n_parameters(fitted)
    else:
        value = getattr(owner, what, None)
    if hasattr(value, "item") and getattr(value, "size", None) == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        known = ", ".join(map(repr, scores))
        raise ValueError(
            f"what a constraint is about must be a number, but {name!r} of a fitted "
            f"{type(owner).__name__} is {value!r}; give a metric ({known}), 'n_parameters', an "
            "attribute that is a number, or a function of the estimator"
        )
    return float(value)


def known_before(
    bounds: Mapping[str, tuple[float | None, float | None]], work: Work
) -> tuple[dict[str, float], str | None]:
    """Return the measures that are known without a fit, and the bound that they break, if any.

    Parameters
    ----------
    bounds : mapping of str to (low, high)
    work : Work
        What is to be trained.

    Returns
    -------
    measures : dict of str to float
    broken : str or None
    """
    if "n_parameters" not in bounds:
        return {}, None
    count = _parameters_of_unfitted(work)
    if count is None:
        return {}, None
    low, high = bounds["n_parameters"]
    least, most = -math.inf if low is None else low, math.inf if high is None else high
    is_broken = not least <= count <= most
    return {"n_parameters": float(count)}, "n_parameters" if is_broken else None


def _parameters_of_unfitted(work: Work) -> int | None:
    """Return how many parameters a network will have for such data; None if that is not known."""
    count = search_tags(work.fresh).n_parameters
    if count is not None:
        return count(work.X, work.y)
    if is_one_of(work.fresh, _PERCEPTRONS):
        return _parameters_of_perceptron(work.fresh, work.X, work.y)
    estimators: Any = sys.modules.get("skhpo.estimators")
    if estimators is None or work.y is None or not hasattr(work.X, "shape"):
        return None
    if not isinstance(work.fresh, (estimators.TorchClassifier, estimators.TorchRegressor)):
        return None
    from ..lockstep import built_for

    built = built_for(work.fresh, work.X, work.y)
    return None if built is None else n_parameters(built)


def _parameters_of_perceptron(estimator: Any, X: Any, y: Any) -> int | None:
    """Return the number of weights of a multilayer perceptron of scikit-learn; None if unknown."""
    kind = type_of_target(y)
    n_outputs = 1 if np.ndim(y) == 1 else np.shape(y)[1]
    if is_classifier(estimator) and kind == "multiclass":
        n_outputs = len(np.unique(y))
    try:
        sizes = [np.shape(X)[1], *np.ravel(estimator.hidden_layer_sizes).tolist(), n_outputs]
        return sum(int(n_in + 1) * int(n_out) for n_in, n_out in pairwise(sizes))
    except (IndexError, TypeError, ValueError):  # the fit says what is wrong
        return None
