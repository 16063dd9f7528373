"""Scorers of what a fitted estimator costs, and of whom it serves badly.

Searches know them by name, beside scikit-learn's: ``scoring="neg_predict_time"``. All are larger
where they are better.
"""

from typing import TYPE_CHECKING

from .._late import late
from ._names import (
    each_scorer,
    get_scorer,
    get_scorer_names,
    looks_at_predictions_only,
    resolved,
)

if TYPE_CHECKING:
    from ._costs import (
        CostScorer,
        FitTime,
        Memory,
        NParameters,
        PredictTime,
        fit_took,
        n_parameters,
    )
    from ._metrics import (
        CalibrationError,
        GroupScorer,
        PredictionScorer,
        make_group_scorer,
        worst_class_recall,
    )

__all__ = [
    "CalibrationError",
    "CostScorer",
    "FitTime",
    "GroupScorer",
    "Memory",
    "NParameters",
    "PredictTime",
    "PredictionScorer",
    "each_scorer",
    "fit_took",
    "get_scorer",
    "get_scorer_names",
    "looks_at_predictions_only",
    "make_group_scorer",
    "n_parameters",
    "resolved",
    "worst_class_recall",
]

__getattr__, __dir__ = late(
    __name__,
    {
        "._costs": "CostScorer FitTime Memory NParameters PredictTime fit_took n_parameters",
        "._metrics": "CalibrationError GroupScorer PredictionScorer make_group_scorer "
        "worst_class_recall",
    },
)
