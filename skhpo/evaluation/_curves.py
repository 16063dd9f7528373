"""Learning curves, from the attributes in which estimators keep them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

from ..wrappers import fitted_inside

__all__ = ["curves_of"]

# Attributes of scikit-learn's estimators that have a number per epoch or boosting iteration.
_RECORDS = {
    "loss_curve_": "train_loss",
    "validation_scores_": "validation_score",
    "train_score_": "train_score",
    "validation_score_": "validation_score",
}


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
