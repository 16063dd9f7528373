"""Torch networks as scikit-learn estimators."""

from ..modules import MLP, ConvNet
from .classifier import TorchClassifier
from .regressor import TorchRegressor

__all__ = ["MLP", "ConvNet", "TorchClassifier", "TorchRegressor"]
