"""What a search or a run says about its hyperparameters, in numbers and drawn; it reads results."""

from ._batch_norm import batch_norm_gap
from ._churn import prediction_churn
from ._churn_display import ChurnDisplay
from ._class_effects import class_effects
from ._class_effects_display import ClassEffectsDisplay
from ._compare import compare
from ._effect_display import EffectDisplay
from ._effects import effects
from ._front_display import ParetoFrontDisplay
from ._harmonica import HarmonicaDisplay
from ._importance import hyperparameter_importance
from ._importance_display import ImportanceDisplay
from ._incumbent import IncumbentDisplay
from ._optuna import to_optuna
from ._page import report
from ._parallel import ParallelCoordinatesDisplay
from ._patience import patience_advice
from ._reading import read_search
from ._record import Failure, SearchRecord
from ._rungs import RungDisplay, SearchCurvesDisplay
from ._schedule import SelfTuningScheduleDisplay
from ._seed_effects import seed_effects
from ._seed_effects_display import SeedEffectsDisplay
from ._slices import SlicesDisplay
from ._stability import explanation_stability
from ._summary import summary_lines
from ._tables import to_pandas
from ._timeline_display import TimelineDisplay

__all__ = [
    "ChurnDisplay",
    "ClassEffectsDisplay",
    "EffectDisplay",
    "Failure",
    "HarmonicaDisplay",
    "ImportanceDisplay",
    "IncumbentDisplay",
    "ParallelCoordinatesDisplay",
    "ParetoFrontDisplay",
    "RungDisplay",
    "SearchCurvesDisplay",
    "SearchRecord",
    "SeedEffectsDisplay",
    "SelfTuningScheduleDisplay",
    "SlicesDisplay",
    "TimelineDisplay",
    "batch_norm_gap",
    "class_effects",
    "compare",
    "effects",
    "explanation_stability",
    "hyperparameter_importance",
    "patience_advice",
    "prediction_churn",
    "read_search",
    "report",
    "seed_effects",
    "summary_lines",
    "to_optuna",
    "to_pandas",
]
