"""What was observed."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Observation", "level_of"]


@dataclass(frozen=True, slots=True)
class Observation:
    """A score.

    Parameters
    ----------
    place : int
        Number of the configuration, in the order in which they became known.
    score : float
    resource : int or None
        None means a full fit, more than any number.
    noise : float or None
        Variance of the score.
    seconds : float or None
        Duration of the fits.
    """

    place: int
    score: float
    resource: int | None
    noise: float | None
    seconds: float | None


def level_of(observation: Observation) -> float:
    """The resource as a number that orders levels; infinite for a full fit."""
    return math.inf if observation.resource is None else float(observation.resource)
