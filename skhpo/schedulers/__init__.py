"""How much resource for which configuration."""

from .base import Scheduler
from .full import FullScheduler
from .halving import SuccessiveHalving
from .hyperband import Hyperband, hyperband_plan

__all__ = ["FullScheduler", "Hyperband", "Scheduler", "SuccessiveHalving", "hyperband_plan"]
