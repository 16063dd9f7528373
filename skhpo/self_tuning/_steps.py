"""Training steps, which move weights, and tuning steps, which move hyperparameters."""

from __future__ import annotations

import contextlib

import torch
from torch.nn import functional as F

from ._augmentation import augment
from ._modulated import rows_of
from ._penalties import Decay, activity_penalty
from ._tangent import Dual

__all__ = ["steps_of"]


def steps_of(net):
    """Return the steps of an estimator: those of its variant, or of a schedule to follow."""
    if net.tuning_.to_follow is not None:
        return ScheduledSteps(net)
    return {"stn": Steps, "delta": DeltaSteps}[net.variant](net)


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
        self.responding = [part for layer in tuning.responding for part in layer.penalised()]
        places = tuning.effects.decay
        self.decay = Decay(places) if places else None
        optimizer = net.optimizer_
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        streams = {name: net._state.streams[name] for name in ("perturbation", "forward", "tuning")}
        generators = {name: s.generator(net.device_) for name, s in streams.items()}
        self.generator = generators["perturbation"]
        self.dropping = generators["forward"]
        self.tuning_generator = generators["tuning"]
        # Statistics of batch normalizations are those of unperturbed passes.
        self.norms = [(m, m.momentum) for m in tuning.module.modules() if _is_norm(m)]
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

    def _respond(self, response):
        context = self.tuning.context
        context.response = response
        context.rows = rows_of(self.responding, response, centred=context.tangent)

    def _forward(self, X):
        module = self.tuning.module
        return module(X) if isinstance(X, torch.Tensor) else module(**X)

    def _regularise(self, X, y, values):
        """Change a batch as the hyperparameters say, and have the layers regularise."""
        context, effects = self.tuning.context, self.tuning.effects
        context.values = values
        context.regularises = True
        context.generator = self.dropping
        context.outputs = [] if effects.activity else None
        if effects.inputs:
            X = augment(X, effects.inputs, values, self.dropping)
        if effects.smoothing:
            y = self.net._smooth(y, values["label_smoothing"])
        return X, y

    def _values(self, u):
        columns = self.tuning.ranges.values(u).split(1, 1)
        return dict(zip(self.tuning.context.names, columns, strict=True))

    def _loss(self, X, y):
        with self.drawing:
            output = self._forward(X)
            if isinstance(output, tuple):
                output = output[0]
            if isinstance(output, Dual):
                output = output.linearised()
            return self.net.get_loss(output, y, X=X, training=True)

    def _activity(self, values):
        context, names = self.tuning.context, self.tuning.effects.activity
        return activity_penalty(context.outputs, names, values)

    def _decay(self, response, values, *, response_only=False):
        """Add the gradients of the L2 penalties."""
        if self.decay is not None:
            self.decay.add_gradients(response, values, response_only=response_only)

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
        context = self.tuning.context
        draws = self._perturb(y.shape[0], self.generator)
        u = torch.addcmul(self.tuning.position.detach()[0], draws, self.scales)
        self._respond(u)
        values = self._values(u)
        loss = self._perturbed_loss(X, y, values)
        self._backward(loss, values)
        self._decay(u, values)
        self.net.optimizer_.step()
        if self.norms:
            self._pass_unperturbed(X, y)
        context.rest()
        return loss.detach()

    def _perturbed_loss(self, X, y, values):
        for norm, _ in self.norms:
            norm.momentum = 0.0
        loss = self._loss(*self._regularise(X, y, values))
        for norm, momentum in self.norms:
            norm.momentum = momentum
        return loss

    def _backward(self, loss, values):
        for parameter in self.parameters:
            parameter.grad = None
        if self.tuning.effects.activity:
            loss = loss + self._activity(values)
        loss.backward()

    def _pass_unperturbed(self, X, y):
        center = self.tuning.center()
        self._respond(center)
        X, _ = self._regularise(X, y, self._values(center))
        with torch.no_grad(), self.drawing:
            self._forward(X)

    def _train_own(self, X, y, values):
        """Move the weights themselves by the loss at values that all examples share."""
        context = self.tuning.context
        loss = self._loss(*self._regularise(X, y, values))
        self._backward(loss, values)
        for layer, name in self.tuning.effects.decay:
            for part in layer.penalised():
                if part.weight.grad is not None:
                    part.weight.grad.addcmul_(part.weight.detach(), values[name])
        self.net.optimizer_.step()
        context.rest()
        return loss.detach()

    def _response(self, draws):
        """Return the perturbed position and what the layers get of it, a leaf of the graph."""
        u = torch.addcmul(self.tuning.position.detach()[0], draws, self.scales)
        return u, u.requires_grad_()

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
        draws = self._perturb(y.shape[0], self.tuning_generator)
        u, response = self._response(draws)
        self._respond(response)
        if tuning.reads_values:
            context.values = self._values(u)
        tuning.set_training(False)
        output = self._forward(X)
        if isinstance(output, tuple):
            output = output[0]
        if isinstance(output, Dual):
            output = output.linearised()
        loss = net.get_loss(output, y, X=X, training=weighted)
        (gradient,) = torch.autograd.grad(loss, response)
        tuning.set_training(True)
        context.rest()
        self._move(gradient, draws)

    def _move(self, gradient, draws):
        tuning, net = self.tuning, self.net
        position = tuning.position.detach()
        of_both = torch.stack((gradient, gradient * draws)).sum(1)
        if net.tune_scales:
            # The entropy of N(u, sigma^2) grows by 1 / sigma, and sigma is a softplus.
            of_scales = of_both[1].sub_(net.entropy_weight / self.scales)
            of_scales.mul_(torch.sigmoid(position[1]))
        else:
            of_both[1] = 0
        tuning.position.grad = of_both
        tuning.hyper_optimizer.step()
        self.scales = F.softplus(position[1])


class DeltaSteps(Steps):
    """The steps of the centred variant (Bae and Grosse 2020, Delta-STN).

    The response input is sigma e. The weights themselves are trained at unperturbed values; what
    the response adds is trained on the network linearised around them.
    """

    def __init__(self, net):
        super().__init__(net)
        self.response_parameters = self.tuning.response_parameters()

    def train(self, X, y):
        """Move the weights by the loss at unperturbed values, the response at perturbed ones."""
        loss = self._train_own(X, y, self._values(self.tuning.center()))
        self._train_response(X, y)
        self.tuning.context.rest()
        return loss

    def _train_response(self, X, y):
        tuning, context = self.tuning, self.tuning.context
        draws = self._perturb(y.shape[0], self.generator)
        response = draws * self.scales
        context.tangent = True
        self._respond(response)
        values = self._values(tuning.position.detach()[0] + response)
        loss = self._perturbed_loss(X, y, values)
        gradients = torch.autograd.grad(loss, self.response_parameters)
        for parameter, gradient in zip(self.response_parameters, gradients, strict=True):
            parameter.grad = gradient
        self._decay(response, values, response_only=True)
        tuning.response_optimizer.step()

    def _response(self, draws):
        response = draws * self.scales
        u = self.tuning.position.detach()[0] + response
        self.tuning.context.tangent = True
        return u, response.requires_grad_()


class ScheduledSteps(Steps):
    """The steps of a plain network under the values of a schedule, one row per epoch."""

    def train(self, X, y):
        """Move the weights by the loss at the epoch's values."""
        row = self.tuning.to_follow[self.net.n_iter_]
        values = {name: self.scales.new_full((1, 1), value) for name, value in row.items()}
        return self._train_own(X, y, values)


def _is_norm(layer):
    return isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)
