"""Rules of user-defined layers, and the error where networks cannot be computed jointly."""

from __future__ import annotations

import logging

from torch import nn

from ..training.direct import is_known

__all__ = ["LAYER_RULES", "LockstepError", "log", "register_layer"]

log = logging.getLogger("skhpo")

# From the exact type of a layer to its rule.
LAYER_RULES = {}


class LockstepError(Exception):
    """These networks cannot be trained in lockstep; the message says why."""


def register_layer(layer_type, rule):
    """Register how layers of a type are computed for all networks of a group at once.

    Without a rule a layer is traced, or computed by `torch.func.vmap`; if neither is possible, its
    networks are trained alone. A rule is checked with a first batch: if its outputs differ from
    those of the single networks, they are trained alone.

    Parameters
    ----------
    layer_type : type
        A subclass of `torch.nn.Module`; its own subclasses are not included. A later rule for it
        replaces an earlier one; layers with a rule of this package cannot be registered.
    rule : callable
        ``rule(forms, layers, name)`` gets the same layer of each network, and the prefix of the
        names of their parameters. It returns ``form(x, part, lengths)``, which computes the
        layers' outputs for inputs of shape (n_networks, n_samples, ...) with differentiable torch
        functions. ``part.values[name + "weight"]`` is the parameter `weight` of all networks, of
        shape (n_networks, ...), and ``part.buffers`` are the buffers. ``lengths`` is always None.
        A rule raises `LockstepError` if it does not support the settings of a layer.

    Raises
    ------
    TypeError
        If `layer_type` is no class of modules, or `rule` cannot be called.
    ValueError
        If the package has a rule for the layer.

    Notes
    -----
    A search passes the rules on to its worker processes.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from skhpo.lockstep import register_layer
    >>> def rms_norm(forms, layers, name):
    ...     layer = layers[0]
    ...     def form(x, part, lengths):
    ...         x = nn.functional.rms_norm(x, layer.normalized_shape, eps=layer.eps)
    ...         weight = part.values[name + "weight"]
    ...         return x * weight.view(len(x), *[1] * (x.ndim - weight.ndim), *weight.shape[1:])
    ...     return form
    >>> register_layer(nn.RMSNorm, rms_norm)
    """
    if not (isinstance(layer_type, type) and issubclass(layer_type, nn.Module)):
        raise TypeError(f"layer_type must be a class of torch modules, but got {layer_type!r}")
    if not callable(rule):
        raise TypeError(f"rule must be callable, but got {rule!r}")
    if is_known(layer_type):
        raise ValueError(f"skhpo has a rule for {layer_type.__name__}; register a subclass of it")
    LAYER_RULES[layer_type] = rule
