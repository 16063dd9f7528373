"""Functions that change the inputs of a batch: of all rows, and of training rows only."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from ..training.data import floating_dtype
from ..training.forwarding import cast_bytes, cast_floats, row_count
from ..training.items import is_same
from ..training.randomness import OwnGenerators, Stream
from ..training.sequences import as_batch
from .settings import TRANSFORMS, changed_settings

__all__ = ["batch_transform", "made_transforms", "seen_by_module", "transformed_in_training"]


class BatchTransform:
    """Changes the inputs of a batch by functions, pairs of name and callable.

    They draw random numbers from `stream`. Floats become those of `dtype`.
    """

    def __init__(
        self, functions: Sequence[tuple[str, Callable[[Any], Any]]], stream: Any, dtype: Any
    ) -> None:
        self.functions = functions
        self.stream = stream
        self.dtype = dtype

    def probe(self) -> BatchTransform:
        """Return copies of the functions, whose calls leave the stream and their state as it is."""
        functions = [(name, _copied(function)) for name, function in self.functions]
        return BatchTransform(functions, Stream(0, "probe"), self.dtype)

    def __call__(self, X: Any) -> Any:
        n_rows = row_count(X)
        with torch.no_grad(), OwnGenerators(self.stream):
            for name, function in self.functions:
                X = function(X)
                if row_count(X) != n_rows:
                    raise ValueError(
                        f"{name} must return as many rows as it gets, but made {row_count(X)} of "
                        f"{n_rows}: the targets stay as they are; change rows, but leave none out"
                    )
        return cast_bytes(cast_floats(X, self.dtype), self.dtype)


def made_transforms(net: Any) -> dict[str, Callable[[Any], Any]]:
    """Return the functions of the transforms of a net that are set, by name."""
    given = [name for name in TRANSFORMS if vars(net).get(name) is not None]
    return {name: _made(vars(net)[name], changed_settings(net, name)) for name in given}


def batch_transform(
    net: Any, *, training: bool, stream: Any = None, dtype: Any = None
) -> BatchTransform | None:
    """Return the `BatchTransform` of a net's batches, None if nothing changes them."""
    made = net._transforms
    names = [name for name in TRANSFORMS[: 1 + training] if name in made]
    if not names:
        return None
    functions = [(name, _on_device(net, made[name])) for name in names]
    if stream is None:
        stream = net._state.streams["augment"] if training else Stream(0, "transform")
    return BatchTransform(functions, stream, dtype or floating_dtype(net.module_))


def seen_by_module(net: Any, few: Any) -> Any:
    """Return a few rows of checked data as the module, once it is made, will get them."""
    change = batch_transform(net, training=False, dtype=torch.float32)
    if change is None:
        return few
    # A transform may work in place, and the rows are the user's.
    rows = cast_floats(copy.deepcopy(as_batch(few)), torch.float32, integers=True)
    _check_repeats(net, "transform", change, rows)
    return change.probe()(copy.deepcopy(rows))


def transformed_in_training(net: Any, inputs: Any) -> Any:
    """Return rows after the transform of training."""
    function = _on_device(net, net._transforms["train_transform"])
    stream = Stream(net.seed_, "trial")
    functions = [("train_transform", _copied(function))]
    change = BatchTransform(functions, stream, floating_dtype(net.module_))
    _check_repeats(net, "train_transform", change, inputs)
    return change(copy.deepcopy(inputs))  # it may work in place


def _copied(function: Any) -> Any:
    """Return a copy of an object with its state; functions, and what has no copy, as they are."""
    try:
        return copy.deepcopy(function)
    except Exception:
        return function


def _on_device(net: Any, function: Any) -> Any:
    device = getattr(net, "device_", None)
    return function.to(device) if isinstance(function, torch.nn.Module) and device else function


def _check_repeats(net: Any, name: str, change: BatchTransform, rows: Any) -> None:
    """Note, and warn, if a transform makes something else of the same rows with the same draws."""
    probe = change.probe()
    one = probe(copy.deepcopy(rows))
    probe.stream = Stream(0, "probe")
    if not is_same(one, probe(copy.deepcopy(rows))):
        net._transforms_vary = True
        warnings.warn(
            f"{name} must make the same of the same rows under the same seed, but a second "
            "call made something else of them, so that results depend on how often it is "
            "called; keep no state in it, and draw by torch, whose seed is that of the fit, "
            "not by NumPy, Python's random or a generator of your own",
            stacklevel=2,
        )


def _made(value: Any, settings: Any) -> Any:
    """Return the function of a transform, which is a class, a function or an object."""
    if isinstance(value, type):
        function = value(**settings)
    elif settings:
        function = partial(value, **settings)
    else:
        function = _copied(value)  # what it keeps of its calls belongs to one fit
    return _RowByRow(function) if _is_for_rows(function) else function


def _is_for_rows(function: Any) -> bool:
    """Whether a transform has to be called for each row, to have draws of its own for each.

    Objects of torchvision draw once for all that they get.
    """
    of_torchvision = type(function).__module__.partition(".")[0] == "torchvision"
    return getattr(function, "per_row", of_torchvision)


class _RowByRow:
    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, X: Any) -> Any:
        return torch.stack([self.function(row) for row in X])
