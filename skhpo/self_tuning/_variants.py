"""The variants of self-tuning: which arguments each reads, its state and its runner."""

from __future__ import annotations

from ._runner import TuningRunner
from ._tuning import Tuning
from .gradients import GradientTuning, ImplicitRunner

__all__ = ["VARIANTS", "check_arguments_of", "make_runner", "make_tuning", "value_of"]

VARIANTS = ("stn", "delta", "implicit")
_RESPONDING = ("stn", "delta")
# Arguments that not all variants read: those that do, and the default that others must keep.
_READ_BY = {
    "entropy_weight": (_RESPONDING, 1e-3),
    "init_scale": (_RESPONDING, 1.0),
    "tune_scales": (_RESPONDING, True),
    "convert": (_RESPONDING, "auto"),
    "val_steps": (_RESPONDING, 1),
    "response_lr": (("delta",), None),
    "train_steps": (("stn", "delta", "implicit"), None),
    "solver": (("implicit",), None),
    "n_terms": (("implicit",), None),
}
# What None stands for.
_DEFAULTS = {
    "train_steps": {"stn": 2, "delta": 2, "implicit": 10},
    "solver": {"implicit": "neumann"},
    "n_terms": {"implicit": 20},
}


def value_of(net, name):
    """Return the value of an argument, or what None stands for in the estimator's variant."""
    value = getattr(net, name)
    return _DEFAULTS[name].get(net.variant) if value is None else value


def check_arguments_of(net):
    """Raise ValueError if an argument is set that the estimator's variant does not read."""
    for name, (variants, default) in _READ_BY.items():
        value = getattr(net, name)
        if net.variant not in variants and value != default:
            readers = " and ".join(repr(one) for one in variants)
            raise ValueError(
                f"{name} is read by variant={readers}, but got {name}={value!r} with "
                f"variant={net.variant!r}; leave it at {default!r}"
            )


def make_tuning(net, distributions):
    """Make the tuning state of an estimator whose module is made."""
    return (Tuning if net.variant in _RESPONDING else GradientTuning)(net, distributions)


def make_runner(net, batches, valid):
    """Make the runner of an estimator's epochs; `valid` is None where nothing is tuned."""
    if net.variant in _RESPONDING:
        return TuningRunner(net, batches, valid, value_of(net, "train_steps"))
    settings = {name: value_of(net, name) for name in ("train_steps", "solver", "n_terms")}
    return ImplicitRunner(net, batches, valid, **settings)
