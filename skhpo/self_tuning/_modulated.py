"""Base of the layers whose weights respond to hyperparameters.

Notation: r the response input, W_e and b_e a layer's own weight and bias ("elementary"), W_h and
b_h those added in proportion to the response, V and C the response matrices.

The weight for an example is W_e + diag(V r) W_h, its bias b_e + (C r) * b_h (MacKay et al. 2019,
section 3.2), with rows standing for outputs, or output channels.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from ._context import repeat_rows
from ._tangent import Dual

__all__ = ["Modulated", "response_rows"]

# Initial standard deviation of V and C: nearly no response at first.
RESPONSE_SCALE = 0.01


class Modulated:
    """Mixin over a layer of torch with ``weight`` and ``bias``.

    Without a context it is the layer of torch. A subclass defines ``_map(x, weight, bias)``,
    linear in the last two, and ``_channel``, the dimension of outputs. Where ``transposed`` is
    true, the columns of the weight stand for outputs.
    """

    context = None
    # From kinds of dropout to the hyperparameter that is the rate; kinds with one mask per batch.
    rates = {}
    per_batch = ()
    _channel = -1
    transposed = False

    def attach(self, context, generator=None, scale=RESPONSE_SCALE):
        """Make the weights respond to a context; return the layer.

        W_h and b_h are drawn from U(+-1/sqrt(fan_in)), V and C from N(0, scale^2); with a scale of
        0 the network initially has no response.
        """
        self.context = context
        self.rates = dict(self.rates)
        weight = self.weight
        n_out = weight.shape[1] if self.transposed else weight.shape[0]
        fan_in = n_out if self.transposed else weight[0].numel()
        bound = 1 / math.sqrt(fan_in)
        fresh = torch.empty_like(weight)
        self.hyper_weight = nn.Parameter(fresh.uniform_(-bound, bound, generator=generator))
        n_rows = self.n_rows = n_out
        if self.bias is not None:
            fresh = torch.empty_like(self.bias)
            self.hyper_bias = nn.Parameter(fresh.uniform_(-bound, bound, generator=generator))
            n_rows += n_out
        fresh = weight.new_empty(n_rows, len(context.names))
        self.response = nn.Parameter(fresh.normal_(0, scale or 1, generator=generator))
        if not scale:
            nn.init.zeros_(self.response)
        return self

    def response_parameters(self):
        """Return W_h, V and C as one matrix, and b_h if there is one."""
        parameters = [self.hyper_weight, self.response]
        return parameters if self.bias is None else [*parameters, self.hyper_bias]

    def penalised(self):
        """Return the parts with an L2 penalty."""
        return [self]

    def as_rows(self, per_row):
        """Reshape one number per row to broadcast with the weight."""
        return per_row.view(-1, *[1] * (self.weight.ndim - 1))

    def _weights(self):
        """Return W_e and W_h."""
        return self.weight, self.hyper_weight

    def folded(self, response, rows=None):
        """Return the parameters of the equivalent plain layer, by name, at one response input.

        That has the shape (1, n_hyperparameters); `rows` are its `response_rows`, if they are
        known.
        """
        scales, bias = (rows or response_rows([self], response))[self]
        factors = scales if self.transposed else self.as_rows(scales)
        parameters = {"weight": torch.addcmul(self.weight, factors, self.hyper_weight)}
        if bias is not None:
            parameters["bias"] = bias[0]
        return parameters

    def current_rows(self):
        """Return this layer's `response_rows` for the current batch."""
        context = self.context
        if self in context.rows:
            return context.rows[self]
        return response_rows([self], context.response, centred=context.tangent)[self]

    def forward(self, x):
        """Map a batch; the first dimension is that of the examples."""
        context = self.context
        if context is None:
            return self._map(x, self.weight, self.bias)
        if context.response is None:
            return self._map(x, self._weights()[0], self.bias)
        scales, bias = self.current_rows()
        if x.ndim > 2 or scales.shape[0] != x.shape[0]:
            scales = self._as_output(repeat_rows(scales, x.shape[0]), x.ndim)
            if bias is not None:
                bias = self._as_output(repeat_rows(bias, x.shape[0]), x.ndim)
        weight, hyper_weight = self._weights()
        if context.tangent:
            return self._linearised(x, weight, scales * self._map_value(x, hyper_weight), bias)
        return self._map_and_add(x, weight, bias) + scales * self._map(x, hyper_weight, None)

    def _map_and_add(self, x, weight, bias):
        """Apply the map, and add a bias of the output's shape, or one row for all examples."""
        y = self._map(x, weight, None)
        return y if bias is None else y + bias

    def _map_value(self, x, weight):
        return self._map(x.value if isinstance(x, Dual) else x, weight, None)

    def _linearised(self, x, weight, change, bias):
        """Map a value with the layer's own weights, and its tangent along the response."""
        value, tangent = (x.value, x.tangent) if isinstance(x, Dual) else (x, None)
        with torch.no_grad():
            y = self._map(value, weight, self.bias)
        if tangent is not None:
            change = change + self._map_and_add(tangent, weight.detach(), bias)
        elif bias is not None:
            change = change + bias
        return Dual(y, change)

    def _as_output(self, rows, n_dims):
        if n_dims == 2:
            return rows
        n_spatial = n_dims - 2
        if self._channel == 1:
            return rows.view(*rows.shape, *[1] * n_spatial)
        return rows.view(rows.shape[0], *[1] * n_spatial, rows.shape[1])


def response_rows(layers, response, *, centred=False):
    """Compute scales and biases per example, for all layers in one matrix product.

    Returns, by layer, V r and, where there is a bias, b_e + (C r) * b_h, of shape (n, n_out); b_e
    is left out where `centred`.
    """
    sizes, factors, offsets = [], [], []
    for layer in layers:
        one = layer.response.new_ones(layer.n_rows)
        sizes.append(layer.n_rows)
        factors.append(one)
        offsets.append(torch.zeros_like(one))
        if layer.bias is not None:
            sizes.append(layer.n_rows)
            factors.append(layer.hyper_bias)
            offsets.append(layer.bias)
    matrix = torch.cat([layer.response for layer in layers]) * torch.cat(factors).unsqueeze(1)
    offset = None if centred else torch.cat(offsets)
    parts = iter(F.linear(response, matrix, offset).split(sizes, 1))
    return {layer: (next(parts), None if layer.bias is None else next(parts)) for layer in layers}
