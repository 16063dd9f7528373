"""The search classes, rules for their refit, and how far their best score is luck.

A search class (``_hyperband.py``, ``_bayes.py``, ``_harmonica.py``, ``_generic.py``,
``_self_tuning.py``) is its arguments and the scheduler that they make. The rest is shared:

===================== ========================================================================
file                  what it does
===================== ========================================================================
``_base.py``          ``fit``, in four parts; what is shown of a search
``_plan.py``          the first part: everything is checked, nothing is changed
``_checks.py``        names, the space, arguments of ``fit``, rows and classes
``_goals.py``         objectives and constraints, and what a scheduler is told of a trial
``_resume.py``        what the journal of a search, and those of earlier ones, tell
``_running.py``       the other parts: open, run, finish, refit
``_loop.py``          ask, evaluate, tell; ``_shared.py``: in several processes
``_observers.py``     who watches it: callbacks, a line of progress, a forecast
``_scored.py``        the table, the best row, warnings
``_top.py``           what a finished search hands out; ``_ensembling.py``: ensembles of it
===================== ========================================================================

Only where it is asked for: ``_race.py`` (fits on some of the splits), ``_cost.py`` (`max_cost`),
``_keeping.py`` and ``_kept.py`` (predictions and estimators of fits), ``_end_of_training.py`` (rows
held out, epochs of the refit), ``_confirm.py``, ``_refit_rules.py``, ``_out_of_fold.py``,
``_corrected.py``, ``_samplers.py`` (priors), ``_stages.py`` (of Harmonica), ``_notebook.py``.
"""

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
