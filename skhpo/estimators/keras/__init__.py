"""Keras models as scikit-learn estimators. Keras itself is imported at the first fit."""

from ._backend import choose_backend
from .classifier import KerasClassifier
from .regressor import KerasRegressor

__all__ = ["KerasClassifier", "KerasRegressor"]

# Here, because users import Keras for their builders after this.
choose_backend()
