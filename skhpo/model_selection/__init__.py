"""The search classes."""

from ._bayes import BayesSearchCV
from ._generic import SearchCV
from ._harmonica import HarmonicaSearchCV
from ._hyperband import HalvingHyperbandSearchCV
from ._observers import SearchCallback, SearchStart
from ._self_tuning import SelfTuningSearchCV

__all__ = [
    "BayesSearchCV",
    "HalvingHyperbandSearchCV",
    "HarmonicaSearchCV",
    "SearchCV",
    "SearchCallback",
    "SearchStart",
    "SelfTuningSearchCV",
]
