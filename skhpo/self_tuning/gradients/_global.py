"""A network of weights over the whole range of hyperparameters, and tuning on it.

Notation: s are the positions of hyperparameters in their ranges, from 0 to 1; w(s) the weights that
a hypernetwork gives (Lorraine and Duvenaud 2018).
"""

from __future__ import annotations

import numpy as np
import torch

from ._hypernetwork import MARGIN
from ._runner import GradientRunner

__all__ = ["GlobalRunner"]

# Points of a response curve.
_N_POINTS = 50


class GlobalRunner(GradientRunner):
    """Trains a hypernetwork at random positions; the hyperparameters follow its validation loss."""

    def __init__(self, net, batches, valid, *, train_steps):
        super().__init__(net, batches, valid)
        self.train_steps = train_steps
        if self.objective.buffers and self.tuning.hypernetwork is not None:
            raise ValueError(
                "variant='global' needs a module without running statistics (batch normalization), "
                f"but it has {next(iter(self.objective.buffers))!r}"
            )

    def step(self, network, n_epochs, batch, *, tunes):
        """Update the hypernetwork at a random position; return the loss without penalties."""
        tuning = self.tuning
        if tuning.hypernetwork is None:
            return super().step(network, n_epochs, batch, tunes=tunes)
        optimizer, like = network.state.optimizer, tuning.position
        s = torch.rand(len(like), generator=self.tuning_generator, device=like.device)
        s = s.to(like.dtype) * (1 - 2 * MARGIN) + MARGIN
        h, w = tuning.tensors_at(torch.logit(s)), tuning.hypernetwork(s)
        optimizer.zero_grad()
        with self.drawing:
            loss = self.objective.loss_without_penalty(h, *batch, w=w, generator=self.generator)
        (loss + self.objective.penalty(h, w)).backward()
        optimizer.step()
        network.after_batch()
        if tunes:
            self._tune()
        return loss.detach()

    def _tune(self):
        """Update the hyperparameters by the gradient of a batch of validation data."""
        u = self.tuning.position
        loss = self._validation_loss(u, next(self.valid))
        (gradient,) = torch.autograd.grad(loss, [u])
        if gradient.isfinite().all():
            self.tuning.move(gradient)

    def _validation_loss(self, u, batch):
        w = self.tuning.hypernetwork(torch.sigmoid(u))
        return self.validation_loss(self.tuning.tensors_at(u), batch, w)

    def finish_epoch(self):
        """Write the weights at the current position into the module, which is checked."""
        if self.tuning.hypernetwork is not None:
            self.tuning.write_weights(self.objective.module)

    def release(self, network):
        """Measure the response curves of a network that leaves."""
        if self.tuning.hypernetwork is not None:
            self._measure_curves()

    @torch.no_grad()
    def _measure_curves(self):
        """Compute the validation loss along each hyperparameter, the others at their values."""
        tuning, rows = self.tuning, self.valid_rows
        shares = torch.linspace(MARGIN, 1 - MARGIN, _N_POINTS).to(tuning.position)
        batch, curves = rows.take(torch.arange(len(rows))), {}
        for i, name in enumerate(tuning.names):
            losses, values = [], []
            for share in torch.logit(shares):
                u = tuning.position.detach().clone()
                u[i] = share
                losses.append(float(self._validation_loss(u, batch)))
                values.append(float(tuning.tensors_at(u)[name]))
            curves[name] = np.array(values), np.array(losses)
        tuning.curves = curves
