"""Samplers, which choose the configurations."""

from typing import TYPE_CHECKING

from .._late import late
from .base import Sampler, made, named, register, sample_at

if TYPE_CHECKING:
    from ._gp.model import ScoreModel
    from .bayes import BayesSampler
    from .grid import GridSampler
    from .prior import CONFIDENCE, Prior
    from .prior_band import PriorBandSampler
    from .random import RandomSampler
    from .wrapping import EnqueuedSampler, ReplayedSampler, WrappingSampler

__all__ = [
    "CONFIDENCE",
    "BayesSampler",
    "EnqueuedSampler",
    "GridSampler",
    "Prior",
    "PriorBandSampler",
    "RandomSampler",
    "ReplayedSampler",
    "Sampler",
    "ScoreModel",
    "WrappingSampler",
    "made",
    "named",
    "register",
    "sample_at",
]

__getattr__, __dir__ = late(
    __name__,
    {
        "._gp.model": "ScoreModel",
        ".bayes": "BayesSampler",
        ".grid": "GridSampler",
        ".prior": "CONFIDENCE Prior",
        ".prior_band": "PriorBandSampler",
        ".random": "RandomSampler",
        ".wrapping": "EnqueuedSampler ReplayedSampler WrappingSampler",
    },
)
