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
        "._bayes": "BayesSearchCV",
        "._corrected": "CorrectedScore bias_corrected_score corrected_score",
        "._end_of_training": "with_found_epochs",
        "._generic": "SearchCV",
        "._harmonica": "HarmonicaSearchCV",
        "._hyperband": "HalvingHyperbandSearchCV",
        "._observers": "SearchCallback SearchStart",
        "._out_of_fold": "OutOfFold read_kept",
        "._refit_rules": "knee_point one_standard_error scalarize",
        "._self_tuning": "SelfTuningSearchCV",
    },
)
