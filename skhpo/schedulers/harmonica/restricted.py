"""A search space that is restricted to a region."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...space import Dimension, SearchSpace
from .coding import levels_within
from .region import Region

__all__ = ["RestrictedSpace"]

# Restricted finite spaces up to this size are enumerated.
_MAX_LISTED = 4096

# Number of points that are used to find the remaining values of each coordinate.
_PILOTS = 200


class RestrictedSpace(SearchSpace):
    """A space that is restricted to a region, with the same coordinates.

    Points outside the region are mapped to configurations in it, so every sampler for the whole
    space also works here.

    Parameters
    ----------
    space : SearchSpace
    region : Region

    Attributes
    ----------
    whole : SearchSpace
        The unrestricted space.
    """

    def __init__(self, space: SearchSpace, region: Region) -> None:
        vars(self).update({k: v for k, v in vars(space).items() if k != "dimensions"})
        self.region = region
        self.whole = space
        if space.size is not None and space.size <= _MAX_LISTED:
            self.size = len(self._listed)

    def from_unit(self, u: ArrayLike) -> dict[str, Any]:
        point = np.asarray(u, dtype=float)
        if point.shape == (self.n_dims,) and not np.isnan(point).any():
            point = self.region.project(np.clip(point, 0.0, 1.0))
        return self.whole.from_unit(point)

    def from_units(self, u: ArrayLike) -> list[dict[str, Any]]:
        points = np.clip(np.asarray(u, dtype=float), 0.0, 1.0)
        return self.whole.from_units(self.region.project_all(points))

    def snap(self, u: ArrayLike) -> NDArray[np.float64]:
        points = np.clip(np.asarray(u, dtype=float), 0.0, 1.0)
        return self.whole.snap(self.region.project_all(points))

    def nth(self, index: int) -> dict[str, Any]:
        if self.whole.size is None or self.whole.size > _MAX_LISTED:
            raise TypeError("the configurations of a large space that is restricted have no number")
        return dict(self._listed[index])

    @cached_property
    def dimensions(self) -> tuple[Dimension, ...]:  # type: ignore[override]
        """The coordinates; those with a single remaining level have one level."""
        points = np.random.default_rng(0).random((_PILOTS, self.n_dims))
        allowed = self.region.allowed(self.region.project_all(points))
        dimensions = list(self.whole.dimensions)
        for d, intervals in allowed.items():
            if len(levels_within(self.whole, d, intervals) or ()) == 1:
                dimensions[d] = replace(dimensions[d], n_levels=1)
        return tuple(dimensions)

    @cached_property
    def _listed(self) -> list[dict[str, Any]]:
        everything = [self.whole.nth(i) for i in range(self.whole.size or 0)]
        inside = self.region.contains(np.array([self.whole.to_unit(p) for p in everything]))
        return [params for params, kept in zip(everything, inside, strict=True) if kept]
