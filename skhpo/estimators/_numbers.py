"""Targets of a regressor: numbers, which may be scaled, or a dict of them for several heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_array

from ..names import resolve_criterion
from ..rows import Inputs, as_given
from ..training.data import as_array
from ._targets import Targets, check_monitor_of_positions
from .validation import ABOUT_STRINGS, check_fits_float32, refuse_dates

__all__ = ["Heads", "Numbers", "as_heads", "as_numbers", "check_numbers"]

_OF_LABELS = (
    "a classifier takes labels, and sklearn.preprocessing.LabelEncoder makes numbers of them"
)


@dataclass(frozen=True, eq=False)
class Numbers(Targets):
    """Numbers of a shape, scaled by `scaling`, their mean and scale as plain numbers, or None.

    With `is_unscaled` a scaling is still to be learned from the rows of training.
    """

    of_values: tuple[int, ...]
    scaling: tuple[Any, Any] | None = None
    is_unscaled: bool = False

    dtype: ClassVar[torch.dtype | None] = torch.float32

    @property
    def width(self) -> int:
        """Numbers per sample."""
        return int(np.prod(self.of_values, dtype=int))

    def with_scaling(self, y: NDArray[Any], weight: NDArray[Any] | None) -> Self:
        if not self.is_unscaled:
            return self

        def average(values: NDArray[Any]) -> Any:
            if values.ndim > 2:  # all pixels have one unit
                values = values.reshape(len(values), -1).mean(axis=1)
            return np.average(values, axis=0, weights=weight)

        mean = average(y)
        scale = np.sqrt(average((y - mean) ** 2))
        # What is constant, up to rounding, stays where it is.
        scale = np.where(scale > 10 * np.finfo(np.float64).eps * np.abs(mean), scale, 1.0)
        return replace(self, scaling=(mean.tolist(), scale.tolist()), is_unscaled=False)

    def scale(self, y: Any) -> Any:
        if self.scaling is None:
            return y
        mean, scale = map(np.array, self.scaling)
        return ((np.asarray(y) - mean) / scale).astype(np.float32)

    def shaped(self, y: Any, meaning: str, output_shape: tuple[int, ...]) -> Any:
        same = int(np.prod(output_shape, dtype=int)) == int(np.prod(y.shape[1:], dtype=int))
        return y.reshape(-1, *output_shape) if same else y


@dataclass(frozen=True, eq=False)
class Heads(Targets):
    """A dict of targets, each of a shape per sample.

    Integers stay integers, for criteria of classes; other numbers become float32. The criterion
    gets what the module returns, and the targets of the batch as a dict of tensors; predictions are
    what the module returns, as arrays.
    """

    shapes: Mapping[str, tuple[int, ...]]

    scaling: ClassVar[None] = None
    are_heads: ClassVar[bool] = True

    def shaped(self, y: Any, meaning: str, output_shape: tuple[int, ...]) -> Any:
        return as_given(y)


def as_numbers(y: Any, name: str = "y") -> NDArray[Any]:
    """Return targets as an array of finite numbers; ValueError, which uses `name`, if they are not.

    They fit into float32.
    """
    refuse_dates(y, name)
    if isinstance(y, list | tuple):
        y = np.asarray(y)  # check_array would leave objects in a list as they are
    try:
        numbers: NDArray[Any] = check_array(
            as_array(y), ensure_2d=False, allow_nd=True, dtype="numeric", input_name=name
        )
    except ValueError as error:
        if not ABOUT_STRINGS.match(str(error)):
            raise
        raise ValueError(f"{name} must be of numbers, but {error}; {_OF_LABELS}") from error
    check_fits_float32(numbers, name, _OF_LABELS)
    return numbers


def check_numbers(net: Any, known: Targets | None, y: Any) -> tuple[Numbers | Heads, Any]:
    """Check the targets of a regressor; `known` is what the first ones told, or None."""
    if isinstance(y, Mapping | Inputs) or isinstance(known, Heads):
        return _check_heads(net, known, y)
    y = as_numbers(y)
    check_monitor_of_positions(net, y.ndim > 2)
    if not isinstance(known, Numbers):
        known = Numbers(y.shape[1:], is_unscaled=net.scale_target is not None)
    elif y.shape[1:] != tuple(known.of_values):
        raise ValueError(
            f"y must have the shape (n_samples, {', '.join(map(str, known.of_values))}) of "
            f"the first call, but got {y.shape}"
        )
    # Small differences of large values are lost in float32, unless they are scaled before.
    return known, y.astype(np.float32 if net.scale_target is None else np.float64)


def _check_heads(net: Any, known: Targets | None, y: Any) -> tuple[Heads, Inputs]:
    _refuse_with_heads(net)
    arrays = {name: _checked(name, value) for name, value in as_heads(y).arrays.items()}
    shapes = {name: value.shape[1:] for name, value in arrays.items()}
    before = {} if known is None else getattr(known, "shapes", {})
    if known is not None and shapes != {name: tuple(shape) for name, shape in before.items()}:
        raise ValueError(
            f"y must be a dict of targets of the shapes {dict(before) or None}, as in the first "
            f"call, but has {shapes}"
        )
    return known if isinstance(known, Heads) else Heads(shapes), Inputs(arrays)


def _refuse_with_heads(net: Any) -> None:
    if net.has_own_epochs:
        raise ValueError(
            "a self-tuning network needs y as an array, but it is a dict of targets; use a "
            "TorchRegressor for several heads"
        )
    criterion = resolve_criterion(net.criterion)
    kind = criterion if isinstance(criterion, type) else type(criterion)
    if kind.__module__.startswith("torch."):
        raise ValueError(
            "a dict of targets needs a criterion of your own, which gets what the module "
            f"returns and a dict of tensors, but criterion={net.criterion!r}"
        )
    needed = {"scale_target": None, "monitor": "valid_loss", "train_split": None}
    for name, value in needed.items():
        if getattr(net, name) != value:
            raise ValueError(
                f"{name} must be {value!r} where y is a dict of targets, but is "
                f"{getattr(net, name)!r}"
            )


def as_heads(y: Any) -> Inputs:
    """Return a dict of targets as rows."""
    return y if isinstance(y, Inputs) else Inputs(dict(y))


def _checked(name: str, value: Any) -> NDArray[Any]:
    checked = as_numbers(value, f"y[{name!r}]")
    return checked.astype(np.float32 if checked.dtype.kind == "f" else np.int64)
