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
        "._callbacks": "FitContexts told",
        "._continuation": "way_to_continue",
        "._evaluator": "Evaluator",
        "._models": "needs_data refit refit_together restored",
        "._planning": "FoldSchedule",
        "._predictions": "PredictionKind",
        "._scoring": "answering",
        "._setup": "configured derive_seed own_files",
        "._shared": "SharedEvaluator",
        "._tasks": "FitTask Setting raised_by",
        "._travel": "Packed",
        "._workers": "slots_of",
    },
)
