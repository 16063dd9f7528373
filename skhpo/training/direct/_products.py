"""Rules of linear layers, convolutions and embeddings."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..sparse import SparseBatch
from ._blas import Product, product_of
from ._rules import Place, Rule, Unknown, on_meta

__all__ = ["Convolution", "Embedding", "Linear", "SparseLinear"]

_aten = torch.ops.aten
_CONVOLUTIONS = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}
# The call of a small product of one network takes longer than torch's, which adds a bias, too.
_LEAST_OPERATIONS = {"plain": 2**19, "with a bias": 2**20}


class Linear(Rule):
    """``y = x W' + b``, for x of shape (n, ..., in)."""

    def __init__(self, layer: Any, place: Place) -> None:
        if place.is_integer or place.shape[-1] != layer.in_features or len(place.shape) < 2:
            raise Unknown(f"Linear of an input of shape {place.shape}")
        self.shape = *place.shape[:-1], layer.out_features
        self._needs_gradient = place.needs_gradient
        self._weight, self._weight_gradient = place.weight()
        self._bias, self._bias_gradient = place.parameter("bias")
        self._transposed = self._weight.mT
        # Weights of several networks may be a view of memory in the order (n_networks, in, out).
        gradient = self._weight_gradient
        self._kept_transposed = None
        if gradient is not None and gradient.stride(-1) != 1:
            self._kept_transposed = gradient.mT
        leading: tuple[int, ...] = () if place.n_networks is None else (place.n_networks,)
        many = bool(leading)
        n_rows = math.prod(place.shape[:-1])
        self._outputs = _product(self._weight, n_rows, biased=self._bias is not None)
        self._of_weight, self._of_x = (_product(self._weight, n_rows) for _ in range(2))
        # Of weights in their own order the outputs are computed as (n_networks, out, n).
        self._goes_across = many and layer.out_features > 1 and self._weight.stride(-1) == 1
        if many and self._bias is not None:
            self._bias = self._bias.unsqueeze(-1 if self._goes_across else 1)
        # Further dimensions are flattened to rows of a matrix.
        self._flat: tuple[int, ...] | None = None
        if len(place.shape) > 2:
            self._flat = *leading, math.prod(place.shape[:-1])
            self._full: tuple[int, ...] = *leading, *self.shape[:-1]
        # A product with ones takes half the time of a sum.
        self._ones = None if many else self._weight.new_ones(n_rows)
        self._out: Any = None
        self._x_gradient: Any = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._flat is not None:
            x = x.reshape(*self._flat, x.shape[-1])
        self._x = x
        if self._bias is None or self._outputs is not torch.mm:
            factors = (self._weight, x.mT) if self._goes_across else (x, self._transposed)
            self._out = self._outputs(*factors, out=self._out)
            if self._bias is not None:
                # Takes half the time of `baddbmm`, which copies the bias to all rows first.
                self._out.add_(self._bias)
        else:
            self._out = torch.addmm(self._bias, x, self._transposed, out=self._out)
        out: torch.Tensor = self._out.mT if self._goes_across else self._out
        return out if self._flat is None else out.reshape(*self._full, -1)

    def backward(self, gradient: torch.Tensor) -> torch.Tensor | None:
        if self._flat is not None:
            gradient = gradient.reshape(*self._flat, gradient.shape[-1])
        if self._kept_transposed is not None:
            self._of_weight(self._x.mT, gradient, out=self._kept_transposed)
        elif self._weight_gradient is not None:
            self._of_weight(gradient.mT, self._x, out=self._weight_gradient)
        if self._bias_gradient is not None:
            if self._ones is None:
                torch.sum(gradient, 1, out=self._bias_gradient)
            else:
                torch.mv(gradient.mT, self._ones, out=self._bias_gradient)
        if not self._needs_gradient:
            return None
        self._x_gradient = self._of_x(gradient, self._weight, out=self._x_gradient)
        of_x: torch.Tensor = self._x_gradient
        return of_x if self._flat is None else of_x.view(*self._full, -1)


def _product(weight: torch.Tensor, n_rows: int, *, biased: bool = False) -> Product:
    """Return what multiplies a batch of `n_rows` and a weight, or gradients of either.

    `biased` says whether ``torch.addmm`` would take the place of ``torch.mm``.
    """
    least = _LEAST_OPERATIONS["with a bias" if biased else "plain"]
    is_small = weight.ndim == 2 and 2 * n_rows * weight.numel() < least
    return torch.mm if is_small else product_of(weight)


class SparseLinear(Linear):
    """A linear layer that computes with the nonzero values of a `SparseBatch`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if type(x) is not SparseBatch:
            return super().forward(x)
        self._x = x
        out = x.times(self._weight)
        return out if self._bias is None else out.add_(self._bias)

    def backward(self, gradient: torch.Tensor) -> torch.Tensor | None:
        if type(self._x) is not SparseBatch:
            return super().backward(gradient)
        if self._weight_gradient is not None:
            self._x.gradient_times(gradient, out=self._weight_gradient)
        if self._bias_gradient is not None:
            torch.sum(gradient, 0, out=self._bias_gradient)
        return None  # a batch needs no gradient


class MergedChannels(Rule):
    """A layer that computes several networks as one with the channels of all of them."""

    def __init__(self, layer: Any, place: Place) -> None:
        super().__init__(layer, place)
        self._n_networks = place.n_networks

    def _join(self, x: torch.Tensor) -> torch.Tensor:
        # From (n_networks, n, channels, ...) to (n, n_networks * channels, ...).
        return x if self._n_networks is None else x.transpose(0, 1).flatten(1, 2)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        if self._n_networks is None:
            return x
        split: torch.Tensor = x.unflatten(1, (self._n_networks, -1)).transpose(0, 1)
        return split

    def _joined(self, place: Place, name: str) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return a parameter and its gradient in the shape for one layer."""
        value, gradient = place.parameter(name)
        if self._n_networks is None or value is None:
            return value, gradient
        # `view` raises where a copy, whose gradient would be lost, would be needed.
        joined = [t if t is None else t.view(-1, *t.shape[2:]) for t in (value, gradient)]
        return joined[0], joined[1]


class Convolution(MergedChannels):
    def __init__(self, layer: Any, place: Place) -> None:
        super().__init__(layer, place)
        n_dims = len(layer.kernel_size)
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise Unknown(f"padding={layer.padding!r} in mode {layer.padding_mode!r}")
        if len(place.shape) != n_dims + 2 or place.is_integer:
            raise Unknown(f"{type(layer).__name__} of an input of shape {place.shape}")
        function = _CONVOLUTIONS[type(layer)]
        settings = layer.stride, layer.padding, layer.dilation
        own = *settings, layer.groups
        self.shape = on_meta(lambda x, w: function(x, w, None, *own), place.shape, layer.weight)
        n_groups = layer.groups * (place.n_networks or 1)
        self._weight: Any
        self._weight, self._weight_gradient = self._joined(place, "weight")
        self._bias, self._bias_gradient = self._joined(place, "bias")
        self._settings: Any = *settings, False, [0] * n_dims, n_groups
        self._mask = [
            place.needs_gradient,
            self._weight_gradient is not None,
            self._bias_gradient is not None,
        ]
        self._sizes = None if self._bias is None else list(self._bias.shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self._join(x)
        self._x: Any = x
        return self._split(torch.convolution(x, self._weight, self._bias, *self._settings))

    def backward(self, gradient: torch.Tensor) -> torch.Tensor | None:
        of_x, of_weight, of_bias = _aten.convolution_backward.default(
            self._join(gradient), self._x, self._weight, self._sizes, *self._settings, self._mask
        )
        self._x = None
        if self._weight_gradient is not None:
            self._weight_gradient.copy_(of_weight)
        if self._bias_gradient is not None:
            self._bias_gradient.copy_(of_bias)
        return None if of_x is None else self._split(of_x)


class Embedding(Rule):
    def __init__(self, layer: Any, place: Place) -> None:
        if layer.max_norm is not None or layer.scale_grad_by_freq or layer.sparse:
            raise Unknown("an Embedding that changes its weights, or their gradients")
        if not place.is_integer:
            raise Unknown("Embedding of an input that is not of integers")
        self.shape = *place.shape, layer.embedding_dim
        self._weight, self._weight_gradient = place.weight()
        self._padding = -1 if layer.padding_idx is None else layer.padding_idx
        self._n_rows = layer.num_embeddings
        self._firsts: torch.Tensor | None = None
        if place.n_networks is not None:
            # One table of all networks; each has its first row.
            firsts = torch.arange(place.n_networks, device=self._weight.device) * self._n_rows
            self._firsts = firsts.view(-1, *[1] * len(place.shape))
            self._weight = self._weight.view(-1, layer.embedding_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._firsts is not None:
            in_range = ((x >= 0) & (x < self._n_rows)).all()
            torch._assert_async(in_range, "index out of range")
            self._is_padding = None if self._padding < 0 else (x == self._padding).unsqueeze(-1)
            x = x + self._firsts
        self._x = x
        return torch.embedding(self._weight, x)

    def backward(self, gradient: torch.Tensor) -> torch.Tensor | None:
        if self._weight_gradient is None:
            return None
        padding = self._padding
        if self._firsts is not None:
            if self._is_padding is not None:
                gradient = gradient.masked_fill(self._is_padding, 0)
            padding = -1
        of_weight = _aten.embedding_dense_backward.default(
            gradient, self._x, len(self._weight), padding, False
        )
        self._weight_gradient.copy_(of_weight.view_as(self._weight_gradient))
        return None
