"""Schedulers, which allot resource to configurations."""

from typing import TYPE_CHECKING

from .._late import late
from .asynchronous import AsynchronousHyperband
from .base import Scheduler
from .full import FullScheduler
from .halving import SuccessiveHalving
from .hyperband import Hyperband, hyperband_plan

if TYPE_CHECKING:
    from .harmonica import Harmonica

__all__ = [
    "AsynchronousHyperband",
    "FullScheduler",
    "Harmonica",
    "Hyperband",
    "Scheduler",
    "SuccessiveHalving",
    "hyperband_plan",
]

__getattr__ = late(__name__, {"Harmonica": ".harmonica"})
