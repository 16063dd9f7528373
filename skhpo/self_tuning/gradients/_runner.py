"""An epoch of a plain network whose hyperparameters follow a gradient every few steps."""

from __future__ import annotations

import contextlib
import functools

import numpy as np
import torch

from ...estimators.feeding import drawing_from
from ...limits import check_time
from ...training.batches import RowBatches
from ...training.engine import EpochReport, EpochRunner
from ._curvature import StepCurvature
from ._objective import Objective
from ._rule_steps import RuleSteps
from ._solvers import Series, solve

__all__ = ["GradientRunner", "ImplicitRunner"]

# Factor by which the damping shrinks between two linear systems.
_LESS_DAMPING = 0.7
# Damping below it is none.
_NO_DAMPING = 1e-6


class GradientRunner(EpochRunner):
    """Trains one network by autograd; a subclass tunes in some steps.

    `valid` are the rows to tune on; None only where nothing is tuned.
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
            self.drawing = drawing_from(net, streams["forward"])
            self.tuning_drawing = drawing_from(net, streams["tuning"])
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
            self.tuning.n_steps += 1
            due = tunes and self.tuning.n_steps % self.train_steps == 0
            losses.append(self.step(network, n_epochs, batch, tunes=due))
            sizes.append(len(batch[1]))
        return losses, sizes

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

    def step(self, network, n_epochs, batch, *, tunes):
        """Update the weights at the current values; return the loss without penalties.

        With `tunes` a subclass updates the hyperparameters as well.
        """
        optimizer = network.state.optimizer
        h = self.current_values(n_epochs)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        with self.drawing:
            loss = self.objective.loss_without_penalty(h, *batch, generator=self.generator)
        loss.backward()
        parameters = self.objective.parameters.values()
        self.objective.add_gradients_of_penalty(h, {p: p.grad for p in parameters})
        optimizer.step()
        network.after_batch()
        return loss.detach()

    def validation_loss(self, h, batch, w=None):
        """Return the loss of a batch of validation data; without `w` at the module's weights."""
        module = self.objective.module
        module.eval()
        with self.tuning_drawing:
            loss = self.objective.validation_loss(h, *batch, w)
        module.train()
        return loss


class ImplicitRunner(GradientRunner):
    """Follows the gradient by the implicit function theorem on single batches.

    Every `train_steps` steps the gradient of the step's own batch keeps its graph, for products
    with the Hessian. "neumann" is a series that goes on from update to update: with v the gradient
    of a batch of validation data, the solution x of the last update becomes x + a (v - H x),
    `n_terms` times (Lorraine et al. 2020, algorithm 3, from a start that averages over batches, as
    in SOBA: Dagréou et al. 2022). The other solvers begin again.
    """

    def __init__(self, net, batches, valid, *, train_steps, solver, n_terms):
        super().__init__(net, batches, valid)
        self.train_steps, self.solver, self.n_terms = train_steps, solver, n_terms
        self.by_rules = RuleSteps(net, batches, self.objective)

    def train(self, network, n_epochs, *, tunes):
        """Train and tune for an epoch; return the losses and sizes of the batches."""
        self.by_rules.can_train(self.current_values(n_epochs))
        try:
            return super().train(network, n_epochs, tunes=tunes)
        finally:
            self.by_rules.finish()

    def step(self, network, n_epochs, batch, *, tunes):
        """Update the weights, and before, if it is time, the hyperparameters."""
        if not tunes and self.by_rules.program is not None:
            loss = self.by_rules.step(self.current_values(n_epochs), batch, self.generator)
            network.after_batch()
            return loss
        self.by_rules.finish()
        if not tunes:
            return super().step(network, n_epochs, batch, tunes=tunes)
        objective, optimizer = self.objective, network.state.optimizer
        weights = list(objective.trained().values())
        h = self.tuning.tensors()
        with self.drawing:
            loss = objective.loss_without_penalty(h, *batch, generator=self.generator)
        updated = [p for group in optimizer.param_groups for p in group["params"]]
        # Those of the criterion, too.
        others = [p for p in updated if p.requires_grad and all(p is not w for w in weights)]
        trained = [*weights, *others]
        found = torch.autograd.grad(loss, trained, create_graph=True, allow_unused=True)
        own = found[: len(weights)]
        self._move(StepCurvature(own, weights, objective, h, self.tuning.position), weights)
        for parameter, gradient in zip(trained, found, strict=True):
            parameter.grad = None if gradient is None else gradient.detach()
        objective.add_gradients_of_penalty(h, {p: p.grad for p in trained})
        optimizer.step()
        network.after_batch()
        return loss.detach()

    def _gradient_of_validation(self, weights):
        """Return the gradient of a batch of validation data for weights and hyperparameters."""
        tuning = self.tuning
        loss = self.validation_loss(tuning.tensors(), next(self.valid))
        *found, direct = torch.autograd.grad(loss, [*weights, tuning.position], allow_unused=True)
        pairs = zip(found, weights, strict=True)
        v = [torch.zeros_like(p) if g is None else g for g, p in pairs]
        return v, torch.zeros_like(tuning.position) if direct is None else direct

    def _move(self, curvature, weights):
        """Update the hyperparameters."""
        tuning = self.tuning
        damping = tuning.damping * _LESS_DAMPING
        damping = damping if damping > _NO_DAMPING else 0.0
        validation = functools.cache(lambda: self._gradient_of_validation(weights))
        if self.solver == "neumann":
            x, shapes = tuning.solution, [p.shape for p in weights]
            # Others may have been frozen since the last update.
            x = x if x and [p.shape for p in x] == shapes else None
            series = Series(x, tuning.step, damping)
            mixed = series.continue_with(curvature.product, lambda: validation()[0], self.n_terms)
            tuning.solution, step, damping = series.x, series.step, series.damping
        elif self.solver == "identity":
            step, (_, mixed) = 1.0, curvature.product(validation()[0], keeps=False)
        else:
            v, _ = validation()
            whole = torch.cat([part.flatten() for part in v])
            product = curvature.product_of_vector
            found = solve(self.solver, product, whole, self.n_terms, None, damping)
            step, damping = found.step, found.damping
            parts = found.x.split([part.numel() for part in v])
            _, mixed = curvature.product(
                *([part.view_as(like) for part, like in zip(parts, v, strict=True)],), keeps=False
            )
        _, direct = validation()
        gradient = direct if mixed is None else direct - mixed
        if gradient.isfinite().all():
            tuning.move(gradient.detach(), step, damping)


def _recorded(values):
    """Return values for the history: float32 where there are many."""
    return {
        name: value.astype(np.float32) if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }


def _endless(batches):
    while True:
        yield from batches.triples()
