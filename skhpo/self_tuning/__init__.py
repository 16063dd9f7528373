"""Networks that tune their regularisation while they train."""

from ._context import Context
from .classifier import SelfTuningClassifier
from .layers import (
    HyperConv1d,
    HyperConv2d,
    HyperDropout,
    HyperLinear,
    HyperLockedDropout,
    HyperValue,
)
from .recurrent import HyperEmbedding, HyperLSTM
from .regressor import SelfTuningRegressor

__all__ = [
    "Context",
    "HyperConv1d",
    "HyperConv2d",
    "HyperDropout",
    "HyperEmbedding",
    "HyperLSTM",
    "HyperLinear",
    "HyperLockedDropout",
    "HyperValue",
    "SelfTuningClassifier",
    "SelfTuningRegressor",
]
