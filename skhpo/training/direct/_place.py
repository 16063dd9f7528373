"""The arguments of a rule, and its base class."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

__all__ = ["Place", "Rule", "Unknown", "on_meta", "users_code"]


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
