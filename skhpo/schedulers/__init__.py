"""How much resource for which configuration."""

from .asynchronous import AsynchronousHyperband
from .base import Scheduler
from .full import FullScheduler
from .halving import SuccessiveHalving
from .harmonica import Harmonica
from .hyperband import Hyperband, hyperband_plan

__all__ = [
    "AsynchronousHyperband",
    "FullScheduler",
    "Harmonica",
    "Hyperband",
    "Scheduler",
    "SuccessiveHalving",
    "hyperband_plan",
]
