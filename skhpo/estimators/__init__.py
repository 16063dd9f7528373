"""Torch networks as scikit-learn estimators."""

from .classifier import TorchClassifier
from .modules import MLP
from .regressor import TorchRegressor

__all__ = ["MLP", "TorchClassifier", "TorchRegressor"]
