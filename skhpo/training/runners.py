"""Runners of one network: by autograd in a minimal loop, and by direct steps."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import nn

from ..limits import check_time
from .direct import compile_program, keep_one_thread
from .engine import ActiveNetwork, EpochReport, EpochRunner
from .forwarding import row_count

__all__ = ["DirectRunner", "DirectSteps", "GradientSteps", "PlainRunner", "parameters_of"]


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
        loss_of, optimizer = self.loss_of, network.state.optimizer

        def step() -> None:
            optimizer.step()
            network.after_batch()

        steps = GradientSteps(parameters_of(optimizer), step, *self.settings)
        losses, sizes = [], []
        for X, y, weight in batches:
            check_time()
            with self.drawing:
                loss = loss_of(X, y, weight)
            n_rows = row_count(y)
            steps.begin_batch(n_rows)
            loss.backward()
            steps.end_batch()
            losses.append(loss.detach())
            sizes.append(n_rows)
        steps.finish()
        # One transfer per epoch: reading the loss of each batch would wait for the device.
        return torch.stack(losses).tolist(), sizes


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


_log = logging.getLogger(__name__)


class DirectSteps:
    """Trains a module without autograd as long as all of its layers have rules.

    Parameters
    ----------
    describe : callable
        Returns the arguments of `compile_program`, or a string with the reason why there is no
        program. A program is used as long as the result is the same.

    Attributes
    ----------
    program : Program or None
        Set by `can_train`.
    """

    def __init__(self, describe: Any) -> None:
        self._describe = describe
        self.program: Any = None
        self._described: Any = None
        self._is_known = True

    def can_train(self) -> Any:
        """Whether there is a program for the current module; to be asked before each epoch.

        Changes are logged.
        """
        if not self._is_known:
            return False
        keep_one_thread()
        described = self._describe()
        is_same = self.program is not None and described == self._described
        if not is_same or not self.program.holds():
            self._described = described
            if isinstance(described, str):
                self.program, reason = None, described
            else:
                self.program, reason = compile_program(**described)
            self._is_known = self.program is not None
            if self._is_known:
                _log.debug("steps without autograd: all layers have rules")
            else:
                _log.debug("steps by autograd: %s", reason)
        return self._is_known

    def give_up(self) -> None:
        """Have no program from now on."""
        self.program, self._is_known = None, False

    def train(self, batches: Any, after_batch: Any = None) -> Any:
        """Train for an epoch of batches (X, y, weight or None); return their losses and sizes."""
        losses = []
        step = self.program.step
        # Cheaper than torch.no_grad: no tensor made here is used by autograd.
        with torch.inference_mode():
            self.program.begin()
            try:
                for X, y, weight in batches:
                    check_time()
                    rows = step(X, y, weight)
                    losses.append(rows if weight is None else rows * weight)
                    if after_batch is not None and not self.program.n_waiting:
                        after_batch()
                if self.program.n_waiting:
                    self.program.complete_step()
                    if after_batch is not None:
                        after_batch()
            finally:
                self.program.finish()
        if not losses:
            return [], []
        # One transfer per epoch: reading the loss of each batch would wait for the device.
        sizes = [rows.size(0) for rows in losses]
        values = torch.cat(losses).double().numpy(force=True)
        starts = np.cumsum([0, *sizes[:-1]])
        return (np.add.reduceat(values, starts) / sizes).tolist(), sizes


class DirectRunner(EpochRunner):
    """Trains one network by direct steps; another runner trains epochs for which they cannot."""

    def __init__(self, steps: Any, otherwise: Any) -> None:
        self.steps = steps
        self.otherwise = otherwise

    def run(self, networks: Any) -> Any:
        """Train one network for an epoch."""
        (network,) = networks
        network.state.set_training(True)
        if not self.steps.can_train():
            return self.otherwise.run(networks)
        after_batch = network.after_batch if network.each_batch else None
        batches = _Alike(network.batches, self.steps.program.accumulate)
        losses, sizes = self.steps.train(batches, after_batch)
        if batches.others is not None:
            _log.debug("steps by autograd: batches have several shapes or types")
            self.steps.give_up()
            more = self.otherwise.train(network, batches.others)
            losses, sizes = losses + more[0], sizes + more[1]
        return [EpochReport(losses, sizes)]


class _Alike:
    """The batches of an epoch up to the first that is not what is known of their rows.

    Those of items of a dataset, and what transforms return, may have several shapes or types.
    `others` are then the others, from the first of its step of `accumulate` batches on.
    """

    def __init__(self, batches: Any, accumulate: int) -> None:
        self.batches = batches
        self.accumulate = accumulate
        self.others: Any = None

    def __iter__(self) -> Iterator[Any]:
        triples = self.batches.triples()
        if not self.batches.rows.are_items and self.batches.change is None:
            yield from triples
            return
        (shape, dtype), (target_shape, target_dtype) = self.batches.formats
        triples = _as_autograd_needs(triples)
        of_a_step: list[Any] = []
        for batch in triples:
            X, y, _ = batch
            alike = X.shape[1:] == shape and X.dtype == dtype
            if not (alike and y.shape[1:] == target_shape and y.dtype == target_dtype):
                self.others = itertools.chain(of_a_step, [batch], triples)
                return
            of_a_step.append(batch)
            if len(of_a_step) == self.accumulate:
                yield from map(_contiguous, of_a_step)
                of_a_step = []
        yield from map(_contiguous, of_a_step)


def _contiguous(batch: Any) -> Any:
    X, *rest = batch
    return X.contiguous(), *rest


def _as_autograd_needs(batches: Any) -> Iterator[Any]:
    """Yield batches that autograd can use, and that a transform can change or keep."""
    while True:
        with torch.inference_mode(False):
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def fused_is_faster(optimizer: Any, settings: Mapping[str, Any], module: nn.Module) -> bool:
    """Whether torch's fused optimizer is faster: 2.5 x for Adam, 1.7 x for SGD with momentum.

    False if the user chose an implementation, or the fused one does not know the parameters.
    """
    if not settings.keys().isdisjoint(("fused", "foreach", "differentiable", "capturable")):
        return False
    if optimizer is torch.optim.SGD:
        faster = bool(settings.get("momentum")) and "dampening" not in settings
    else:
        faster = optimizer in (torch.optim.Adam, torch.optim.AdamW)
    if not faster:
        return False
    # Fused kernels do not accept the sparse gradients of sparse embeddings.
    is_sparse = any(getattr(layer, "sparse", False) for layer in module.modules())
    return not is_sparse and all(
        p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in module.parameters()
    )


def begin_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Begin the momentum of fused SGD at zero, from which its first step is the same.

    Torch's kernel fails where some parameters have a momentum and others do not, as those that are
    thawed or used for the first time in a later batch. Dampening spares only a first step.
    """
    for group in optimizer.param_groups:
        if group["fused"] and group["momentum"] and not group["dampening"]:
            for p in group["params"]:
                if p.requires_grad:
                    optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
