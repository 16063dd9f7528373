"""Averages of the weights over training, with which a network predicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .structure import is_plain

__all__ = ["WeightAverage"]

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
