"""Which configuration comes next."""

from .base import Sampler, sample_at
from .bayes import BayesSampler
from .enqueued import EnqueuedSampler
from .grid import GridSampler
from .random import RandomSampler
from .replayed import ReplayedSampler

__all__ = [
    "BayesSampler",
    "EnqueuedSampler",
    "GridSampler",
    "RandomSampler",
    "ReplayedSampler",
    "Sampler",
    "sample_at",
]
