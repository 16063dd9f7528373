"""The tuning state of a self-tuning network: response, position, optimizers."""

from __future__ import annotations

import contextlib
import math

import torch
from torch import nn
from torch.nn import functional as F

from .._compat import hashed_as
from ..names import resolve_optimizer
from ..training.data import floating_dtype
from ..training.randomness import DRAWING, layer_may_draw
from ..training.state import as_arrays
from ._arguments import value_of
from ._context import Context
from ._effects import find_effects
from ._fixed import FixedValues, are_fixed
from ._modulated import RESPONSE_SCALE, Modulated
from ._module_conversion import convert, fold_into, functions_of, set_rates
from ._ranges import Ranges, inverse_softplus
from ._warnings import warn_of_dropout, warn_of_layers
from .layers import HyperDropout, HyperValue

__all__ = ["Tuning"]

# Names of functions that draw random numbers, as tracing sees them.
_DRAWING = {function.__name__ for function in DRAWING} | {"new"}
# Optimizers whose steps torch can do in one kernel.
_FUSED = (torch.optim.Adam, torch.optim.AdamW)


class Tuning:
    """What a self-tuning network has in addition to the plain network.

    Attributes
    ----------
    ranges : Ranges
    context : Context
    module : torch.nn.Module
        The converted module, which is trained.
    effects : Effects
    position : Tensor of shape (2, n_hyperparameters)
        Unconstrained hyperparameters, and the inverse softplus of their scales.
    hyper_optimizer : torch.optim.Optimizer
        Updates the position.
    n_steps : int
        Training steps so far.
    is_fixed : bool
        Whether the hyperparameters are fixed numbers.
    to_follow : EpochValues or None
        A schedule, one row per epoch, that is used instead of tuning.
    best_weights : dict or None
        After a refit: state dicts of the tuned network at its best epoch.
    """

    def __init__(self, net, distributions):
        dtype = floating_dtype(net.module_)
        self.is_fixed = are_fixed(distributions)
        if self.is_fixed:
            self.ranges = FixedValues(distributions, net.max_epochs)
        else:
            initial = {**_rates_of(net.module_, distributions), **(net.initial or {})}
            self.ranges = Ranges(distributions, initial)
        self.ranges.to(net.device_, dtype)
        self.context = Context(self.ranges.names)
        scale = 0 if net.variant == "delta" else RESPONSE_SCALE
        seed, swap = net._seed_of("init"), net.convert == "auto"
        self.module = convert(net.module_, self.context, seed, swap=swap, scale=scale)
        self.responding = [m for m in self.module.modules() if _responds(m)]
        if not self.responding and not self.is_fixed:
            raise ValueError(
                "no layer of the module responds to hyperparameters; leave convert='auto' (it "
                "swaps Linear, Conv1d, Conv2d, Embedding and LSTM), or use layers of "
                "skhpo.self_tuning"
            )
        smooths = hasattr(net, "label_smoothing")
        shape = getattr(net, "input_shape_", None)
        arguments = {k.removeprefix("module__") for k in net.get_params() if k[:8] == "module__"}
        self.effects = find_effects(self.module, self.context, shape, smooths, arguments)
        if self.is_fixed:
            self.ranges.check_shapes({})
        self._check_limits()
        warn_of_layers(self.module)
        start = self.ranges.start
        scales = torch.full_like(start, inverse_softplus(net.init_scale))
        self.position = torch.stack((start, scales)).requires_grad_()
        optimizer = resolve_optimizer(value_of(net, "hyper_optimizer"))
        self.hyper_optimizer = optimizer([self.position], lr=net.hyper_lr)
        self.centred = net.variant == "delta"
        self.response_optimizer = None
        if self.centred:
            optimizer = resolve_optimizer(net.optimizer)
            fused = {"fused": True} if optimizer in _FUSED else {}
            lr = net.lr if net.response_lr is None else net.response_lr
            self.response_optimizer = optimizer(self.response_parameters(), lr=lr, **fused)
        self.n_steps = 0
        self.to_follow = self.ranges if self.is_fixed else None
        self.best_weights = None
        layers = list(self.module.modules())
        others = [m for m in layers if not isinstance(m, Modulated | HyperDropout | HyperValue)]
        functions = functions_of(self.module)
        # A traced user-defined class is judged by the functions that it calls.
        to_ask = [m for m in others if functions is None or type(m).__module__.startswith("torch.")]
        drawn = functions is not None and functions & _DRAWING
        warn_of_dropout(self.module, functions)
        self.may_draw = bool(drawn) or any(layer_may_draw(layer) for layer in to_ask)
        # Only these read the training mode; setting it for all modules costs as much as a step.
        self.mode_dependent = [m for m in others if _may_depend_on_mode(m)]
        # Their statistics come from unperturbed passes.
        self.norms = [m for m in layers if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        self.reads_values = any(isinstance(layer, HyperValue) for layer in layers)

    def _check_limits(self):
        for name, largest in self.effects.largest.items():
            low, high = self.ranges.support(name)
            # A rate of 1 drops everything; tuned values never reach the end of their range.
            too_large = high > largest or (self.is_fixed and high == 1 == largest)
            if low < 0 or too_large:
                shown = f"is {low:g}" if self.is_fixed else f"has the range [{low:g}, {high:g}]"
                open_end = math.isinf(largest) or (self.is_fixed and largest == 1)
                end = f"{largest:g}" + (")" if open_end else "]")
                raise ValueError(f"{name!r} must lie in [0, {end}, but {shown}")

    def response_parameters(self):
        """Return the parameters of the response."""
        return [p for layer in self.responding for p in layer.response_parameters()]

    def scales(self):
        """Return the standard deviations of the perturbations."""
        return F.softplus(self.position.detach()[1])

    def values(self):
        """Return the current values as a dict of plain numbers."""
        return self.ranges.as_dict(self.position[0])

    def center(self):
        """Return the position, of shape (1, n_hyperparameters)."""
        return self.position.detach()[:1]

    @property
    def names(self):
        """tuple of str: the hyperparameters."""
        return self.context.names

    @property
    def tunes_decay(self):
        """Whether a penalty on weights is among the hyperparameters."""
        return bool(self.effects.decay)

    def find(self, net, n_rows=0):
        """Places were found when the module was converted."""

    def follow(self, net, values):
        """Train a plain network with the values of a schedule from now on."""
        self.to_follow = values

    def warn(self):
        """Nothing is unusual."""

    def own_parameters(self, net=None):
        """Return names and parameters of the optimizer of the weights."""
        excluded = set(self.response_parameters()) if self.centred else ()
        named = self.module.named_parameters()
        return [(name, p) for name, p in named if p not in excluded]

    @contextlib.contextmanager
    def evaluating(self):
        """Set mode-dependent layers to evaluation mode within this context."""
        for layer in self.mode_dependent:
            layer.training = False
        try:
            yield
        finally:
            for layer in self.mode_dependent:
                layer.training = True

    @contextlib.contextmanager
    def keeping_statistics(self):
        """Keep the running statistics of batch normalizations within this context."""
        momenta = [layer.momentum for layer in self.norms]
        for layer in self.norms:
            layer.momentum = 0.0
        try:
            yield
        finally:
            for layer, momentum in zip(self.norms, momenta, strict=True):
                layer.momentum = momentum

    def fold_into(self, module, values):
        """Copy weights at the unperturbed values, and values that it reads, to a plain module."""
        response = self.center()
        if self.centred or self.to_follow is not None:
            response = torch.zeros_like(response)
        fold_into(module, self.module, response)
        if self.reads_values:
            set_rates(module, self.module, values)

    def state_dict(self):
        """Return tensors and numbers: weights, position, optimizer."""
        return {
            "module": self.module.state_dict(),
            "position": self.position.detach().clone(),
            "hyper_optimizer": self.hyper_optimizer.state_dict(),
            "response_optimizer": self.response_optimizer and self.response_optimizer.state_dict(),
            "n_steps": self.n_steps,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state):
        """Load what `state_dict` returned."""
        self.module.load_state_dict(state["module"])
        with torch.no_grad():
            self.position.copy_(state["position"])
        self.hyper_optimizer.load_state_dict(state["hyper_optimizer"])
        if self.response_optimizer is not None:
            self.response_optimizer.load_state_dict(state["response_optimizer"])
        self.n_steps = state["n_steps"]
        self.best_weights = state["best_weights"]


hashed_as(Tuning, lambda tuning: as_arrays(tuning.state_dict()))


def _responds(layer):
    return isinstance(layer, Modulated) and layer.context is not None


def _rates_of(module, distributions):
    """Return the current rates of dropout layers that lie inside their ranges."""
    rates = {}
    for path, layer in module.named_modules():
        name = f"{path}.p" if path else "p"
        if name in distributions and isinstance(getattr(layer, "p", None), float):
            low, high = distributions[name].support()
            if low < layer.p < high:
                rates[name] = layer.p
    return rates


def _may_depend_on_mode(layer):
    home = type(layer).__module__
    if home == "skhpo.modules":
        return False
    parts = ("linear", "conv", "activation", "pooling", "flatten", "container")
    indifferent = home.startswith("torch.nn.modules.") and home.rpartition(".")[2] in parts
    return not indifferent or type(layer).__name__ in ("RReLU", "MultiheadAttention")
