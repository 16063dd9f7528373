"""Which configuration comes next."""

from .base import Sampler
from .grid import GridSampler
from .random import RandomSampler

__all__ = ["GridSampler", "RandomSampler", "Sampler"]
