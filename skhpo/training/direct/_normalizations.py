"""Rules of normalization layers, and of tables, of which they normalize the numbers."""

from __future__ import annotations

import math
from typing import Any

import torch

from ._products import Embedding, MergedChannels
from ._rules import Place, Rule, Unknown

__all__ = ["BatchNorm", "GroupNorm", "LayerNorm", "Table"]

_aten = torch.ops.aten


class BatchNorm(MergedChannels):
    def __init__(self, layer: Any, place: Place) -> None:
        super().__init__(layer, place)
        name, shape = type(layer).__name__, place.shape
        n_dims = int(name[-2])
        if len(shape) != n_dims + 2 and not (n_dims == 1 and len(shape) == 2):
            raise Unknown(f"{name} of an input of shape {shape}")
        if shape[1] != layer.num_features:
            raise Unknown(f"{name} of {shape[1]} channels")
        tracks = layer.running_mean is not None
        self._by_batch = layer.training or not tracks
        if self._by_batch and math.prod(shape) == shape[1]:
            raise Unknown("batch normalization of a single row")
        if self._by_batch and tracks and layer.momentum is None:
            raise Unknown("a cumulative average of batch normalization")
        self._counter = place.buffers.get(place.path + "num_batches_tracked")
        if not layer.training:
            self._counter = None
        if self._counter is not None:
            self._one = torch.ones_like(self._counter)
        buffers = (place.buffers.get(place.path + name) for name in ("running_mean", "running_var"))
        self._mean, self._variance = (b if b is None else b.view(-1) for b in buffers)
        self._weight, self._weight_gradient = self._joined(place, "weight")
        self._bias, self._bias_gradient = self._joined(place, "bias")
        self._momentum, self._eps = layer.momentum or 0.0, layer.eps
        self._mask = [
            place.needs_gradient,
            self._weight_gradient is not None,
            self._bias_gradient is not None,
        ]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._counter is not None:
            self._counter.add_(self._one)
        x = self._join(x)
        self._x: Any = x
        out, *self._statistics = torch.native_batch_norm(
            x,
            self._weight,
            self._bias,
            self._mean,
            self._variance,
            self._by_batch,
            self._momentum,
            self._eps,
        )
        return self._split(out)

    def backward(self, gradient: torch.Tensor) -> torch.Tensor | None:
        of_x, of_weight, of_bias = _aten.native_batch_norm_backward.default(
            self._join(gradient),
            self._x,
            self._weight,
            self._mean,
            self._variance,
            *self._statistics,
            self._by_batch,
            self._eps,
            self._mask,
        )
        self._x = None
        if self._weight_gradient is not None:
            self._weight_gradient.copy_(of_weight)
        if self._bias_gradient is not None:
            self._bias_gradient.copy_(of_bias)
        return self._split(of_x) if self._mask[0] else None


class _Scaled(Rule):
    """A normalization with weight and bias.

    For several networks these are applied separately, as torch's kernels accept those of one.
    """

    # Number of dimensions of the output that follow those of the parameters.
    _before = 0

    def __init__(self, layer: Any, place: Place) -> None:
        super().__init__(layer, place)
        self._weight, self._weight_gradient = place.parameter("weight")
        self._bias, self._bias_gradient = place.parameter("bias")
        self._many = place.n_networks is not None
        self._needs_gradient = place.needs_gradient
        self._normed_weight = None if self._many else self._weight
        self._normed_bias = None if self._many else self._bias
        self._mask = [
            place.needs_gradient,
            not self._many and self._weight_gradient is not None,
            not self._many and self._bias_gradient is not None,
        ]

    def _spread(self, values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Reshape parameters of shape (n_networks, ...) to broadcast with ``x``."""
        n_between = x.ndim - values.ndim - self._before
        return values.view(len(values), *[1] * n_between, *values.shape[1:], *[1] * self._before)

    def _scale(self, normed: torch.Tensor) -> torch.Tensor:
        self._normed: Any = normed
        out = normed
        if self._many and self._weight is not None:
            out = out * self._spread(self._weight, out)
        if self._many and self._bias is not None:
            out = out + self._spread(self._bias, out)
        return out

    def _unscale(self, gradient: torch.Tensor) -> torch.Tensor:
        """Write the gradients of several networks' parameters; return that of the normed values."""
        if not self._many or self._weight is None:
            return gradient
        weight = self._spread(self._weight, gradient)
        others = [i for i in range(1, gradient.ndim) if weight.shape[i] == 1 != gradient.shape[i]]
        if self._weight_gradient is not None:
            product = gradient * self._normed
            self._weight_gradient.copy_(_sum(product, others).view_as(self._weight))
        if self._bias_gradient is not None:
            self._bias_gradient.copy_(_sum(gradient, others).view_as(self._bias_gradient))
        return gradient * weight

    def _leave(self, of_weight: torch.Tensor, of_bias: torch.Tensor) -> None:
        if not self._many and self._weight_gradient is not None:
            self._weight_gradient.copy_(of_weight)
        if not self._many and self._bias_gradient is not None:
            self._bias_gradient.copy_(of_bias)


def _sum(x: torch.Tensor, dims: list[int]) -> torch.Tensor:
    return x.sum(dims, keepdim=True) if dims else x


class LayerNorm(_Scaled):
    def __init__(self, layer: Any, place: Place) -> None:
        super().__init__(layer, place)
        self._sizes = list(layer.normalized_shape)
        if list(place.shape[1:][-len(self._sizes) :]) != self._sizes:
            raise Unknown(f"LayerNorm of an input of shape {place.shape}")
        self._eps = layer.eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self._x: Any = x
        out, *self._statistics = torch.native_layer_norm(
            x, self._sizes, self._normed_weight, self._normed_bias, self._eps
        )
        return self._scale(out)

    def backward(self, gradient: torch.Tensor) -> torch.Tensor | None:
        of_x, *others = _aten.native_layer_norm_backward.default(
            self._unscale(gradient),
            self._x,
            self._sizes,
            *self._statistics,
            self._normed_weight,
            self._normed_bias,
            self._mask,
        )
        self._x = self._normed = None
        self._leave(*others)
        return of_x if self._needs_gradient else None


class GroupNorm(_Scaled):
    def __init__(self, layer: Any, place: Place) -> None:
        super().__init__(layer, place)
        if len(place.shape) < 2 or place.shape[1] != layer.num_channels:
            raise Unknown(f"GroupNorm of an input of shape {place.shape}")
        self._before = len(place.shape) - 2
        n_rows = place.shape[0] * (place.n_networks or 1)
        self._sizes = n_rows, place.shape[1], math.prod(place.shape[2:]), layer.num_groups
        self._eps = layer.eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self._x: Any = x.contiguous()
        rows = self._x.flatten(0, 1) if self._many else self._x
        out, *self._statistics = torch.native_group_norm(
            rows, self._normed_weight, self._normed_bias, *self._sizes, self._eps
        )
        return self._scale(out.view(x.shape))

    def backward(self, gradient: torch.Tensor) -> torch.Tensor | None:
        of_x, *others = _aten.native_group_norm_backward.default(
            self._unscale(gradient).contiguous(),
            self._x,
            *self._statistics,
            self._normed_weight,
            *self._sizes,
            self._mask,
        )
        shape = self._x.shape
        self._x = self._normed = None
        self._leave(*others)
        return of_x.view(shape) if self._needs_gradient else None


class Table(Rule):
    """Embeddings of the first columns, then the normalized other ones."""

    def __init__(self, layer: Any, place: Place) -> None:
        if place.needs_gradient or place.is_integer or len(place.shape) != 2:
            raise Unknown("a table of something else than rows of the data")
        n_rows, n_all = place.shape
        self._n_columns, n_numbers = layer.n_columns, n_all - layer.n_columns
        self._embedding = self._norm = None
        self._out: torch.Tensor | None = None
        if self._n_columns:
            self._offsets = layer.offsets
            of_codes = place.at(
                path=f"{place.path}embedding.", shape=(n_rows, self._n_columns), is_integer=True
            )
            self._embedding = Embedding(layer.embedding, of_codes)
        if n_numbers:
            self._norm = BatchNorm(
                layer.norm, place.at(path=f"{place.path}norm.", shape=(n_rows, n_numbers))
            )
        self.shape = n_rows, layer.out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = []
        if self._embedding is not None:
            codes = x[..., : self._n_columns].long()
            codes += self._offsets * (codes > 0)
            parts.append(self._embedding.forward(codes).flatten(-2))
        if self._norm is not None:
            parts.append(self._norm.forward(x[..., self._n_columns :]))
        self._out = torch.cat(parts, -1, out=self._out)
        return self._out

    def backward(self, gradient: torch.Tensor) -> torch.Tensor | None:
        if self._embedding is not None:
            width = self._embedding.shape[-1]
            of_codes = gradient[..., : self._n_columns * width]
            self._embedding.backward(of_codes.unflatten(-1, (-1, width)).contiguous())
        return None
