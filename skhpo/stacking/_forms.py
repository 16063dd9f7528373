"""Layers of several nets as one layer: activations have the nets in front, (n_nets, n, ...)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..estimators import MLP, ConvNet
from ._errors import CannotStackError

__all__ = ["Forms"]

_ELEMENTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Sigmoid, nn.Tanh, nn.LogSigmoid, nn.Softplus, nn.Softsign, nn.Softshrink, nn.Hardshrink),
    *(nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Tanhshrink, nn.Threshold, nn.Identity),
)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CONVS = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}
_POOLS = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d, nn.LPPool1d, nn.LPPool2d),
)


class Forms:
    """The forward pass of nets that share a graph.

    Parameters
    ----------
    modules : list of torch.nn.Module
        In the mode, training or evaluation, that the pass is for.
    streams : list of Stream
        What each net's dropout is drawn from.

    Attributes
    ----------
    views : dict of str to callable
        What the layers want of parameters, see `Parameters`.
    apart : set of str
    mixes_rows : bool
        Whether a row's output depends on the other rows of its batch: batches that are filled up
        with further rows would change it.
    """

    def __init__(self, modules, streams):
        self.streams = streams
        self.views = {}
        self.apart = set()
        self.mixes_rows = False
        self.dropouts = []
        self._root = self._form(modules, "")

    def __call__(self, x, part, lengths=None):
        """Return the output of shape (n_nets, n, ...).

        Parameters
        ----------
        x : Tensor of shape (n_nets, n, ...)
        part : Part
        lengths : list of int or None, default=None
            How many of the `n` rows each net really has; None means all.
        """
        return self._root(x, part, lengths)

    def keep(self, rows):
        """Drop all other nets."""
        self.streams = [self.streams[row] for row in rows]
        for dropout in self.dropouts:
            dropout.keep(rows)

    def _form(self, layers, name):
        layer = layers[0]
        kind = type(layer)
        if any(_is_hooked(one) for one in layers):
            raise CannotStackError(f"{name or 'the module'} has hooks")
        if kind in (nn.Sequential, MLP, ConvNet):
            return self._sequence(layers, name)
        if kind is nn.Linear:
            return self._linear(layer, name)
        if kind in _ELEMENTWISE:
            return _of_one(layer.forward)
        if kind is nn.Dropout:
            return self._dropout(layers)
        if kind is nn.Flatten:
            return _flatten(layer)
        raise CannotStackError(f"{kind.__name__} has no stacked form")

    def _sequence(self, layers, name):
        children = [
            self._form([layer._modules[child] for layer in layers], f"{name}{child}.")
            for child in layers[0]._modules
        ]
        if isinstance(layers[0], MLP):
            children.insert(0, _flattened)
        elif isinstance(layers[0], ConvNet) and layers[0].is_gray:
            children.insert(0, _with_one_channel)

        def form(x, part, lengths):
            for child in children:
                x = child(x, part, lengths)
            return x

        return form

    def _linear(self, layer, name):
        weight, bias = name + "weight", name + "bias"
        self.views[weight] = _transposed
        if layer.bias is None:

            def form(x, part, lengths):
                flat = x if x.ndim == 3 else x.flatten(1, -2)
                out = torch.bmm(flat, part.values[weight])
                return out if x.ndim == 3 else out.unflatten(1, x.shape[1:-1])

            return form
        self.views[bias] = _as_row

        def form(x, part, lengths):
            flat = x if x.ndim == 3 else x.flatten(1, -2)
            out = torch.baddbmm(part.values[bias], flat, part.values[weight])
            return out if x.ndim == 3 else out.unflatten(1, x.shape[1:-1])

        return form

    def _dropout(self, layers):
        if not layers[0].training or not any(layer.p for layer in layers):
            return _identity
        dropout = _Dropout(self, [layer.p for layer in layers])
        self.dropouts.append(dropout)
        return dropout


class _Dropout:
    """Dropout whose masks are what each net alone would draw."""

    def __init__(self, forms, rates):
        self.forms = forms
        self.rates = rates
        self.scales = {}

    def keep(self, rows):
        self.rates = [self.rates[row] for row in rows]
        self.scales.clear()

    def __call__(self, x, part, lengths):
        start, stop = part.start, part.stop
        rates = self.rates[start:stop]
        if lengths is None and all(0 < rate < 1 for rate in rates):
            noise = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        else:
            noise = torch.zeros(x.shape, dtype=x.dtype, device=x.device)
        for row, rate in enumerate(rates):
            mask = noise[row] if lengths is None else noise[row, : lengths[row]]
            if 0 < rate < 1:
                generator = self.forms.streams[start + row].generator(x.device)
                mask.bernoulli_(1 - rate, generator=generator)
            elif not rate:
                mask.fill_(1)
        scale = self.scales.get((start, stop))
        if scale is None:
            scales = [1 / (1 - rate) if rate < 1 else 0 for rate in rates]
            scale = torch.tensor(scales, dtype=x.dtype, device=x.device)
            scale = scale.view(-1, *[1] * (x.ndim - 1))
            self.scales[start, stop] = scale
        return x * noise.mul_(scale)


def _is_hooked(layer):
    return bool(
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
        or "forward" in vars(layer)
    )


def _transposed(weight):
    return weight.transpose(1, 2)


def _as_row(bias):
    return bias.unsqueeze(1)


def _identity(x, part, lengths):
    return x


def _of_one(function):
    def form(x, part, lengths):
        return function(x)

    return form


def _flattened(x, part, lengths):
    return x.flatten(2) if x.ndim > 3 else x


def _with_one_channel(x, part, lengths):
    return x.unsqueeze(2)


def _flatten(layer):
    start, end = layer.start_dim, layer.end_dim
    if start == 0:
        raise CannotStackError("Flatten(0) joins the rows of a batch")
    start, end = start + (start > 0), end + (end > 0)

    def form(x, part, lengths):
        return x.flatten(start, end)

    return form
