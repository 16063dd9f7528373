"""Initial weights by name, patterns of parameter names, and constraints on weights."""

from __future__ import annotations

import fnmatch
import math

import torch
from torch import nn

from ..names import nearest_first

__all__ = ["INITIALIZATIONS", "constrain_rows", "initialize_weights", "match_names"]

# Standard deviation (or bound) of the plain distributions, at a gain of one.
_SMALL = 0.05
# From the prefix to the numerator of the variance, and what it is divided by.
_FANS = {
    "lecun": lambda fan_in, fan_out: 1 / fan_in,
    "xavier": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "kaiming": lambda fan_in, fan_out: 2 / fan_in,
}
INITIALIZATIONS = (
    *("default", "zeros", "uniform", "normal", "orthogonal"),
    *(f"{scheme}_{shape}" for scheme in _FANS for shape in ("uniform", "normal")),
)


def initialize_weights(module, init, gain, generator):
    """Draw the weights of a module.

    Parameters
    ----------
    module : torch.nn.Module
        Changed in place: parameters of two and more dimensions are drawn, biases become zero,
        other parameters (of normalizations) stay.
    init : str
        One of `INITIALIZATIONS`. "default" keeps what the layers drew themselves, times `gain`.
        "lecun_*", "xavier_*" and "kaiming_*" have the variances 1 / fan_in,
        2 / (fan_in + fan_out) and 2 / fan_in, times ``gain**2``; "uniform" and "normal" the bound
        and the standard deviation 0.05, times `gain`.
    gain : float
    generator : callable
        From the device and the name of a parameter to the generator that draws it.
    """
    if init == "default" and gain == 1:
        return
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if isinstance(parameter, nn.parameter.UninitializedParameter):
                continue
            if parameter.ndim > 1:
                _draw(parameter, init, gain, generator(parameter.device, name))
            elif init != "default" and "bias" in name.rpartition(".")[2]:
                parameter.zero_()


def _draw(weight, init, gain, generator):
    scheme, _, shape = init.partition("_")
    if init == "default":
        weight.mul_(gain)
    elif init == "zeros":
        weight.zero_()
    elif init == "orthogonal":
        nn.init.orthogonal_(weight, gain, generator=generator)
    elif init == "uniform":
        weight.uniform_(-_SMALL * gain, _SMALL * gain, generator=generator)
    elif init == "normal":
        weight.normal_(0, _SMALL * gain, generator=generator)
    else:
        receptive_field = weight[0][0].numel()
        fans = weight.shape[1] * receptive_field, weight.shape[0] * receptive_field
        deviation = gain * math.sqrt(_FANS[scheme](*fans))
        if shape == "normal":
            weight.normal_(0, deviation, generator=generator)
        else:
            bound = math.sqrt(3) * deviation
            weight.uniform_(-bound, bound, generator=generator)


def match_names(parameter, patterns, names):
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
    found = {}
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


def constrain_rows(parameters, max_norm):
    """Scale the rows of weights down to an Euclidean norm of at most `max_norm`.

    A row holds what comes into one unit (Srivastava et al. 2014, section 5.1).
    """
    with torch.no_grad():
        for parameter in parameters:
            norms = parameter.flatten(1).norm(dim=1).clamp_(min=max_norm)
            parameter.mul_((max_norm / norms).view(-1, *[1] * (parameter.ndim - 1)))
