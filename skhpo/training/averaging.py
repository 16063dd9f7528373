"""What only predictions use: averages of weights, and new statistics of batch normalization."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ..limits import check_time
from .structure import is_plain

__all__ = ["WeightAverage", "by_batches", "has_batch_norm", "renew_statistics"]

# Of the steps so far the mean of an exponential average has about the last tenth, until the
# decay is reached: with the decay alone a short training would predict with its first weights.
_WARM_UP = 10
_SAVED = ("kind", "decay", "start", "n", "weights")

Pairs = tuple[list[torch.Tensor], list[torch.Tensor]]


class WeightAverage:
    """Running mean of the weights of modules.

    Buffers of real numbers (statistics of batch normalization) are averaged alike; others are
    those of the last weights.

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
        self._pairs: Pairs | None = None
        self._forget()

    def _forget(self) -> None:
        # Pairs of means and weights of the epoch, where only parameters are averaged.
        self._epoch, self._pairs = 0, None

    def after_step(self, modules: Mapping[str, torch.nn.Module], epoch: int) -> None:
        """Average the weights after a step in an epoch, from 1."""
        if self.kind != "ema" or epoch < self.start:
            return
        weight = 1 - min(self.decay, (1 + self.n) / (_WARM_UP + self.n))
        if self._pairs is None or epoch != self._epoch:
            self._forget()
            pairs = self._add(modules, weight)
            # Buffers may be other tensors after each step.
            if not any(True for module in modules.values() for _ in module.buffers()):
                self._epoch, self._pairs = epoch, pairs
        else:
            self._move(*self._pairs, weight)

    def after_epoch(self, modules: Mapping[str, torch.nn.Module], epoch: int) -> None:
        """Average the weights after an epoch, from 1."""
        if self.kind == "swa" and epoch >= self.start:
            self._add(modules, 1 / (self.n + 1))

    def _add(self, modules: Mapping[str, torch.nn.Module], weight: float) -> Pairs:
        live = {name: module.state_dict(keep_vars=True) for name, module in modules.items()}
        if self.weights is None:
            weight = 1
            self.weights = {
                name: {k: _copy(v) for k, v in tensors.items()} for name, tensors in live.items()
            }
        means, values = [], []
        for name, tensors in live.items():
            of_part = self.weights[name]
            for key, value in tensors.items():
                if isinstance(value, torch.Tensor) and _is_real(value):
                    if of_part[key].device != value.device:  # of a checkpoint
                        of_part[key] = of_part[key].to(value.device)
                    means.append(of_part[key])
                    values.append(value)
                else:
                    of_part[key] = _copy(value)
        self._move(means, values, weight)
        return means, values

    def _move(self, means: list[torch.Tensor], values: list[torch.Tensor], weight: float) -> None:
        if means:
            with torch.no_grad():
                torch._foreach_lerp_(means, values, weight)
        self.n += 1

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


def _is_real(value: torch.Tensor) -> bool:
    return value.is_floating_point() and is_plain(value)


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
