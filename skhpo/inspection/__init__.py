"""What a search or a run says about its hyperparameters, in numbers and drawn; it reads results."""

from ._compare import compare
from ._effects import effects
from ._harmonica import HarmonicaDisplay
from ._importance import hyperparameter_importance
from ._optuna import to_optuna
from ._reading import read_search
from ._record import Failure, SearchRecord
from ._schedule import SelfTuningScheduleDisplay
from ._tables import to_pandas

__all__ = [
    "Failure",
    "HarmonicaDisplay",
    "SearchRecord",
    "SelfTuningScheduleDisplay",
    "compare",
    "effects",
    "hyperparameter_importance",
    "read_search",
    "to_optuna",
    "to_pandas",
]
