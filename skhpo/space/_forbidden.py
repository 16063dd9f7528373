"""Configurations that are never tried."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from ._axes import Axis

__all__ = ["MOST_REFUSED", "Forbidden", "make_forbidden"]

# After so many forbidden draws in a row, what is allowed is too small a part to be found at random.
MOST_REFUSED = 10_000

# The axis and the identity on it of each value of a name: one for each dict of the space.
_Values = list[tuple[Axis, Hashable]]


class Forbidden:
    """Whether a configuration is forbidden.

    Parameters
    ----------
    function : callable or None
        From a dict of parameters to True where they are forbidden.
    combinations : sequence of dict
        Of each name its axes, and the value there that must not meet the others.
    """

    def __init__(
        self,
        function: Callable[[dict[str, Any]], Any] | None,
        combinations: Sequence[Mapping[str, _Values]] = (),
    ) -> None:
        self.function = function
        self.combinations = combinations

    def __call__(self, params: Mapping[str, Any]) -> bool:
        """Whether a configuration of the space is forbidden."""
        if self.function is not None:
            return self._ask(params)
        return any(
            all(name in params and _is_at(params[name], at) for name, at in combination.items())
            for combination in self.combinations
        )

    def _ask(self, params: Mapping[str, Any]) -> bool:
        assert self.function is not None
        try:
            answer = self.function(dict(params))
        except Exception as error:
            missing = (
                f"; not every configuration has {error}: use params.get"
                if isinstance(error, KeyError)
                else ""
            )
            raise ValueError(
                f"forbidden must return True or False for every configuration of the space, but "
                f"raised {type(error).__name__}: {error} for {dict(params)!r}{missing}"
            ) from error
        if not isinstance(answer, bool | np.bool_):
            raise TypeError(
                f"forbidden must return True or False, but returned {answer!r} for "
                f"{dict(params)!r}; it says whether a configuration must not be tried"
            )
        return bool(answer)


def make_forbidden(given: Any, dicts: Sequence[Mapping[str, Axis]]) -> Forbidden | None:
    """Check what a user forbids.

    Parameters
    ----------
    given : callable or sequence of dict
        As `forbidden` of `SearchSpace`.
    dicts : sequence of dict
        The axes of each dict of the space, by name.

    Raises
    ------
    TypeError, ValueError
        If a name or a value is not in the space, or values can never meet.
    """
    if callable(given):
        return Forbidden(given)
    if not isinstance(given, list | tuple) or not all(isinstance(c, Mapping) for c in given):
        raise TypeError(
            "forbidden must be a function of a dict of parameters, or a list of dicts, each with "
            f"values that must not meet, but got {given!r}"
        )
    return Forbidden(None, [_combination(one, dicts) for one in given]) if given else None


def _combination(given: Mapping[str, Any], dicts: Sequence[Mapping[str, Axis]]) -> Any:
    known = {name for axes in dicts for name in axes}
    for name in given:
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {sorted(known)}"
            raise ValueError(
                f"every name in forbidden must be in the space, but {name!r} is not; {hint}"
            )
    if not given:
        raise ValueError("a dict in forbidden must have at least one parameter, but one is empty")
    together = [axes for axes in dicts if given.keys() <= axes.keys()]
    keys = {name: [_key(axes[name], value) for axes in together] for name, value in given.items()}
    for name in given:
        if together and all(isinstance(key, ValueError) for key in keys[name]):
            raise keys[name][0]
    met = [
        place
        for place in range(len(together))
        if not any(isinstance(found[place], ValueError) for found in keys.values())
    ]
    if not met:
        raise ValueError(
            f"the values of a dict in forbidden must be in one dict of the space together, but "
            f"{dict(given)!r} never are; leave the dict out, or use a function, which can forbid "
            "ranges"
        )
    return {
        name: [(together[place][name], found[place]) for place in met]
        for name, found in keys.items()
    }


def _key(axis: Axis, value: Any) -> Any:
    """The identity of a value on an axis; an error where it has no probability there."""
    if axis.kind == "continuous":
        return ValueError(
            f"values in forbidden must have a probability, but {axis.name!r} is continuous and "
            f"never is {value!r} exactly; use a function, such as "
            f"lambda params: params[{axis.name!r}] > {value!r}"
        )
    try:
        return axis.key(value)
    except ValueError as error:
        return ValueError(f"values in forbidden must be in the space, but {error}")


def _is_at(value: Any, at: _Values) -> bool:
    for axis, key in at:
        try:
            if axis.key(value) == key:
                return True
        except ValueError:  # of another dict of the space
            continue
    return False
