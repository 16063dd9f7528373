"""Epochs in a minimal training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch

from ..limits import check_time
from .engine import ActiveNetwork, EpochReport, EpochRunner
from .forwarding import row_count
from .gradients import GradientSteps, parameters_of

__all__ = ["PlainRunner"]


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
