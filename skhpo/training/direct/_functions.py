"""Functions and methods in a traced ``forward``, as layers or as rules of several inputs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ._rules import Place, Rule, Unknown

__all__ = ["FUNCTIONS", "OPERATIONS"]


def _dropout(p: float = 0.5, training: bool = True, inplace: bool = False) -> nn.Module:
    return nn.Dropout(p, inplace).train(training)


def _max_pool(kind: type[nn.Module]) -> Callable[..., nn.Module]:
    def layer(
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> nn.Module:
        return kind(kernel_size, stride, padding, dilation, return_indices, ceil_mode)

    return layer


def _softmax(kind: type[nn.Module]) -> Callable[..., nn.Module]:
    return lambda dim=None, _stacklevel=3, dtype=None: kind(dim if dtype is None else None)


# From functions of a tensor and settings (or names of methods) to factories of layers.
FUNCTIONS: dict[Callable[..., Any] | str, Callable[..., nn.Module]] = {
    **dict.fromkeys((F.relu, torch.relu, "relu"), nn.ReLU),
    **dict.fromkeys((F.tanh, torch.tanh, "tanh"), nn.Tanh),
    **dict.fromkeys((F.sigmoid, torch.sigmoid, "sigmoid"), nn.Sigmoid),
    F.relu6: nn.ReLU6,
    F.leaky_relu: nn.LeakyReLU,
    F.elu: nn.ELU,
    F.celu: nn.CELU,
    F.selu: nn.SELU,
    F.gelu: lambda approximate="none": nn.GELU(approximate),
    F.silu: nn.SiLU,
    F.mish: nn.Mish,
    F.softplus: nn.Softplus,
    F.softsign: nn.Softsign,
    F.logsigmoid: nn.LogSigmoid,
    F.hardtanh: nn.Hardtanh,
    F.hardswish: nn.Hardswish,
    F.dropout: _dropout,
    **dict.fromkeys((F.softmax, torch.softmax, "softmax"), _softmax(nn.Softmax)),
    **dict.fromkeys((F.log_softmax, torch.log_softmax, "log_softmax"), _softmax(nn.LogSoftmax)),
    F.max_pool1d: _max_pool(nn.MaxPool1d),
    F.max_pool2d: _max_pool(nn.MaxPool2d),
    F.avg_pool1d: nn.AvgPool1d,
    F.avg_pool2d: nn.AvgPool2d,
    F.adaptive_avg_pool1d: nn.AdaptiveAvgPool1d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
}


class Operation(Rule):
    """A function of several tensors, or of tensors and numbers.

    `shapes` are those of the tensors, `args` all arguments with None in place of tensors, and
    `settings` the keyword arguments.
    """

    def __init__(
        self,
        shapes: list[tuple[int, ...]],
        args: list[Any],
        settings: dict[str, Any],
        place: Place,
    ) -> None:
        super().__init__(None, place)
        if settings:
            raise Unknown(f"{type(self).__name__} with {', '.join(settings)}")
        self.shapes, self.args = shapes, args
        self._out: torch.Tensor | None = None

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def backward(self, gradient: torch.Tensor) -> list[torch.Tensor]:
        """Return a list of gradients that share no memory."""
        raise NotImplementedError


class _Binary(Operation):
    def __init__(
        self,
        shapes: list[tuple[int, ...]],
        args: list[Any],
        settings: dict[str, Any],
        place: Place,
    ) -> None:
        super().__init__(shapes, args, settings, place)
        if len(args) != 2 or len(set(shapes)) > 1:
            raise Unknown(f"{type(self).__name__} of shapes {shapes}")
        self.shape = shapes[0]
        self.numbers = [value for value in args if value is not None]
        if any(type(value) not in (int, float) for value in self.numbers):
            raise Unknown(f"{type(self).__name__} of {self.numbers}")

    def _both(self, tensors: Iterable[torch.Tensor]) -> list[Any]:
        """Return the arguments in their order."""
        waiting = iter(tensors)
        return [next(waiting) if value is None else value for value in self.args]


class Add(_Binary):
    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        self._out = torch.add(*sorted(self._both(tensors), key=_is_number), out=self._out)
        return self._out

    def backward(self, gradient: torch.Tensor) -> list[torch.Tensor]:
        return [gradient, *(gradient.clone() for _ in self.shapes[1:])]


class Subtract(_Binary):
    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        first, second = self._both(tensors)
        self._out = torch.rsub(second, first) if _is_number(first) else torch.sub(first, second)
        return self._out

    def backward(self, gradient: torch.Tensor) -> list[torch.Tensor]:
        if len(self.shapes) == 2:
            return [gradient, gradient.neg()]
        return [gradient if self.args[0] is None else gradient.neg_()]


class Multiply(_Binary):
    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        self._factors = sorted(self._both(tensors), key=_is_number)
        self._out = torch.mul(*self._factors, out=self._out)
        return self._out

    def backward(self, gradient: torch.Tensor) -> list[torch.Tensor]:
        first, second = self._factors
        if len(self.shapes) == 1:
            return [gradient.mul_(second)]
        return [gradient * second, gradient.mul_(first)]


class Cat(Operation):
    def __init__(
        self,
        shapes: list[tuple[int, ...]],
        args: list[Any],
        settings: dict[str, Any],
        place: Place,
    ) -> None:
        dim = settings.pop("dim", args[-1] if len(args) > len(shapes) else 0)
        super().__init__(shapes, args, settings, place)
        n_dims = len(shapes[0])
        if dim % n_dims == 0 or len(args) > len(shapes) + 1:
            raise Unknown(f"cat(dim={dim})")
        self._dim = dim % n_dims - n_dims
        self._sizes = [shape[self._dim] for shape in shapes]
        self.shape = tuple(torch.cat([torch.empty(s, device="meta") for s in shapes], dim).shape)

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        self._out = torch.cat(tensors, self._dim, out=self._out)
        return self._out

    def backward(self, gradient: torch.Tensor) -> list[torch.Tensor]:
        return [part.contiguous() for part in gradient.split(self._sizes, self._dim)]


def _is_number(value: object) -> bool:
    return not isinstance(value, torch.Tensor)


# From functions, or names of methods, to rules.
OPERATIONS: dict[Callable[..., Any] | str, type[Operation]] = {
    **dict.fromkeys((operator.add, torch.add, "add"), Add),
    **dict.fromkeys((operator.sub, torch.sub, "sub"), Subtract),
    **dict.fromkeys((operator.mul, torch.mul, "mul"), Multiply),
    **dict.fromkeys((torch.cat, torch.concat), Cat),
}
