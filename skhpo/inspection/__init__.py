"""What a finished search or run says about its hyperparameters; it only reads results."""

from ._harmonica import HarmonicaDisplay
from ._schedule import SelfTuningScheduleDisplay

__all__ = ["HarmonicaDisplay", "SelfTuningScheduleDisplay"]
