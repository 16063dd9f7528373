"""Gradients of a validation loss with respect to hyperparameters of the training loss."""

from ._forward import ForwardRunner
from ._global import GlobalRunner
from ._hypergradient import Hypergradient, hypergradient
from ._objective import smoothed
from ._runner import ImplicitRunner
from ._tuning import GradientTuning
from ._unrolled import UnrolledRunner

__all__ = [
    "ForwardRunner",
    "GlobalRunner",
    "GradientTuning",
    "Hypergradient",
    "ImplicitRunner",
    "UnrolledRunner",
    "hypergradient",
    "smoothed",
]
