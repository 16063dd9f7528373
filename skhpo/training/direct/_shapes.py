"""Rules of layers that change the shape: pooling, and views."""

from __future__ import annotations

import numbers
from typing import Any

import torch
from torch import nn

from ._rules import Place, Rule, Unknown, on_meta

__all__ = ["POOLS", "Flatten", "Reshape", "Unflatten"]

_aten = torch.ops.aten
# With at least so many channels, torch's pooling on a CPU is faster in channels-last order,
# including the copies: two to six times for 8 to 64 channels.
_CHANNELS = 4


class View(Rule):
    """The same values in another shape. Subclasses set `shape`."""

    aliases = True

    def __init__(self, layer: Any, place: Place) -> None:
        super().__init__(layer, place)
        self.keeps_output = not place.may_overwrite
        self._leading = () if place.n_networks is None else (place.n_networks,)
        self._before = *self._leading, *place.shape

    def forward(self, x: Any) -> Any:
        return x.reshape(*self._leading, *self.shape)

    tangent = forward

    def backward(self, gradient: torch.Tensor) -> Any:
        return gradient.reshape(self._before)


class Flatten(View):
    def __init__(self, layer: Any, place: Place) -> None:
        super().__init__(layer, place)
        n_dims = len(place.shape)
        start, end = layer.start_dim % n_dims, layer.end_dim % n_dims
        if start < 1 or end < start:
            raise Unknown(f"Flatten({layer.start_dim}, {layer.end_dim})")
        self.shape = on_meta(lambda x: x.flatten(start, end), place.shape)


class Unflatten(View):
    def __init__(self, layer: Any, place: Place) -> None:
        super().__init__(layer, place)
        if not isinstance(layer.dim, int) or layer.dim % len(place.shape) == 0:
            raise Unknown(f"Unflatten({layer.dim!r})")
        self.shape = on_meta(lambda x: x.unflatten(layer.dim, layer.unflattened_size), place.shape)


class Reshape(View):
    """Any view that keeps the rows of the batch."""

    def __init__(self, shape: tuple[int, ...], place: Place) -> None:
        super().__init__(None, place)
        self.shape = shape
        if shape[:1] != place.shape[:1]:
            raise Unknown(f"a view of {place.shape} as {shape}")


class Pool(Rule):
    """A pooling of the last two dimensions; one dimension is pooled as an image of one line.

    Subclasses have ``_pool(x)`` and ``_spread(gradient, out)``.
    """

    def __init__(self, layer: Any, place: Place) -> None:
        super().__init__(layer, place)
        self._n_dims = int(type(layer).__name__[-2])
        if len(place.shape) != self._n_dims + 2 or place.is_integer:
            raise Unknown(f"{type(layer).__name__} of an input of shape {place.shape}")
        if getattr(layer, "return_indices", False):
            raise Unknown("pooling that returns indices")
        self.shape = on_meta(layer, place.shape)
        self._many = place.n_networks is not None

    def _pool(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _spread(self, gradient: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, x: Any) -> Any:
        self._before = x.shape
        x = self._as_image(x.flatten(0, 1) if self._many else x)
        self._x = x = x.contiguous()
        return self._as_it_was(self._pool(x))

    def backward(self, gradient: torch.Tensor) -> Any:
        gradient = self._as_image(gradient.flatten(0, 1) if self._many else gradient)
        found = self._spread(gradient.contiguous(), torch.empty_like(self._x))
        self._x = self._indices = None
        return found.view(self._before)

    def tangent(self, change: torch.Tensor) -> Any:
        image = self._as_image(change.flatten(0, 1) if self._many else change)
        return self._as_it_was(self._linear(image.contiguous()))

    def _linear(self, x: Any) -> Any:
        """Pool a tangent with the choices of the last forward pass; averages just pool."""
        return self._pool(x)

    def _as_image(self, x: torch.Tensor) -> Any:
        return x.unsqueeze(-2) if self._n_dims == 1 else x

    def _as_it_was(self, out: torch.Tensor) -> Any:
        out = out.squeeze(-2) if self._n_dims == 1 else out
        return out.unflatten(0, self._before[:2]) if self._many else out

    def _pair(self, value: Any, other: Any) -> Any:
        """Return a setting for both dimensions."""
        is_one = isinstance(value, numbers.Integral)  # also of NumPy
        if self._n_dims == 1:
            return [other, value if is_one else value[0]]
        return [value, value] if is_one else list(value)


class MaxPool(Pool):
    def __init__(self, layer: Any, place: Place) -> None:
        super().__init__(layer, place)
        self._settings = (
            self._pair(layer.kernel_size, 1),
            self._pair(layer.stride, 1),
            self._pair(layer.padding, 0),
            self._pair(layer.dilation, 1),
            layer.ceil_mode,
        )

    def _pool(self, x: torch.Tensor) -> Any:
        if x.device.type == "cpu" and x.shape[1] >= _CHANNELS:
            x = x.contiguous(memory_format=torch.channels_last)
        out, indices = _aten.max_pool2d_with_indices.default(x, *self._settings)
        self._indices = indices.contiguous()
        return out.contiguous()

    def _linear(self, x: Any) -> Any:
        return _taken(x, self._indices)

    def _spread(self, gradient: torch.Tensor, out: torch.Tensor) -> Any:
        return _aten.max_pool2d_with_indices_backward.grad_input(
            gradient, self._x, *self._settings, self._indices, grad_input=out
        )


class AvgPool(Pool):
    def __init__(self, layer: Any, place: Place) -> None:
        super().__init__(layer, place)
        self._settings = (
            self._pair(layer.kernel_size, 1),
            self._pair(layer.stride, 1),
            self._pair(layer.padding, 0),
            layer.ceil_mode,
            layer.count_include_pad,
            getattr(layer, "divisor_override", None),
        )

    def _pool(self, x: torch.Tensor) -> Any:
        return torch._C._nn.avg_pool2d(x, *self._settings)

    def _spread(self, gradient: torch.Tensor, out: torch.Tensor) -> Any:
        return _aten.avg_pool2d_backward.grad_input(
            gradient, self._x, *self._settings, grad_input=out
        )


class AdaptiveAvgPool(Pool):
    def _pool(self, x: torch.Tensor) -> Any:
        return _aten._adaptive_avg_pool2d.default(x, _image_size(self.shape, self._n_dims))

    def _spread(self, gradient: torch.Tensor, out: torch.Tensor) -> Any:
        return _aten._adaptive_avg_pool2d_backward.default(gradient, self._x)


class AdaptiveMaxPool(Pool):
    def _pool(self, x: torch.Tensor) -> Any:
        size = _image_size(self.shape, self._n_dims)
        out, self._indices = _aten.adaptive_max_pool2d.default(x, size)
        return out

    def _linear(self, x: Any) -> Any:
        return _taken(x, self._indices)

    def _spread(self, gradient: torch.Tensor, out: torch.Tensor) -> Any:
        return _aten.adaptive_max_pool2d_backward.grad_input(
            gradient, self._x, self._indices, grad_input=out
        )


def _taken(x: torch.Tensor, indices: Any) -> Any:
    return x.flatten(-2).gather(-1, indices.flatten(-2)).view(indices.shape)


def _image_size(shape: tuple[int, ...], n_dims: int) -> Any:
    return [1, shape[-1]] if n_dims == 1 else list(shape[-2:])


POOLS = {
    nn.MaxPool1d: MaxPool,
    nn.MaxPool2d: MaxPool,
    nn.AvgPool1d: AvgPool,
    nn.AvgPool2d: AvgPool,
    nn.AdaptiveAvgPool1d: AdaptiveAvgPool,
    nn.AdaptiveAvgPool2d: AdaptiveAvgPool,
    nn.AdaptiveMaxPool1d: AdaptiveMaxPool,
    nn.AdaptiveMaxPool2d: AdaptiveMaxPool,
}
