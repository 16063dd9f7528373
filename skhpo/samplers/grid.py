"""Every configuration of a finite space, in order."""

from __future__ import annotations

from typing import Any

from ..space import SearchSpace
from .base import Sampler

__all__ = ["GridSampler"]


class GridSampler(Sampler):
    """All configurations of a finite space in the order of scikit-learn's `ParameterGrid`.

    The last parameter of the sorted names changes fastest.

    Parameters
    ----------
    space : SearchSpace
        A finite space.

    Raises
    ------
    ValueError
        If the space is infinite.

    See Also
    --------
    sklearn.model_selection.ParameterGrid : The same as an iterable.
    RandomSampler : The same configurations in random order.

    Examples
    --------
    >>> from skhpo.samplers import GridSampler
    >>> from skhpo.space import SearchSpace
    >>> GridSampler(SearchSpace({"a": [1, 2], "b": ["x", "y"]})).sample(3)
    [{'a': 1, 'b': 'x'}, {'a': 1, 'b': 'y'}, {'a': 2, 'b': 'x'}]
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        if space.size is None:
            infinite = sorted({str(d.name) for d in space.dimensions if d.n_levels is None})
            raise ValueError(
                f"a grid needs a finite space, but {infinite} have infinitely many values; "
                "list the values to try"
            )
        self._size = space.size
        self._next = 0

    def sample(self, n: int) -> list[dict[str, Any]]:
        configurations: list[dict[str, Any]] = []
        while len(configurations) < n and self._next < self._size:
            params = self.space.nth(self._next)
            self._next += 1
            if self.space.allows(params):
                configurations.append(params)
        return configurations
