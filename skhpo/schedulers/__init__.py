"""Schedulers, which allot resource to configurations."""

from typing import TYPE_CHECKING

from .._late import late

if TYPE_CHECKING:
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

__getattr__, __dir__ = late(
    __name__,
    {
        ".asynchronous": "AsynchronousHyperband",
        ".base": "Scheduler",
        ".full": "FullScheduler",
        ".halving": "SuccessiveHalving",
        ".harmonica": "Harmonica",
        ".hyperband": "Hyperband hyperband_plan",
    },
)
