"""The arguments of self-tuning estimators that not all variants read."""

from __future__ import annotations

__all__ = ["N_TERMS", "RESPONDING", "VARIANTS", "check_arguments_of", "value_of"]

VARIANTS = ("stn", "delta", "implicit", "unrolled", "global")
RESPONDING = ("stn", "delta")
# Arguments that not all variants read: those that do, and the default that others must keep.
_READ_BY = {
    "entropy_weight": (RESPONDING, 1e-3),
    "init_scale": (RESPONDING, 1.0),
    "tune_scales": (RESPONDING, True),
    "convert": (RESPONDING, "auto"),
    "val_steps": (RESPONDING, 1),
    "response_lr": (("delta",), None),
    "train_steps": (VARIANTS, None),
    "solver": (("implicit",), None),
    "n_terms": (("implicit",), None),
    "n_steps": (("unrolled",), None),
    "mode": (("unrolled",), None),
    "n_hidden": (("global",), None),
}
# What None stands for.
_DEFAULTS = {
    "hyper_optimizer": {
        "stn": "rmsprop",
        "delta": "rmsprop",
        "implicit": "adam",
        "unrolled": "adam",
        "global": "adam",
    },
    "train_steps": {"stn": 2, "delta": 2, "implicit": 10, "global": 2},
    "solver": {"implicit": "neumann"},
    "n_steps": {"unrolled": 10},
    "mode": {"unrolled": "reverse"},
    "n_hidden": {"global": 32},
}


# Products with the Hessian per update; a series goes on from update to update.
N_TERMS = {"neumann": 1, "cg": 20, "identity": 1}


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
    if net.variant == "unrolled" and net.train_steps is not None:
        n_steps = value_of(net, "n_steps")
        if value_of(net, "mode") == "forward":
            raise ValueError(
                "with mode='forward' the steps between two updates are n_steps, but got "
                f"train_steps={net.train_steps}; leave it at None"
            )
        if net.train_steps < n_steps:
            raise ValueError(
                "train_steps must be at least n_steps with variant='unrolled', but got "
                f"train_steps={net.train_steps} and n_steps={n_steps}; lower n_steps, too"
            )
