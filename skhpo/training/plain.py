"""An epoch with nothing in the loop that could be left out of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from ..limits import check_time
from .engine import ActiveNetwork, EpochReport

__all__ = ["PlainRunner"]


class PlainRunner:
    """Trains one network by autograd, batch by batch.

    Parameters
    ----------
    loss_of : callable
        From the inputs, the targets and the weights of a batch to its loss.
    drawing : context manager
        In which the forward pass draws its random numbers.
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
        # One transfer for an epoch: asking each batch for its loss would wait for the device.
        return [EpochReport(torch.stack(losses).tolist(), sizes)]

    def release(self, network: ActiveNetwork) -> None:
        """Do nothing: the state was trained itself."""
