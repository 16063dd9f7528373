"""Identity of values of any type."""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable
from typing import Any

import numpy as np

# Equal to Python's own values that they hold.
_NUMPY_SCALARS = (np.bool_, np.number, np.str_, np.bytes_)


def plain(value: Any) -> Any:
    """Convert NumPy scalars to Python's types; return anything else unchanged."""
    return value.item() if isinstance(value, _NUMPY_SCALARS) else value


class _ById:
    """Compares by the identity of the wrapped object; survives pickling."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def identity(value: Any, *, open_estimators: bool = False) -> Hashable:
    """Hashable identity of a value: ``1``, ``1.0`` and ``True`` differ, two nans do not.

    Estimators are compared by identity (a fitted one is more than its parameters), or with
    `open_estimators` by their parameters, so that a clone equals its original.
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
        # Tensors hash by identity, and their comparison returns no bool.
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
