"""Gradients of a validation loss with respect to hyperparameters of the training loss."""

from ._hypergradient import Hypergradient, hypergradient
from ._objective import smoothed

__all__ = ["Hypergradient", "hypergradient", "smoothed"]
