"""Given hyperparameters: a plain network trained with fixed values, or with a schedule of them."""

from __future__ import annotations

import numbers

import numpy as np
import torch

__all__ = ["FixedValues", "are_fixed"]


class FixedValues:
    """Given values with the interface of `Ranges` and of a schedule (one row per epoch).

    Parameters
    ----------
    values : dict of str to float, ndarray, list or callable
        A list has a value for each epoch; a callable maps the number of epochs before to the value.
        An ndarray holds the numbers of one value, such as a weight for each row.
    n_epochs : int
        Epochs whose values are checked.
    """

    def __init__(self, values, n_epochs=1):
        self.names = list(values)
        self._values = dict(values)
        self._supports = {name: self._support(name, n_epochs) for name in values}
        self.start = torch.tensor([low for low, _ in self._supports.values()])

    def _support(self, name, n_epochs):
        """Return the smallest and the largest value over some epochs."""
        value = self._values[name]
        given = [value(epoch) for epoch in range(n_epochs)] if callable(value) else value
        try:
            found = np.concatenate([np.ravel(one).astype(float) for one in np.atleast_1d(given)])
        except (TypeError, ValueError):
            found = np.array([np.nan])
        if not found.size or not np.isfinite(found).all():
            raise ValueError(
                "a hyperparameter must be a finite number, or have one in each epoch, but "
                f"{name!r} is {given}"
            )
        return float(found.min()), float(found.max())

    def check_epochs(self, n_epochs):
        """Raise ValueError unless there are values for this number of epochs."""
        for name, value in self._values.items():
            if _is_list(value) and len(value) < n_epochs:
                raise ValueError(
                    f"a list of values must have one for each of {n_epochs} epochs, but that of "
                    f"{name!r} has {len(value)}; for a value that stays give a number, to choose "
                    "among values use BayesSearchCV"
                )

    def to(self, device, dtype):
        """Move to a device and dtype."""
        self.start = self.start.to(device, dtype)
        return self

    def support(self, name):
        """Return the smallest and the largest value."""
        return self._supports[name]

    def is_log(self, name):
        """Whether a hyperparameter is on a log scale."""
        return False

    def band(self, name, values, scales):
        """Return the values twice: nothing is perturbed."""
        return values, values

    def as_dict(self, u):
        """Return the first values, wherever `u` is."""
        return self[0]

    def __getitem__(self, epoch):
        return {name: _at(value, epoch) for name, value in self._values.items()}


def _at(value, epoch):
    if callable(value):
        return value(epoch)
    return value[epoch] if _is_list(value) else value


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
    return number or isinstance(value, np.ndarray) or _is_list(value) or _is_function(value)


def _is_list(value):
    return isinstance(value, list | tuple)


def _is_function(value):
    # A distribution has methods, and a class of one is not frozen.
    return callable(value) and not hasattr(value, "rvs") and not isinstance(value, type)
