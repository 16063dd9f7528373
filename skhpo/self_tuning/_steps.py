"""Training steps, which move weights, and tuning steps, which move hyperparameters."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ._penalties import Decay

__all__ = ["steps_of"]


def steps_of(net):
    """Return the steps of an estimator, by its variant or for a given schedule."""
    if net.tuning_.to_follow is not None:
        return ScheduledSteps(net)
    return {"stn": Steps, "delta": DeltaSteps}[net.variant](net)


class Steps:
    """The steps of a self-tuning network (MacKay et al. 2019, algorithm 1).

    Notation: u the position of the hyperparameters, sigma their scales, e ~ N(0, I) a draw per
    example; training and tuning evaluate the loss at u + sigma e. `passes` computes gradients; it
    is set before each epoch.
    """

    passes = None

    def __init__(self, net):
        self.net = net
        self.tuning = tuning = net.tuning_
        position = tuning.position
        position.grad = torch.zeros_like(position, requires_grad=False)
        self.center, (self.u, self.spreads) = position.detach()[:1], position.detach()
        names, per_batch = tuning.ranges.names, tuning.effects.per_batch
        self.per_batch = [i for i, name in enumerate(names) if name in per_batch]
        responds = tuning.effects.decay and tuning.to_follow is None
        self.decay = Decay(tuning.effects.decay) if responds else None
        streams = net._state.streams
        self.generator, self.tuning_generator = (
            streams[name].generator(net.device_) for name in ("perturbation", "tuning")
        )

    def begin(self, passes):
        """Start an epoch whose gradients `passes` computes."""
        self.passes = passes
        self.scales = self.tuning.scales()
        passes.begin()
        if self.decay is not None:
            self.decay.bind(passes.keeps_gradients)

    def _perturb(self, n, generator):
        draws = self.u.new_empty(n, self.u.size(0)).normal_(generator=generator)
        if self.per_batch:
            draws[:, self.per_batch] = draws[:1, self.per_batch]
        return draws

    def _values(self, u):
        columns = self.tuning.ranges.values(u).t().unsqueeze(2)
        return dict(zip(self.tuning.context.names, columns, strict=True))

    def train(self, X, y, weight):
        """Update the weights by the loss at perturbed values; return it without penalties."""
        u = torch.addcmul(self.u, self._perturb(y.size(0), self.generator), self.scales)
        values = self._values(u)
        loss = self.passes.perturbed(X, y, weight, u, values)
        if self.decay is not None:
            self.decay.add_gradients(u, values)
        self.passes.step(self.net.optimizer_)
        if self.tuning.norms:
            self.passes.unperturbed(X, self.center, self._values(self.center))
        self.tuning.context.rest()
        return loss

    def _train_own(self, X, y, weight, values):
        """Update the elementary weights by the loss at values that all examples share."""
        loss = self.passes.own(X, y, weight, values)
        for layer, name in self.tuning.effects.decay:
            for part in layer.penalised():
                if part.weight.grad is not None:
                    part.weight.grad.addcmul_(part.weight.detach(), values[name])
        self.passes.step(self.net.optimizer_)
        self.tuning.context.rest()
        return loss

    def _response(self, draws):
        """Return the perturbed position and the response input."""
        u = torch.addcmul(self.u, draws, self.scales)
        return u, u

    def tune(self, X, y, weight):
        """Update the hyperparameters by the validation loss, through the response only."""
        draws = self._perturb(y.size(0), self.tuning_generator)
        u, response = self._response(draws)
        values = self._values(u) if self.tuning.reads_values else None
        gradient = self.passes.tuned(X, y, weight, response, values)
        self.tuning.context.rest()
        self._move(gradient, draws)

    def _move(self, gradient, draws):
        tuning, net = self.tuning, self.net
        of_u, of_scales = tuning.position.grad
        torch.sum(gradient, 0, out=of_u)
        if net.tune_scales:
            torch.sum(gradient * draws, 0, out=of_scales)
            # The derivative of the entropy of N(u, sigma^2) is 1 / sigma; sigma is a softplus.
            of_scales.sub_(net.entropy_weight / self.scales).mul_(torch.sigmoid(self.spreads))
        self.passes.step(tuning.hyper_optimizer)
        self.scales = F.softplus(self.spreads)


class DeltaSteps(Steps):
    """The steps of the centred variant (Bae and Grosse 2020, Delta-STN).

    The response input is sigma e. The elementary weights are trained at unperturbed values; the
    response is trained on the network linearised around them.
    """

    def train(self, X, y, weight):
        """Update the weights at unperturbed values, then the response at perturbed ones."""
        loss = self._train_own(X, y, weight, self._values(self.center))
        u, response = self._response(self._perturb(y.size(0), self.generator))
        values = self._values(u)
        self.passes.perturbed(X, y, weight, response, values)
        if self.decay is not None:
            self.decay.add_gradients(response, values, response_only=True)
        self.passes.step(self.tuning.response_optimizer)
        self.tuning.context.rest()
        return loss

    def _response(self, draws):
        response = draws * self.scales
        return self.u + response, response


class ScheduledSteps(Steps):
    """The steps of a plain network with the values of a schedule, one row per epoch."""

    def train(self, X, y, weight):
        """Update the weights by the loss at the epoch's values."""
        row = self.tuning.to_follow[self.net.n_iter_]
        values = {name: self.scales.new_full((1, 1), value) for name, value in row.items()}
        return self._train_own(X, y, weight, values)
