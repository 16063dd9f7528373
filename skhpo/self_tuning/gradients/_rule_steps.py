"""Training steps at given values of hyperparameters, without autograd."""

from __future__ import annotations

import torch

from ...estimators.fitting import describe_training
from ...training.direct import Masks
from ...training.runners import DirectSteps

__all__ = ["RuleSteps"]


class RuleSteps:
    """Steps by rules, between which others may step the same optimizer.

    Hyperparameters may be penalties, weights of rows and changes of the inputs; what enters the
    loss in another way has no rule.

    Parameters
    ----------
    net : self-tuning estimator
        Built.
    batches : RowBatches
    objective : Objective
    """

    def __init__(self, net, batches, objective):
        self.objective, self.program, self._begun = objective, None, False
        masks = Masks(lambda: net._state.streams["forward"].generator())
        places, self._direct = objective.places, None
        if not (places.smoothing or places.values or places.criterion):
            self._direct = DirectSteps(lambda: describe_training(net, batches, masks))

    def can_train(self):
        """Whether an epoch that begins can be trained."""
        can = self._direct is not None and self._direct.can_train()
        self.program = self._direct.program if can else None
        return can

    def step(self, h, batch, generator):
        """Update the weights; return the loss of the batch without penalties."""
        objective, program = self.objective, self.program
        with torch.inference_mode():
            if not self._begun:
                program.begin()
                self._begun = True
            X, y, weight = objective.changed_batch(h, *batch, generator)
            losses = program.step(
                *(X, y, weight), lambda found: objective.add_gradients_of_penalty(h, found)
            )
            return (losses if weight is None else losses * weight).mean()

    def finish(self):
        """Leave the optimizer as after steps of its own."""
        if self._begun:
            self.program.finish()
            self._begun = False
