"""Initial weights, which depend only on the seed and the parameter's name."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from .randomness import OwnGenerators, Stream, stream_seed
from .structure import is_plain

__all__ = ["INITIALIZATIONS", "NamedInitialization", "initialize_weights"]

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
                self._name = name
                self._named = self.generator_of(tensor.device, name)
                for func, args, kwargs in calls:
                    super().__torch_function__(func, (), args, kwargs)


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
