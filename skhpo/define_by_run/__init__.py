"""Spaces that a builder defines while it runs, by asking for its hyperparameters."""

from ._builders import distributions_of, explored, newcomers, recall, remember, takes_hp
from ._hyperparameters import HyperParameters

__all__ = [
    "HyperParameters",
    "distributions_of",
    "explored",
    "newcomers",
    "recall",
    "remember",
    "takes_hp",
]
