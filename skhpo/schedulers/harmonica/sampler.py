"""Random configurations from a region that shrinks."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...samplers import Sampler
from ...space import SearchSpace
from .region import Region

__all__ = ["StageSampler"]

# After so many repeated draws in a row, almost nothing new is left.
_MAX_REPEATS = 1000


class StageSampler(Sampler):
    """Draws from a region at random; in a finite space no configuration twice.

    Parameters
    ----------
    space : SearchSpace
    random_state : int

    Attributes
    ----------
    region : Region
        Region to draw from; the whole space at first.
    """

    def __init__(self, space: SearchSpace, random_state: int) -> None:
        super().__init__(space)
        self.region = Region()
        self._rng = np.random.default_rng(random_state)
        self._points: dict[int, tuple[dict[str, Any], NDArray[np.float64]]] = {}
        self._drawn: set[tuple[int, ...]] = set()
        self._ends = [space.level_ends(d) for d in range(space.n_dims)]

    def sample(self, n: int) -> list[dict[str, Any]]:
        configurations: list[dict[str, Any]] = []
        while len(configurations) < n and (point := self._draw()) is not None:
            params = self.space.from_unit(point)
            self._points[id(params)] = params, point
            configurations.append(params)
        return configurations

    def point_of(self, params: dict[str, Any]) -> NDArray[np.float64]:
        """Return the point from which a configuration was drawn, or its own if not drawn here."""
        _, point = self._points.pop(id(params), (None, None))
        return self.space.to_unit(params) if point is None else point

    def can_draw(self, region: Region) -> bool:
        """Whether something in a region is found that is not forbidden."""
        rng = np.random.default_rng(0)
        return not self.space.forbids or any(
            self.space.allows(self.space.from_unit(region.project(u)))
            for u in rng.random((_MAX_REPEATS, self.space.n_dims))
        )

    def _draw(self) -> NDArray[np.float64] | None:
        n_repeats = n_refused = 0
        while n_repeats < _MAX_REPEATS:
            point = self.region.project(self._rng.random(self.space.n_dims))
            if self.space.forbids and not self.space.allows(self.space.from_unit(point)):
                n_refused += 1
                self.space.check_refused(n_refused)
                continue
            if self.space.size is None:
                return point
            levels = self._levels(point)
            if levels not in self._drawn:
                self._drawn.add(levels)
                return point
            n_repeats += 1
        return None

    def _levels(self, point: NDArray[np.float64]) -> tuple[int, ...]:
        """Return the levels of a point of a finite space, -1 for coordinates that are not used."""
        levels = [
            self.space.value_at(d, u) if ends is None else min(bisect_right(ends, u), len(ends) - 1)
            for d, (u, ends) in enumerate(zip(point.tolist(), self._ends, strict=True))
        ]
        if self.space.dimensions[0].name is None:
            levels = [
                level if levels[0] in dimension.dicts else -1
                for level, dimension in zip(levels, self.space.dimensions, strict=True)
            ]
        return tuple(levels)
