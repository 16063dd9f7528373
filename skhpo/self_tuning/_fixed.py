"""Fixed hyperparameters: a plain network trained with given values."""

from __future__ import annotations

import math
import numbers

import torch

__all__ = ["FixedValues", "are_fixed"]


class FixedValues:
    """Finite constants with the interface of `Ranges` and of a schedule (one row per epoch)."""

    def __init__(self, values):
        for name, value in values.items():
            if not math.isfinite(value):
                raise ValueError(
                    f"a hyperparameter must be a finite number, but {name!r} is {value}"
                )
        self.names = list(values)
        self.start = torch.tensor([float(value) for value in values.values()])
        self._values = dict(values)

    def to(self, device, dtype):
        """Move to a device and dtype."""
        self.start = self.start.to(device, dtype)
        return self

    def support(self, name):
        """Return the value as the ends of its range."""
        return self._values[name], self._values[name]

    def is_log(self, name):
        """Whether a hyperparameter is on a log scale."""
        return False

    def band(self, name, values, scales):
        """Return the values twice: nothing is perturbed."""
        return values, values

    def as_dict(self, u):
        """Return the values, wherever `u` is."""
        return dict(self._values)

    def __getitem__(self, epoch):
        return self._values


def are_fixed(hyperparameters):
    """Whether hyperparameters are numbers rather than ranges; ValueError if they are mixed."""
    found = {name: _is_number(value) for name, value in (hyperparameters or {}).items()}
    if len(set(found.values())) > 1:
        number = next(name for name, fixed in found.items() if fixed)
        range_ = next(name for name, fixed in found.items() if not fixed)
        raise ValueError(
            "hyperparameters must be all distributions, to be tuned, or all numbers, which stay, "
            f"but {number!r} is {hyperparameters[number]!r} and {range_!r} is "
            f"{hyperparameters[range_]!r}"
        )
    return any(found.values())


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
