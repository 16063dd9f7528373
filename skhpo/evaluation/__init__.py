"""From trials to fit results."""

from typing import TYPE_CHECKING

from .._late import late

if TYPE_CHECKING:
    from ._callbacks import FitContexts, told
    from ._continuation import way_to_continue
    from ._evaluator import Evaluator
    from ._models import needs_data, refit, refit_together, restored
    from ._planning import FoldSchedule
    from ._predictions import PredictionKind
    from ._scoring import answering
    from ._setup import configured, derive_seed, own_files
    from ._shared import SharedEvaluator
    from ._tasks import FitTask, Setting, raised_by
    from ._travel import Packed
    from ._workers import slots_of

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
    "needs_data",
    "own_files",
    "raised_by",
    "refit",
    "refit_together",
    "restored",
    "slots_of",
    "told",
    "way_to_continue",
]

__getattr__, __dir__ = late(
    __name__,
    {
        "Evaluator": "._evaluator",
        "FitContexts": "._callbacks",
        "FitTask": "._tasks",
        "FoldSchedule": "._planning",
        "Packed": "._travel",
        "PredictionKind": "._predictions",
        "Setting": "._tasks",
        "SharedEvaluator": "._shared",
        "answering": "._scoring",
        "configured": "._setup",
        "derive_seed": "._setup",
        "needs_data": "._models",
        "own_files": "._setup",
        "raised_by": "._tasks",
        "refit": "._models",
        "refit_together": "._models",
        "restored": "._models",
        "slots_of": "._workers",
        "told": "._callbacks",
        "way_to_continue": "._continuation",
    },
)
