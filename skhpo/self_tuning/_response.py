"""The response of all layers of a network to a batch, without autograd.

Notation as in `_modulated`; K hyperparameters, n examples of a batch. R is the total number of
rows of V and (for layers with a bias) C of all layers, one layer after the other.
"""

from __future__ import annotations

import torch

from ..training.direct import Unknown
from .layers import HyperConv1d, HyperConv2d, HyperLinear

__all__ = ["Response", "ResponseRows"]


class Response:
    """The response parameters of a network, concatenated into a few tensors.

    Where `centred`, b_e is left out of the rows.

    Attributes
    ----------
    gradients : dict of Parameter to Tensor
        Of W_e, W_h, V and C, b_h and b_e; written by `ResponseRows.backward` and by rules.
    pairs, pair_gradients : dict of layer to Tensor of shape (2 n_out, ...)
        W_e and W_h concatenated.
    slices : dict of layer to (slice, slice or None)
        Its rows of V and of C.
    """

    def __init__(self, layers, centred):
        if any(type(layer) not in (HyperLinear, HyperConv1d, HyperConv2d) for layer in layers):
            raise Unknown("a layer that responds has no rule")
        self.centred = centred
        like = layers[0].response.detach()
        self.n_rows = n_rows = sum(len(layer.response) for layer in layers)
        self._responses = [layer.response.detach() for layer in layers]
        self._stacked, self.matrix, self._of_matrix, self._product, of_stacked = (
            like.new_empty(n_rows, like.shape[1]) for _ in range(5)
        )
        self._offsets, of_factors, self._of_offsets = (like.new_zeros(n_rows) for _ in range(3))
        self._factors = like.new_ones(n_rows)
        self._of_stacked, self._of_factors = of_stacked, of_factors
        self.gradients, self.pairs, self.pair_gradients, self.slices = {}, {}, {}, {}
        copied, start = [], 0
        for layer in layers:
            n, end = layer.n_rows, start + len(layer.response)
            biases = None if layer.bias is None else slice(start + n, end)
            self.slices[layer] = slice(start, start + n), biases
            weight = layer.weight.detach()
            self.pairs[layer], pair = (weight.new_empty(2 * n, *weight.shape[1:]) for _ in "ab")
            self.pair_gradients[layer] = pair
            self.gradients |= {layer.weight: pair[:n], layer.hyper_weight: pair[n:]}
            self.gradients[layer.response] = of_stacked[start:end]
            if biases is not None:
                self.gradients[layer.hyper_bias] = of_factors[biases]
                self.gradients[layer.bias] = self._of_offsets[biases]
                copied.append((self._factors[biases], layer.hyper_bias.detach()))
                copied.append((self._offsets[biases], layer.bias.detach()))
            start = end
        self._copies = list(map(list, zip(*copied, strict=True)))

    def update(self):
        """Copy the parameters into the concatenated tensors."""
        if self._copies:
            torch._foreach_copy_(*self._copies)
        torch.cat(self._responses, out=self._stacked)
        torch.mul(self._stacked, self._factors.unsqueeze(1), out=self.matrix)
        if not self.centred:
            for layer, pair in self.pairs.items():
                torch.cat((layer.weight.detach(), layer.hyper_weight.detach()), out=pair)

    def rows(self, inputs, out):
        """Compute V r and the biases, for response inputs of shape (n, K)."""
        if self.centred:
            return torch.mm(inputs, self.matrix.t(), out=out)
        return torch.addmm(self._offsets, inputs, self.matrix.t(), out=out)

    def backward(self, gradient, inputs, ones):
        """Write the gradients of V and C, b_h and b_e, given that of the rows."""
        across = gradient.t()
        torch.mm(across, inputs, out=self._of_matrix)
        torch.mul(self._of_matrix, self._factors.unsqueeze(1), out=self._of_stacked)
        torch.mul(self._of_matrix, self._stacked, out=self._product)
        torch.sum(self._product, 1, out=self._of_factors)
        if not self.centred:
            torch.mv(across, ones, out=self._of_offsets)


class ResponseRows:
    """Scales and biases of all layers for batches of one size, and their gradient.

    Both `values` and `gradient` have the shape (n, R).
    """

    def __init__(self, response, n):
        self.response = response
        self.values, self.gradient = (
            response.matrix.new_empty(n, response.n_rows) for _ in range(2)
        )
        self._ones = response.matrix.new_ones(n)

    def of(self, layer):
        """Return a layer's V r and biases, then the gradients of both, of shape (n, n_out)."""
        scales, biases = self.response.slices[layer]
        both = self.values, self.gradient
        pairs = [(t[:, scales], None if biases is None else t[:, biases]) for t in both]
        return pairs[0] + pairs[1]

    def forward(self, inputs):
        """Compute the rows for response inputs of shape (n, K)."""
        self.response.update()
        self.response.rows(inputs, self.values)

    def backward(self, inputs):
        """Write the gradients of the parameters."""
        self.response.backward(self.gradient, inputs, self._ones)

    def of_inputs(self):
        """Return the gradient of the response inputs."""
        return torch.mm(self.gradient, self.response.matrix)
