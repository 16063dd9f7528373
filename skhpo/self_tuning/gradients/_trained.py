"""A trained network with its data, and the hyperparameters that it was trained with."""

from __future__ import annotations

import copy
import fnmatch
import warnings

import numpy as np
import torch
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from ..._compat import num_samples
from ...estimators import TorchClassifier, TorchRegressor
from ...estimators.feeding import net_rows
from ...estimators.settings import has_own_dataset
from ...estimators.validation import check_inputs, check_sample_weight
from ...training.structure import copied
from ._objective import Objective
from ._places import find_places

__all__ = ["TrainedNetwork"]

# Regularisation that only layers of a self-tuning network have.
_ONLY_CONVERTED = ("ar", "tar", "weight_dropout")


class TrainedNetwork:
    """The losses of a trained network at the values of its hyperparameters.

    Parameters are those of `hypergradient`. `net` is a copy; `names` are the hyperparameters to
    differentiate for, and `h` values of all hyperparameters of the training loss, of which those of
    `names` require gradients.
    """

    def __init__(self, net, X, y, validation_data, names, values, sample_weight):
        if not isinstance(net, TorchClassifier | TorchRegressor):
            raise TypeError(
                "estimator must be a TorchClassifier, TorchRegressor, SelfTuningClassifier or "
                "SelfTuningRegressor, alone or inside of a Pipeline or a "
                f"TransformedTargetRegressor, but got {net!r}"
            )
        check_is_fitted(net)
        if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
            raise ValueError(
                f"validation_data must be a pair (X, y), but got {type(validation_data).__name__}"
            )
        params = net.get_params(deep=False)
        transforms = [k for k in ("transform", "train_transform") if params[k] is not None]
        if transforms:
            raise ValueError(
                "hypergradient needs batches as they are in X, but the estimator has "
                f"{' and '.join(transforms)}; transform X before, and set them to None"
            )
        self.tunes = hasattr(type(net), "schedule_")
        module = net.collapse() if self.tunes else copied(net.module_)
        module = getattr(module, "_orig_mod", module)
        self.net = net = copy.copy(net)
        net.compile, net._low_precision = False, None
        X, y = self._checked(X, y, "X and y")
        weight = check_sample_weight(sample_weight, num_samples(y))
        known = self._trained_with(y)
        self.names = list(names if names is not None else known if self.tunes else ["weight_decay"])
        if isinstance(names, str) or not self.names:
            raise ValueError(f"names must be a list of at least one name, but got {names!r}")
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"names must differ, but got {self.names}")
        if "class_weight" in self.names:
            net.class_weight = None
        weight = net._row_weights(y, weight)
        if weight is not None:
            weight = (weight / weight.mean()).astype(np.float32)
        self.rows = net_rows(net, X, net._shape_targets(y), weight)
        X_valid, y_valid = self._checked(*validation_data, "validation_data")
        self.valid = net_rows(net, X_valid, net._shape_targets(y_valid))
        # What is not asked for is still in the training loss.
        always = known if self.tunes else [k for k in ("label_smoothing",) if known.get(k)]
        places = find_places(
            *(net, module, dict.fromkeys([*self.names, *always]), len(y)),
            all_weights=not self.tunes,
            constants=set(known) - set(self.names),
        )
        self.objective = Objective(net, module, places, self.rows)
        self._add_decay_of_optimizer(places)
        unknown = set(values) - set(places.shapes)
        if unknown:
            raise ValueError(
                f"values must be those of hyperparameters among {sorted(places.shapes)}, but got "
                f"{min(unknown)!r}"
            )
        given = {**known, **values}
        self.h = {name: self._value(name, shape, given) for name, shape in places.shapes.items()}

    def _checked(self, X, y, what):
        net = self.net
        if has_own_dataset(net):
            raise ValueError("hypergradient needs X as an array, and dataset at its default")
        try:
            X, y = check_inputs(net, X, y, reset=False, needs_y=True)
            y = net._check_targets(y, None, False)
            return X, net._targets.scale(y)
        except ValueError as error:
            raise ValueError(f"{what} must be like those of fit, but: {error}") from error

    def _trained_with(self, y):
        """Return the values of hyperparameters that the network was trained with, by name."""
        net = self.net
        if self.tunes:
            found = {**(net.best_hyperparameters_ if net.refit is None else _last(net))}
            # Settings of the optimizer are not in the loss.
            steps = getattr(net.tuning_.effects, "steps", {})
            return {
                k: v
                for k, v in found.items()
                if k not in steps and not _is_rate_of_module(k, net.module_)
            }
        found = {"label_smoothing": getattr(net.criterion_, "label_smoothing", 0.0)}
        if is_classifier(net):
            smoothing = net._scheduled.get("label_smoothing", net.label_smoothing)
            found["label_smoothing"] = smoothing or found["label_smoothing"]
            found["class_weight"] = _weights_of_classes(net, y)
        return found

    def _add_decay_of_optimizer(self, places):
        group = self.net.optimizer_.param_groups[0]
        strength = group.get("weight_decay", 0.0)
        decoupled = isinstance(self.net.optimizer_, torch.optim.AdamW)
        decoupled = decoupled or group.get("decoupled_weight_decay", False)
        self.strength = strength
        if not strength:
            return
        if decoupled:
            message = (
                f"optimizer={self.net.optimizer!r} has weight_decay={strength:g}, which is no "
                "penalty in the training loss"
            )
            if any(name in places.decay for name in self.names):
                raise ValueError(
                    f"{message}; train with optimizer='adam' (or optimizer__weight_decay=0)"
                )
            warnings.warn(f"{message}: the gradient leaves it out", stacklevel=4)
            return
        taken = {k for penalised in places.decay.values() for k in penalised}
        others = [k for k in self.objective.parameters if k not in taken]
        if others:
            places.decay["optimizer__weight_decay"] = others
            places.shapes["optimizer__weight_decay"] = ()

    def _value(self, name, shape, given):
        if name in given:
            value = given[name]
        elif name in self.objective.places.decay:
            value = self.strength
        elif name in self.objective.places.criterion:
            value = getattr(self.net.criterion_, self.objective.places.criterion[name])
        elif name == "sample_weight":
            value = 1.0
        else:
            value = 0.0
            for layer in self.objective.module.modules():
                value = (
                    getattr(layer, "value", 0.0) if getattr(layer, "name", "") == name else value
                )
        first = next(iter(self.objective.parameters.values()))
        value = torch.as_tensor(np.asarray(value), dtype=first.dtype, device=first.device)
        if value.ndim and tuple(value.shape) != shape:
            raise ValueError(
                f"the value of {name!r} must be a number or have the shape {shape}, but has "
                f"{tuple(value.shape)}"
            )
        return value.expand(shape).clone().requires_grad_(name in self.names)


def _last(net):
    """Return the values that a refit ended with."""
    return {name: values[-1] for name, values in net.schedule_.items()}


def _is_rate_of_module(name, module):
    """Whether a hyperparameter is a rate that the collapsed module itself has."""
    last = name.rpartition(".")[2]
    if last in _ONLY_CONVERTED:
        raise ValueError(
            f"the network was trained with {name!r}, which only layers of a self-tuning network "
            "have; train it without"
        )
    layers = module.named_modules()
    holding = [path for path, layer in layers if hasattr(layer, last)]
    patterns = [one.rpartition(".")[0] for one in name.split("|")]
    matched = any(fnmatch.fnmatchcase(path, one) for path in holding for one in patterns)
    if last == "dropout" and not matched:
        raise ValueError(
            f"the network was trained with {name!r}, which only layers of a self-tuning network "
            "have; train it without"
        )
    return last in ("p", "dropout")


def _weights_of_classes(net, y):
    """Return the weight of each class in the training loss; 1 for classes without rows."""
    weights = np.ones(len(net.classes_))
    per_row = None if net.class_weight is None else net._row_weights(y, None)
    if per_row is not None:
        weights[y] = per_row
    return weights
