"""Constraints of arguments that several schedulers share."""

from __future__ import annotations

from fractions import Fraction
from numbers import Integral, Real

from .._compat import StrOptions
from ..arguments import COUNT, Number

__all__ = ["BRACKETS", "exactly"]

BRACKETS = {
    "min_resources": [COUNT],
    "max_resources": [COUNT],
    "factor": [Number(Real, 1, None, closed="neither")],
    "n_brackets": [COUNT, StrOptions({"all"})],
}


def exactly(factor: float | Fraction) -> Fraction:
    """Convert a number to a fraction without rounding."""
    if isinstance(factor, Fraction):
        return factor
    return Fraction(int(factor) if isinstance(factor, Integral) else float(factor))
