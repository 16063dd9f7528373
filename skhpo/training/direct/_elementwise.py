"""Rules of activations and of dropout, and its masks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ._place import Place, Rule, Unknown

__all__ = ["ACTIVATIONS", "Dropout", "FeatureDropout", "Identity", "Masks"]

_aten = torch.ops.aten
_AT_ONCE = 2**15  # numbers of 64 bits
_MOST_RATES = 64


class Identity(Rule):
    """Returns its input."""

    aliases = True

    def __init__(self, layer: Any, place: Place) -> None:
        super().__init__(layer, place)
        self.keeps_output = not place.may_overwrite

    def forward(self, x: Any) -> Any:
        return x

    def tangent(self, change: torch.Tensor) -> Any:
        return change

    def backward(self, gradient: torch.Tensor) -> Any:
        return gradient


class Activation(Rule):
    """An elementwise function.

    Subclasses have ``_value(x, out)`` and ``_slope(gradient, kept)``, which overwrites the gradient
    of the output with that of the input. `kept` is the input, or with `of_output` the output.
    """

    of_output = False
    _out: Any = None

    def _value(self, x: torch.Tensor, out: torch.Tensor) -> Any:
        raise NotImplementedError

    def _slope(self, gradient: torch.Tensor, kept: torch.Tensor) -> Any:
        raise NotImplementedError

    def __init__(self, layer: Any, place: Place) -> None:
        super().__init__(layer, place)
        if place.is_integer:  # whose output has another type
            raise Unknown(f"{type(layer).__name__} of an input that is of integers")
        self.layer = layer
        self.keeps_output = self.of_output
        self._overwrites = self.of_output and place.may_overwrite
        self._out = None

    def forward(self, x: Any) -> Any:
        if self._overwrites:
            self._kept = self._value(x, x)
            return x
        if self._out is None:
            self._out = torch.empty_like(x)
        out = self._value(x, self._out)
        self._kept = out if self.of_output else x
        return out

    def tangent(self, change: torch.Tensor) -> Any:
        return self._slope(change, self._kept)

    def backward(self, gradient: torch.Tensor) -> Any:
        kept = self._kept
        if self._overwrites:
            self._kept = None
        return self._slope(gradient, kept)


class ReLU(Activation):
    of_output = True
    _threshold = _aten.threshold_backward.grad_input

    def _value(self, x: torch.Tensor, out: torch.Tensor) -> Any:
        return torch.relu_(x) if out is x else torch.clamp_min(x, 0, out=out)

    def _slope(self, gradient: torch.Tensor, y: torch.Tensor) -> Any:
        return self._threshold(gradient, y, 0, grad_input=gradient)


class Kernel(Activation):
    """A function of torch with kernels for itself and its derivative, of the same settings."""

    def __init__(self, layer: Any, place: Place) -> None:
        name, settings, *others = _KERNELS[type(layer)]
        self.of_output = name in ("tanh", "sigmoid")
        super().__init__(layer, place)
        # Torch's own functions take less time to call.
        self._forward = getattr(torch, name, None) or getattr(_aten, name).out
        self._backward = getattr(_aten, name + "_backward").grad_input
        self._settings = [getattr(layer, setting) for setting in settings]
        self._of_backward = [*self._settings, *others]

    def _value(self, x: torch.Tensor, out: torch.Tensor) -> Any:
        return self._forward(x, *self._settings, out=out)

    def _slope(self, gradient: torch.Tensor, kept: torch.Tensor) -> Any:
        return self._backward(gradient, kept, *self._of_backward, grad_input=gradient)


# From a layer to the kernel's name, its settings, and further arguments of the derivative.
_KERNELS: dict[Any, Any] = {
    nn.Hardsigmoid: ("hardsigmoid", ()),
    nn.Hardtanh: ("hardtanh", ("min_val", "max_val")),
    nn.LeakyReLU: ("leaky_relu", ("negative_slope",), False),
    nn.ReLU6: ("hardtanh", ("min_val", "max_val")),
    nn.Sigmoid: ("sigmoid", ()),
    nn.SiLU: ("silu", ()),
    nn.Softplus: ("softplus", ("beta", "threshold")),
    nn.Softshrink: ("softshrink", ("lambd",)),
    nn.Tanh: ("tanh", ()),
}


class GELU(Activation):
    def _value(self, x: torch.Tensor, out: torch.Tensor) -> Any:
        return _aten.gelu.out(x, approximate=self.layer.approximate, out=out)

    def _slope(self, gradient: torch.Tensor, x: torch.Tensor) -> Any:
        return _aten.gelu_backward.grad_input(
            gradient, x, approximate=self.layer.approximate, grad_input=gradient
        )


class ELU(Activation):
    """Also CELU and SELU, the same function with other constants."""

    def __init__(self, layer: Any, place: Place) -> None:
        super().__init__(layer, place)
        # alpha, scale and input_scale of torch's kernels
        if isinstance(layer, nn.SELU):
            self._constants = 1.6732632423543772, 1.0507009873554805, 1.0
        elif isinstance(layer, nn.CELU):
            self._constants = layer.alpha, 1.0, 1 / layer.alpha
        else:
            self._constants = layer.alpha, 1.0, 1.0

    def _value(self, x: torch.Tensor, out: torch.Tensor) -> Any:
        return _aten.elu.out(x, *self._constants, out=out)

    def _slope(self, gradient: torch.Tensor, x: torch.Tensor) -> Any:
        return _aten.elu_backward.grad_input(
            gradient, *self._constants, False, x, grad_input=gradient
        )


class Mish(Activation):
    def _value(self, x: torch.Tensor, out: torch.Tensor) -> Any:
        return _aten.mish.out(x, out=out)

    def _slope(self, gradient: torch.Tensor, x: torch.Tensor) -> Any:
        return _aten.mish_backward.default(gradient, x)


class LogSigmoid(Activation):
    def _value(self, x: torch.Tensor, out: torch.Tensor) -> Any:
        return torch.nn.functional.logsigmoid(x)

    def _slope(self, gradient: torch.Tensor, x: torch.Tensor) -> Any:
        # The derivative is 1 - sigmoid(x) = sigmoid(-x).
        return gradient.mul_(torch.neg(x).sigmoid_())


class Softsign(Activation):
    def _value(self, x: torch.Tensor, out: torch.Tensor) -> Any:
        return torch.div(x, x.abs().add_(1), out=out)

    def _slope(self, gradient: torch.Tensor, x: torch.Tensor) -> Any:
        return gradient.div_(x.abs().add_(1).square_())


class Hardswish(Activation):
    def _value(self, x: torch.Tensor, out: torch.Tensor) -> Any:
        return _aten.hardswish.out(x, out=out)

    def _slope(self, gradient: torch.Tensor, x: torch.Tensor) -> Any:
        return _aten.hardswish_backward.default(gradient, x)


class Tanhshrink(Activation):
    def _value(self, x: torch.Tensor, out: torch.Tensor) -> Any:
        return torch.sub(x, x.tanh(), out=out)

    def _slope(self, gradient: torch.Tensor, x: torch.Tensor) -> Any:
        # The derivative is tanh(x) ** 2.
        return gradient.mul_(x.tanh().square_())


class PReLU(Rule):
    """PReLU with a slope for each channel, or one for all."""

    def __init__(self, layer: Any, place: Place) -> None:
        super().__init__(layer, place)
        n, shape = layer.num_parameters, place.shape
        if n > 1 and shape[1:2] != (n,):
            raise Unknown(f"PReLU({n}) of an input of shape {shape}")
        leading = () if place.n_networks is None else (place.n_networks,)
        view = (*leading, *(1, n)[: len(shape)], *[1] * (len(shape) - 2))
        weight, gradient = place.parameter("weight")
        assert weight is not None
        self._weight = weight.view(view)
        self._weight_gradient = gradient if gradient is None else gradient.view(view)
        self._others = [i for i, size in enumerate(view) if size == 1 and i >= len(leading)]

    def forward(self, x: Any) -> Any:
        self._x = x
        return _aten._prelu_kernel(x, self._weight)

    def backward(self, gradient: torch.Tensor) -> Any:
        of_x, of_weight = _aten._prelu_kernel_backward(gradient, self._x, self._weight)
        if self._weight_gradient is not None:
            self._weight_gradient.copy_(of_weight.sum(self._others, keepdim=True))
        return of_x


class Softmax(Rule):
    """Softmax and LogSoftmax."""

    keeps_output = True

    def __init__(self, layer: Any, place: Place) -> None:
        super().__init__(layer, place)
        n_dims = len(place.shape)
        if layer.dim is None or layer.dim % n_dims == 0 or place.is_integer:
            raise Unknown(f"{type(layer).__name__}(dim={layer.dim})")
        self.dim = layer.dim % n_dims - n_dims
        logs = isinstance(layer, nn.LogSoftmax)
        self._function = torch.log_softmax if logs else torch.softmax
        name = "_log_softmax_backward_data" if logs else "_softmax_backward_data"
        self._slope = getattr(torch, name)
        self._out: Any = None

    def forward(self, x: Any) -> Any:
        self._out = self._function(x, self.dim, out=self._out)
        return self._out

    def backward(self, gradient: torch.Tensor) -> Any:
        return self._slope(gradient, self._out, self.dim, gradient.dtype)


class Dropout(Rule):
    """Dropout with the masks that the layer would draw."""

    def __init__(self, layer: Any, place: Place) -> None:
        super().__init__(layer, place)
        # Each of several networks has its rate, which may be 0 or 1.
        rates = [one.p for one in place.layers(layer)]
        # That of a single one may change between two steps.
        self._layer, self._rates = layer, None if place.networks is None else rates
        if place.draw_mask is None or (place.networks is None and not 0 < layer.p < 1):
            raise Unknown(f"{type(layer).__name__}(p={layer.p})")
        self._draw = place.draw_mask
        self._overwrites = place.may_overwrite
        self._many = place.n_networks is not None
        self._mask: Any = None
        self._out: Any = None

    def forward(self, x: Any) -> Any:
        if self._mask is None:
            self._mask = self._empty_mask(x)
        self._draw(self._mask, self._layer.p if self._rates is None else self._rates)
        if self._overwrites:
            return x.mul_(self._mask)
        self._out = torch.mul(x, self._mask, out=self._out)
        return self._out

    def tangent(self, change: torch.Tensor) -> Any:
        return change.mul_(self._mask)

    def backward(self, gradient: torch.Tensor) -> Any:
        return gradient.mul_(self._mask)

    def _empty_mask(self, x: torch.Tensor) -> Any:
        # Among several networks draws are in the order of rows, whatever the memory layout.
        return x.new_empty(x.shape) if self._many else torch.empty_like(x)


class FeatureDropout(Dropout):
    """Dropout of channels."""

    def __init__(self, layer: Any, place: Place) -> None:
        super().__init__(layer, place)
        if len(place.shape) != int(type(layer).__name__[-2]) + 2:
            raise Unknown(f"{type(layer).__name__} of an input of shape {place.shape}")
        self._n_leading = 2 + self._many

    def _empty_mask(self, x: torch.Tensor) -> Any:
        return x.new_empty(*x.shape[: self._n_leading], *[1] * (x.ndim - self._n_leading))


ACTIVATIONS = {
    **dict.fromkeys(_KERNELS, Kernel),
    **dict.fromkeys((nn.ELU, nn.CELU, nn.SELU), ELU),
    **dict.fromkeys((nn.Softmax, nn.LogSoftmax), Softmax),
    nn.GELU: GELU,
    nn.Hardswish: Hardswish,
    nn.LogSigmoid: LogSigmoid,
    nn.Mish: Mish,
    nn.PReLU: PReLU,
    nn.ReLU: ReLU,
    nn.Softsign: Softsign,
    nn.Tanhshrink: Tanhshrink,
}


class Masks:
    """Draws dropout masks, bit for bit those of `torch.nn.functional.dropout` on a CPU.

    `generator` is a function that returns the generator.
    """

    def __init__(self, generator: Callable[[], torch.Generator] | None = None) -> None:
        self._generator = generator
        self._uniform: dict[int, torch.Tensor] = {}
        self._rows: dict[int, tuple[torch.Tensor, list[torch.Tensor]]] = {}
        # By rates, of which there are many where they are tuned: see `_remember`.
        self._scales: dict[float, torch.Tensor] = {}
        self._factors: dict[tuple[float, ...], tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, mask: torch.Tensor, rate: float) -> None:
        """Fill a mask with draws from the generator."""
        assert self._generator is not None
        self.fill(mask, rate, self._generator())

    def fill(self, mask: torch.Tensor, rate: float, generator: torch.Generator) -> None:
        """Fill a mask; a value is zero with probability `rate`, between 0 and 1."""
        if mask.is_contiguous() and _draws_uniform_numbers():
            n = mask.numel()
            if n not in self._uniform:
                self._uniform[n] = mask.new_empty(n, dtype=torch.float64)
            numbers = self._uniform[n].uniform_(generator=generator)
            torch.lt(numbers.view(mask.shape), 1 - rate, out=mask)
        else:
            mask.bernoulli_(1 - rate, generator=generator)
        mask.mul_(self._scale(mask, rate))

    def fill_each(
        self,
        mask: torch.Tensor,
        rates: Sequence[float],
        lengths: Sequence[int],
        generators: Sequence[torch.Generator],
    ) -> None:
        """Fill a mask (n_networks, n, ...) of networks that have rates and generators of their own.

        Only the first rows of each are drawn; the others are any finite numbers.
        """
        if not (mask.is_contiguous() and _draws_uniform_numbers()):
            for own, rate, length, generator in zip(
                mask.unbind(0), rates, lengths, generators, strict=True
            ):
                own[length:].fill_(0)
                if 0 < rate < 1:
                    self.fill(own[:length], rate, generator)
                else:
                    own[:length].fill_(1 - rate)
            return
        n_networks, n = mask.shape[:2]
        flat = mask.view(n_networks, -1)
        size = flat.shape[1]
        if size not in self._rows:
            # Some networks at a time, as many as the processor's cache has room for.
            drawn = mask.new_zeros(max(1, _AT_ONCE // size), size, dtype=torch.float64)
            self._rows[size] = drawn, list(drawn.unbind(0))
        drawn, rows = self._rows[size]
        key = tuple(rates)
        if key not in self._factors:
            kept = torch.tensor([1 - rate for rate in rates], dtype=torch.float64).unsqueeze(1)
            scales = [self._scale(mask, rate if rate < 1 else 0.0) for rate in rates]
            _remember(self._factors, key, (kept, torch.stack(scales).unsqueeze(1)))
        kept, scale = self._factors[key]
        for start in range(0, n_networks, len(rows)):
            some = slice(start, start + len(rows))
            for row, rate, length, generator in zip(
                rows, rates[some], lengths[some], generators[some], strict=False
            ):
                if not 0 < rate < 1:
                    row.zero_()
                elif length == n:
                    row.uniform_(generator=generator)
                else:
                    row[: size // n * length].uniform_(generator=generator)
            part = flat[some]
            torch.lt(drawn[: len(part)], kept[some], out=part).mul_(scale[some])

    def _scale(self, mask: torch.Tensor, rate: float) -> torch.Tensor:
        if rate not in self._scales:
            _remember(self._scales, rate, torch.ones_like(mask.view(-1)[0]).div_(1 - rate))
        return self._scales[rate]


def _remember(found: dict[Any, Any], key: Any, value: Any) -> None:
    """Add to what is kept for the last few keys."""
    if len(found) >= _MOST_RATES:
        del found[next(iter(found))]
    found[key] = value


@functools.cache
def _draws_uniform_numbers() -> bool:
    """Whether ``bernoulli_`` equals a comparison of doubles, which takes half the time."""
    ours, theirs = (torch.Generator().manual_seed(0) for _ in range(2))
    wanted = torch.empty(1000).bernoulli_(0.3, generator=theirs)
    found = torch.empty(1000, dtype=torch.float64).uniform_(generator=ours) < 0.3
    same_state = torch.equal(ours.get_state(), theirs.get_state())
    return same_state and torch.equal(found, wanted.bool())
