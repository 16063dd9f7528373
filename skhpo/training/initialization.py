"""Initial weights, which depend only on the seed and the parameter's name."""

from __future__ import annotations

import contextlib
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from .randomness import OwnGenerators, Stream, stream_seed
from .structure import is_of_torch, is_plain, is_setting

__all__ = ["INITIALIZATIONS", "NamedInitialization", "Template", "initialize_weights"]

# Standard deviation (or bound) of the plain distributions, at a gain of one.
_SMALL = 0.05
# Variances by fan-in and fan-out, at a gain of one.
_FANS: dict[str, Callable[[int, int], float]] = {
    "lecun": lambda fan_in, fan_out: 1 / fan_in,
    "xavier": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "kaiming": lambda fan_in, fan_out: 2 / fan_in,
}
INITIALIZATIONS = (
    *("default", "zeros", "uniform", "normal", "orthogonal"),
    *(f"{scheme}_{shape}" for scheme in _FANS for shape in ("uniform", "normal")),
)
# Calls that neither read nor change the values of a tensor.
_LOOKS = {
    *("__get__", "__set__", "__hash__", "__len__", "_make_subclass", "as_subclass", "data_ptr"),
    *("dim", "element_size", "empty_like", "is_complex", "is_contiguous", "is_floating_point"),
    *("ndimension", "new_empty", "new_full", "new_ones", "new_zeros", "numel", "ones_like"),
    *("requires_grad_", "size", "storage_offset", "stride", "untyped_storage", "zeros_like"),
}
# What layers hold their tensors, children, hooks and lists of settings in.
_CONTAINERS = {dict, OrderedDict, set, list}


class NamedInitialization(OwnGenerators):
    """Within this context modules draw their initial weights from a seed.

    A parameter is drawn before its name is known: from a numbered stream, while the operations
    that filled it are recorded. `settle` repeats them with the stream of the parameter's name, so
    that adding, removing or widening one layer does not change the weights of the others. A tensor
    filled in another way (computed from others, written in parts), or whose values were read,
    keeps its first draws.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(Stream(seed, "init"))
        self.seed = seed
        self._n_draws = 0
        self._name: str | None = None
        # From the address of a storage to the calls that filled it, the first of which is a draw.
        # The calls hold their tensor, so that its address is not reused.
        self._fills: dict[int | None, list[tuple[Any, Any, Any]]] = {}
        # From the name of a tensor to the calls that drew it again.
        self._drawn: dict[str, list[tuple[Any, Any, Any]]] = {}

    def generator(self, device: torch.device) -> torch.Generator:
        if self._name is not None:
            return self._named
        self._n_draws += 1
        return self.generator_of(device, f"draw {self._n_draws}")

    def generator_of(self, device: torch.device, name: str) -> torch.Generator:
        """Return a new generator for the parameter of a name."""
        return torch.Generator(device).manual_seed(stream_seed(self.seed, "init", name))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _LOOKS:
            return func(*args, **(kwargs or {}))
        n_draws = self._n_draws
        out = super().__torch_function__(func, types, args, kwargs)
        self._note(func, args, kwargs or {}, drew=self._n_draws > n_draws)
        return out

    def _note(self, func: Any, args: Any, kwargs: Any, drew: bool) -> None:
        name = getattr(func, "__name__", "")
        tensors = list(_tensors((args, kwargs)))
        if not tensors:
            return
        target, others = tensors[0], tensors[1:]
        others = [tensor for tensor in others if tensor is not target]
        in_place = name.endswith("_") and not name.endswith("__")
        address = _address(target)
        if address is None:
            return
        if in_place and drew and not others and _covers_its_storage(target):
            self._fills[address] = [(func, args, kwargs)]
        elif in_place and not drew and not others and address in self._fills:
            if name in ("zero_", "fill_", "constant_", "zeros_", "ones_"):
                del self._fills[address]
            else:
                self._fills[address].append((func, args, kwargs))
        else:
            for tensor in tensors:
                self._fills.pop(_address(tensor), None)

    def settle(self, module: nn.Module) -> None:
        """Draw the parameters and buffers of a module again, from the streams of their names."""
        named = [*module.named_parameters(), *module.named_buffers()]
        with torch.no_grad(), contextlib.ExitStack() as stack:
            stack.callback(setattr, self, "_name", None)
            for name, tensor in named:
                if isinstance(tensor, UninitializedTensorMixin):
                    continue
                calls = self._fills.pop(_address(tensor), ())
                if not calls:
                    continue
                self._drawn[name] = calls
                self._draw(name, tensor.device, calls)

    def _draw(self, name: str, device: torch.device, calls: list[tuple[Any, Any, Any]]) -> None:
        """Repeat the calls that fill a tensor, with the stream of its name."""
        self._name = name
        self._named = self.generator_of(device, name)
        for func, args, kwargs in calls:
            super().__torch_function__(func, (), args, kwargs)

    def template(self, module: nn.Module) -> Template | None:
        """Return what makes a settled module again for other seeds, without running its code.

        None unless it consists of layers of torch or of this package that hold only tensors and
        simple settings, and each draw was repeated by `settle`: everything else about the module
        is then the same for all seeds.
        """
        if len(self._drawn) < self._n_draws or not all(map(_is_simple, module.modules())):
            return None
        return Template(module, self._drawn)


class Template:
    """A module without its random weights; see `NamedInitialization.template`."""

    def __init__(self, module: nn.Module, drawn: dict[str, list[tuple[Any, Any, Any]]]) -> None:
        # Of drawn tensors only the shape is needed; others are copied before they are trained.
        self._calls: dict[str, list[tuple[Any, Any, Any]]] = {}
        kept = {}
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            kept[id(tensor)] = copy = _like(tensor, tensor.detach().clone())
            if name in drawn:
                self._calls[name] = [_with_target(call, tensor, copy) for call in drawn[name]]
        self._module = _assembled(module, kept, {})

    def make(self, initialization: NamedInitialization) -> nn.Module:
        """Return the module that is made, and settled, within a context."""
        made = {}
        named = (*self._module.named_parameters(), *self._module.named_buffers())
        with torch.no_grad():
            for name, tensor in named:
                calls = self._calls.get(name)
                value = tensor.detach().clone() if calls is None else torch.empty_like(tensor)
                if calls is not None:
                    calls = [_with_target(call, tensor, value) for call in calls]
                    initialization._draw(name, value.device, calls)
                made[id(tensor)] = _like(tensor, value)
        module: nn.Module = _assembled(self._module, made, {})
        return module


def _is_simple(layer: nn.Module) -> bool:
    """Whether a layer of torch or of this package holds only plain tensors and settings."""
    tensors = (*layer._parameters.values(), *layer._buffers.values())
    return (
        is_of_torch(layer)
        # Dicts and sets hold tensors, children and hooks, of which there are none.
        and all(type(v) in _CONTAINERS - {list} or is_setting(v) for v in vars(layer).values())
        and all(
            type(tensor) in (nn.Parameter, torch.Tensor) and is_plain(tensor)
            for tensor in tensors
            if tensor is not None
        )
    )


def _with_target(
    call: tuple[Any, Any, Any], tensor: torch.Tensor, other: torch.Tensor
) -> tuple[Any, Any, Any]:
    """Return a call that fills another tensor."""
    func, args, kwargs = call
    changed = {name: other if value is tensor else value for name, value in kwargs.items()}
    return func, tuple(other if value is tensor else value for value in args), changed


def _like(tensor: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return a parameter or a buffer, as `tensor` is, with a value."""
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(value, tensor.requires_grad)
    return value


def _assembled(module: Any, tensors: dict[int, torch.Tensor], made: dict[int, Any]) -> Any:
    """Return a copy of a module with other tensors, by the `id` of its own."""
    if id(module) not in made:
        cls: Any = type(module)
        made[id(module)] = twin = cls.__new__(cls)
        own = vars(twin)
        for name, value in vars(module).items():
            own[name] = value.copy() if type(value) in _CONTAINERS else value
        for of_kind in (twin._parameters, twin._buffers):
            of_kind.update({k: tensors[id(t)] for k, t in of_kind.items() if t is not None})
        for name, child in module._modules.items():
            twin._modules[name] = None if child is None else _assembled(child, tensors, made)
    return made[id(module)]


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        if not isinstance(value, UninitializedTensorMixin):
            yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)


def _address(tensor: torch.Tensor) -> int | None:
    return tensor.untyped_storage().data_ptr() if is_plain(tensor) else None


def _covers_its_storage(tensor: torch.Tensor) -> bool:
    return tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()


def initialize_weights(
    module: nn.Module,
    init: str,
    gain: float,
    generator: Callable[[torch.device, str], torch.Generator],
) -> None:
    """Draw the weights of a module in place; biases become zero, normalizations stay.

    `init` is one of `INITIALIZATIONS`: "default" keeps what the layers drew, times `gain`;
    "lecun_*", "xavier_*" and "kaiming_*" have the variances 1 / fan_in, 2 / (fan_in + fan_out) and
    2 / fan_in, times ``gain**2``; "uniform" and "normal" the bound and the standard deviation 0.05,
    times `gain`. `generator` maps the device and the name of a parameter to its generator.
    """
    if init == "default" and gain == 1:
        return
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if isinstance(parameter, nn.parameter.UninitializedParameter):
                continue
            if parameter.ndim > 1:
                _draw(parameter, init, gain, generator(parameter.device, name))
            elif init != "default" and "bias" in name.rpartition(".")[2]:
                parameter.zero_()


def _draw(weight: torch.Tensor, init: str, gain: float, generator: torch.Generator) -> None:
    scheme, _, shape = init.partition("_")
    if init == "default":
        weight.mul_(gain)
    elif init == "zeros":
        weight.zero_()
    elif init == "orthogonal":
        nn.init.orthogonal_(weight, gain, generator=generator)
    elif init == "uniform":
        weight.uniform_(-_SMALL * gain, _SMALL * gain, generator=generator)
    elif init == "normal":
        weight.normal_(0, _SMALL * gain, generator=generator)
    else:
        receptive_field = weight[0][0].numel()
        fans = weight.shape[1] * receptive_field, weight.shape[0] * receptive_field
        deviation = gain * math.sqrt(_FANS[scheme](*fans))
        if shape == "normal":
            weight.normal_(0, deviation, generator=generator)
        else:
            bound = math.sqrt(3) * deviation
            weight.uniform_(-bound, bound, generator=generator)
