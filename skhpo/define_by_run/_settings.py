"""Functions of builders that estimators use."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..faults import warn_of_mistake
from ._builders import asked_for, explored, recall, takes_hp
from ._definitions import Definition
from ._hyperparameters import HyperParameters

__all__ = ["definitions_of", "is_asked_for", "shapes_of", "split"]


def definitions_of(builder: Any) -> dict[str, Definition] | None:
    """Return the known hyperparameters of a builder (none without ``hp``).

    None if it cannot be run without data.
    """
    if not takes_hp(builder):
        return {}
    try:
        return explored(builder).definitions
    except Exception as error:
        warn_of_mistake(error, "the hyperparameters of a builder are not known")
        return None


def is_asked_for(builder: Callable[..., Any], name: str, values: Mapping[str, Any]) -> bool:
    """Whether a name is known, or requested under these values, with which it becomes known."""
    definitions = definitions_of(builder)
    if definitions is None or name in definitions:
        return True
    try:
        asked = asked_for(builder, {}, split(builder, values)[1].given)
    except Exception as error:
        warn_of_mistake(error, f"whether a builder asks for {name!r} is not known")
        return False
    found = recall(builder)
    if found is not None and name in asked:
        found.definitions.setdefault(name, asked[name])
    return name in asked


def split(
    builder: Callable[..., Any], settings: Mapping[str, Any]
) -> tuple[dict[str, Any], HyperParameters]:
    """Split settings of a builder into its arguments and the values of ``hp``."""
    written = inspect.signature(builder).parameters
    arguments = {k: v for k, v in settings.items() if k in written}
    return arguments, HyperParameters({k: v for k, v in settings.items() if k not in written})


def shapes_of(X: Any, y: Any, *, classifier: bool) -> dict[str, Any]:
    """Return ``in_features``, ``in_channels``, ``input_shape`` and ``out_features`` of data.

    They are inferred as by estimators; unknown ones are left out.
    """
    shapes: dict[str, Any] = {}
    shape = tuple(getattr(X, "shape", ()))[1:]
    if shape:
        shapes = {
            "in_features": int(np.prod(shape)),
            "in_channels": shape[0],
            "input_shape": shape,
        }
    if y is not None:
        y = np.asarray(y)
        width = len(np.unique(y)) if classifier and y.ndim == 1 else int(np.prod(y.shape[1:]))
        shapes["out_features"] = width
    return shapes
