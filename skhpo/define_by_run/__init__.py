"""Spaces that a builder defines while it runs, by requesting hyperparameters."""

from ._builders import (
    asked_for,
    check_all_known,
    definitions_of,
    distributions_of,
    explored,
    is_asked_for,
    newcomers,
    recall,
    remember,
    shapes_of,
    split,
    takes_hp,
)
from ._hyperparameters import HyperParameters

__all__ = [
    "HyperParameters",
    "asked_for",
    "check_all_known",
    "definitions_of",
    "distributions_of",
    "explored",
    "is_asked_for",
    "newcomers",
    "recall",
    "remember",
    "shapes_of",
    "split",
    "takes_hp",
]
