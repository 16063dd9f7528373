"""What all layers have in common whose weights respond to hyperparameters.

Notation: r the response input, W_e and b_e a layer's own weight and bias ("elementary"), W_h and
b_h the ones that are added in proportion to the response, V and C the response matrices.

The weight for an example is W_e + diag(V r) W_h, its bias b_e + (C r) * b_h (MacKay et al. 2019,
section 3.2), with rows standing for outputs, or output channels.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from ._context import spread
from ._tangent import Dual

__all__ = ["Modulated", "set_response"]

RESPONSE_SCALE = 0.01


class Modulated:
    """Mixin over a layer of torch with ``weight`` and ``bias``.

    As long as no context is attached it is the layer of torch. A subclass defines
    ``_map(x, weight, bias)``, linear in the last two, and ``_channel``, the dimension of outputs.
    Where ``transposed`` is true, the columns of the weight stand for outputs.
    """

    context = None
    # From what a layer can drop to the hyperparameter that is its rate; and what it drops for a
    # whole batch.
    rates = {}
    per_batch = ()
    _channel = -1
    transposed = False

    def attach(self, context, generator=None, scale=RESPONSE_SCALE):
        """Make the weights respond.

        Parameters
        ----------
        context : Context
        generator : torch.Generator or None, default=None
            Draws W_h and b_h from U(+-1/sqrt(fan_in)), and V and C from N(0, scale^2).
        scale : float, default=0.01
            With 0 the network is at first what it would be without a response.

        Returns
        -------
        self : layer
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
        """Return W_h, V and C in one, and b_h if there is one."""
        parameters = [self.hyper_weight, self.response]
        return parameters if self.bias is None else [*parameters, self.hyper_bias]

    def penalised(self):
        """Return the parts that an L2 penalty has a term for."""
        return [self]

    def as_rows(self, per_row):
        """Give one number per row the shape that broadcasts with the weight."""
        return per_row.view(-1, *[1] * (self.weight.ndim - 1))

    def _weights(self):
        """Return W_e and W_h as they are used."""
        return self.weight, self.hyper_weight

    def row_scales(self, response):
        """Return V r, and C r or None.

        Parameters
        ----------
        response : Tensor of shape (n, n_hyperparameters)

        Returns
        -------
        of_weight, of_bias : Tensor of shape (n, n_out)
        """
        scales = F.linear(response, self.response)
        return (scales, None) if self.bias is None else scales.chunk(2, 1)

    def current_row_scales(self):
        """Return the row scales for the current batch."""
        known = self.context.row_scales.get(self)
        return self.row_scales(self.context.response) if known is None else known

    def folded(self, response):
        """Return the parameters of a plain layer that does the same at one response input.

        Parameters
        ----------
        response : Tensor of shape (1, n_hyperparameters)

        Returns
        -------
        parameters : dict of str to Tensor
        """
        of_weight, of_bias = self.row_scales(response)
        rows = of_weight if self.transposed else self.as_rows(of_weight)
        parameters = {"weight": torch.addcmul(self.weight, rows, self.hyper_weight)}
        if self.bias is not None:
            parameters["bias"] = torch.addcmul(self.bias, of_bias[0], self.hyper_bias)
        return parameters

    def forward(self, x):
        """Map a batch whose first dimension is that of the examples."""
        context = self.context
        if context is None:
            return self._map(x, self.weight, self.bias)
        if context.response is None:
            return self._map(x, self._weights()[0], self.bias)
        of_weight, of_bias = self.current_row_scales()
        bias = self.hyper_bias if of_bias is not None else None
        if x.ndim > 2 or of_weight.shape[0] != x.shape[0]:
            of_weight = self._as_output(spread(of_weight, x.shape[0]), x.ndim)
            if of_bias is not None:
                of_bias = self._as_output(spread(of_bias, x.shape[0]), x.ndim)
                bias = self._as_output(bias[None], x.ndim)
        if context.tangent:
            return self._linearised(x, of_weight, of_bias, bias)
        weight, hyper_weight = self._weights()
        y = self._map(x, weight, self.bias)
        y = torch.addcmul(y, of_weight, self._map(x, hyper_weight, None))
        return y if of_bias is None else torch.addcmul(y, of_bias, bias)

    def _linearised(self, x, of_weight, of_bias, bias):
        """Carry a value on with the layer's own weights, and its tangent in their response."""
        value, tangent = (x.value, x.tangent) if isinstance(x, Dual) else (x, None)
        weight, hyper_weight = self._weights()
        with torch.no_grad():
            y = self._map(value, weight, self.bias)
        dy = of_weight * self._map(value, hyper_weight, None)
        if of_bias is not None:
            dy = torch.addcmul(dy, of_bias, bias)
        if tangent is not None:
            dy = dy + self._map(tangent, weight.detach(), None)
        return Dual(y, dy)

    def _as_output(self, rows, n_dims):
        if n_dims == 2:
            return rows
        n_spatial = n_dims - 2
        if self._channel == 1:
            return rows.view(*rows.shape, *[1] * n_spatial)
        return rows.view(rows.shape[0], *[1] * n_spatial, rows.shape[1])


def set_response(context, response, layers):
    """Set the response input of the current batch, and the row scales of all layers at once.

    Parameters
    ----------
    context : Context
    response : Tensor of shape (n, n_hyperparameters)
    layers : list of Modulated
        Those that have `row_scales`.
    """
    context.response = response
    sizes = [layer.n_rows for layer in layers for _ in range(1 + (layer.bias is not None))]
    matrix = torch.cat([layer.response for layer in layers])
    parts = iter(F.linear(response, matrix).split(sizes, 1))
    context.row_scales = {
        layer: (next(parts), None if layer.bias is None else next(parts)) for layer in layers
    }
