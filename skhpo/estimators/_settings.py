"""Checks of parameter values that cannot be declared as constraints."""

from __future__ import annotations

import torch
from sklearn.metrics import get_scorer, get_scorer_names
from skorch import NeuralNet

from ..arguments import COUNT_OR_ZERO, NON_NEGATIVE, check_arguments
from ..names import nearest_first, resolve_optimizer, resolve_scheduler
from ..training.initialization import INITIALIZATIONS
from ._hyperparameter_schedule import check_hyperparameter_schedule

__all__ = ["STREAMS", "check_settings"]

# Streams of random numbers that `seeds` can set.
STREAMS = ("init", "shuffle", "forward", "validation", "augment")

# Methods of skorch's that decide when the optimizer steps.
_STEPS = ("train_step", "get_train_step_accumulator", "_zero_grad_optimizer")


def check_settings(net):
    """Raise ValueError for an invalid value or two settings that exclude each other."""
    _check_selection(net)
    _check_steps(net)
    _check_schedule(net)
    if net.hyperparameter_schedule is not None:
        check_hyperparameter_schedule(net)
    if net.init not in INITIALIZATIONS:
        known = ", ".join(map(repr, nearest_first(net.init, INITIALIZATIONS)))
        raise ValueError(f"init must be one of {known}, but got {net.init!r}")
    if (net.init, net.init_gain) != ("default", 1) and isinstance(net.module, torch.nn.Module):
        raise ValueError(
            f"init={net.init!r} and init_gain={net.init_gain} would replace the weights of an "
            "instance given as module; leave them at their defaults, or pass the class"
        )
    _check_groups(net)
    _check_collate(net)
    for name in ("shuffle", "drop_last"):
        if vars(net).get(f"iterator_valid__{name}"):
            raise ValueError(
                f"predictions must be those of the rows in their order, but iterator_valid__{name}="
                f"{vars(net)[f'iterator_valid__{name}']!r}; leave it out"
            )
    for name, seed in net._pinned_seeds().items():
        if name not in STREAMS:
            known = ", ".join(map(repr, nearest_first(name, STREAMS)))
            raise ValueError(f"seeds must have keys among {known}, but got {name!r}")
        _check_item(net, "seeds", name, seed, [COUNT_OR_ZERO, None])


def _check_steps(net):
    if net.average_from is not None and net.average is None:
        raise ValueError(
            f"average_from={net.average_from} is the first epoch that is averaged, but "
            "average=None; set it to 'ema' or 'swa', or leave average_from out"
        )
    changed = [f"accumulate={net.accumulate}"] if net.accumulate > 1 else []
    if net.max_grad_norm is not None:
        changed.append(f"max_grad_norm={net.max_grad_norm}")
    if not changed:
        return
    if resolve_optimizer(net.optimizer) is torch.optim.LBFGS:
        raise ValueError(
            f"{changed[0]} needs an optimizer that takes one gradient per step, but "
            f"optimizer={net.optimizer!r} asks for the loss again; leave one of them out"
        )
    own = [name for name in _STEPS if getattr(type(net), name) is not getattr(NeuralNet, name)]
    if own:
        raise ValueError(
            f"{changed[0]} makes steps of its own, but {type(net).__name__} overrides {own[0]}; "
            "leave one of them out"
        )


def _check_selection(net):
    fraction = net.validation_fraction
    if fraction is not None and net.train_split:
        raise ValueError(
            f"validation_fraction={fraction} and train_split={net.train_split!r} both hold "
            "data out; set one of them to None"
        )
    if net.monitor == "valid_loss":
        return
    try:
        get_scorer(net.monitor)
    except (ValueError, TypeError):
        known = nearest_first(net.monitor, ["valid_loss", *get_scorer_names()])[:12]
        raise ValueError(
            "monitor must be 'valid_loss' or the name of a scorer of scikit-learn, but got "
            f"{net.monitor!r}; the nearest: {', '.join(map(repr, known))}"
        ) from None
    if not isinstance(net.monitor, str):
        raise ValueError(f"monitor must be a name, but got {net.monitor!r}")


def _check_schedule(net):
    if net.lr_scheduler is None:
        set_ones = [name for name in vars(net) if name.startswith("lr_scheduler__")]
        if set_ones:
            raise ValueError(f"{set_ones[0]} is set, but lr_scheduler=None; set both or none")
        return
    resolve_scheduler(net.lr_scheduler)


def _check_collate(net):
    for name in ("iterator_train__collate_fn", "iterator_valid__collate_fn"):
        if net.collate is not None and vars(net).get(name) is not None:
            raise ValueError(
                f"collate={net.collate!r} and {name}={vars(net)[name]!r} both make batches; set "
                "one of them to None"
            )
    if net.group_by_length is True and getattr(net, "batch_sampler", None) is not None:
        raise ValueError(
            f"group_by_length=True and batch_sampler={net.batch_sampler!r} both choose the rows of "
            "a batch; set one of them"
        )


def _check_groups(net):
    for name in ("lr_multipliers", "freeze"):
        value = getattr(net, name)
        if value is not None and not (
            isinstance(value, dict) and all(isinstance(key, str) for key in value)
        ):
            raise ValueError(
                f"{name} must be None or a dict from patterns of parameter names to values, "
                f"but got {value!r}"
            )
    for pattern, factor in (net.lr_multipliers or {}).items():
        _check_item(net, "lr_multipliers", pattern, factor, [NON_NEGATIVE])
    if net.lr_multipliers and getattr(net, "optimizer__param_groups", None):
        raise ValueError(
            "lr_multipliers and optimizer__param_groups both group the parameters; set one of them"
        )
    for pattern, epochs in (net.freeze or {}).items():
        _check_item(net, "freeze", pattern, epochs, [COUNT_OR_ZERO, "boolean"])


def _check_item(net, name, key, value, constraint):
    item = f"{name}[{key!r}]"
    check_arguments(type(net).__name__, {item: constraint}, **{item: value})
