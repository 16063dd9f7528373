"""How much resource for which configuration."""

from .asynchronous import AsynchronousHyperband
from .base import Scheduler
from .full import FullScheduler
from .halving import SuccessiveHalving
from .hyperband import Hyperband, hyperband_plan

__all__ = [
    "AsynchronousHyperband",
    "FullScheduler",
    "Hyperband",
    "Scheduler",
    "SuccessiveHalving",
    "hyperband_plan",
]
