"""Groups of parameters by patterns of their names: learning rates, frozen ones; limits of norms."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from ..names import nearest_first

__all__ = ["constrain_rows", "find_frozen", "grouped", "match_names", "plain_name", "set_frozen"]

Named = Sequence[tuple[str, torch.nn.Parameter]]


def plain_name(name: str) -> str:
    """Return a parameter's name without what a compiled module adds to those that it wraps."""
    return name.replace("_orig_mod.", "")


def grouped(parameters: Named, multipliers: dict[str, float], lr: float) -> list[dict[str, Any]]:
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
    members: dict[float, list[torch.nn.Parameter]] = {}
    for name, parameter in named.items():
        members.setdefault(factors.get(name, 1), []).append(parameter)
    return [
        {"params": params, "lr": lr * factor, "lr_multiplier": factor}
        for factor, params in members.items()
    ]


def find_frozen(parameters: Named, freeze: dict[str, Any]) -> dict[str, Any]:
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


def set_frozen(parameters: Named, frozen_until: dict[str, Any], n_epochs: int) -> None:
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


def match_names(parameter: str, patterns: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Find the pattern of each name.

    Parameters
    ----------
    parameter : str
        What the patterns were given as, for the message.
    patterns : dict of str to object
        Patterns of `fnmatch`; of several that match a name the first one counts.
    names : list of str

    Returns
    -------
    found : dict of str to object
        From the names that a pattern matches to the value of the pattern.

    Raises
    ------
    ValueError
        If a pattern matches no name.
    """
    found: dict[str, Any] = {}
    for pattern, value in patterns.items():
        matched = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not matched:
            known = ", ".join(nearest_first(pattern, names))
            raise ValueError(
                f"the patterns of {parameter} must match names of parameters, but {pattern!r} "
                f"matches none; there are, the nearest first: {known}"
            )
        for name in matched:
            found.setdefault(name, value)
    return found


def constrain_rows(parameters: Iterable[torch.nn.Parameter], max_norm: float) -> None:
    """Scale the rows of weights down to an Euclidean norm of at most `max_norm`.

    A row holds what comes into one unit (Srivastava et al. 2014, section 5.1).
    """
    with torch.no_grad():
        for parameter in parameters:
            norms = parameter.flatten(1).norm(dim=1).clamp_(min=max_norm)
            parameter.mul_((max_norm / norms).view(-1, *[1] * (parameter.ndim - 1)))
