"""Epochs in a minimal training loop; gradients that are accumulated and clipped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from ..limits import check_time
from .engine import ActiveNetwork, EpochReport, EpochRunner
from .forwarding import row_count

__all__ = ["GradientSteps", "PlainRunner", "parameters_of"]


class PlainRunner(EpochRunner):
    """Trains one network by autograd, batch by batch.

    `loss_of` maps inputs, targets and weights of a batch to its loss; within `drawing` forward
    passes draw random numbers. `accumulate` and `max_grad_norm` are those of `GradientSteps`.
    """

    def __init__(
        self,
        loss_of: Callable[..., torch.Tensor],
        drawing: AbstractContextManager[Any],
        accumulate: int = 1,
        max_grad_norm: float | None = None,
    ) -> None:
        self.loss_of = loss_of
        self.drawing = drawing
        self.settings = accumulate, max_grad_norm

    def run(self, networks: list[ActiveNetwork]) -> list[EpochReport]:
        """Train one network for an epoch."""
        (network,) = networks
        network.state.set_training(True)
        return [EpochReport(*self.train(network, network.batches.triples()))]

    def train(
        self, network: ActiveNetwork, batches: Iterable[Any]
    ) -> tuple[list[float], list[int]]:
        """Train with batches (X, y, weight); return their losses and sizes."""
        train = self._train if self.settings == (1, None) else self._accumulate
        losses, sizes = train(network, batches)
        # One transfer per epoch: reading the loss of each batch would wait for the device.
        return torch.stack(losses).tolist(), sizes

    def _train(
        self, network: ActiveNetwork, batches: Iterable[Any]
    ) -> tuple[list[torch.Tensor], list[int]]:
        loss_of, drawing, step = self.loss_of, self.drawing, network.state.optimizer.step
        parameters = parameters_of(network.state.optimizer)
        after_batch = network.after_batch if network.each_batch else None
        losses, sizes = [], []
        for X, y, weight in batches:
            check_time()
            with drawing:
                loss = loss_of(X, y, weight)
            for parameter in parameters:
                parameter.grad = None
            loss.backward()
            step()
            if after_batch is not None:
                after_batch()
            losses.append(loss.detach())
            sizes.append(row_count(y))
        return losses, sizes

    def _accumulate(
        self, network: ActiveNetwork, batches: Iterable[Any]
    ) -> tuple[list[torch.Tensor], list[int]]:
        optimizer = network.state.optimizer

        def step() -> None:
            optimizer.step()
            network.after_batch()

        steps = GradientSteps(parameters_of(optimizer), step, *self.settings)
        losses, sizes = [], []
        for X, y, weight in batches:
            check_time()
            with self.drawing:
                loss = self.loss_of(X, y, weight)
            steps.begin_batch(row_count(y))
            loss.backward()
            steps.end_batch()
            losses.append(loss.detach())
            sizes.append(row_count(y))
        steps.finish()
        return losses, sizes


class GradientSteps:
    """Makes one step of the gradients of several batches, and limits their norm.

    The gradient of a step is the mean over all rows of its batches, as of one large batch. Call
    `begin_batch` before and `end_batch` after the gradients of a batch are added to those of the
    parameters; and `finish` after the last batch of an epoch.

    Parameters
    ----------
    parameters : list of Parameter
        Those of the optimizer.
    step : callable
        Steps the optimizer, and does what belongs to a step.
    accumulate : int, default=1
        Batches per step. The last step of an epoch may have fewer.
    max_norm : float or None, default=None
        Largest Euclidean norm of all gradients together.
    """

    def __init__(
        self,
        parameters: Sequence[torch.nn.Parameter],
        step: Callable[[], object],
        accumulate: int = 1,
        max_norm: float | None = None,
    ) -> None:
        self.parameters = parameters
        self.step = step
        self.accumulate = accumulate
        self.max_norm = max_norm
        self._n_batches = self._n_rows = self._last = 0

    def begin_batch(self, n_rows: int) -> None:
        """Prepare the gradients for those of a batch of `n_rows`, whose loss is a mean."""
        if not self._n_batches:
            for parameter in self.parameters:
                parameter.grad = None
        elif n_rows != self._last:
            # Between batches the gradients are the sum over rows, divided by the last batch's.
            self._scale(self._last / n_rows)
        self._last = n_rows
        self._n_rows += n_rows
        self._n_batches += 1

    def end_batch(self) -> None:
        """Step if the batch was the last of a step."""
        if self._n_batches == self.accumulate:
            self._step()

    def finish(self) -> None:
        """Step if there are batches that were not."""
        if self._n_batches:
            self._step()

    def _step(self) -> None:
        if self._n_batches > 1:
            self._scale(self._last / self._n_rows)
        if self.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
        self._n_batches = self._n_rows = 0
        self.step()

    def _scale(self, factor: float) -> None:
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if gradients:
            torch._foreach_mul_(gradients, factor)


def parameters_of(*optimizers: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    """Return the parameters of optimizers."""
    return [p for one in optimizers for group in one.param_groups for p in group["params"]]
