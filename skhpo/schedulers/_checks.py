"""Checks of arguments that several schedulers have."""

from __future__ import annotations

import numbers

__all__ = ["check_count"]


def check_count(name: str, value: object) -> int:
    """An integer of at least 1, as a plain int."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, but got {name}={value!r}")
    if value < 1:
        raise ValueError(f"{name} >= 1 must hold, but got {name}={value!r}")
    return int(value)
