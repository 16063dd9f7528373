"""Networks that tune their regularisation while they train."""

from ._context import Context
from ._estimator_conversion import runs_of
from ._ranges import average_values
from .classifier import SelfTuningClassifier
from .gradients import Hypergradient, hypergradient
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
    "Hypergradient",
    "SelfTuningClassifier",
    "SelfTuningRegressor",
    "average_values",
    "hypergradient",
    "runs_of",
]
