"""Numbers as arguments, declared as scikit-learn declares them, also of classes that do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

import numpy as np

from ._compat import Interval, validate_parameter_constraints

__all__ = ["COUNT", "NON_NEGATIVE", "POSITIVE", "Number", "check_arguments"]


class Number(Interval):  # type: ignore[misc]
    """An interval of numbers, to which True and False do not belong."""

    def is_satisfied_by(self, value: Any) -> bool:
        if isinstance(value, bool | np.bool_):
            return False
        exact = isinstance(value, Fraction)
        return bool(super().is_satisfied_by(float(value) if exact else value))


COUNT = Number(Integral, 1, None, closed="left")
POSITIVE = Number(Real, 0, None, closed="neither")
NON_NEGATIVE = Number(Real, 0, None, closed="left")


def check_arguments(name: str, constraints: Mapping[str, list[Any]], **arguments: Any) -> None:
    """Raise an error that is both a TypeError and a ValueError unless arguments are as declared.

    Parameters
    ----------
    name : str
        Of the class or function that has them.
    constraints : dict of str to list
        As of ``_parameter_constraints`` in scikit-learn.
    **arguments : object
    """
    validate_parameter_constraints(constraints, arguments, name)
