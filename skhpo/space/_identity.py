"""When two values of any type are the same one."""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable
from typing import Any

import numpy as np

# Equal to Python's own values that they hold.
_NUMPY_SCALARS = (np.bool_, np.number, np.str_, np.bytes_)


def plain(value: Any) -> Any:
    """Numpy scalars as Python's own types, anything else as it is."""
    return value.item() if isinstance(value, _NUMPY_SCALARS) else value


class _ById:
    """Equal to itself only; keeps what it wraps, so that it survives pickling."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def identity(value: Any, *, open_estimators: bool = False) -> Hashable:
    """What makes a value the one it is: ``1``, ``1.0`` and ``True`` differ, two nans do not.

    Estimators are equal to themselves only (a fitted one is more than its parameters), unless
    `open_estimators`; then a clone equals its original.
    """

    def inner(item: Any) -> Hashable:
        return identity(item, open_estimators=open_estimators)

    kind = f"{type(value).__module__}.{type(value).__qualname__}"  # not all types can be pickled
    if isinstance(value, float) and math.isnan(value):
        return (kind, "nan")
    if isinstance(value, np.ndarray):
        return (kind, value.dtype.str, value.shape, inner(value.tolist()))
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        # Its own hash goes by identity, and comparing it gives no bool.
        return (kind, str(value.dtype), tuple(value.shape), inner(value.tolist()))
    if isinstance(value, list | tuple):
        return (kind, tuple(map(inner, value)))
    if isinstance(value, dict):
        return (kind, frozenset((inner(key), inner(item)) for key, item in value.items()))
    if open_estimators and hasattr(value, "get_params") and not isinstance(value, type):
        return (kind, inner(value.get_params(deep=False)))
    try:
        hash(value)
    except TypeError:
        return _ById(value)
    return (kind, value)
