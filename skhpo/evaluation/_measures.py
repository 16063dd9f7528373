"""What a search reads from estimators beside scores: numbers for constraints, curves."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
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
    from ._tasks import Setting

__all__ = ["curves_of", "found", "known_before", "measured"]


_PERCEPTRONS = ("neural_network.MLPClassifier", "neural_network.MLPRegressor")

# Attributes of scikit-learn's estimators that have a number per epoch or boosting iteration.
_RECORDS = {
    "loss_curve_": "train_loss",
    "validation_scores_": "validation_score",
    "train_score_": "train_score",
    "validation_score_": "validation_score",
}


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


def found(setting: Setting, fitted: Any) -> dict[str, float] | None:
    """Return the values that the search reads from a fitted estimator, or None.

    Raises
    ------
    ValueError
        If it has no such number: no fit is to blame for that.
    """
    values = {} if setting.starts is None else dict(setting.starts.found(fitted))
    if setting.noted is not None:
        value = getattr(fitted_inside(fitted), setting.noted, None)
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ValueError(
                f"what a rule for refit goes by must be a number, but {setting.noted!r} of a "
                f"fitted {type(fitted_inside(fitted)).__name__} is {value!r}; give a column, a "
                "parameter, another attribute or a function"
            )
        values[setting.noted] = float(value)
    end = search_tags(fitted_inside(fitted)).end_of_training
    if end is not None:
        values.update({name: float(value) for name, value in end.found().items()})
    return values or None


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
    X, y = work.prepared.X, work.prepared.y
    count = search_tags(work.fresh).n_parameters
    if count is not None:
        return count(X, y)
    if is_one_of(work.fresh, _PERCEPTRONS):
        return _parameters_of_perceptron(work.fresh, X, y)
    estimators: Any = sys.modules.get("skhpo.estimators")
    if estimators is None or y is None or not hasattr(X, "shape"):
        return None
    if not isinstance(work.fresh, (estimators.TorchClassifier, estimators.TorchRegressor)):
        return None
    from ..lockstep import built_for

    built = built_for(work.fresh, X, y)
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


def curves_of(estimator: Any) -> dict[str, tuple[float, ...]] | None:
    """Return the learning curves of a fitted estimator, or of the one inside of its wrappers.

    Parameters
    ----------
    estimator : estimator
        Looked at for ``history_``, a dict of lists (as of Keras), for ``history``, a list of
        dicts (as of skorch), and for what scikit-learn's multilayer perceptrons and boosting
        keep.

    Returns
    -------
    dict of str to tuple of float, or None
        By name; NaN where an epoch has no number of that name. None where there are no curves.
    """
    estimator = fitted_inside(estimator)
    kept = getattr(estimator, "history_", None)
    if isinstance(kept, Mapping):
        # For shorter ones (Keras' `validation_freq`) it is unknown which epochs they belong to.
        length = max(map(len, kept.values()), default=0)
        curves = {k: _numbers(values) for k, values in kept.items() if len(values) == length}
    elif isinstance(kept := getattr(estimator, "history", None), list):
        curves = _by_name(kept)
    else:
        curves = {
            name: _numbers(values)
            for attribute, name in _RECORDS.items()
            if (values := getattr(estimator, attribute, None)) is not None
        }
    return {name: curve for name, curve in curves.items() if _says_something(curve)} or None


def _by_name(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, ...]]:
    """Convert rows of a history to curves; omit values that are no measurement of an epoch."""
    rows = [_flat(row) for row in rows]
    names = {
        name: None
        for row in rows
        for name, value in row.items()
        if isinstance(value, Real)
        and not isinstance(value, bool)
        and name not in ("epoch", "dur")
        and not name.endswith(("_batch_count", "_best"))
    }
    return {name: _numbers(row.get(name) for row in rows) for name in names}


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten dicts within a row, such as the hyperparameters of self-tuning networks."""
    inner = {
        f"{name}/{key}": number
        for name, value in row.items()
        if isinstance(value, Mapping)
        for key, number in value.items()
    }
    return {**row, **inner}


def _numbers(values: Iterable[Any]) -> tuple[float, ...]:
    return tuple(float(value) if isinstance(value, Real) else math.nan for value in values)


def _says_something(curve: Sequence[float]) -> bool:
    return any(not math.isnan(number) for number in curve)
