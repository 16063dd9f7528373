"""What a finished search says about its hyperparameters; it only reads results."""

from ._harmonica import HarmonicaDisplay

__all__ = ["HarmonicaDisplay"]
