"""Rules of layers that respond, and of dropout with a rate per example.

Notation as in `_modulated`; s = V r and b are the rows of a batch (`ResponseRows`), which rules
find in ``place.extra``.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from ..training.direct import LOSSES, OPERATIONS, RULES, Reshape, Rule, Unknown
from .layers import HyperConv1d, HyperConv2d, HyperDropout, HyperLinear, HyperLockedDropout

__all__ = ["OWN_RULES", "RESPONSE_RULES", "TANGENT_RULES", "SmoothedCrossEntropy"]

_PLAIN = {HyperLinear: nn.Linear, HyperConv1d: nn.Conv1d, HyperConv2d: nn.Conv2d}


def _plain_layer(layer, n_out):
    """Return a layer of torch with the settings of `layer`, `n_out` outputs and no bias."""
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, n_out, bias=False, device="meta")
    names = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    settings = {name: getattr(layer, name) for name in names}
    kind = _PLAIN[type(layer)]
    return kind(layer.in_channels, n_out, bias=False, device="meta", **settings)


def _plain_rule(layer, place):
    """Return the rule of a layer without its response."""
    plain = _plain_layer(layer, len(layer.weight))
    return RULES[type(plain)](plain, place)


def _product_rule(layer, place, weight, gradient, n_out=None):
    """Return the rule of x -> W x."""
    plain = _plain_layer(layer, layer.n_rows if n_out is None else n_out)
    parameters = {f"{place.path}weight": (weight, gradient)}
    return RULES[type(plain)](plain, place.at(parameters=parameters))


class _ResponseRule(Rule):
    """Base of the rules of layers that respond: rows in the shape of the output."""

    def __init__(self, layer, place):
        names = ("weight", "hyper_weight", "response", "bias", "hyper_bias")
        self._parameters = {name: place.parameter(name) for name in names}
        self._rows = place.extra.of(layer)
        self._channel = layer._channel
        self._out = None

    def _set_shape(self, shape):
        """Prepare for an output of a shape."""
        self.shape = shape
        self._inner = [i for i in range(1, len(shape)) if i != self._channel % len(shape)]
        scales, bias, self._of_scales, self._of_bias = self._rows
        self._scales = self._as_output(scales)
        self._bias = None if bias is None else self._as_output(bias)

    def _as_output(self, rows):
        for i in self._inner:
            rows = rows.unsqueeze(i)
        return rows

    def _respond(self, added, changed):
        """Return ``added + s changed + b``."""
        self._changed = changed
        self._out = torch.addcmul(added, self._scales, changed, out=self._out)
        return self._out if self._bias is None else self._out.add_(self._bias)

    def _write_row_gradients(self, gradient):
        """Write the gradients of the rows."""
        if not self._inner:
            torch.mul(gradient, self._changed, out=self._of_scales)
            if self._bias is not None:
                self._of_bias.copy_(gradient)
            return
        torch.sum(gradient * self._changed, self._inner, out=self._of_scales)
        if self._bias is not None:
            torch.sum(gradient, self._inner, out=self._of_bias)


class Responding(_ResponseRule):
    """``y = W_e x + s (W_h x) + b``, as one product with both weights concatenated."""

    def __init__(self, layer, place):
        super().__init__(layer, place)
        if getattr(layer, "groups", 1) > 1:
            raise Unknown("a convolution of several groups that responds")
        response, n = place.extra.response, layer.n_rows
        self._learns = self._parameters["weight"][1] is not None
        gradient = response.pair_gradients[layer] if self._learns else None
        self._rule = _product_rule(layer, place, response.pairs[layer], gradient, 2 * n)
        self._needs_gradient = place.needs_gradient
        self._both = self._of_both = None
        self._n = n
        shape = list(self._rule.shape)
        shape[self._channel] = n
        self._set_shape(tuple(shape))

    def _halves(self, both):
        n = self._n
        return both.narrow(self._channel, 0, n), both.narrow(self._channel, n, n)

    def forward(self, x):
        both = self._rule.forward(x)
        if both is not self._both:
            self._both, self._parts = both, self._halves(both)
        return self._respond(*self._parts)

    def backward(self, gradient):
        self._write_row_gradients(gradient)
        if not (self._learns or self._needs_gradient):
            return None
        if self._of_both is None:
            self._of_both = torch.empty_like(self._both)
            self._of_parts = self._halves(self._of_both)
        self._of_parts[0].copy_(gradient)
        torch.mul(gradient, self._scales, out=self._of_parts[1])
        return self._rule.backward(self._of_both)


class TangentResponding(_ResponseRule):
    """Value ``W_e x + b_e`` and tangent ``W_e t + s (W_h x) + b``, as a pair.

    The input of the first layer that responds is a value alone. Only the tangent has a gradient.
    """

    def __init__(self, layer, place):
        super().__init__(layer, place)
        weight, bias = self._parameters["weight"][0], self._parameters["bias"][0]
        hyper_weight, gradient = self._parameters["hyper_weight"]
        own = _plain_layer(layer, layer.n_rows)
        parameters = {f"{place.path}weight": (weight, None), f"{place.path}bias": (bias, None)}
        values = place.at(needs_gradient=False)
        self._of_value = RULES[type(own)](own, values.at(parameters=parameters))
        self._change = _product_rule(layer, values, hyper_weight, gradient)
        self._of_tangent = (
            _product_rule(layer, place, weight, None) if place.needs_gradient else None
        )
        self._learns = gradient is not None
        self._set_shape(self._of_value.shape)

    def forward(self, x):
        value, tangent = x if isinstance(x, tuple) else (x, None)
        y, changed = self._of_value.forward(value), self._change.forward(value)
        if tangent is not None:
            return y, self._respond(self._of_tangent.forward(tangent), changed)
        self._changed = changed
        self._out = torch.mul(self._scales, changed, out=self._out)
        return y, self._out if self._bias is None else self._out.add_(self._bias)

    def backward(self, gradient):
        self._write_row_gradients(gradient)
        if self._learns:
            self._change.backward(gradient * self._scales)
        return None if self._of_tangent is None else self._of_tangent.backward(gradient)


class _Linearised(Rule):
    """A rule of values that also propagates tangents."""

    def __init__(self, kind, layer, place):
        self._rule = rule = kind(layer, place)
        if rule.tangent is None:
            raise Unknown(f"{type(layer).__name__} has no rule for tangents")
        self.shape, self.keeps_output, self.aliases = rule.shape, rule.keeps_output, rule.aliases
        self._may_overwrite = place.may_overwrite

    def forward(self, x):
        if not isinstance(x, tuple):
            return self._rule.forward(x)
        value, tangent = x
        value = self._rule.forward(value)
        return value, self._rule.tangent(tangent if self._may_overwrite else tangent.clone())

    def backward(self, gradient):
        return self._rule.backward(gradient)


class TangentBatchNorm(Rule):
    """Batch normalization of pairs; statistics are constants, updated by unperturbed passes."""

    def __init__(self, layer, place):
        super().__init__(layer, place)
        self._by_batch = layer.training or layer.running_mean is None
        self._eps = layer.eps
        self._axes = [0, *range(2, len(place.shape))]
        self._wide = (1, -1, *[1] * (len(place.shape) - 2))
        self._weight, self._bias = (place.parameter(name)[0] for name in ("weight", "bias"))
        names = ("running_mean", "running_var", "num_batches_tracked")
        *self._statistics, counter = (place.buffers.get(place.path + name) for name in names)
        self._counter = counter if layer.training else None

    def forward(self, x):
        if self._counter is not None:
            self._counter.add_(1)  # as torch's layer does in any pass
        value, tangent = x if isinstance(x, tuple) else (x, None)
        mean, var = self._statistics
        if self._by_batch:
            var, mean = torch.var_mean(value, self._axes, correction=0)
        factor = torch.rsqrt(var + self._eps)
        if self._weight is not None:
            factor.mul_(self._weight)
        self._factor = factor.view(self._wide)
        value = (value - mean.view(self._wide)).mul_(self._factor)
        if self._bias is not None:
            value.add_(self._bias.view(self._wide))
        return value if tangent is None else (value, tangent * self._factor)

    def backward(self, gradient):
        return gradient.mul_(self._factor)


class PerExampleDropout(Rule):
    """Dropout with the rates in the context of the layer; the same draws as `drop`."""

    def __init__(self, layer, place):
        super().__init__(layer, place)
        shape, n_inner = list(place.shape), len(place.shape) - 2
        if layer.shared == "channel":
            shape[2:] = [1] * n_inner
        elif layer.shared == "time":
            shape[1] = 1
        if n_inner < 0 or place.n_networks is not None:
            raise Unknown(f"HyperDropout of an input of shape {place.shape}")
        self._context, self._name, self._rate = layer.context, layer.name, layer.p
        like = next(iter(place.parameters.values()))[0]
        self._mask = like.new_empty(shape)
        self._spread = (-1, *[1] * (len(shape) - 1))
        self._overwrites = place.may_overwrite
        self._out = None

    def forward(self, x):
        context, mask = self._context, self._mask
        mask.uniform_(generator=context.generator)
        if self._name is None:
            mask.lt_(1 - self._rate).div_(1 - self._rate)
        else:
            keep = 1 - context.values[self._name].view(self._spread)
            mask.lt_(keep).div_(keep)
        if self._overwrites:
            return x.mul_(mask)
        self._out = torch.mul(x, mask, out=self._out)
        return self._out

    def tangent(self, change):
        return change.mul_(self._mask)

    def backward(self, gradient):
        return gradient.mul_(self._mask)


def _dropout(layer, place):
    context = layer.context
    is_off = context is None or not context.regularises or (layer.name is None and not layer.p)
    return (RULES[nn.Identity] if is_off else PerExampleDropout)(layer, place)


class SmoothedCrossEntropy(LOSSES[nn.CrossEntropyLoss]):
    """Cross-entropy with label smoothing per row; `strength` has the shape (n or 1, 1)."""

    strength = None

    def __init__(self, criterion, *others, **settings):
        super().__init__(criterion, *others, **settings)
        if self._is_smoothed:
            raise Unknown("the criterion smooths labels that are smoothed already")
        self._is_smoothed = True

    def _targets(self, y, scale):
        targets = torch.zeros_like(self._logs).scatter_(-2, y, self._ones)
        uniform = targets.new_full((), 1 / self._n_classes)
        targets.lerp_(uniform, self.strength.t())
        # As in torch for targets that are probabilities: no division by the class weights.
        return targets if self._weight is None else targets.mul_(self._weight.unsqueeze(-1))


_DROPOUTS = dict.fromkeys((HyperDropout, HyperLockedDropout), _dropout)
# Layers without their response.
OWN_RULES = {**RULES, **dict.fromkeys(_PLAIN, _plain_rule), **_DROPOUTS}
RESPONSE_RULES = {**OWN_RULES, **dict.fromkeys(_PLAIN, Responding)}


def _refuse(*args):
    raise Unknown("an operation of several tensors has no rule for tangents")


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
TANGENT_RULES = {
    **{kind: partial(_Linearised, rule) for kind, rule in {**RULES, Reshape: Reshape}.items()},
    **dict.fromkeys(OPERATIONS.values(), _refuse),
    **dict.fromkeys(_NORMS, TangentBatchNorm),
    **dict.fromkeys(_PLAIN, TangentResponding),
    **dict.fromkeys((HyperDropout, HyperLockedDropout), partial(_Linearised, _dropout)),
}
