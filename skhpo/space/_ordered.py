"""Lists of numbers whose order counts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from numbers import Real
from typing import Any

from ._identity import plain

__all__ = ["ordered"]


class ordered(list[Any]):
    """Numbers whose order counts: neighbours are alike for the samplers of this package.

    A plain list is choices, of which each differs from each other as much, because a number may
    be a name (a class, a seed, a variant). Neighbours here are equally far from each other,
    whatever their difference: ``ordered([16, 32, 64])`` is a logarithmic scale. Other packages see
    a list.

    Parameters
    ----------
    numbers : iterable of int or float
        Increasing, for example ``[16, 32, 64]``, ``range(0, 101, 5)``, the steps of a range
        (``numpy.linspace(0, 1, 11)``) or of a logarithmic one (``numpy.geomspace(1e-4, 1, 9)``).

    Raises
    ------
    TypeError
        If a value is no number.
    ValueError
        If there is none, or they do not increase.

    See Also
    --------
    log_randint : Integers on a logarithmic scale.
    SearchSpace : What is searched, as a unit cube.

    Examples
    --------
    >>> from skhpo import SearchSpace, ordered
    >>> space = SearchSpace({"n_units": ordered([16, 32, 64])})
    >>> [space.to_unit({"n_units": n}).round(2).item() for n in (16, 32, 64)]
    [0.17, 0.5, 0.83]
    """

    def __init__(self, numbers: Iterable[Any]) -> None:
        super().__init__(map(plain, numbers))
        for number in self:
            if isinstance(number, bool) or not isinstance(number, Real):
                raise TypeError(
                    f"ordered takes numbers, but there is {number!r}; leave None, text and other "
                    "choices in a plain list"
                )
        if not self:
            raise ValueError("ordered needs at least one number, but there is none")
        for before, after in itertools.pairwise(self):
            if not before < after:
                raise ValueError(
                    f"the numbers of ordered must increase, but {after!r} comes after {before!r}; "
                    "sort them, and list each once"
                )
        if not all(map(math.isfinite, self)):
            raise ValueError(f"the numbers of ordered must be finite, but got {list(self)!r}")

    def __repr__(self) -> str:
        return f"ordered({super().__repr__()})"
