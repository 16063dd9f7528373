"""Training steps at given settings of the optimizer, which nothing is differentiated through."""

from __future__ import annotations

import contextlib

import torch

from ...limits import check_time
from ._rule_steps import RuleSteps

__all__ = ["PlainSteps"]


class PlainSteps:
    """Steps at values of hyperparameters that may be settings of the optimizer.

    They are those without autograd, where all layers have rules and the parameters of a group of
    the optimizer have the same settings. `drawing` is the context in which the module draws random
    numbers of training, `generator` draws changes of the inputs.
    """

    def __init__(self, net, batches, objective, drawing, generator):
        self.objective, self.drawing, self.generator = objective, drawing, generator
        self.by_rules = RuleSteps(net, batches, objective)

    def begin_epoch(self, optimizer, h):
        """Look again whether there are rules; `optimizer` is a `FlatOptimizer`."""
        self.optimizer = optimizer
        self._of_groups = optimizer.settings_of_groups()
        self.by_rules.can_train(h)

    def run(self, h, batches, after_batch=None):
        """Train with batches; return the losses without penalties."""
        losses = []
        if self.by_rules.program is None or self._of_groups is None:
            w, state = self.optimizer.gather()
            try:
                for batch in batches:
                    check_time()
                    w, state, loss = self.step(w.requires_grad_(), state, h, batch, keep=False)
                    losses.append(loss)
                    if after_batch is not None:
                        after_batch()
            finally:
                self.optimizer.scatter(w, state)
            return losses
        with self._settings(h):
            try:
                for batch in batches:
                    check_time()
                    losses.append(self.by_rules.step(h, batch, self.generator))
                    if after_batch is not None:
                        after_batch()
            finally:
                self.by_rules.finish()
        return losses

    @contextlib.contextmanager
    def _settings(self, h):
        """Set settings of the optimizer's groups within this context."""
        groups = self.optimizer.optimizer.param_groups
        before = [dict(group) for group in groups]
        for group, names in zip(groups, self._of_groups, strict=True):
            for key, name in names.items():
                value = float(h[name])
                if key.startswith("beta"):
                    betas = list(group["betas"])
                    betas[int(key[-1]) - 1] = value
                    group["betas"] = tuple(betas)
                else:
                    group[key] = value * (group.get("lr_multiplier", 1) if key == "lr" else 1)
        try:
            yield
        finally:
            for group, kept in zip(groups, before, strict=True):
                group.update(kept)

    def step(self, w, state, h, batch, *, keep):
        """Return weights and state after a step by autograd, and the loss.

        The weights, of shape (n_weights,), require a gradient; with `keep` the step is
        differentiable.
        """
        objective, parameters = self.objective, self.optimizer.views(w)
        with self.drawing:
            loss = objective.loss_without_penalty(
                *(h, *batch), w=parameters, generator=self.generator
            )
        objective.keep_buffers()
        total = loss + objective.penalty(h, parameters)
        (g,) = torch.autograd.grad(total, w, create_graph=keep)
        with contextlib.nullcontext() if keep else torch.no_grad():
            w, state = self.optimizer.step(w, g, state, h)
        return w, state, loss.detach()
