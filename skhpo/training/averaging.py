"""What only predictions use: averages of weights, and new statistics of batch normalization."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ..limits import check_time
from .structure import has_plain_state, is_plain

__all__ = [
    "WeightAverage",
    "by_batches",
    "has_batch_norm",
    "is_averaged",
    "is_finite",
    "moved",
    "renew_statistics",
]

# Of the steps so far the mean of an exponential average has about the last tenth, until the
# decay is reached: with the decay alone a short training would predict with its first weights.
_WARM_UP = 10
_SAVED = ("kind", "decay", "start", "n", "weights")

Modules = Mapping[str, torch.nn.Module]


class WeightAverage:
    """Running mean of the weights of modules.

    Buffers of real numbers (statistics of batch normalization) are averaged alike; others are
    those of the last weights, and so are infinite numbers, as those of masks. What replaces a
    tensor by one of another shape begins a new mean.

    Parameters
    ----------
    kind : {"ema", "swa"}
        Exponential after each step, or the mean of the weights after each epoch (Izmailov,
        Podoprikhin, Garipov, Vetrov, Wilson, "Averaging weights leads to wider optima and better
        generalization", UAI 2018).
    decay : float
        Of the exponential mean, reached after a warm-up: ``min(decay, (1 + n) / (10 + n))`` at the
        n-th step that is averaged.
    start : int
        First epoch that is averaged, from 1.

    Attributes
    ----------
    n : int
        Weights averaged so far.
    weights : dict of str to state dict, or None
        The mean, by part; None before the first.
    """

    def __init__(self, kind: str, decay: float, start: int) -> None:
        self.kind = kind
        self.decay = decay
        self.start = start
        self.n = 0
        self.weights: dict[str, dict[str, Any]] | None = None
        self._pairs: _Pairs | None = None

    @property
    def share(self) -> float:
        """float: of the next weights in the mean."""
        if not self.n:
            return 1
        if self.kind == "swa":
            return 1 / (self.n + 1)
        return 1 - min(self.decay, (1 + self.n) / (_WARM_UP + self.n))

    def moves_in(self, epoch: int) -> bool:
        """Whether the mean moves after each step of an epoch, from 1."""
        return self.kind == "ema" and epoch >= self.start

    def moves_after(self, epoch: int) -> bool:
        """Whether the mean moves after an epoch, from 1."""
        return self.kind == "swa" and epoch >= self.start

    def after_step(self, modules: Callable[[], Modules], epoch: int) -> None:
        """Average the weights of the modules that a call returns, after a step in an epoch."""
        if self.moves_in(epoch):
            self._move(modules)

    def after_epoch(self, modules: Callable[[], Modules], epoch: int) -> None:
        """Average the weights of the modules that a call returns, after an epoch."""
        if self.moves_after(epoch):
            self._move(modules)

    def _move(self, modules: Callable[[], Modules]) -> None:
        self._paired(modules).move(self.share)
        self.n += 1

    def exchanged(self, modules: Callable[[], Modules]) -> _Exchanged | None:
        """Return the context in which modules have the mean; None if they cannot be set in place.

        There must be a mean.
        """
        pairs = self._paired(modules)
        return _Exchanged(pairs) if pairs.can_exchange else None

    def weights_of(self, modules: Callable[[], Modules]) -> dict[str, dict[str, Any]] | None:
        """Return the mean for modules; None before the first."""
        if self.weights is not None:
            self._paired(modules)
        return self.weights

    def keep_in(self, weights: dict[str, dict[str, Any]] | None) -> None:
        """Keep the mean in other tensors, which have its values."""
        self.weights = weights
        self.forget_modules()

    def forget_modules(self) -> None:
        """Read the modules again before the next step."""
        self._pairs = None

    def _paired(self, modules: Callable[[], Modules]) -> _Pairs:
        found = modules()
        if self._pairs is None or not self._pairs.hold(found):
            # What is made here is used outside of inference mode, too.
            with torch.inference_mode(False):
                if self.weights is None:
                    self.weights = {}
                self._pairs = _Pairs(found, self.weights)
        return self._pairs

    def state_dict(self) -> dict[str, Any]:
        """Return everything as tensors, numbers and strings."""
        return {name: vars(self)[name] for name in _SAVED}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_pairs": None}

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> WeightAverage:
        """Return the average that `state_dict` was of."""
        average = cls(state["kind"], state["decay"], state["start"])
        average.n, average.weights = state["n"], state["weights"]
        return average


class _Pairs:
    """The tensors of modules, and beside them those of their mean.

    Parameters
    ----------
    modules : dict of str to Module
    weights : dict of str to state dict
        The mean, which is made to fit the modules: in devices, shapes and keys.

    Attributes
    ----------
    can_exchange : bool
        Whether values can be copied into all tensors of the modules in place.
    """

    def __init__(self, modules: Modules, weights: dict[str, dict[str, Any]]) -> None:
        self.means: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        self.last: list[torch.Tensor] = []  # that are not averaged, as those of integers
        self.last_values: list[torch.Tensor] = []
        self.partial: list[tuple[torch.Tensor, torch.Tensor]] = []  # some numbers are infinite
        self.others: list[tuple[torch.nn.Module, dict[str, Any], str]] = []
        self.modules = modules
        self.held: list[tuple[Mapping[str, object], str, object]] = []
        self.can_exchange = True
        for name in weights.keys() - modules.keys():
            del weights[name]
        for name, module in modules.items():
            for layer in module.modules():
                for values in (layer._parameters, layer._buffers, layer._modules):
                    self.held += [(values, key, value) for key, value in values.items()]
            self._add(module, weights.setdefault(name, {}))

    def _add(self, module: torch.nn.Module, of_part: dict[str, Any]) -> None:
        is_plain_part = has_plain_state(module)
        state = module.state_dict(keep_vars=True)
        for key in of_part.keys() - state.keys():
            del of_part[key]
        for key, value in state.items():
            if key not in of_part:
                of_part[key] = _copy(value)
            if is_plain_part and is_plain(value):
                of_part[key] = _fitting(of_part[key], value)
                self._add_plain(of_part[key], value)
            else:
                self.others.append((module, of_part, key))
                self.can_exchange = False

    def _add_plain(self, mean: torch.Tensor, value: torch.Tensor) -> None:
        if not value.is_floating_point():
            self.last.append(mean)
            self.last_values.append(value)
        elif is_finite(mean, value):
            self.means.append(mean)
            self.values.append(value)
        else:
            self.partial.append((mean, value))
        if 0 in value.stride():
            self.can_exchange = False

    def hold(self, modules: Modules) -> bool:
        """Whether modules have the same layers and tensors as before."""
        return modules == self.modules and all(
            values.get(key) is value for values, key, value in self.held
        )

    def move(self, share: float) -> None:
        """Move the means to the values by a share of the difference."""
        if torch.is_inference_mode_enabled():
            self._move(share)
        else:
            with torch.no_grad():
                self._move(share)
        if self.others:
            with torch.inference_mode(False), torch.no_grad():
                self._move_others(share)

    def _move(self, share: float) -> None:
        if self.means:
            torch._foreach_lerp_(self.means, self.values, share)
        if self.last:
            torch._foreach_copy_(self.last, self.last_values)
        for mean, value in self.partial:
            mean.copy_(moved(mean, value, share))

    def _move_others(self, share: float) -> None:
        states: dict[int, dict[str, Any]] = {}
        for module, of_part, key in self.others:
            if id(module) not in states:
                states[id(module)] = module.state_dict(keep_vars=True)
            value = states[id(module)][key]
            if isinstance(value, torch.Tensor) and is_averaged(value):
                mean = of_part[key] = _fitting(of_part[key], value)
                mean.copy_(moved(mean, value, share))
            else:
                of_part[key] = _copy(value)


class _Exchanged:
    """Context in which modules have the mean of their weights."""

    def __init__(self, pairs: _Pairs) -> None:
        partial = list(zip(*pairs.partial, strict=True)) or [(), ()]
        self.means = [*pairs.means, *pairs.last, *partial[0]]
        self.values = [*pairs.values, *pairs.last_values, *partial[1]]

    def __enter__(self) -> None:
        self.running = [value.detach().clone() for value in self.values]
        self._set(self.means)

    def __exit__(self, *error: object) -> None:
        self._set(self.running)

    def _set(self, tensors: list[torch.Tensor]) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self.values, tensors)


def is_averaged(value: torch.Tensor) -> bool:
    """Whether a tensor of a module is averaged: one of real numbers."""
    return value.is_floating_point() and is_plain(value)


def is_finite(mean: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether all numbers of a mean and of a value are finite: not those of masks."""
    return bool(torch.sub(mean.detach(), value.detach()).isfinite().all())


def moved(mean: torch.Tensor, value: torch.Tensor, share: Any) -> torch.Tensor:
    """Return a mean moved to a value, which takes its place where a number is infinite."""
    result = torch.lerp(mean, value, share)
    return torch.where(result.isfinite(), result, value)


def _fitting(mean: Any, value: torch.Tensor) -> torch.Tensor:
    """Return a mean on the device of a value; the value itself where the shapes differ."""
    if not isinstance(mean, torch.Tensor) or not is_plain(mean) or mean.shape != value.shape:
        return value.detach().clone()
    return mean if mean.device == value.device else mean.to(value.device)


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


# Rows, mean and variance of each channel, of an input of a layer.
_Seen = list[tuple[int, torch.Tensor, torch.Tensor]]


def has_batch_norm(module: torch.nn.Module) -> bool:
    """Whether a module normalizes by batches in training and by moving averages afterwards."""
    return any(map(_has_averages, module.modules()))


def _has_averages(layer: torch.nn.Module) -> bool:
    return isinstance(layer, _BatchNorm) and layer.running_mean is not None


@contextmanager
def by_batches(modules: Iterable[torch.nn.Module]) -> Iterator[list[_BatchNorm]]:
    """Normalize by batches within this context, with everything else as in predictions.

    The moving averages stay as they are. Layers that a module keeps in evaluation mode while it is
    trained do so here.

    Yields
    ------
    layers : list of Module
        Those that normalize by batches.
    """
    modules = list(modules)
    for module in modules:
        module.train()
    layers = [
        layer
        for module in modules
        for layer in module.modules()
        if isinstance(layer, _BatchNorm) and _has_averages(layer) and layer.training
    ]
    for module in modules:
        module.eval()
    try:
        for layer in layers:
            layer.train()
            layer.track_running_stats = False  # so it neither reads nor writes them
        yield layers
    finally:
        for layer in layers:
            layer.eval()
            layer.track_running_stats = True


def renew_statistics(
    modules: Iterable[torch.nn.Module], forward: Callable[[Any], Any], batches: Iterable[Any]
) -> None:
    """Replace the moving averages by means and variances over all batches.

    What goes into a layer is normalized by batches in the layers before it, as in training, but
    without dropout. See Wu, Johnson: Rethinking "Batch" in BatchNorm, 2021, section 3 ("precise
    BatchNorm").

    Parameters
    ----------
    modules : iterable of Module
        Parts of a network; left in evaluation mode.
    forward : callable
        Passes a batch through them.
    batches : iterable
        Each with at least two rows.
    """
    with by_batches(modules) as layers, torch.no_grad():
        seen: list[_Seen] = [[] for _ in layers]
        handles = [
            layer.register_forward_pre_hook(partial(_note, of_layer))
            for layer, of_layer in zip(layers, seen, strict=True)
        ]
        try:
            for batch in batches:
                check_time()
                forward(batch)
        finally:
            for handle in handles:
                handle.remove()
        for layer, of_layer in zip(layers, seen, strict=True):
            if of_layer:
                _set_statistics(layer, of_layer)


def _note(seen: _Seen, layer: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
    x = inputs[0].transpose(0, 1).flatten(1)  # channels x rows and places
    x = x if x.dtype == torch.float64 else x.float()
    seen.append((x.shape[1], x.mean(1), x.var(1, correction=0)))


def _set_statistics(layer: _BatchNorm, seen: _Seen) -> None:
    """Set mean and variance of all batches together."""
    sizes, batch_means, batch_variances = zip(*seen, strict=True)
    n = sum(sizes)
    means, variances = torch.stack(batch_means), torch.stack(batch_variances)
    weight = torch.tensor(sizes, dtype=means.dtype, device=means.device)[:, None] / n
    mean = (weight * means).sum(0)
    variance = (weight * (variances + (means - mean) ** 2)).sum(0)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance * (n / max(n - 1, 1)))
