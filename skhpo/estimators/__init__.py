"""Torch networks as scikit-learn estimators."""

from .classifier import TorchClassifier
from .modules import MLP, ConvNet
from .regressor import TorchRegressor

__all__ = ["MLP", "ConvNet", "TorchClassifier", "TorchRegressor"]
