"""An epoch of a plain network whose hyperparameters follow a gradient every few steps."""

from __future__ import annotations

import contextlib

import numpy as np
import torch

from ...limits import check_time
from ...training.batches import RowBatches
from ...training.engine import EpochReport, EpochRunner
from ._curvature import Curvature
from ._objective import Objective
from ._solvers import solve

__all__ = ["GradientRunner", "ImplicitRunner"]

# Between two linear systems the damping shrinks and the step grows by these factors.
_LESS_DAMPING, _LONGER_STEP = 0.7, 1.3
# Damping below it is none.
_NO_DAMPING = 1e-6


class GradientRunner(EpochRunner):
    """Trains one network by autograd; a subclass has ``tune``.

    Parameters
    ----------
    net : self-tuning estimator
    batches : RowBatches
        Of the training data.
    valid : Rows or None
        The data to tune on; None only where nothing is tuned.
    """

    def __init__(self, net, batches, valid):
        self.net, self.tuning = net, net.tuning_
        self.tuning.find(net, len(batches.rows))
        self.objective = Objective(net, net.module_, self.tuning.effects, batches.rows)
        streams = net._state.streams
        self.generator = streams["forward"].generator(net.device_)
        self.tuning_generator = streams["tuning"].generator(net.device_)
        self.drawing, self.tuning_drawing = contextlib.nullcontext(), contextlib.nullcontext()
        if self.objective.draws:
            self.drawing = net._drawing_from(streams["forward"])
            self.tuning_drawing = net._drawing_from(streams["tuning"])
        self.valid, self.valid_rows = None, valid
        if self.tuning.to_follow is None:
            to_tune_on = RowBatches(valid, batches.batch_size, streams["tuning"].generator())
            self.valid = _endless(to_tune_on)
        self._current = None, None
        self._indexed = "sample_weight" in self.tuning.names

    def run(self, networks):
        """Train one network for an epoch, and tune its hyperparameters."""
        (network,) = networks
        tuning, state = self.tuning, network.state
        n_epochs = state.counters.n_epochs
        tunes = n_epochs >= self.net.warmup_epochs and tuning.to_follow is None
        state.set_training(True)
        losses, sizes = self.train(network, n_epochs, tunes=tunes)
        self.finish_epoch()
        values = tuning.values(n_epochs)
        tuning.set_values_of_module(state.module, values)
        columns = {}
        if tuning.to_follow is None or tuning.is_fixed:
            columns = {"hyperparameters": _recorded(values), "scales": tuning.scales()}
        # One transfer per epoch: reading the loss of each batch would wait for the device.
        return [EpochReport(torch.stack(losses).tolist(), sizes, columns)]

    def train(self, network, n_epochs, *, tunes):
        """Train and tune for an epoch; return the losses and sizes of the batches."""
        losses, sizes = [], []
        for batch in self.batches(network):
            check_time()
            losses.append(self.step(network, n_epochs, batch))
            sizes.append(len(batch[1]))
            self.tuning.n_steps += 1
            if tunes:
                self.tune(batch)
        return losses, sizes

    def tune(self, batch):
        """Update the hyperparameters after a training step, if it is time."""

    def finish_epoch(self):
        """Bring the module up to date, before it is checked."""

    def batches(self, network):
        """Yield batches as ``(X, y, weight, index)``; the index only where it is read."""
        batches = network.batches
        if not self._indexed:
            yield from ((*triple, None) for triple in batches.triples())
            return
        parts = batches.order().split(batches.sizes())
        yield from ((*batches.rows.take(index), index) for index in parts)

    def current_values(self, n_epochs):
        """Return the values as tensors without a gradient; computed when they have changed."""
        key = n_epochs if self.tuning.to_follow is not None else self.tuning.counts["updates"]
        if self._current[0] != key:
            with torch.no_grad():
                self._current = key, self.tuning.tensors(n_epochs)
        return self._current[1]

    def step(self, network, n_epochs, batch):
        """Update the weights at the current values; return the loss without penalties."""
        optimizer = network.state.optimizer
        h = self.current_values(n_epochs)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        with self.drawing:
            loss = self.objective.loss_without_penalty(h, *batch, generator=self.generator)
        loss.backward()
        self.objective.add_gradients_of_penalty(h)
        optimizer.step()
        if network.each_batch:
            network.after_batch()
        return loss.detach()


class ImplicitRunner(GradientRunner):
    """Follows the gradient by the implicit function theorem on single batches.

    Every `train_steps` steps the linear system of the last batch is solved with `solver` and
    `n_terms` (Lorraine et al. 2020, algorithm 1, with training steps in between).
    """

    def __init__(self, net, batches, valid, *, train_steps, solver, n_terms):
        super().__init__(net, batches, valid)
        self.train_steps, self.solver, self.n_terms = train_steps, solver, n_terms

    def tune(self, batch):
        """Update the hyperparameters by the gradient of a batch of validation data."""
        tuning, objective = self.tuning, self.objective
        if tuning.n_steps % self.train_steps:
            return
        module, u = objective.module, tuning.position
        w = objective.trained()
        module.eval()
        with self.tuning_drawing:
            valid_loss = objective.validation_loss(tuning.tensors(), *next(self.valid), w)
        module.train()
        found = torch.autograd.grad(valid_loss, [*w.values(), u], allow_unused=True)
        direct = found[-1]
        pairs = zip(found, w.values(), strict=False)
        v = torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])

        def training_loss():
            with self.tuning_drawing:
                return objective.training_loss(
                    *(tuning.tensors(), *batch), w=w, generator=self.tuning_generator
                )

        curvature = Curvature([training_loss], list(w.values()))
        damping = tuning.damping * _LESS_DAMPING
        step = None
        if self.solver == "neumann" and tuning.step is not None:
            step = tuning.step * _LONGER_STEP
        solution = solve(
            *(self.solver, curvature.product, v, self.n_terms, step),
            damping if damping > _NO_DAMPING else 0.0,
        )
        (mixed,) = curvature.mixed(solution.x, [u])
        gradient = torch.zeros_like(u) if direct is None else direct
        if mixed is not None:
            gradient = gradient - mixed
        if gradient.isfinite().all():
            tuning.move(gradient.detach(), solution)


def _recorded(values):
    """Return values for the history: float32 where there are many."""
    return {
        name: value.astype(np.float32) if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }


def _endless(batches):
    while True:
        yield from batches.triples()
