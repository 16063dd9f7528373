"""What a rule is, and where in a program it stands; rules of activations and of dropout."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

__all__ = [
    "ACTIVATIONS",
    "Dropout",
    "FeatureDropout",
    "Identity",
    "Place",
    "Rule",
    "Unknown",
    "on_meta",
    "users_code",
]

_aten = torch.ops.aten


class Unknown(Exception):
    """There is no rule; the message gives the reason."""


@contextlib.contextmanager
def users_code(what: str) -> Iterator[None]:
    """Convert errors of code within this context that is not of this package to Unknown.

    Autograd may handle what fails here. All that is not within such a context is this package's
    own, whose errors are mistakes.
    """
    try:
        yield
    except (Unknown, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        text = str(error).partition("\n")[0]
        raise Unknown(f"{what}: {type(error).__name__}: {text}") from error


@dataclass(frozen=True)
class Place:
    """Position of a rule in a program.

    Parameters
    ----------
    shape : tuple of int
        Shape of the input of one network, batch size first.
    parameters : dict of str to (Tensor, Tensor or None)
        Values and gradients by name; None where no gradient is needed.
    buffers : dict of str to Tensor
    draw_mask : callable or None
        Fills a tensor with a dropout mask, given the tensor and the rate (or that of each network).
    n_networks : int or None, default=None
        Size of a leading dimension before that of the batch; None if there is no such dimension.
    networks : Networks or None, default=None
        For several networks: allows autograd to differentiate parts without a rule.
    path : str, default=""
        Prefix of the layer's parameters: "hidden.0.".
    needs_gradient : bool, default=False
        Whether the gradient of the input is needed.
    may_overwrite : bool, default=False
        Whether the input is not needed after this rule.
    is_integer : bool, default=False
        Whether the input has integers.
    read : set of str
        Names of parameters that rules have read, filled by `parameter`.
    graphs : dict of Module to Graph
        Of traced modules.
    rules : mapping or None, default=None
        From types of layers to rules, instead of `RULES`; and from rules of a graph to others.
    extra : object, default=None
        Further arguments for rules of other packages.
    """

    shape: tuple[int, ...]
    parameters: dict[str, tuple[torch.Tensor, torch.Tensor | None]]
    buffers: dict[str, torch.Tensor]
    draw_mask: Callable[..., object] | None
    n_networks: int | None = None
    networks: Any = None
    path: str = ""
    needs_gradient: bool = False
    may_overwrite: bool = False
    is_integer: bool = False
    read: set[str] = field(default_factory=set)
    graphs: dict[nn.Module, Any] = field(default_factory=dict)
    rules: Mapping[Any, Any] | None = None
    extra: object = None

    @classmethod
    def of(
        cls, module: nn.Module, shape: tuple[int, ...], draw_mask: Any, *, is_integer: bool
    ) -> Place:
        """Return the place of a whole module."""
        parameters = {
            name: (
                p.detach(),
                torch.empty_like(p, requires_grad=False) if p.requires_grad else None,
            )
            for name, p in module.named_parameters(remove_duplicate=False)
        }
        buffers = dict(module.named_buffers(remove_duplicate=False))
        return cls(shape, parameters, buffers, draw_mask, is_integer=is_integer)

    def at(self, **changes: Any) -> Place:
        """Return another place in the same program."""
        return dataclasses.replace(self, **changes)

    def parameter(self, name: str) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return value and gradient of a parameter of the layer; None where there is none."""
        name = self.path + name
        if name not in self.parameters:
            return None, None
        self.read.add(name)
        return self.parameters[name]

    def weight(self, name: str = "weight") -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return value and gradient of a parameter without which the layer has no rule."""
        value, gradient = self.parameter(name)
        if value is None:
            raise Unknown(f"{self.path}{name} is no parameter")
        return value, gradient

    def layers(self, layer: nn.Module) -> list[nn.Module]:
        """Return the layer of each network."""
        if self.networks is None:
            return [layer]
        found: list[nn.Module] = self.networks.layers(layer, self.path)
        return found

    @property
    def trains(self) -> bool:
        """Whether a parameter of the layer or of its children is trained."""
        return any(
            gradient is not None
            for name, (_, gradient) in self.parameters.items()
            if name.startswith(self.path)
        )


class Rule:
    """One layer of a program.

    Attributes
    ----------
    shape : tuple of int
        Shape of the output of one network.
    keeps_output : bool
        Whether `backward` needs the output, which then must not be overwritten.
    aliases : bool
        Whether the output may share the memory of the input, even if that must not be overwritten.
    """

    keeps_output = aliases = False
    # Maps a change of the input, which it may overwrite, to the change of the output to first
    # order; called between `forward` and `backward`. None if not implemented.
    tangent: Callable[..., torch.Tensor] | None = None

    def __init__(self, layer: Any, place: Place) -> None:
        self.shape = place.shape

    def forward(self, x: Any) -> Any:
        """Return the output."""
        raise NotImplementedError

    def backward(self, gradient: Any) -> Any:
        """Return the gradient of the input, given that of the output; None if not needed."""
        raise NotImplementedError


def on_meta(
    function: Callable[..., torch.Tensor], shape: tuple[int, ...], *tensors: torch.Tensor | None
) -> tuple[int, ...]:
    """Return the shape of a function's result for an input of a shape."""
    meta = [None if t is None else torch.empty(t.shape, device="meta") for t in tensors]
    return tuple(function(torch.empty(shape, device="meta"), *meta).shape)


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
        if place.is_integer:
            raise Unknown(f"{type(layer).__name__} of integers")  # torch refuses them
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
