"""Which configuration comes next."""

from .base import Sampler
from .bayes import BayesSampler
from .enqueued import EnqueuedSampler
from .grid import GridSampler
from .random import RandomSampler

__all__ = ["BayesSampler", "EnqueuedSampler", "GridSampler", "RandomSampler", "Sampler"]
