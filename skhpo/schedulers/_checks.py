"""Checks of arguments that several schedulers have."""

from __future__ import annotations

import math
import numbers
from fractions import Fraction

__all__ = ["check_count", "check_factor"]


def check_count(name: str, value: object) -> int:
    """An integer of at least 1, as a plain int."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, but got {name}={value!r}")
    if value < 1:
        raise ValueError(f"{name} >= 1 must hold, but got {name}={value!r}")
    return int(value)


def check_factor(factor: object) -> Fraction:
    """A number larger than 1, exactly."""
    if not isinstance(factor, numbers.Real) or isinstance(factor, bool):
        raise TypeError(f"factor must be a number, but got factor={factor!r}")
    if not 1 < float(factor) < math.inf:
        raise ValueError(f"factor > 1 must hold, but got factor={factor!r}; 3 is usual")
    if isinstance(factor, Fraction):
        return factor
    return Fraction(int(factor) if isinstance(factor, numbers.Integral) else float(factor))
