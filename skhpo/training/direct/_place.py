"""What a rule gets to know when it is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

__all__ = ["Place", "Rule", "Unknown"]


class Unknown(Exception):
    """There is no rule; the message says for what."""


@dataclass(frozen=True)
class Place:
    """Where in a program a rule stands.

    Parameters
    ----------
    shape : tuple of int
        Shape of the input for one network, the size of the batch first.
    parameters : dict of str to (Tensor, Tensor or None)
        Values and gradients by name; no gradient where it is not wanted.
    buffers : dict of str to Tensor
    draw_mask : callable or None
        Fills a tensor with a dropout mask, given the tensor and the rate, or that of each network.
    n_networks : int or None, default=None
        Size of a dimension before that of the batch; None where there is no such dimension.
    networks : Networks or None, default=None
        Allows what has no rule to be differentiated by autograd; only where there are many.
    path : str, default=""
        Prefix of the layer's parameters: "hidden.0.".
    needs_gradient : bool, default=False
        Whether the gradient of the input is asked for.
    may_overwrite : bool, default=False
        Whether nobody needs the input after this rule.
    is_integer : bool, default=False
        Whether the input are integers.
    read : set of str
        Names of the parameters that rules have asked for, filled by `parameter`.
    graphs : dict of Module to Graph
        Of the modules that were traced.
    rules : mapping or None, default=None
        From kinds of layers to their rules, in place of `RULES`; and from rules that a graph makes
        without a layer to others.
    extra : object, default=None
        What rules of other packages get to know besides.
    """

    shape: tuple
    parameters: dict
    buffers: dict
    draw_mask: Callable | None
    n_networks: int | None = None
    networks: Any = None
    path: str = ""
    needs_gradient: bool = False
    may_overwrite: bool = False
    is_integer: bool = False
    read: set = field(default_factory=set)
    graphs: dict = field(default_factory=dict)
    rules: Mapping | None = None
    extra: object = None

    @classmethod
    def of(cls, module, shape, draw_mask, *, is_integer):
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

    def at(self, **changes):
        """Return another place in the same program."""
        return dataclasses.replace(self, **changes)

    def parameter(self, name):
        """Return the value and the gradient of a parameter of the layer; None where it has none."""
        name = self.path + name
        if name not in self.parameters:
            return None, None
        self.read.add(name)
        return self.parameters[name]

    def layers(self, layer):
        """Return the layer of each network."""
        return [layer] if self.networks is None else self.networks.layers(layer, self.path)

    @property
    def trains(self):
        """Whether a parameter of the layer, or of a layer in it, is trained."""
        return any(
            gradient is not None
            for name, (_, gradient) in self.parameters.items()
            if name.startswith(self.path)
        )


class Rule:
    """One layer of a program.

    Parameters
    ----------
    layer : torch.nn.Module
    place : Place

    Attributes
    ----------
    shape : tuple of int
        Shape of the output for one network.
    keeps_output : bool
        Whether `backward` needs the output, which then must not be overwritten.
    aliases : bool
        Whether the output may be the memory of the input, also where nothing may be overwritten.
    """

    keeps_output = aliases = False
    # From a change of the input to that of the output, to first order, between `forward` and
    # `backward`; may write into it. None: not known.
    tangent = None

    def __init__(self, layer, place):
        self.shape = place.shape

    def forward(self, x):
        """Return the output."""
        raise NotImplementedError

    def backward(self, gradient):
        """Return the gradient of the input, given that of the output; None if not asked for."""
        raise NotImplementedError


def on_meta(function, shape, *tensors):
    """Return the shape of what a function makes of an input of a shape."""
    meta = [None if t is None else torch.empty(t.shape, device="meta") for t in tensors]
    return tuple(function(torch.empty(shape, device="meta"), *meta).shape)
