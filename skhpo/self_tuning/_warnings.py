"""Warnings about layers that conversion leaves unchanged, and dropout that it cannot see."""

from __future__ import annotations

import contextlib
import inspect
import re
import warnings

from torch import nn

from ._modulated import Modulated
from .layers import HyperDropout, HyperValue
from .recurrent import HyperLSTM

__all__ = ["warn_of_dropout", "warn_of_layers"]

# Layers that conversion handles.
_OURS = (Modulated, HyperDropout, HyperValue)
# Dropout in a ``forward``, which no conversion finds.
_FUNCTIONAL = re.compile(r"(?:\bF|functional|torch)\.(\w*dropout\w*)\(")


def warn_of_layers(module):
    """Warn of layers (except normalizations) whose weights do not respond, and of slow ones."""
    kinds, inside = set(), set()
    for layer in module.modules():
        if isinstance(layer, nn.MultiheadAttention):
            inside |= set(layer.modules()) - {layer}
    for layer in module.modules():
        normalizes = "norm" in type(layer).__name__.lower()
        has_weights = any(True for _ in layer.parameters(recurse=False))
        responds = isinstance(layer, _OURS) and layer.context is not None
        if has_weights and not responds and not normalizes and layer not in inside:
            kinds.add(type(layer).__name__)
    if kinds:
        warnings.warn(
            "these layers are trained, but their weights do not respond to hyperparameters: "
            f"{', '.join(sorted(kinds))}",
            stacklevel=2,
        )
    if any(isinstance(layer, HyperLSTM) for layer in module.modules()):
        warnings.warn(
            "an LSTM that responds runs step by step, several times slower than torch's fused "
            "layer; collapse() gives the fused one back",
            stacklevel=2,
        )


def warn_of_dropout(module, functions):
    """Warn of dropout functions in ``forward``, which cannot be tuned.

    `functions` are the names found by tracing; if it is None the source is searched.
    """
    found = {name for name in functions or () if "dropout" in name}
    for layer in module.modules() if functions is None else ():
        if isinstance(layer, _OURS) or type(layer).__module__.startswith("torch."):
            continue
        for function in filter(inspect.isfunction, vars(type(layer)).values()):
            # Not the source of the class: Python 3.11 parses it, which is not thread-safe.
            with contextlib.suppress(OSError, TypeError):
                found |= set(_FUNCTIONAL.findall(inspect.getsource(function)))
    if found:
        warnings.warn(
            f"the module drops values by {', '.join(sorted(found))} in its forward, which "
            "conversion cannot see; use layers of torch.nn.Dropout, so that rates can be tuned",
            stacklevel=2,
        )
