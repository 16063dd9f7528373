"""What nets must have in common to be trained as one, told from the built nets."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from ._optimizers import settings_of

__all__ = ["graph_of", "structure"]

_OF_MODULE = {
    *("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set", "training"),
    *(name for name in vars(nn.Module()) if name.startswith("_")),
}
_RATED = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
# Settings of optimizers that may differ from net to net.
_FREE = {
    *("lr", "betas", "eps", "weight_decay", "momentum", "dampening", "lr_multiplier"),
    *("max_momentum", "base_momentum", "max_lr", "min_lr", "alpha", "rho", "lambd", "t0"),
    *("momentum_decay", "lr_decay", "etas", "step_sizes"),
}


def structure(module, free=()):
    """Return a hashable description of a module: types, settings and shapes.

    Parameters
    ----------
    module : torch.nn.Module
    free : tuple of str, default=()
        Settings of the outermost module that are left out.
    """
    layers = []
    seen = set()
    for name, layer in module.named_modules(remove_duplicate=False):
        out = {*_OF_MODULE, *(free if layer is module else ())}
        if isinstance(layer, _RATED):
            out.add("p")
        settings = tuple((k, _frozen(v)) for k, v in vars(layer).items() if k not in out)
        tensors = [
            (k, None if t is None else (tuple(t.shape), t.dtype, t.requires_grad, id(t) in seen))
            for k, t in (*layer._parameters.items(), *layer._buffers.items())
        ]
        seen |= {id(t) for t in layer._parameters.values() if t is not None}
        layers.append((name, type(layer), layer.training, settings, tuple(tensors)))
    return tuple(layers)


def _frozen(value):
    if isinstance(value, list | tuple):
        return type(value), tuple(_frozen(item) for item in value)
    if isinstance(value, Mapping):
        return dict, tuple((_frozen(k), _frozen(v)) for k, v in value.items())
    if isinstance(value, float) and value != value:
        return "nan"
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | type):
        return type(value), value
    if isinstance(value, torch.dtype | torch.device) or (callable(value) and _is_global(value)):
        return value
    # Two objects that nobody can compare are taken for different.
    return id(value)


def _is_global(function):
    return hasattr(function, "__qualname__") and "<locals>" not in function.__qualname__


def graph_of(run):
    """Return a hashable description of everything that the nets of a group share.

    Parameters
    ----------
    run : object with `net`, `network` and `batches`
    """
    net, state, rows = run.net, run.network.state, run.batches.rows
    smoothing = ("label_smoothing",) if isinstance(net.criterion_, nn.CrossEntropyLoss) else ()
    positions = {id(p): name for name, p in net.module_.named_parameters()}
    groups = tuple(
        (
            tuple(positions.get(id(p)) for p in group["params"]),
            tuple((k, v) for k, v in setting if k not in _FREE),
            bool(group.get("momentum")),
        )
        for group, setting in zip(
            net.optimizer_.param_groups, settings_of(net.optimizer_), strict=True
        )
    )
    frozen = tuple(state.frozen_until.items())
    return (
        type(net),
        structure(net.module_),
        structure(net.criterion_, smoothing),
        getattr(net, "_meaning", None),
        type(net.optimizer_),
        groups,
        frozen and (frozen, state.counters.n_epochs),
        run.batches.batch_size,
        (tuple(rows.source.shape[1:]), rows.dtype[None]),
        (tuple(rows.targets.shape[1:]), rows.targets.dtype),
        net.device_,
        net._low_precision,
    )
