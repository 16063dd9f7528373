"""The search classes, rules for their refit, and how far their best score is luck."""

from typing import TYPE_CHECKING

from .._late import late

if TYPE_CHECKING:
    from ._bayes import BayesSearchCV
    from ._corrected import CorrectedScore, bias_corrected_score, corrected_score
    from ._end_of_training import with_found_epochs
    from ._generic import SearchCV
    from ._harmonica import HarmonicaSearchCV
    from ._hyperband import HalvingHyperbandSearchCV
    from ._observers import SearchCallback, SearchStart
    from ._out_of_fold import OutOfFold, read_kept
    from ._refit_rules import knee_point, one_standard_error, scalarize
    from ._self_tuning import SelfTuningSearchCV

__all__ = [
    "BayesSearchCV",
    "CorrectedScore",
    "HalvingHyperbandSearchCV",
    "HarmonicaSearchCV",
    "OutOfFold",
    "SearchCV",
    "SearchCallback",
    "SearchStart",
    "SelfTuningSearchCV",
    "bias_corrected_score",
    "corrected_score",
    "knee_point",
    "one_standard_error",
    "read_kept",
    "scalarize",
    "with_found_epochs",
]

__getattr__, __dir__ = late(
    __name__,
    {
        "BayesSearchCV": "._bayes",
        "CorrectedScore": "._corrected",
        "HalvingHyperbandSearchCV": "._hyperband",
        "HarmonicaSearchCV": "._harmonica",
        "OutOfFold": "._out_of_fold",
        "SearchCV": "._generic",
        "SearchCallback": "._observers",
        "SearchStart": "._observers",
        "SelfTuningSearchCV": "._self_tuning",
        "bias_corrected_score": "._corrected",
        "corrected_score": "._corrected",
        "knee_point": "._refit_rules",
        "one_standard_error": "._refit_rules",
        "read_kept": "._out_of_fold",
        "scalarize": "._refit_rules",
        "with_found_epochs": "._end_of_training",
    },
)
