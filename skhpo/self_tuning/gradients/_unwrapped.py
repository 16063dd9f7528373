"""From a fitted pipeline and its data to the network inside and the data that it sees."""

from __future__ import annotations

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import TargetEncoder
from sklearn.utils.validation import check_is_fitted

__all__ = ["unwrapped"]


def unwrapped(estimator, *pairs):
    """Return the estimator inside fitted wrappers, and pairs (X, y) as the wrappers pass them on.

    Wrappers are `Pipeline`, `TransformedTargetRegressor` and `FixedThresholdClassifier`.
    """
    while type(estimator) in (Pipeline, TransformedTargetRegressor, FixedThresholdClassifier):
        check_is_fitted(estimator)
        if type(estimator) is Pipeline:
            if len(estimator) > 1:
                _refuse_other_training_data(estimator[:-1])
                pairs = [(estimator[:-1].transform(X), y) for X, y in pairs]
            estimator = estimator[-1]
        elif type(estimator) is TransformedTargetRegressor:
            pairs = [(X, _transformed(estimator.transformer_, y)) for X, y in pairs]
            estimator = estimator.regressor_
        else:
            estimator = estimator.estimator_
    return estimator, *pairs


def _refuse_other_training_data(transformers):
    """Raise ValueError if rows to train on are transformed in another way than others."""
    inside = [*transformers.get_params().values(), *(step for _, step in transformers.steps)]
    if any(isinstance(part, TargetEncoder) for part in inside):
        raise ValueError(
            "the transformers must give the network's training data by transform, but that of a "
            "TargetEncoder is cross-fitted (fit_transform); pass the network alone, "
            "pipeline[-1], with the data that it was trained on, and transformed validation data"
        )


def _transformed(transformer, y):
    """Return targets as the regressor gets them: of two dimensions for the transformer alone."""
    y = np.asarray(y)
    if y.ndim > 1:
        return transformer.transform(y)
    changed = transformer.transform(y.reshape(-1, 1))
    return changed.squeeze(axis=1) if changed.ndim == 2 and changed.shape[1] == 1 else changed
