"""Torch networks as scikit-learn estimators."""

from ..modules import MLP, ConvNet, TabularMLP
from .classifier import TorchClassifier
from .regressor import TorchRegressor

__all__ = ["MLP", "ConvNet", "TabularMLP", "TorchClassifier", "TorchRegressor"]
