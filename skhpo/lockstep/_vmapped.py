"""Modules of which only a call is known, through `torch.func.vmap`."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..training.randomness import may_draw
from ._errors import LockstepError

__all__ = ["vmapped"]


def vmapped(forms, layers, name):
    """Return the form of modules of somebody's own.

    Parameters
    ----------
    forms : Forms
    layers : list of torch.nn.Module
    name : str
        Prefix of the names of their parameters.
    """
    try:
        layer = copy.deepcopy(layers[0])
    except Exception as error:
        raise LockstepError(f"{type(layers[0]).__name__} cannot be copied: {error}") from error
    known = [part for part in layer.modules() if type(part).__module__.startswith("torch.nn.")]
    if layer.training and any(may_draw(part) for part in known if not list(part.children())):
        raise LockstepError(f"{type(layer).__name__} draws random numbers in a traceless way")
    if any(isinstance(part, nn.RNNBase) for part in known):
        raise LockstepError("recurrent layers have no batching rule")
    own = [own for own, _ in layer.named_parameters()]
    buffers = [own for own, _ in layer.named_buffers()]

    def one(values, buffers, x):
        return torch.func.functional_call(layer, (values, buffers), (x,))

    def form(x, part, lengths):
        values = {key: part.values[name + key] for key in own}
        states = {key: part.buffers[name + key] for key in buffers}
        try:
            # Randomness raises: each net has a stream of its own, of which vmap knows nothing.
            output = torch.func.vmap(one)(values, states, x)
        except Exception as error:
            text = str(error).partition("\n")[0]
            raise LockstepError(f"{type(layer).__name__} under vmap: {text}") from error
        if not isinstance(output, torch.Tensor):
            raise LockstepError(f"{type(layer).__name__} returns no single tensor")
        return output

    return form
