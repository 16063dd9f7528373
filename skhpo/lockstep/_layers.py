"""Forms of single layers: functions of ``(x, part, lengths)``, see `Forms`."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..training.randomness import OwnGenerators
from ._errors import LockstepError

__all__ = ["FORMS", "Dropout", "per_net", "per_row"]

_ELEMENTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Sigmoid, nn.Tanh, nn.LogSigmoid, nn.Softplus, nn.Softsign, nn.Softshrink, nn.Hardshrink),
    *(nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Tanhshrink, nn.Threshold, nn.Identity),
)
_CONVS = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}
_POOLS = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
_RANDOM = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def _linear(forms, layers, name):
    weight, bias = name + "weight", name + "bias"
    # As (in_features, out_features): products with a transposed right factor take more than twice
    # as long, and gradients come in this layout.
    forms.transposed.add(weight)
    # Batched products with a result that is not contiguous are one by one.
    forms.apart.add(weight)
    has_bias = layers[0].bias is not None
    if has_bias:
        forms.views[bias] = _as_row

    def form(x, part, lengths):
        flat = x if x.ndim == 3 else x.flatten(1, -2)
        if has_bias:
            out = torch.baddbmm(part.values[bias], flat, part.values[weight])
        else:
            out = torch.bmm(flat, part.values[weight])
        return out if x.ndim == 3 else out.unflatten(1, x.shape[1:-1])

    return form


def _conv(forms, layers, name):
    layer, function = layers[0], _CONVS[type(layers[0])]
    if layer.padding_mode != "zeros":
        raise LockstepError(f"padding_mode={layer.padding_mode!r} has no lockstep form")
    weight, bias = name + "weight", name + "bias"
    _as_one_layer(forms, weight, *([bias] if layer.bias is not None else []))
    n_dims = len(layer.kernel_size)

    def form(x, part, lengths):
        if x.ndim != n_dims + 3:
            raise LockstepError(f"a convolution got an input of shape {tuple(x.shape[1:])}")
        n_nets = x.shape[0]
        # The channels of all nets side by side; a view where the layer before made them so.
        x = x.transpose(0, 1).flatten(1, 2)
        settings = layer.stride, layer.padding, layer.dilation, layer.groups * n_nets
        out = function(x, part.values[weight], part.values.get(bias), *settings)
        return out.unflatten(1, (n_nets, -1)).transpose(0, 1)

    return form


def _batch_norm(forms, layers, name):
    layer = layers[0]
    weight, bias = name + "weight", name + "bias"
    tracks = layer.track_running_stats and layer.running_mean is not None
    if tracks and layer.training and layer.momentum is None:
        raise LockstepError("a cumulative average of BatchNorm has no lockstep form")
    if layer.affine:
        _as_one_layer(forms, weight, bias)
    by_batch = layer.training or not tracks
    forms.mixes_rows = forms.mixes_rows or by_batch

    def form(x, part, lengths):
        n_nets = x.shape[0]
        mean = part.buffers[name + "running_mean"].view(-1) if tracks else None
        variance = part.buffers[name + "running_var"].view(-1) if tracks else None
        if tracks and layer.training:
            part.buffers[name + "num_batches_tracked"].add_(1)
        out = F.batch_norm(
            x.transpose(0, 1).flatten(1, 2),
            mean,
            variance,
            part.values.get(weight),
            part.values.get(bias),
            by_batch,
            0.0 if layer.momentum is None else layer.momentum,
            layer.eps,
        )
        return out.unflatten(1, (n_nets, -1)).transpose(0, 1)

    return form


def _layer_norm(forms, layers, name):
    layer, weight, bias = layers[0], name + "weight", name + "bias"
    n_dims = len(layer.normalized_shape)

    def form(x, part, lengths):
        x = F.layer_norm(x, layer.normalized_shape, eps=layer.eps)
        if weight in part.values:
            x = x * _beside(part.values[weight], x, n_dims)
        if bias in part.values:
            x = x + _beside(part.values[bias], x, n_dims)
        return x

    return form


def _group_norm(forms, layers, name):
    layer, weight, bias = layers[0], name + "weight", name + "bias"

    def form(x, part, lengths):
        normed = F.group_norm(x.flatten(0, 1), layer.num_groups, eps=layer.eps)
        x = normed.view(x.shape)
        if layer.affine:
            shape = (x.shape[0], 1, -1, *[1] * (x.ndim - 3))
            x = x * part.values[weight].view(shape) + part.values[bias].view(shape)
        return x

    return form


def _embedding(forms, layers, name):
    layer, weight = layers[0], name + "weight"
    if layer.max_norm is not None or layer.scale_grad_by_freq or layer.sparse:
        raise LockstepError("this Embedding changes its weights, or their gradients")
    _as_one_layer(forms, weight)
    padding = layer.padding_idx

    def form(x, part, lengths):
        # A number out of range would find its way into the table of another net.
        in_range = ((x >= 0) & (x < layer.num_embeddings)).all()
        torch._assert_async(in_range, "index out of range")
        table = part.values[weight]
        firsts = torch.arange(x.shape[0], device=x.device) * layer.num_embeddings
        out = F.embedding(x + firsts.view(-1, *[1] * (x.ndim - 1)), table)
        if padding is not None:
            # No gradient for these.
            out = torch.where((x == padding).unsqueeze(-1), out.detach(), out)
        return out

    return form


def _prelu(forms, layers, name):
    def form(x, part, lengths):
        weight = part.values[name + "weight"]
        shape = (x.shape[0], 1, -1, *[1] * (x.ndim - 3)) if x.ndim > 2 else (-1, 1)
        return torch.where(x >= 0, x, x * weight.reshape(shape))

    return form


def _softmax(forms, layers, name):
    layer = layers[0]
    if layer.dim is None or layer.dim == 0:
        raise LockstepError(f"{type(layer).__name__}(dim={layer.dim}) has no lockstep form")
    dim = layer.dim + (layer.dim > 0)
    function = {nn.Softmax: F.softmax, nn.Softmin: F.softmin}.get(type(layer), F.log_softmax)
    return lambda x, part, lengths: function(x, dim)


def _flatten(forms, layers, name):
    start, end = layers[0].start_dim, layers[0].end_dim
    if start < 1 or end == 0:
        raise LockstepError(f"Flatten({start}, {end}) may join the rows of a batch")
    start, end = start + 1, end + (end > 0)
    return lambda x, part, lengths: x.flatten(start, end)


def _unflatten(forms, layers, name):
    layer = layers[0]
    if not isinstance(layer.dim, int) or layer.dim == 0:
        raise LockstepError(f"Unflatten({layer.dim!r}) has no lockstep form")
    dim = layer.dim + (layer.dim > 0)
    return lambda x, part, lengths: x.unflatten(dim, layer.unflattened_size)


def _elementwise(forms, layers, name):
    function = layers[0].forward
    return lambda x, part, lengths: function(x)


def _pool(forms, layers, name):
    layer = layers[0]
    if getattr(layer, "return_indices", False):
        raise LockstepError("pooling that returns indices has no lockstep form")
    return per_row(layer.forward, int(type(layer).__name__[-2]) + 3)


def _dropout(forms, layers, name):
    return Dropout(forms, [layer.p for layer in layers]) if layers[0].training else _identity


def _random(forms, layers, name):
    if not layers[0].training:
        return _identity
    return per_net(forms, [layer.forward for layer in layers])


def per_row(function, n_dims=None):
    """Return the form of a function that maps the channels of each row on their own.

    Parameters
    ----------
    function : callable
        From a tensor of shape (n, n_channels, ...) to one.
    n_dims : int or None, default=None
        Dimensions that the input of all nets must have.
    """

    def form(x, part, lengths):
        if n_dims is not None and x.ndim != n_dims:
            raise LockstepError(f"a pooling got an input of shape {tuple(x.shape[1:])}")
        beside = x.transpose(0, 1)
        if n_dims is not None and beside.is_contiguous():
            out = function(beside.flatten(1, 2))
            return out.unflatten(1, (x.shape[0], -1)).transpose(0, 1)
        return function(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    return form


def per_net(forms, functions):
    """Return the form of random functions that are called net by net, each with its stream."""

    def form(x, part, lengths):
        outputs = []
        for i, one in enumerate(x.unbind(0)):
            n_real = len(one) if lengths is None else lengths[i]
            with OwnGenerators(forms.streams[part.start + i]):
                out = forms.of_net(functions, part.start + i)(one[:n_real])
            outputs.append(F.pad(out, [0, 0] * (out.ndim - 1) + [0, len(one) - n_real]))
        return torch.stack(outputs)

    return form


class Dropout:
    """Dropout whose masks are what each net alone would draw.

    Parameters
    ----------
    forms : Forms
    rates : list of float
        Of each net.
    """

    def __init__(self, forms, rates):
        if forms.streams[0] is None:
            raise LockstepError("dropout in evaluation has no stream")
        self.forms = forms
        self.rates = rates
        self.scales = {}
        forms.on_keep.append(self._keep)

    def _keep(self, rows):
        self.rates = [self.rates[row] for row in rows]
        self.scales.clear()

    def __call__(self, x, part, lengths):
        rates = self.rates[part.start : part.stop]
        if not any(rates):
            return x
        if lengths is None and all(0 < rate < 1 for rate in rates):
            mask = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        else:
            mask = torch.zeros(x.shape, dtype=x.dtype, device=x.device)
        for i, rate in enumerate(rates):
            own = mask[i] if lengths is None else mask[i, : lengths[i]]
            if 0 < rate < 1:
                self._draw(own, rate, self.forms.streams[part.start + i])
            elif not rate:
                own.fill_(1)
        return x * mask.mul_(self._scale(part, x))

    def _draw(self, mask, rate, stream):
        if mask.device.type == "cpu":
            mask.bernoulli_(1 - rate, generator=stream.generator())
            return
        with OwnGenerators(stream):
            mask.copy_(F.dropout(torch.ones_like(mask), rate).mul_(1 - rate))

    def _scale(self, part, x):
        key = part.start, part.stop, x.ndim
        if key not in self.scales:
            rates = self.rates[part.start : part.stop]
            scales = [1 / (1 - rate) if rate < 1 else 0 for rate in rates]
            scale = torch.tensor(scales, dtype=x.dtype, device=x.device)
            self.scales[key] = scale.view(-1, *[1] * (x.ndim - 1))
        return self.scales[key]


def _as_one_layer(forms, *names):
    """Ask for parameters as those of one layer with the units of all nets."""
    for name in names:
        forms.views[name] = _joined
        forms.apart.add(name)


def _joined(tensor):
    return tensor.flatten(0, 1)


def _as_row(bias):
    return bias.unsqueeze(1)


def _beside(values, x, n_dims):
    """Give parameters of a row's last dimensions the dimensions of `x`."""
    return values.view(len(values), *[1] * (x.ndim - 1 - n_dims), *values.shape[1:])


def _identity(x, part, lengths):
    return x


# From the exact type of a layer to what makes its form of the layers of all nets.
FORMS = {
    nn.Linear: _linear,
    nn.Dropout: _dropout,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.Embedding: _embedding,
    nn.PReLU: _prelu,
    nn.Flatten: _flatten,
    nn.Unflatten: _unflatten,
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(_CONVS, _conv),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _batch_norm),
    **dict.fromkeys((nn.Softmax, nn.Softmin, nn.LogSoftmax), _softmax),
    **dict.fromkeys(_POOLS, _pool),
    **dict.fromkeys(_RANDOM, _random),
}
