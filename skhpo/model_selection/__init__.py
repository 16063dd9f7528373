"""The search classes."""

from typing import TYPE_CHECKING

from .._late import late

if TYPE_CHECKING:
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

__getattr__ = late(
    __name__,
    {
        "BayesSearchCV": "._bayes",
        "HalvingHyperbandSearchCV": "._hyperband",
        "HarmonicaSearchCV": "._harmonica",
        "SearchCV": "._generic",
        "SearchCallback": "._observers",
        "SearchStart": "._observers",
        "SelfTuningSearchCV": "._self_tuning",
    },
)
