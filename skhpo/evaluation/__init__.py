"""From trials to fit results."""

from typing import TYPE_CHECKING

from .._late import late

if TYPE_CHECKING:
    from ._blame import raised_by
    from ._callbacks import FitContexts, told
    from ._continuation import way_to_continue
    from ._devices import slots_of
    from ._evaluator import Evaluator
    from ._files import separate_files
    from ._folds import FoldSchedule
    from ._models import needs_data, restored
    from ._pickling import Packed
    from ._predictions import PredictionKind
    from ._refit import refit, refit_together
    from ._scoring import answering, looks_at_predictions_only
    from ._seeds import derive_seed
    from ._setup import configured
    from ._shared import SharedEvaluator
    from ._tasks import FitTask, Setting

__all__ = [
    "Evaluator",
    "FitContexts",
    "FitTask",
    "FoldSchedule",
    "Packed",
    "PredictionKind",
    "Setting",
    "SharedEvaluator",
    "answering",
    "configured",
    "derive_seed",
    "looks_at_predictions_only",
    "needs_data",
    "raised_by",
    "refit",
    "refit_together",
    "restored",
    "separate_files",
    "slots_of",
    "told",
    "way_to_continue",
]

__getattr__ = late(
    __name__,
    {
        "Evaluator": "._evaluator",
        "FitContexts": "._callbacks",
        "FitTask": "._tasks",
        "FoldSchedule": "._folds",
        "Packed": "._pickling",
        "PredictionKind": "._predictions",
        "Setting": "._tasks",
        "SharedEvaluator": "._shared",
        "answering": "._scoring",
        "configured": "._setup",
        "derive_seed": "._seeds",
        "looks_at_predictions_only": "._scoring",
        "needs_data": "._models",
        "raised_by": "._blame",
        "refit": "._refit",
        "refit_together": "._refit",
        "restored": "._models",
        "separate_files": "._files",
        "slots_of": "._devices",
        "told": "._callbacks",
        "way_to_continue": "._continuation",
    },
)
