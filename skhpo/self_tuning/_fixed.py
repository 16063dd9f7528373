"""Given hyperparameters: a plain network trained with fixed values, or with a schedule of them."""

from __future__ import annotations

import numbers

import numpy as np
import torch

from ..training.schedule import EpochValues

__all__ = ["FixedValues", "are_fixed"]


class FixedValues(EpochValues):
    """Given values with the interface of `Ranges`."""

    def __init__(self, values, n_epochs=1):
        super().__init__(values, n_epochs)
        self.start = torch.tensor([self.support(name)[0] for name in self.names])

    def to(self, device, dtype):
        """Move to a device and dtype."""
        self.start = self.start.to(device, dtype)
        return self

    def is_log(self, name):
        """Whether a hyperparameter is on a log scale."""
        return False

    def band(self, name, values, scales):
        """Return the values twice: nothing is perturbed."""
        return values, values

    def as_dict(self, u):
        """Return the first values, wherever `u` is."""
        return self[0]


def are_fixed(hyperparameters):
    """Whether hyperparameters are given values rather than ranges; ValueError if they are mixed."""
    found = {name: _is_given(value) for name, value in (hyperparameters or {}).items()}
    if len(set(found.values())) > 1:
        number = next(name for name, fixed in found.items() if fixed)
        range_ = next(name for name, fixed in found.items() if not fixed)
        raise ValueError(
            "hyperparameters must be all distributions, to be tuned, or all numbers, which stay, "
            f"but {number!r} is {hyperparameters[number]!r} and {range_!r} is "
            f"{hyperparameters[range_]!r}"
        )
    return any(found.values())


def _is_given(value):
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return number or isinstance(value, np.ndarray | list | tuple) or _is_function(value)


def _is_function(value):
    # A distribution has methods, and a class of one is not frozen.
    return callable(value) and not hasattr(value, "rvs") and not isinstance(value, type)
