"""Constraints of numeric arguments, as scikit-learn declares them, and suggestions for names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

import numpy as np

from ._compat import Interval, validate_parameter_constraints

__all__ = [
    *("COUNT", "COUNT_OR_ZERO", "NON_NEGATIVE", "POSITIVE", "Number"),
    *("check_arguments", "nearest_first", "synonyms"),
]


class Number(Interval):  # type: ignore[misc]
    """An interval of numbers, without True and False."""

    def is_satisfied_by(self, value: Any) -> bool:
        if isinstance(value, bool | np.bool_):
            return False
        exact = isinstance(value, Fraction)
        return bool(super().is_satisfied_by(float(value) if exact else value))


COUNT = Number(Integral, 1, None, closed="left")
COUNT_OR_ZERO = Number(Integral, 0, None, closed="left")
POSITIVE = Number(Real, 0, None, closed="neither")
NON_NEGATIVE = Number(Real, 0, None, closed="left")


def check_arguments(name: str, constraints: Mapping[str, list[Any]], **arguments: Any) -> None:
    """Raise an error, both a TypeError and a ValueError, unless arguments satisfy constraints.

    `name` is that of the class or function; constraints are as in scikit-learn's
    ``_parameter_constraints``.
    """
    validate_parameter_constraints(constraints, arguments, name)


# What other packages call a parameter: what it may be called here, where there is one.
_ELSEWHERE = {
    **dict.fromkeys(["learning_rate", "learning_rate_init", "eta"], "lr"),
    **dict.fromkeys(["epochs", "n_epochs", "num_epochs", "max_iter", "n_iter"], "max_epochs"),
    **dict.fromkeys(["seed", "random_seed"], "random_state"),
    **dict.fromkeys(["early_stopping", "n_iter_no_change"], "patience"),
    "verbosity": "verbose",
}


def synonyms(name: object, known: Iterable[str]) -> list[str]:
    """Return those of `known` that are the same parameter, of a component or by another name."""
    *path, last = str(name).split("__")
    # Arguments of a module of the user's have names of their own.
    same = (last, None if "module" in path else _ELSEWHERE.get(last))
    return [candidate for candidate in known if candidate.rpartition("__")[2] in same]


def nearest_first(name: object, known: Iterable[str]) -> list[str]:
    """Sort `known` names so that those most like `name` come first."""
    known = list(known)
    meant = _ELSEWHERE.get(str(name))

    def unlikeness(candidate: str) -> tuple[float, str]:
        if candidate == meant:
            return -2.0, candidate
        ratio = difflib.SequenceMatcher(None, str(name).lower(), candidate.lower()).ratio()
        return -round(ratio, 1), candidate

    return sorted(known, key=unlikeness)
