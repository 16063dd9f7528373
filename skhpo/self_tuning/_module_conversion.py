"""Conversion of a plain module to one whose weights respond, and back."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from ..training.direct import Tracer, Untraceable
from ..training.randomness import stream_seed
from ..training.structure import copied
from ._modulated import RESPONSE_SCALE, Modulated, response_rows
from .layers import HyperConv1d, HyperConv2d, HyperDropout, HyperLinear, HyperValue
from .recurrent import HyperEmbedding, HyperLSTM

__all__ = ["convert", "fold_into", "functions_of", "set_rates"]

_MODULATED = {
    nn.Linear: HyperLinear,
    nn.Conv1d: HyperConv1d,
    nn.Conv2d: HyperConv2d,
    nn.Embedding: HyperEmbedding,
    nn.LSTM: HyperLSTM,
}
_DROPOUT = {
    nn.Dropout: "none",
    nn.Dropout1d: "channel",
    nn.Dropout2d: "channel",
    nn.Dropout3d: "channel",
}


def convert(module, context, seed, *, swap=True, scale=RESPONSE_SCALE):
    """Copy a module and make its layers respond; class, ``forward`` and weights stay the same.

    Each layer draws its response parameters from its own stream of the seed, by its name; `scale`
    is the standard deviation of the response matrices. Without `swap` layers of torch are not
    replaced; those of this package respond in any case.
    """
    module = copied(module)
    tied = _tied(module)
    for path, layer in module.named_modules():
        if swap:
            _swap(layer, tied)
        if isinstance(layer, Modulated) and layer not in tied:
            device = next(layer.parameters()).device
            generator = torch.Generator(device).manual_seed(stream_seed(seed, "response", path))
            layer.attach(context, generator, scale)
        elif isinstance(layer, HyperDropout | HyperValue):
            layer.attach(context)
    return module


def _swap(layer, tied):
    # Exact types only: a subclass may have another forward.
    if getattr(layer, "sparse", False) or getattr(layer, "proj_size", 0):
        return  # not supported: sparse gradients, and projections of LSTM states
    if type(layer) in _MODULATED and layer not in tied:
        layer.__class__ = _MODULATED[type(layer)]
    elif type(layer) in _DROPOUT and layer.p < 1:
        layer.shared = _DROPOUT[type(layer)]
        layer.__class__ = HyperDropout


def _tied(module):
    """Return the layers that share a parameter: it cannot hold two folded responses."""
    owners = {}
    for layer in module.modules():
        for parameter in layer.parameters(recurse=False):
            owners.setdefault(parameter, []).append(layer)
    tied = {layer for layers in owners.values() if len(layers) > 1 for layer in layers}
    if tied:
        kinds = ", ".join(sorted(type(layer).__name__ for layer in tied))
        warnings.warn(f"layers that share parameters are left unmodulated: {kinds}", stacklevel=4)
    return tied


def fold_into(plain, converted, response):
    """Copy to the plain module the weights of the converted one at one response input.

    `response` has the shape (1, n_hyperparameters).
    """
    layers = [m for m in converted.modules() if isinstance(m, Modulated) and m.context is not None]
    with torch.no_grad():
        rows = response_rows([part for layer in layers for part in layer.penalised()], response)
        for ours, theirs in zip(plain.modules(), converted.modules(), strict=True):
            folded = theirs.folded(response, rows) if theirs in layers else {}
            for name, parameter in ours.named_parameters(recurse=False):
                parameter.copy_(folded.get(name, getattr(theirs, name)))
            for name, buffer in ours.named_buffers(recurse=False):
                buffer.copy_(getattr(theirs, name))


def set_rates(plain, converted, values):
    """Set the dropout rates and user-defined hyperparameters of a plain module."""
    for ours, theirs in zip(plain.modules(), converted.modules(), strict=True):
        if isinstance(theirs, HyperDropout) and theirs.name is not None:
            ours.p = values[theirs.name]
        elif isinstance(theirs, HyperValue) and theirs.name in values:
            ours.value = values[theirs.name]
        elif isinstance(theirs, Modulated):
            for attribute, name in theirs.rates.items():
                if name is not None and hasattr(ours, attribute):
                    setattr(ours, attribute, values[name])


class _Tracer(Tracer):
    def is_leaf_module(self, module, name):
        home = type(module).__module__
        ours = isinstance(module, Modulated | HyperDropout | HyperValue)
        return ours or (home.startswith("torch.nn") and not isinstance(module, nn.Sequential))


def functions_of(module):
    """Return the names of functions and methods that ``forward`` calls; None if untraceable."""
    try:
        graph = _Tracer().trace(module)
    except Untraceable:
        return None
    calls = (node for node in graph.nodes if node.op in ("call_function", "call_method"))
    return {getattr(node.target, "__name__", node.target) for node in calls}
