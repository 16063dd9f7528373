"""From trials to fit results.

==================== =========================================================================
file                 what it does
==================== =========================================================================
``_evaluator.py``    takes trials, returns results: starts work, tries again what was lost
``_planning.py``     the fits of trials: splits, rows, states; what waits for a worker
``_tasks.py``        the records that travel; whose failure an error is
``_pool.py``         calls on workers, their devices and limits
``_workers.py``      where calls run on one machine; ``_clusters.py``: on Dask and Ray
``_fit.py``          in a worker: build, train or continue, score the fits of a group
``_setup.py``        the estimator of a fit, its seeds, its part of the data; what lockstep trains
``_continuation.py`` how training is continued from one level of the resource to the next
``_scoring.py``      scores, of a group by one forward pass; ``_predictions.py``: what is kept
==================== =========================================================================

Only where it is used: ``_grouping.py`` (fits that are trained in lockstep), ``_transformed.py``
(transformers that fits share), ``_travel.py`` (what goes to other processes), ``_board.py`` (limits
of fits there), ``_shared.py`` (several processes search together), ``_callbacks.py`` (of
scikit-learn and skorch), ``_measures.py`` (numbers for constraints, curves), ``_models.py``
(refits, what is kept).
"""

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
