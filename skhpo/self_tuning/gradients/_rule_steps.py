"""Training steps at given values of hyperparameters, without autograd."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ...estimators.fitting import describe_training
from ...training.randomness import Masks
from ...training.runners import DirectSteps

__all__ = ["RuleSteps"]

# Smoothing that has a rule of its own, and changes nothing.
_LEAST = 1e-12


class RuleSteps:
    """Steps by rules of a net that is built, between which others may step the same optimizer.

    Hyperparameters may be penalties, weights of rows, changes of the inputs, rates of dropout, and
    smoothed labels of the cross-entropy; what enters the loss in another way has no rule.
    """

    _values = None

    def __init__(self, net, batches, objective):
        self.objective, self.program, self._begun = objective, None, False
        masks = Masks(lambda: net._state.streams["forward"].generator())
        places, self._direct, self._criterion = objective.places, None, None
        if places.smoothing:
            self._criterion = copy.copy(objective.criterion)
        can_smooth = type(self._criterion) is nn.CrossEntropyLoss and self._criterion.weight is None
        if (places.smoothing and not can_smooth) or places.values or places.criterion:
            return

        def describe():
            found = describe_training(net, batches, masks)
            if self._criterion is None or isinstance(found, str):
                return found
            if net.device_.type != "cpu":
                return "a captured graph has the smoothing of its capture"
            return {**found, "criterion": self._criterion}

        self._direct = DirectSteps(describe)

    def can_train(self, h):
        """Whether an epoch that begins with these values can be trained."""
        self._set(h)
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
            self._set(h)
            X, y, weight = objective.changed_batch(h, *batch, generator)
            losses = program.step(
                *(X, y, weight), lambda found: objective.add_gradients_of_penalty(h, found)
            )
            return (losses if weight is None else losses * weight).mean()

    def _set(self, h):
        self.objective.set_rates(h)
        if self._criterion is not None and self._values is not h:
            self._values = h
            self._criterion.label_smoothing = max(float(h["label_smoothing"]), _LEAST)

    def finish(self):
        """Leave the optimizer as after steps of its own."""
        if self._begun:
            self.program.finish()
            self._begun = False
