"""What was observed, and which of it the model takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Observation", "largest_level"]


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


def largest_level(observations: Sequence[Observation], n_dims: int) -> list[Observation]:
    """Those at the largest resource with more finite scores than coordinates.

    Where there is none, at the resource that has most of them (the largest, in a tie).
    """
    levels: dict[float, list[Observation]] = {}
    for observation in observations:
        resource = math.inf if observation.resource is None else float(observation.resource)
        levels.setdefault(resource, []).append(observation)
    if not levels:
        return []
    n_finite = {
        resource: sum(math.isfinite(observation.score) for observation in level)
        for resource, level in levels.items()
    }
    enough = [resource for resource, n in n_finite.items() if n > n_dims]
    most = max(levels, key=lambda resource: (n_finite[resource], resource))
    return levels[max(enough, default=most)]
