"""Rules by autograd, for parts of several networks that have no rule."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..randomness import Masks, OwnGenerators, Stream, may_draw
from ._rules import Place, Rule, Unknown, users_code

__all__ = ["ByAutograd", "Networks", "Part", "make_local_rule"]


@dataclass(eq=False)
class Networks:
    """Networks in lockstep, whose parts without a rule autograd may differentiate.

    Parameters
    ----------
    modules : list of torch.nn.Module
    streams : list of Stream
        Random numbers of each network; empty if nothing may draw.
    rules : dict of type to callable, default={}
        See `skhpo.lockstep.register_layer`.
    precision : str or None, default=None
        The device type, if it computes in bfloat16.

    Attributes
    ----------
    parts : list of str
        Names of the parts that autograd differentiates, filled as rules are made.
    lengths : list of int or None
        Number of valid rows of each network in the current batch; None means all.
    """

    modules: list[nn.Module]
    streams: list[Stream]
    rules: dict[type, Any] = field(default_factory=dict)
    precision: str | None = None
    parts: list[str] = field(default_factory=list)
    lengths: list[int] | None = None
    _masks: Masks = field(default_factory=Masks)
    _generators: list[torch.Generator] | None = None

    def layers(self, layer: nn.Module, path: str) -> list[nn.Module]:
        """Return the layer of each network; if it represents a function, the same for all."""
        try:
            return [module.get_submodule(path.removesuffix(".")) for module in self.modules]
        except AttributeError:
            return [layer] * len(self.modules)

    def draw(self, mask: torch.Tensor, rates: Iterable[float]) -> None:
        """Fill a mask (n_networks, n, ...) with each network's own draws, at these rates."""
        lengths = self.lengths or [mask.shape[1]] * len(mask)
        if not mask.is_cuda:
            if self._generators is None:
                self._generators = [stream.generator() for stream in self.streams]
            self._masks.fill_each(mask, tuple(rates), lengths, self._generators)
            return
        for own, rate, length, stream in zip(
            mask.unbind(0), rates, lengths, self.streams, strict=True
        ):
            own[length:].fill_(0)  # unused rows; any finite number does
            if not 0 < rate < 1:
                own[:length].fill_(1 - rate)
            else:
                with OwnGenerators(stream):
                    own[:length].copy_(F.dropout(torch.ones_like(own[:length]), rate))

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which autograd computes."""
        if self.precision is None:
            return contextlib.nullcontext()
        return torch.autocast(self.precision, torch.bfloat16)


@dataclass(frozen=True)
class Part:
    """Parameters and buffers of all networks by name, of shape (n_networks, ...)."""

    values: dict[str, torch.Tensor]
    buffers: dict[str, torch.Tensor]


class ByAutograd(Rule):
    """A function of tensors of several networks that autograd differentiates.

    Parameters
    ----------
    function : callable
        From a `Part` and tensors of shape (n_networks, ...) to one tensor.
    shapes : list of tuple of int
        Of the tensors, for one network.
    place : Place
        The function has the parameters and buffers below its path.
    learns : list of bool
        Whether the gradients of the tensors are needed.
    own : bool, default=True
        Whether the function has parameters and buffers.
    """

    keeps_output = aliases = True

    def __init__(
        self,
        function: Callable[..., Any],
        shapes: list[tuple[int, ...]],
        place: Place,
        learns: list[bool],
        own: bool = True,
    ) -> None:
        self._function, self._learns, self._networks = function, learns, place.networks
        names = [k for k in place.parameters if own and k.startswith(place.path)]
        pairs = {name: place.weight(name.removeprefix(place.path)) for name in names}
        self._gradients = {name: g for name, (_, g) in pairs.items() if g is not None}
        values = {name: value for name, (value, _) in pairs.items()}
        buffers = {k: b for k, b in place.buffers.items() if own and k.startswith(place.path)}
        self._part = Part(values, buffers)
        self._wants_graph = any(learns) or bool(self._gradients)
        dtype = torch.int64 if place.is_integer else None
        like = next(iter(place.parameters.values()))[0]
        inputs = [
            like.new_zeros((len(self._networks.modules), *shape), dtype=dtype) for shape in shapes
        ]
        with (
            torch.no_grad(),
            self._networks.autocast(),
            _restored(self._networks.streams, like.device),
        ):
            part = Part(values, {name: buffer.clone() for name, buffer in buffers.items()})
            output = function(part, *inputs)
        if not isinstance(output, torch.Tensor):
            raise Unknown("forward returns more than one tensor")
        self.shape = tuple(output.shape[1:])

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        if not self._wants_graph:
            with self._networks.autocast():
                output: torch.Tensor = self._function(self._part, *tensors)
            return output
        pairs = zip(tensors, self._learns, strict=True)
        inputs = [t.detach().requires_grad_(learns) for t, learns in pairs]
        self._leaves: Any = [t for t in inputs if t.requires_grad]
        values = {
            name: value.detach().requires_grad_(name in self._gradients)
            for name, value in self._part.values.items()
        }
        self._leaves += [values[name] for name in self._gradients]
        with torch.enable_grad(), self._networks.autocast():
            output = self._function(Part(values, self._part.buffers), *inputs)
        self._output: Any = output
        return output.detach()

    def backward(self, gradient: torch.Tensor) -> Any:
        if not self._output.requires_grad:
            raise Unknown("a parameter has no part in the output")
        gradient = gradient.to(self._output.dtype)
        found = torch.autograd.grad(self._output, self._leaves, gradient, allow_unused=True)
        self._output = None
        of_tensors = zip(found, self._leaves[: sum(self._learns)], strict=False)
        for own, value in zip(self._gradients.values(), found[sum(self._learns) :], strict=True):
            if value is None:
                raise Unknown("a parameter has no part in the output")
            own.copy_(value)
        # Gradients may share memory, or be expanded.
        several = len(self._learns) > 1
        of_inputs = [_unshared(*next(of_tensors), several) if own else None for own in self._learns]
        self._leaves = None
        return of_inputs if several else of_inputs[0]


@contextlib.contextmanager
def _restored(streams: list[Stream], device: torch.device) -> Iterator[None]:
    """Restore the states of streams after this context."""
    for stream in streams:
        stream.generator(device)  # its state is saved, too
    states = [stream.state() for stream in streams]
    try:
        yield
    finally:
        for stream, state in zip(streams, states, strict=True):
            stream.set_state(state)


def _unshared(gradient: torch.Tensor | None, tensor: torch.Tensor, several: bool) -> torch.Tensor:
    if gradient is None:
        return torch.zeros_like(tensor)
    if several:
        return gradient.clone(memory_format=torch.contiguous_format)
    return gradient.contiguous()


def make_local_rule(module: nn.Module, place: Place) -> ByAutograd:
    """Return the rule of a module by autograd.

    Raises `Unknown` if it cannot be computed for all networks of a place at once.
    """
    networks, kind, path = place.networks, type(module), place.path
    if kind in networks.rules:
        function = _registered(kind, networks, networks.layers(module, path), path)
    elif kind is nn.Linear and module.bias is not None and len(place.shape) == 2:
        function = partial(_linear, path)
    elif any(map(_draws, networks.layers(module, path))):
        function = _one_by_one(networks, networks.layers(module, path))
    else:
        function = _vmapped(module, networks.layers(module, path), path)
    networks.parts.append(kind.__name__)
    return ByAutograd(function, [place.shape], place, [place.needs_gradient])


def _registered(
    kind: type, networks: Networks, layers: list[nn.Module], path: str
) -> Callable[..., Any]:
    """Return the function of a layer by the rule that its user registered."""
    name = f"the rule of {kind.__name__}"
    with users_code(name):
        form = networks.rules[kind](networks, layers, path)

    def function(part: Part, x: torch.Tensor) -> Any:
        with users_code(name):
            return form(x, part, None)

    return function


def _draws(layer: nn.Module) -> bool:
    is_own = type(layer).__module__.startswith("torch.nn.") and not list(layer.children())
    return is_own and layer.training and may_draw(layer) and not isinstance(layer, nn.RNNBase)


def _linear(path: str, part: Part, x: torch.Tensor) -> torch.Tensor:
    # One call, to round once in low precision, as for a single network.
    bias, weight = (part.values[path + name] for name in ("bias", "weight"))
    return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)


def _one_by_one(networks: Networks, layers: list[nn.Module]) -> Callable[..., Any]:
    def function(part: Part, x: torch.Tensor) -> Any:
        outputs = []
        for layer, stream, one in zip(layers, networks.streams, x.unbind(0), strict=True):
            with OwnGenerators(stream), users_code(type(layer).__name__):
                outputs.append(layer(one))
        return torch.stack(outputs)

    return function


def _vmapped(module: nn.Module, layers: list[nn.Module], path: str) -> Callable[..., Any]:
    name = type(module).__name__
    with users_code(f"{name} cannot be copied"):
        module = copy.deepcopy(module)
    # Rates of dropout, of which some may be 0, may differ.
    if any(_draws(part) for layer in layers for part in layer.modules()):
        raise Unknown(f"{name} uses randomness that cannot be assigned to one network")
    if any(isinstance(part, nn.RNNBase) for part in module.modules()):
        raise Unknown("recurrent layers have no batching rule")

    def call(
        values: dict[str, torch.Tensor], buffers: dict[str, torch.Tensor], x: torch.Tensor
    ) -> Any:
        return torch.func.functional_call(module, (values, buffers), (x,))

    def function(part: Part, x: torch.Tensor) -> Any:
        values, buffers = (
            {key.removeprefix(path): value for key, value in tensors.items()}
            for tensors in (part.values, part.buffers)
        )
        return vmapped(call, name)(values, buffers, x)

    return function


def vmapped(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return a function of one network as a function of several."""

    def call(*args: Any) -> Any:
        # Random draws raise: vmap cannot use a separate stream for each network.
        with users_code(f"{name} under vmap"):
            return torch.func.vmap(function)(*args)

    return call
