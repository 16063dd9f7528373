"""Configurations that a sampler knows: their numbers, their points, and which are running."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..space import SearchSpace
from ._gp.observations import Rows

__all__ = ["KnownConfigurations"]

Array = NDArray[np.float64]


class KnownConfigurations:
    """Configurations that were proposed or observed, in the order of their first appearance.

    Parameters
    ----------
    space : SearchSpace

    Attributes
    ----------
    pending : dict of int to None
        An ordered set of the numbers of those that run.
    elsewhere : dict of int to (float, dict)
        Those observed only in another task, by number: their scores there, and themselves. They
        may be proposed.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.pending: dict[int, None] = {}
        self.elsewhere: dict[int, tuple[float, dict[str, Any]]] = {}
        self._numbers: dict[Hashable, int] = {}
        self._units = Rows(space.n_dims)
        self._number_at: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._units)

    @property
    def units(self) -> Array:
        """Their points of the unit cube, of shape (n, n_dims)."""
        return self._units.values

    def number(self, params: dict[str, Any]) -> int:
        """Return the number of a configuration, known or new."""
        number = self._numbers.setdefault(self.space.key(params), len(self._units))
        if number == len(self._units):
            self._units.append(np.nan)
            self._set_unit(number, params)
        return number

    def run(self, params: dict[str, Any]) -> None:
        """Note that a configuration runs."""
        number = self.number(params)
        self.elsewhere.pop(number, None)
        self.pending[number] = None

    def end(self, params: dict[str, Any]) -> int:
        """Note that a configuration was observed; return its number."""
        number = self.number(params)
        self.pending.pop(number, None)
        self.elsewhere.pop(number, None)
        return number

    def note_elsewhere(self, params: dict[str, Any], score: float) -> int:
        """Note that a configuration was observed in another task; return its number."""
        is_known = self.has(params)
        number = self.number(params)
        if not is_known and self.space.allows(params):
            ordered = -np.inf if np.isnan(score) else float(score)
            before, _ = self.elsewhere.get(number, (-np.inf, params))
            self.elsewhere[number] = max(before, ordered), params
        return number

    def is_elsewhere(self, params: dict[str, Any]) -> bool:
        """Whether a configuration was observed in another task only."""
        return self._numbers.get(self.space.key(params)) in self.elsewhere

    def replace(self, params: dict[str, Any], by: dict[str, Any], *, is_observed: Any) -> None:
        """Run another configuration in the place of a proposed one, which is forgotten.

        Parameters
        ----------
        params, by : dict of str to object
        is_observed : callable
            Whether there are observations of the configuration with a number.
        """
        number = self.number(params)
        self.pending.pop(number, None)
        key = self.space.key(by)
        if key not in self._numbers and not is_observed(number):
            del self._numbers[self.space.key(params)]
            self._numbers[key] = number
            self._number_at.pop(self.units[number].tobytes(), None)
            self._set_unit(number, by)
        self.run(by)

    def has(self, params: dict[str, Any]) -> bool:
        """Whether a configuration must not be proposed again."""
        number = self._numbers.get(self.space.key(params))
        return number is not None and number not in self.elsewhere

    def are_excluded(self, u: Array) -> NDArray[np.bool_]:
        """Return which points must not be proposed: those of `has`, and forbidden ones."""
        known = np.zeros(len(u), dtype=bool)
        data, size = u.tobytes(), u[:1].nbytes
        for i in range(len(u)):  # most are in no dict, and looked up fast
            number = self._number_at.get(data[i * size : (i + 1) * size])
            known[i] = number is not None and number not in self.elsewhere
        return known | ~self.space.allowed_points(u)

    def _set_unit(self, number: int, params: dict[str, Any]) -> None:
        self.units[number] = unit = self.space.to_unit(params)
        self._number_at[unit.tobytes()] = number
