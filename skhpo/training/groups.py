"""Groups of parameters by patterns of names: learning rates, freezing; limits of norms."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from ..names import nearest_first

__all__ = ["constrain_rows", "find_frozen", "grouped", "match_names", "plain_name", "set_frozen"]

Named = Sequence[tuple[str, torch.nn.Parameter]]


def plain_name(name: str) -> str:
    """Return a parameter's name without the prefix that a compiled module adds."""
    return name.replace("_orig_mod.", "")


def grouped(parameters: Named, multipliers: dict[str, float], lr: float) -> list[dict[str, Any]]:
    """Return groups of parameters for an optimizer; each keeps its factor as "lr_multiplier".

    `multipliers` are factors of the learning rate by patterns of names; the first match counts.
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
    """Return for how many epochs (True: always) parameters are frozen, by name.

    Raises ValueError if nothing is left to train in the first epoch.
    """
    named = {plain_name(name): parameter for name, parameter in parameters}
    found = match_names("freeze", freeze, list(named))
    # Parameters that the module itself froze stay frozen.
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
    """Mark parameters as trainable or frozen for the epoch after `n_epochs`."""
    named = {plain_name(name): parameter for name, parameter in parameters}
    for name, epochs in frozen_until.items():
        named[name].requires_grad_(epochs is not True and n_epochs >= epochs)


def match_names(parameter: str, patterns: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Return the value of the first `fnmatch` pattern that matches, for each matched name.

    Raises ValueError, which names `parameter`, if a pattern matches no name.
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

    A row holds the incoming weights of a unit (Srivastava et al. 2014, section 5.1).
    """
    with torch.no_grad():
        for parameter in parameters:
            parameter.renorm_(p=2, dim=0, maxnorm=max_norm)
