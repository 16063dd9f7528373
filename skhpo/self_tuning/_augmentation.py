"""Changes of a batch's inputs, with a strength per example."""

from __future__ import annotations

import torch

from .layers import drop

__all__ = ["IMAGES", "INPUTS", "augment"]

# In the order of application.
IMAGES = ()
INPUTS = ("input_noise", "input_dropout")


def augment(x, names, values, generator):
    """Change a batch of inputs.

    Parameters
    ----------
    x : Tensor of shape (n, ...)
    names : list of str
        What is done, in this order.
    values : dict of str to Tensor of shape (n, 1) or (1, 1)
        Strengths.
    generator : torch.Generator

    Returns
    -------
    Tensor of the shape of x
    """
    for name in names:
        x = _CHANGES[name](x, values[name], generator)
    return x


def _along(strength, x):
    return strength if x.ndim == 2 else strength.view(-1, *[1] * (x.ndim - 1))


def _noise(x, strength, generator):
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return torch.addcmul(x, _along(strength, x), noise)


def _dropout(x, strength, generator):
    return drop(x, _along(strength, x), generator)


_CHANGES = {"input_noise": _noise, "input_dropout": _dropout}
