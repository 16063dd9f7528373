"""Keras models as scikit-learn estimators. Keras itself is imported at the first fit."""

from .classifier import KerasClassifier
from .regressor import KerasRegressor

__all__ = ["KerasClassifier", "KerasRegressor"]
