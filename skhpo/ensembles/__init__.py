"""Ensembles of the candidates of a search, and scores of predictions that are kept."""

from ._estimators import EnsembleClassifier, EnsembleRegressor
from ._metrics import OutputMetric, labels_of
from ._outputs import votes
from ._selection import select_members

__all__ = [
    "EnsembleClassifier",
    "EnsembleRegressor",
    "OutputMetric",
    "labels_of",
    "select_members",
    "votes",
]
