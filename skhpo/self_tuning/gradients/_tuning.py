"""The tuning state of a plain network whose hyperparameters follow a gradient."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch

from ...names import resolve_optimizer
from ...training.data import floating_dtype
from ...training.randomness import may_draw
from .._arguments import value_of
from .._fixed import FixedValues, are_fixed
from .._ranges import Ranges
from ..layers import HyperValue
from ._hypernetwork import HyperNetwork
from ._places import dropout_rates, find_places

__all__ = ["GradientTuning"]

# Share of updates with a raised damping above which a fit warns, and updates that show it; or
# updates that do so if it was raised in all of them.
_MANY, _ENOUGH, _ENOUGH_IF_ALL = 0.5, 10, 4
# Of a step of hyper_lr, in the logarithm of a learning rate: rates that follow a window quickly run
# into its short-horizon bias (docs/benchmarks/hypergradients.md).
_SHARE_OF_RATES = 0.5
# Settings of optimizers in [0, 1).
_BELOW_ONE = ("momentum", "beta1", "beta2")


class GradientTuning:
    """Unconstrained hyperparameters of a plain network, and their optimizer.

    Attributes
    ----------
    ranges : Ranges or FixedValues
    names : tuple of str
    effects : Places
        Found when the criterion is made.
    position : Tensor of shape (n_numbers,) or None
        Unconstrained; a hyperparameter may have many numbers. None before the first data.
    hyper_optimizer : torch.optim.Optimizer or None
    n_steps : int
        Training steps so far.
    step, damping, solution : float, float, list of Tensor or None
        Of the last linear system; the next one starts with them.
    counts : dict of str to int
        "updates" of the hyperparameters so far, and those that "diverged".
    moved : set of str
        Hyperparameters that had a gradient.
    hypernetwork : HyperNetwork or None
        What is trained in place of the module, with variant="global".
    tangents : dict of str to Tensor or None
        With variant="unrolled" in forward mode, the derivatives of weights and state so far.
    levels : list of float or None
        With tuned learning rates, the first and the best loss of a batch so far.
    curves : dict of str to (ndarray, ndarray)
        Values of hyperparameters, and validation losses there.
    is_fixed, to_follow, best_weights : object
        As in `Tuning`.
    """

    def __init__(self, net, distributions):
        self._dtype = floating_dtype(net.module_)
        self._device, self._optimizer = (
            net.device_,
            (value_of(net, "hyper_optimizer"), net.hyper_lr),
        )
        self.is_fixed = are_fixed(distributions)
        if self.is_fixed:
            self.ranges = FixedValues(distributions, net.max_epochs)
        else:
            initial = {**_current_values(net, distributions), **(net.initial or {})}
            self.ranges = Ranges(distributions, initial)
        self.ranges.to(self._device, self._dtype)
        self.names = tuple(self.ranges.names)
        self.effects = self.position = self.hyper_optimizer = None
        self.n_steps, self.step, self.damping, self.solution = 0, None, 0.0, None
        self.counts, self.moved = {"updates": 0, "diverged": 0}, set()
        self.to_follow = self.ranges if self.is_fixed else None
        self.best_weights, self.curves, self.hypernetwork = None, {}, None
        self.tangents = self.levels = None
        if net.variant == "global" and not self.is_fixed:
            self.hypernetwork = HyperNetwork(
                *(net.module_, len(self.names), value_of(net, "n_hidden"), net._seed_of("init"))
            )
        self.may_draw = may_draw(net.module_)

    @property
    def tunes_decay(self):
        """Whether a penalty on weights is among the hyperparameters."""
        return any("weight_decay" in name for name in self.names)

    def own_parameters(self, net):
        """Return names and parameters of the optimizer of the weights."""
        return (net.module_ if self.hypernetwork is None else self.hypernetwork).named_parameters()

    def follow(self, net, values):
        """Train a plain network with the values of a schedule from now on."""
        self.to_follow = values
        if self.hypernetwork is not None:
            self.hypernetwork = None
            net.initialize_optimizer()

    @torch.no_grad()
    def write_weights(self, module):
        """Write the weights at the current position into a module."""
        for name, weight in self.hypernetwork(torch.sigmoid(self.position)).items():
            module.get_parameter(name).copy_(weight)

    def find(self, net, n_rows=0):
        """Find the places of the hyperparameters in a network that is built."""
        self.effects = find_places(
            *(net, net.module_, self.names, n_rows),
            constants=self.names if self.is_fixed else (),
            of_steps=net.variant == "unrolled",
            of_masks=True,
        )
        if self.is_fixed:
            self.ranges.check_shapes(self.effects.shapes)
        self._check_ranges(net)
        many = [name for name, shape in self.effects.shapes.items() if shape]
        if many and self.hypernetwork is not None:
            raise ValueError(
                f"{many[0]!r} has a number for each row, class or weight, which are too many for "
                "variant='global'; use variant='implicit'"
            )
        if not (n_rows == 0 and "sample_weight" in self.names):
            self._start(self.effects.shapes)

    def _check_ranges(self, net):
        for name in self.names:
            if not self.is_fixed and "integer" in self.ranges.kinds[self.names.index(name)]:
                raise ValueError(
                    f"{name!r} has whole numbers, of which there is no gradient; variant='stn' "
                    "follows those of augmentations, and BayesSearchCV searches others"
                )
            if name in self.effects.values or name in self.effects.criterion:
                continue
            low, high = self.ranges.support(name)
            last = name.rpartition(".")[2]
            below_one = last in ("label_smoothing", *_BELOW_ONE) or name in self.effects.dropout
            largest = 1.0 if below_one else math.inf
            if low < 0 or high > largest:
                raise ValueError(
                    f"{name!r} must lie in [0, {largest:g}], but has the range [{low:g}, {high:g}]"
                )

    def _start(self, shapes):
        """Make the position, unless there is one."""
        sizes = {name: math.prod(shapes[name]) for name in self.names}
        if self.position is not None:
            before = len(self.position) - sum(sizes.values()) + sizes.get("sample_weight", 0)
            if before != sizes.get("sample_weight", 0):
                raise ValueError(
                    f"X must have {before} rows as in the first call, because each has a weight, "
                    f"but has {sizes['sample_weight']}"
                )
            return
        repeats = torch.tensor(list(sizes.values()), device=self._device)
        self.position = self.ranges.start.repeat_interleave(repeats).requires_grad_()
        factory, lr = self._optimizer
        self.hyper_optimizer = resolve_optimizer(factory)([self.position], lr=lr)

    def tensors(self, n_epochs=0):
        """Return the values as a dict of tensors, with a gradient for the position."""
        if self.to_follow is not None:
            row = self.to_follow[n_epochs]
            return {name: self._tensor(name, row[name]) for name in self.names}
        return self.tensors_at(self.position)

    def tensors_at(self, u):
        """Return the values at unconstrained numbers."""
        return {name: self.ranges.follow(name, part) for name, part in self._parts(u).items()}

    def part_of(self, name):
        """Return the part of the position that a hyperparameter has, as a view."""
        return self._parts(self.position)[name]

    def _tensor(self, name, value):
        value = torch.as_tensor(np.asarray(value), dtype=self._dtype, device=self._device)
        return value.expand(self.effects.shapes[name])

    def _parts(self, numbers):
        shapes = [self.effects.shapes[name] for name in self.names]
        parts = numbers.split([math.prod(shape) for shape in shapes])
        pairs = zip(self.names, parts, shapes, strict=True)
        return {name: part.view(shape) for name, part, shape in pairs}

    def values(self, n_epochs=0):
        """Return the current values as numbers and arrays."""
        if self.to_follow is not None:
            return dict(self.to_follow[n_epochs])
        if self.position is None:  # the rows of which each has a weight are not known yet
            return self.ranges.as_dict(self.ranges.start)
        with torch.no_grad():
            arrays = {name: t.cpu().numpy() for name, t in self.tensors().items()}
        return {name: array if array.ndim else float(array) for name, array in arrays.items()}

    def scales(self):
        """Return the standard deviations of perturbations: nothing is perturbed."""
        return dict.fromkeys(self.names, 0.0)

    def move(self, gradient, step=None, damping=0.0):
        """Update the position by a gradient; step and damping are those of its linear system."""
        self.counts["updates"] += 1
        for name, part in self._parts(gradient).items():
            if name not in self.moved and part.any():
                self.moved.add(name)
        self.counts["diverged"] += damping > self.damping
        self.step, self.damping = step, damping
        before = self.position.detach().clone()
        self.position.grad = gradient
        self.hyper_optimizer.step()
        for name in self.effects.steps:
            if name.rpartition(".")[2] == "lr" and self.ranges.is_log(name):
                self._shorten(name, self._parts(before)[name])

    @torch.no_grad()
    def _shorten(self, name, before):
        """Measure the step of a learning rate in its logarithm, however wide its range is."""
        low, high = map(math.log, self.ranges.support(name))
        share = torch.sigmoid(before)
        slope = (high - low) * share * (1 - share)
        part = self.part_of(name)
        part.copy_(before + _SHARE_OF_RATES * (part - before) / slope.clamp_min(1))

    def warn(self):
        """Warn of hyperparameters without any gradient, and of series that diverge."""
        if not self.counts["updates"]:
            return
        for name in self.names:
            if name not in self.moved:
                warnings.warn(
                    f"{name!r} was not tuned, because the gradient of the validation loss for it "
                    "was zero in all steps: the training loss does not depend on it, its place has "
                    "no weights that are trained, or the units behind it are dead",
                    stacklevel=4,
                )
        diverged, updates = self.counts["diverged"], self.counts["updates"]
        if (updates >= _ENOUGH and diverged > _MANY * updates) or (
            updates >= _ENOUGH_IF_ALL and diverged == updates
        ):
            warnings.warn(
                f"the series for the hypergradient was damped in {diverged} of {updates} updates "
                f"(damping {self.damping:.3g} at last), because the curvature of the training loss "
                "was negative; train longer before tuning (warmup_epochs), or use "
                "solver='identity'",
                stacklevel=4,
            )

    def set_values_of_module(self, module, values):
        """Set the values that a module reads itself."""
        for layer in module.modules():
            if isinstance(layer, HyperValue) and layer.name in values:
                layer.value = float(values[layer.name])

    def state_dict(self):
        """Return tensors and numbers."""
        optimizer = self.hyper_optimizer
        return {
            "position": None if self.position is None else self.position.detach().clone(),
            "hyper_optimizer": None if optimizer is None else optimizer.state_dict(),
            "n_steps": self.n_steps,
            "system": [self.step, self.damping],
            "solution": self.solution and [part.clone() for part in self.solution],
            "counts": dict(self.counts),
            "moved": sorted(self.moved),
            "best_weights": self.best_weights,
            "tangents": self.tangents,
            "levels": self.levels and list(self.levels),
            "hypernetwork": self.hypernetwork and self.hypernetwork.state_dict(),
            "curves": {k: [part.tolist() for part in pair] for k, pair in self.curves.items()},
        }

    def load_state_dict(self, state):
        """Load what `state_dict` returned."""
        if state["position"] is not None:
            shapes = dict(self.effects.shapes)
            if "sample_weight" in shapes:
                others = sum(math.prod(s) for k, s in shapes.items() if k != "sample_weight")
                shapes["sample_weight"] = (len(state["position"]) - others,)
                self.effects.shapes = shapes
            self._start(shapes)
            with torch.no_grad():
                self.position.copy_(state["position"])
            self.hyper_optimizer.load_state_dict(state["hyper_optimizer"])
        self.n_steps, self.best_weights = state["n_steps"], state["best_weights"]
        self.step, self.damping = state["system"]
        solution = state.get("solution")  # which older checkpoints lack
        self.solution = solution and [part.to(self._device).clone() for part in solution]
        self.tangents = state["tangents"]
        levels = state.get("levels")  # which older checkpoints lack, too
        self.levels = levels and list(levels)
        if self.hypernetwork is not None:
            self.hypernetwork.load_state_dict(state["hypernetwork"])
        self.curves = {k: tuple(map(np.array, pair)) for k, pair in state["curves"].items()}
        self.counts, self.moved = dict(state["counts"]), set(state["moved"])


def _current_values(net, distributions):
    """Return values that the network has already, as far as they lie inside their ranges."""
    found = {m.name: m.value for m in net.module_.modules() if isinstance(m, HyperValue)}
    betas = getattr(net, "optimizer__betas", (0.9, 0.999))
    settings = {"lr": net.lr, "momentum": getattr(net, "optimizer__momentum", 0.0)}
    settings |= {"beta1": betas[0], "beta2": betas[1]}
    rates = dropout_rates(net.module_)
    found |= {name: net.module_.get_submodule(path).p for name, path in rates.items()}
    for name in distributions:
        if name.rpartition(".")[2] in settings:
            found[name] = settings[name.rpartition(".")[2]]
    inside = {}
    for name, value in found.items():
        if name in distributions:
            low, high = distributions[name].support()
            if low < value < high:
                inside[name] = value
    return inside
