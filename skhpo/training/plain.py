"""Epochs in a minimal training loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from ..limits import check_time
from .engine import ActiveNetwork, EpochReport, EpochRunner

__all__ = ["PlainRunner"]


class PlainRunner(EpochRunner):
    """Trains one network by autograd, batch by batch.

    `loss_of` maps inputs, targets and weights of a batch to its loss; within `drawing` forward
    passes draw random numbers.
    """

    def __init__(
        self, loss_of: Callable[..., torch.Tensor], drawing: AbstractContextManager[Any]
    ) -> None:
        self.loss_of = loss_of
        self.drawing = drawing

    def run(self, networks: list[ActiveNetwork]) -> list[EpochReport]:
        """Train one network for an epoch."""
        (network,) = networks
        state = network.state
        state.set_training(True)
        loss_of, drawing, step = self.loss_of, self.drawing, state.optimizer.step
        parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
        after_batch = network.after_batch if network.each_batch else None
        losses, sizes = [], []
        for X, y, weight in network.batches.triples():
            check_time()
            with drawing:
                loss = loss_of(X, y, weight)
            for parameter in parameters:
                parameter.grad = None
            loss.backward()  # type: ignore[no-untyped-call]
            step()
            if after_batch is not None:
                after_batch()
            losses.append(loss.detach())
            sizes.append(len(y))
        # One transfer per epoch: reading the loss of each batch would wait for the device.
        return [EpochReport(torch.stack(losses).tolist(), sizes)]
