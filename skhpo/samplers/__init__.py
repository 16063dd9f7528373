"""Which configuration comes next."""

from .base import Sampler
from .enqueued import EnqueuedSampler
from .grid import GridSampler
from .random import RandomSampler

__all__ = ["EnqueuedSampler", "GridSampler", "RandomSampler", "Sampler"]
