"""Forward and backward passes of a self-tuning network by autograd."""

from __future__ import annotations

import contextlib

import torch

from ..estimators.feeding import drawing_from
from ..training.forwarding import call_module
from ._augmentation import augment
from ._modulated import response_rows
from ._penalties import activity_penalty
from ._tangent import Dual

__all__ = ["AutogradPasses", "Passes"]


class Passes:
    """Forward and backward passes that the steps consist of.

    They get a batch X, y and its row weights or None; the values of the hyperparameters per row;
    and the response inputs of shape (n or 1, n_hyperparameters).

    * ``perturbed`` computes the gradients of all parameters, and returns the loss without
      penalties; in the centred variant those of the response only, on the linearised network.
    * ``own`` does so for a network without response.
    * ``unperturbed`` only updates the statistics of normalizations.
    * ``tuned`` returns the gradient of the validation loss with respect to the response inputs.
    """

    # Whether gradients are the same tensors in all steps of an epoch.
    keeps_gradients = False

    def __init__(self, net):
        self.net, self.tuning = net, net.tuning_
        self.context, self.effects = self.tuning.context, self.tuning.effects
        self._generator = net._state.streams["forward"].generator(net.device_)

    def _regularise(self, X, values):
        """Activate regularisation with these values; return the augmented inputs."""
        context = self.context
        context.values = values
        context.regularises = True
        context.generator = self._generator
        inputs = self.effects.inputs
        return augment(X, inputs, values, self._generator) if inputs else X

    def begin(self):
        """Start an epoch."""

    def finish(self):
        """End an epoch."""


class AutogradPasses(Passes):
    """`Passes` by autograd."""

    def __init__(self, net):
        super().__init__(net)
        tuning = self.tuning
        self._parts = [part for layer in tuning.responding for part in layer.penalised()]
        self._parameters = [p for group in net.optimizer_.param_groups for p in group["params"]]
        self._response_parameters = tuning.response_parameters() if tuning.centred else ()
        self._drawing = contextlib.nullcontext()
        if tuning.may_draw:
            self._drawing = drawing_from(net, net._state.streams["forward"])

    def _respond(self, response):
        context = self.context
        context.response, context.tangent = response, self.tuning.centred
        context.rows = response_rows(self._parts, response, centred=context.tangent)

    def _output(self, X):
        output = call_module(self.tuning.module, X)
        output = output[0] if isinstance(output, tuple) else output
        return output.linearised() if isinstance(output, Dual) else output

    def _loss(self, X, y, weight, values):
        X = self._regularise(X, values)
        self.context.outputs = [] if self.effects.activity else None
        if self.effects.smoothing:
            y = self.net._smooth(y, values["label_smoothing"])
        self.net._batch_weight = weight
        with self._drawing:
            return self.net.get_loss(self._output(X), y, X=X, training=True)

    def _backward(self, loss, values):
        for parameter in self._parameters:
            parameter.grad = None
        total, names = loss, self.effects.activity
        if names:
            total = loss + activity_penalty(self.context.outputs, names, values)
        total.backward()
        return loss.detach()

    def perturbed(self, X, y, weight, response, values):
        self._respond(response)
        with self.tuning.keeping_statistics():
            loss = self._loss(X, y, weight, values)
        if not self.tuning.centred:
            return self._backward(loss, values)
        gradients = torch.autograd.grad(loss, self._response_parameters)
        for parameter, gradient in zip(self._response_parameters, gradients, strict=True):
            parameter.grad = gradient
        return None

    def own(self, X, y, weight, values):
        return self._backward(self._loss(X, y, weight, values), values)

    def unperturbed(self, X, response, values):
        self._respond(response)
        X = self._regularise(X, values)
        with torch.no_grad(), self._drawing:
            self._output(X)

    def tuned(self, X, y, weight, response, values):
        response = response.requires_grad_()
        self._respond(response)
        self.context.values = values
        self.net._batch_weight = weight
        with self.tuning.evaluating():
            loss = self.net.get_loss(self._output(X), y, X=X, training=weight is not None)
            (gradient,) = torch.autograd.grad(loss, response)
        return gradient

    def step(self, optimizer):
        """Step an optimizer."""
        optimizer.step()
