"""Optimizers, criteria, activations and schedules by their usual names."""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from .arguments import nearest_first

__all__ = [
    "ACTIVATIONS",
    "CRITERIA",
    "OPTIMIZERS",
    "SCHEDULERS",
    "GaussianNLL",
    "nearest_first",
    "resolve_activation",
    "resolve_criterion",
    "resolve_optimizer",
    "resolve_scheduler",
]


class GaussianNLL(nn.GaussianNLLLoss):
    """`GaussianNLLLoss` of a module that returns a pair of mean and variance."""

    def forward(self, output: Any, target: torch.Tensor, var: Any = None) -> torch.Tensor:
        """Return the loss of a pair of tensors, or of torch's three arguments."""
        if var is not None:
            return super().forward(output, target, var)
        if not isinstance(output, tuple) or len(output) != 2:
            raise ValueError(
                "criterion 'gaussian_nll' needs a module that returns a pair (mean, variance), but "
                f"it returned {type(output).__name__}"
            )
        return super().forward(output[0], target, output[1])


OPTIMIZERS = {
    "adadelta": torch.optim.Adadelta,
    "adagrad": torch.optim.Adagrad,
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "adamw": torch.optim.AdamW,
    "asgd": torch.optim.ASGD,
    "lbfgs": torch.optim.LBFGS,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rmsprop": torch.optim.RMSprop,
    "rprop": torch.optim.Rprop,
    "sgd": torch.optim.SGD,
    "sparse_adam": torch.optim.SparseAdam,
}

CRITERIA = {
    "bce": nn.BCELoss,
    "bce_with_logits": nn.BCEWithLogitsLoss,
    "cross_entropy": nn.CrossEntropyLoss,
    "gaussian_nll": GaussianNLL,
    "huber": nn.HuberLoss,
    "l1": nn.L1Loss,
    "mae": nn.L1Loss,
    "mse": nn.MSELoss,
    "multi_margin": nn.MultiMarginLoss,
    "nll": nn.NLLLoss,
    "poisson_nll": nn.PoissonNLLLoss,
    "smooth_l1": nn.SmoothL1Loss,
}

ACTIVATIONS = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "identity": nn.Identity,
    "leaky_relu": nn.LeakyReLU,
    "mish": nn.Mish,
    "relu": nn.ReLU,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


SCHEDULERS = {
    "constant": lr_scheduler.ConstantLR,
    "cosine": lr_scheduler.CosineAnnealingLR,
    "cosine_restarts": lr_scheduler.CosineAnnealingWarmRestarts,
    "cyclic": lr_scheduler.CyclicLR,
    "exponential": lr_scheduler.ExponentialLR,
    "linear": lr_scheduler.LinearLR,
    "multi_step": lr_scheduler.MultiStepLR,
    "one_cycle": lr_scheduler.OneCycleLR,
    "plateau": lr_scheduler.ReduceLROnPlateau,
    "polynomial": lr_scheduler.PolynomialLR,
    "step": lr_scheduler.StepLR,
}


def resolve_optimizer(value: Any) -> Any:
    """Return the optimizer class (or factory) that `value` is or names."""
    return _resolve("optimizer", value)


def resolve_criterion(value: Any) -> Any:
    """Return the criterion class, factory or module that `value` is or names."""
    criterion = _resolve("criterion", value, or_instance=nn.Module)
    return GaussianNLL if criterion is nn.GaussianNLLLoss else criterion


def resolve_activation(value: Any) -> Any:
    """Return a factory of activations, given a name, a class, a factory, a module or a function."""
    if isinstance(value, nn.Module):
        return functools.partial(copy.deepcopy, value)
    if callable(value) and not isinstance(value, type) and _maps_tensors(value):
        named = ACTIVATIONS.get(getattr(value, "__name__", ""))
        of_torch = str(getattr(value, "__module__", "")).startswith("torch")
        # torch.relu and torch.tanh have no module.
        known = named is not None and (of_torch or isinstance(value, types.BuiltinFunctionType))
        return named if known else functools.partial(Function, value)
    return _resolve("activation", value)


def _maps_tensors(function: Callable[..., Any]) -> bool:
    """Whether a function has a required argument, and so is not a factory."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # built in
        return True
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(p.default is p.empty and p.kind in positional for p in parameters)


class Function(nn.Module):
    """A module that applies a function."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def resolve_scheduler(value: Any) -> Any:
    """Return the schedule class (or factory) that `value` is or names."""
    return _resolve("lr_scheduler", value)


_TABLES: dict[str, Mapping[str, type]] = {
    "optimizer": OPTIMIZERS,
    "criterion": CRITERIA,
    "activation": ACTIVATIONS,
    "lr_scheduler": SCHEDULERS,
}


@functools.cache
def _by_plain_name(kind: str) -> dict[str, type]:
    named = {_plain(name): cls for name, cls in _TABLES[kind].items()}
    return named | {_plain(cls.__name__): cls for cls in _TABLES[kind].values()}


def _resolve(kind: str, value: Any, or_instance: type | tuple[type, ...] = ()) -> Any:
    if isinstance(value, str):
        found = _by_plain_name(kind).get(_plain(value))
        if found is not None:
            return found
        known = ", ".join(repr(name) for name in nearest_first(value, _TABLES[kind]))
        raise ValueError(
            f"{kind} must be a class or a known name, but got {value!r}; known: {known}"
        )
    if callable(value) or isinstance(value, or_instance):
        return value
    raise ValueError(f"{kind} must be a class or a known name, but got {value!r}")


def _plain(name: str) -> str:
    """Make "CrossEntropyLoss", "cross_entropy" and "cross-entropy" one name."""
    return name.lower().replace("_", "").replace("-", "").removesuffix("loss")
