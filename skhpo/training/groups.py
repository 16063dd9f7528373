"""Groups of parameters: learning rates of their own, and frozen ones."""

from __future__ import annotations

from .weights import match_names

__all__ = ["find_frozen", "grouped", "plain_name", "set_frozen"]


def plain_name(name):
    """Return a parameter's name without what a compiled module adds to those that it wraps."""
    return name.replace("_orig_mod.", "")


def grouped(parameters, multipliers, lr):
    """Return groups of parameters for an optimizer; each keeps its factor as "lr_multiplier".

    Parameters
    ----------
    parameters : list of (str, Parameter)
    multipliers : dict of str to float
        Factors of the learning rate by patterns of names; the first that matches counts.
    lr : float
    """
    named = {plain_name(name): parameter for name, parameter in parameters}
    factors = match_names("lr_multipliers", multipliers, list(named))
    members = {}
    for name, parameter in named.items():
        members.setdefault(factors.get(name, 1), []).append(parameter)
    return [
        {"params": params, "lr": lr * factor, "lr_multiplier": factor}
        for factor, params in members.items()
    ]


def find_frozen(parameters, freeze):
    """Return until which epoch which parameters are frozen; True is for good.

    Parameters
    ----------
    parameters : list of (str, Parameter)
    freeze : dict of str to (int or bool)
        By patterns of names.

    Raises
    ------
    ValueError
        If nothing is left to train in the first epoch.
    """
    named = {plain_name(name): parameter for name, parameter in parameters}
    found = match_names("freeze", freeze, list(named))
    # What the module itself keeps from being trained is never thawed.
    frozen_until = {
        name: epochs if epochs is True else int(epochs)
        for name, epochs in found.items()
        if epochs and named[name].requires_grad
    }
    trained = [p for p in named.values() if p.requires_grad]
    if trained and len(frozen_until) == len(trained):
        raise ValueError(
            f"freeze={freeze!r} must leave parameters to train in the first epoch, but it freezes "
            f"all of them: {', '.join(named)}"
        )
    return frozen_until


def set_frozen(parameters, frozen_until, n_epochs):
    """Freeze what is not to be trained in the epoch to come, and thaw the others.

    Parameters
    ----------
    parameters : list of (str, Parameter)
    frozen_until : dict of str to (int or True)
    n_epochs : int
        Epochs trained so far.
    """
    named = {plain_name(name): parameter for name, parameter in parameters}
    for name, epochs in frozen_until.items():
        named[name].requires_grad_(epochs is not True and n_epochs >= epochs)
