"""Ensembles of the candidates of a search, and scores of predictions that are kept."""

from typing import TYPE_CHECKING

from .._late import late

if TYPE_CHECKING:
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

__getattr__, __dir__ = late(
    __name__,
    {
        "._estimators": "EnsembleClassifier EnsembleRegressor",
        "._metrics": "OutputMetric labels_of",
        "._outputs": "votes",
        "._selection": "select_members",
    },
)
