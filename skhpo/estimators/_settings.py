"""Checks of the values of parameters that an estimator has beside skorch's."""

from __future__ import annotations

import math
import numbers

import torch
from sklearn.metrics import get_scorer, get_scorer_names

from ..names import nearest_first, resolve_scheduler
from ..training.initialization import INITIALIZATIONS
from ..training.schedule import needs_monitor

__all__ = ["STREAMS", "check_settings"]

# What `seeds` can pin.
STREAMS = ("init", "shuffle", "forward", "validation")


def check_settings(net):
    """Raise ValueError for a value out of range, and for two settings that exclude each other."""
    _check_selection(net)
    _check_schedule(net)
    if net.init not in INITIALIZATIONS:
        known = ", ".join(map(repr, nearest_first(net.init, INITIALIZATIONS)))
        raise ValueError(f"init must be one of {known}, but got {net.init!r}")
    _check_number("init_gain", net.init_gain, 0, strictly=True)
    if (net.init, net.init_gain) != ("default", 1) and isinstance(net.module, torch.nn.Module):
        raise ValueError(
            f"init={net.init!r} and init_gain={net.init_gain} would replace the weights of an "
            "instance given as module; leave them at their defaults, or pass the class"
        )
    _check_groups(net)
    for name in ("shuffle", "drop_last"):
        if vars(net).get(f"iterator_valid__{name}"):
            raise ValueError(
                f"predictions must be those of the rows in their order, but iterator_valid__{name}="
                f"{vars(net)[f'iterator_valid__{name}']!r}; leave it out"
            )
    if net.max_norm is not None:
        _check_number("max_norm", net.max_norm, 0, strictly=True)
    if not (isinstance(net.amp, bool) or net.amp == "auto"):
        raise ValueError(f"amp must be True, False or 'auto', but got {net.amp!r}")
    for name, seed in net._pinned_seeds().items():
        if name not in STREAMS:
            known = ", ".join(map(repr, nearest_first(name, STREAMS)))
            raise ValueError(f"seeds must have keys among {known}, but got {name!r}")
        if seed is not None:
            _check_integer(f"seeds[{name!r}]", seed, 0)


def _check_selection(net):
    fraction = net.validation_fraction
    if fraction is not None:
        if not _is_number(fraction) or not 0 < fraction < 1:
            raise ValueError(
                f"validation_fraction must be None or a number in (0, 1), but got {fraction!r}"
            )
        if net.train_split:
            raise ValueError(
                f"validation_fraction={fraction} and train_split={net.train_split!r} both hold "
                "data out; set one of them to None"
            )
    for name, low in (("patience", 1), ("check_every", 1)):
        if getattr(net, name) is not None:
            _check_integer(name, getattr(net, name), low)
            if fraction is None:
                raise ValueError(
                    f"{name}={getattr(net, name)} needs rows to check on, but "
                    "validation_fraction=None; set it, such as to 0.1"
                )
    _check_integer("min_epochs", net.min_epochs, 0)
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
    if net.schedule_epochs is not None:
        _check_integer("schedule_epochs", net.schedule_epochs, 1)
    if net.lr_scheduler is None:
        set_ones = [name for name in vars(net) if name.startswith("lr_scheduler__")]
        if set_ones:
            raise ValueError(f"{set_ones[0]} is set, but lr_scheduler=None; set both or none")
        return
    resolve_scheduler(net.lr_scheduler)
    if needs_monitor(net.lr_scheduler) and net.validation_fraction is None:
        raise ValueError(
            f"lr_scheduler={net.lr_scheduler!r} waits for the monitored value to stall, but "
            "validation_fraction=None; set it, such as to 0.1, or choose another schedule"
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
        _check_number(f"lr_multipliers[{pattern!r}]", factor, 0)
    if net.lr_multipliers and getattr(net, "optimizer__param_groups", None):
        raise ValueError(
            "lr_multipliers and optimizer__param_groups both group the parameters; set one of them"
        )
    for pattern, epochs in (net.freeze or {}).items():
        if not isinstance(epochs, bool):
            _check_integer(f"freeze[{pattern!r}] (epochs, or True for good)", epochs, 0)


def _check_integer(name, value, low):
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < low:
        raise ValueError(f"{name} must be an integer >= {low}, but got {value!r}")


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _check_number(name, value, low, *, strictly=False):
    if not _is_number(value) or value < low or (strictly and value == low):
        sign = ">" if strictly else ">="
        raise ValueError(f"{name} must be a number {sign} {low}, but got {value!r}")
