"""The losses of a network as functions of its weights and of hyperparameters.

Notation: w are the trained parameters (a dict), h the values of hyperparameters (a dict of
tensors: of one number, or of one per class, example or weight).
"""

from __future__ import annotations

import contextlib
import copy

import torch
from torch.func import functional_call

from ...estimators.feeding import drawing_from
from ...training.forwarding import arguments_for
from ...training.randomness import Stream, may_draw
from .._augmentation import augment
from .._context import Context
from ..layers import HyperValue

__all__ = ["Objective", "smoothed"]

# Of dropout, lest a mask or its derivative be infinite.
_LOWEST_RATE, _HIGHEST_RATE = 1e-6, 1 - 1e-6


class Objective:
    """Training loss with all regularisation, and validation loss without any.

    A copy of the net, which is built, computes the losses by its ``get_loss``; the mode of the
    module (training, evaluation) is set before each loss. Row weights are normalised by the targets
    and weights of `rows`, the training data.
    """

    def __init__(self, net, module, places, rows):
        self.net = net = copy.copy(net)
        net._batch_weight = None
        if places.smoothing:
            net.label_smoothing, net._scheduled = 0.0, {}
            net.criterion_ = _without_smoothing(net.criterion_)
        self.criterion = net.criterion_
        self.module, self.places = module, places
        self.parameters = dict(module.named_parameters())
        self.buffers = dict(module.named_buffers())
        self.context = Context(places.values)
        for layer in module.modules():
            if isinstance(layer, HyperValue):
                layer.attach(self.context if layer.name in places.values else None)
        self.draws = may_draw(module) or bool(places.inputs or places.dropout)
        self._rates_of = None
        self._dropout = {
            name: [module.get_submodule(path) for path in paths]
            for name, paths in places.dropout.items()
        }
        self._labels, self._given = None, 1.0
        if places.rows:
            self._labels = torch.as_tensor(rows.y, device=net.device_).flatten()
            if "class_weight" in places.rows:
                self._labels = self._labels.long()
            if rows.weight is not None:
                self._given = rows.weight if rows.index is None else rows.weight[rows.index]

    def trained(self):
        """Return the parameters that are not frozen."""
        return {k: p for k, p in self.parameters.items() if p.requires_grad}

    def drawing(self, seed):
        """Return a context whose draws depend on a seed only."""
        if not self.draws:
            return contextlib.nullcontext()
        return drawing_from(self.net, Stream(seed, "hypergradient"))

    def training_loss(self, h, X, y, weight, index=None, w=None, generator=None):
        """Return the loss of a batch with penalties.

        `index` are its rows, only read where "sample_weight" is among the hyperparameters. Without
        `w` the weights are the parameters of the module, whose buffers are updated as in training;
        `generator` draws the changes of the inputs.
        """
        return self.loss_without_penalty(h, X, y, weight, index, w, generator) + self.penalty(h, w)

    def penalty(self, h, w=None):
        """Return the penalties on the weights: half their weighted squares."""
        total, weights = 0.0, {**self.parameters, **(w or {})}
        for name, penalised in self.places.decay.items():
            parts = [weights[k] for k in penalised]
            if h[name].ndim:
                squares = torch.cat([p.square().flatten() for p in parts])
                total = total + 0.5 * h[name].dot(squares)
            else:
                total = total + 0.5 * h[name] * sum(p.square().sum() for p in parts)
        return total

    def loss_without_penalty(self, h, X, y, weight, index=None, w=None, generator=None):
        """Return the loss of a batch; see `training_loss`."""
        X, y, weight = self.changed_batch(h, X, y, weight, index, generator)
        if self.places.smoothing:
            y = smoothed(self.net, y, h["label_smoothing"].view(1, 1))
        with self._followed_masks(h):
            return self._loss(h, X, y, weight, w)

    @contextlib.contextmanager
    def _followed_masks(self, h):
        """Give the masks that layers draw within this context a derivative for their rate.

        A mask is 1 + s e, where e has a mean of 0 and a variance of 1, and s = sqrt(p / (1 - p)).
        With a given e, as in variational dropout (Kingma et al. 2015), the derivative is that of
        the expected loss up to terms of the third order of the noise.
        """
        handles = []
        for name, layers in self._dropout.items():
            p = h[name]
            if not p.requires_grad:
                continue
            rate = p.detach().clamp(_LOWEST_RATE, _HIGHEST_RATE)
            # 1, with the derivative of log s.
            growth = 1 + (p - p.detach()) / (2 * rate * (1 - rate))

            def follow(layer, args, output, growth=growth):
                return args[0] + (output - args[0]) * growth

            handles += [layer.register_forward_hook(follow) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def set_rates(self, h):
        """Set the rates of dropout layers to values, unless these are the last ones."""
        if self._rates_of is h:
            return
        self._rates_of = h
        for name, layers in self._dropout.items():
            rate = min(max(float(h[name].detach()), 0.0), _HIGHEST_RATE)
            for layer in layers:
                layer.p = rate

    def changed_batch(self, h, X, y, weight, index=None, generator=None):
        """Return a batch with changed inputs and weights; layers get the rates of its masks."""
        places = self.places
        if places.dropout:
            self.set_rates(h)
        if places.inputs:
            X = augment(X, places.inputs, self._single(h, places.inputs), generator)
        if places.rows:
            weight = self._row_weights(h, y, weight, index)
        return X, y, weight

    @torch.no_grad()
    def add_gradients_of_penalty(self, h, gradients, x=None):
        """Add the gradients of the penalties to those of parameters, in closed form.

        With x, by parameter, the products of their Hessian with it.
        """
        for strength, parameter in self._penalised(h):
            gradient = gradients.get(parameter)
            if gradient is not None:
                gradient.addcmul_(parameter if x is None else x[parameter], strength)

    def mixed_of_penalty(self, h, x):
        """Return the scalar whose gradient for h is that of the penalties along x, or None."""
        parts = [
            (strength * (parameter.detach() * x[parameter])).sum()
            if strength.ndim
            else strength * parameter.detach().flatten().dot(x[parameter].flatten())
            for strength, parameter in self._penalised(h)
            if parameter in x
        ]
        return sum(parts) if parts else None

    def _penalised(self, h):
        """Yield strengths, of one number or like the parameter, and the penalised parameters."""
        for name, penalised in self.places.decay.items():
            parts = [self.parameters[k] for k in penalised]
            strengths = [h[name]] * len(parts)
            if h[name].ndim:
                strengths = h[name].split([p.numel() for p in parts])
                strengths = [s.view_as(p) for s, p in zip(strengths, parts, strict=True)]
            yield from zip(strengths, parts, strict=True)

    @torch.no_grad()
    def keep_buffers(self):
        """Take over the running statistics that the last loss of other weights left."""
        for name, buffer in self.buffers.items():
            buffer.copy_(self.copies[name])

    def validation_loss(self, h, X, y, weight, w=None):
        """Return the loss of a batch of validation data; h is read by the module only."""
        return self._loss(h, X, y, weight, w)

    def _single(self, h, names):
        return {name: h[name].view(1, 1) for name in names}

    def _loss(self, h, X, y, weight, w):
        net, module = self.net, self.module
        if self.places.criterion:
            net.criterion_ = _with(self.criterion, self.places.criterion, h)
        self.context.values = self._single(h, self.places.values) or None
        net._batch_weight = weight
        args, kwargs = arguments_for(module, X)
        if w is None:
            output = module(*args, **kwargs)
        else:
            # Running statistics are updated in place, in copies.
            self.copies = {k: b.clone() for k, b in self.buffers.items()}
            output = functional_call(module, {**w, **self.copies}, tuple(args), kwargs)
        loss = net.get_loss(output, y, X=X, training=weight is not None)
        self.context.values = None
        return loss

    def _row_weights(self, h, y, weight, index):
        """Return the weights of a batch; those of all training rows have a mean of 1."""
        every, own = self._given, 1.0 if weight is None else weight
        if "sample_weight" in h:
            every = every * h["sample_weight"]
            own = own * h["sample_weight"][index.to(every.device)]
        if "class_weight" in h:
            every = every * h["class_weight"][self._labels]
            own = own * h["class_weight"][y.flatten().long()]
        return own / every.mean()


def smoothed(net, y, strength):
    """Return targets as probabilities, mixed with the uniform ones.

    Targets are of shape (n,) of int64, or (n, ...) of floats; `strength` has the shape (n or 1, 1).
    """
    if y.is_floating_point():
        strength = strength.view(-1, *[1] * (y.ndim - 1))
        y = y.to(strength.dtype)
        return torch.lerp(y, y.new_full((), 0.5), strength)
    n_classes = len(net.classes_)
    target = strength.new_zeros(len(y), n_classes).scatter_(1, y.unsqueeze(1), 1)
    return target.lerp(strength.new_full((), 1 / n_classes), strength)


def _without_smoothing(criterion):
    if not getattr(criterion, "label_smoothing", 0):
        return criterion
    criterion = copy.copy(criterion)
    criterion.label_smoothing = 0.0
    return criterion


def _with(criterion, attributes, h):
    """Return a copy of a criterion whose attributes are hyperparameters."""
    twin = copy.copy(criterion)
    twin._buffers = dict(criterion._buffers)
    for name, attribute in attributes.items():
        if attribute in twin._buffers:
            twin._buffers[attribute] = h[name]
        else:
            vars(twin)[attribute] = h[name]
    return twin
