"""Gradients on their way from batches to steps: accumulated, and clipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

__all__ = ["GradientSteps", "parameters_of"]


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
