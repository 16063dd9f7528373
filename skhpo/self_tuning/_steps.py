"""Training steps, which move weights, and tuning steps, which move hyperparameters."""

from __future__ import annotations

import contextlib

import torch
from torch.nn import functional as F

from ._augmentation import augment
from ._penalties import l2_penalty

__all__ = ["Steps"]


class Steps:
    """The steps of a self-tuning network (MacKay et al. 2019, algorithm 1).

    Notation: u the position of the hyperparameters, sigma their scales, e ~ N(0, I) a draw per
    example; training and tuning look at u + sigma e.

    Parameters
    ----------
    net : estimator
        With its `tuning_`.
    """

    def __init__(self, net):
        self.net = net
        self.tuning = tuning = net.tuning_
        self.scales = tuning.scales()
        names, per_batch = tuning.ranges.names, tuning.effects.per_batch
        self.per_batch = [i for i, name in enumerate(names) if name in per_batch]
        optimizer = net.optimizer_
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        streams = {name: net._streams[name] for name in ("perturbation", "forward", "tuning")}
        generators = {name: s.generator(net.device_) for name, s in streams.items()}
        self.generator = generators["perturbation"]
        self.dropping = generators["forward"]
        self.tuning_generator = generators["tuning"]
        self.drawing = contextlib.nullcontext()
        if tuning.may_draw:
            self.drawing = net._drawing_from(streams["forward"])

    def _perturb(self, n, generator):
        like = self.scales
        draws = torch.randn(
            (n, len(like)), generator=generator, device=like.device, dtype=like.dtype
        )
        if self.per_batch:
            draws[:, self.per_batch] = draws[:1, self.per_batch]
        return draws

    def _forward(self, X):
        module = self.tuning.module
        return module(X) if isinstance(X, torch.Tensor) else module(**X)

    def train(self, X, y):
        """Move the weights by the loss at perturbed values.

        Parameters
        ----------
        X : Tensor or dict of str to Tensor
        y : Tensor

        Returns
        -------
        loss : Tensor of shape ()
            Without penalties.
        """
        tuning, net = self.tuning, self.net
        context, effects = tuning.context, tuning.effects
        draws = self._perturb(len(y), self.generator)
        u = torch.addcmul(tuning.position.detach()[0], draws, self.scales)
        columns = tuning.ranges.values(u).split(1, 1)
        context.response = u
        context.values = values = dict(zip(context.names, columns, strict=True))
        context.regularises = True
        context.generator = self.dropping
        context.scales = {} if effects.decay else None
        if effects.inputs:
            X = augment(X, effects.inputs, values, self.dropping)
        if effects.smoothing:
            y = net._smooth(y, values["label_smoothing"])
        with self.drawing:
            output = self._forward(X)
            loss = net.get_loss(output, y, X=X, training=True)
        total = loss
        for layer, name in effects.decay:
            scales = context.scales[layer]
            total = total + l2_penalty(layer.weight, layer.hyper_weight, scales, values[name])
        for parameter in self.parameters:
            parameter.grad = None
        total.backward()
        net.optimizer_.step()
        context.rest()
        return loss.detach()

    def tune(self, X, y, weighted):
        """Move the hyperparameters by the validation loss, through the response only.

        Parameters
        ----------
        X : Tensor or dict of str to Tensor
        y : Tensor
        weighted : bool
            Whether the rows have weights.
        """
        tuning, net = self.tuning, self.net
        context = tuning.context
        draws = self._perturb(len(y), self.tuning_generator)
        position = tuning.position.detach()
        u = torch.addcmul(position[0], draws, self.scales)
        if tuning.reads_values:
            columns = tuning.ranges.values(u).split(1, 1)
            context.values = dict(zip(context.names, columns, strict=True))
        context.response = response = u.requires_grad_()
        tuning.set_training(False)
        loss = net.get_loss(self._forward(X), y, X=X, training=weighted)
        (gradient,) = torch.autograd.grad(loss, response)
        tuning.set_training(True)
        context.rest()
        of_position = gradient.sum(0)
        if net.tune_scales:
            # The entropy of N(u, sigma^2) grows by 1 / sigma.
            of_scales = (gradient * draws).sum(0) - net.entropy_weight / self.scales
            of_scales = of_scales * torch.sigmoid(position[1])
        else:
            of_scales = torch.zeros_like(of_position)
        tuning.position.grad = torch.stack((of_position, of_scales))
        tuning.hyper_optimizer.step()
        self.scales = F.softplus(position[1])
