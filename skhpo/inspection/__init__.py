"""What a finished search or run says about its hyperparameters; it only reads results."""

from ._harmonica import HarmonicaDisplay
from ._reading import read_search
from ._record import Failure, SearchRecord
from ._schedule import SelfTuningScheduleDisplay

__all__ = [
    "Failure",
    "HarmonicaDisplay",
    "SearchRecord",
    "SelfTuningScheduleDisplay",
    "read_search",
]
