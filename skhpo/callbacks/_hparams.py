"""Hyperparameters in the three types that the HParams dashboard knows."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeGuard

from ..space import SearchSpace

__all__ = ["Domain", "domain_of", "domain_of_choices"]

_LONGEST = 80


@dataclass(frozen=True)
class Domain:
    """The values of one hyperparameter, as the dashboard sees them.

    Parameters
    ----------
    kind : {"bool", "number", "string"}
        Values of several types are strings.
    choices : tuple
        Of that kind; empty where there are none or more than those.
    interval : (float, float) or None
        Ends, where it has a distribution with finite ones.
    """

    kind: str
    choices: tuple[Any, ...] = ()
    interval: tuple[float, float] | None = None

    def value(self, value: Any) -> bool | float | str:
        """Return a value of the hyperparameter as one of this kind."""
        if self.kind == "bool":
            return bool(value)
        return float(value) if self.kind == "number" else shown(value)


def domain_of(space: SearchSpace, name: str) -> Domain:
    """Return the domain of a parameter, over all dicts of a space."""
    choices, bounds = space.choices(name), space.bounds(name)
    if bounds is None:
        return domain_of_choices(choices)
    if not all(map(_is_number, choices)):
        return Domain("string")
    low, high = min([*choices, bounds[0]]), max([*choices, bounds[1]])
    finite = math.isfinite(low) and math.isfinite(high)
    return Domain("number", interval=(float(low), float(high)) if finite else None)


def domain_of_choices(choices: Collection[Any]) -> Domain:
    """Return the domain of a list of values of any types."""
    if all(isinstance(choice, bool) for choice in choices):
        return Domain("bool", tuple(choices))
    if all(map(_is_number, choices)):
        return Domain("number", tuple(map(float, choices)))
    return Domain("string", tuple(dict.fromkeys(map(shown, choices))))


def shown(value: Any) -> str:
    """Return a short text for any value, the same one in another process."""
    if isinstance(value, str):
        return value
    text = getattr(value, "__name__", None) or " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _is_number(value: object) -> TypeGuard[float]:
    # The dashboard reads JSON, which has neither infinities nor NaN.
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
