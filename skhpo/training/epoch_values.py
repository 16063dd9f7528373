"""Values of hyperparameters that are given for each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["EpochValues"]


class EpochValues:
    """Given values, by the number of epochs before: ``values[0]`` are those of the first epoch.

    Parameters
    ----------
    values : dict of str to float, ndarray, list or callable
        A list has a value for each epoch; a callable maps the number of epochs before to the value.
        An ndarray holds the numbers of one value, such as a weight for each row.
    n_epochs : int, default=1
        Epochs for which the values of callables are checked.
    """

    def __init__(self, values: Mapping[str, Any], n_epochs: int = 1) -> None:
        self.names = list(values)
        self._values = dict(values)
        self._given = {name: self._over(name, n_epochs) for name in values}
        self._supports = {name: self._support(name) for name in values}

    def _over(self, name: str, n_epochs: int) -> Any:
        """Return all values of a name that are known now."""
        value = self._values[name]
        return [value(epoch) for epoch in range(n_epochs)] if callable(value) else value

    def _support(self, name: str) -> tuple[float, float]:
        given = self._given[name]
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

    def check_epochs(self, n_epochs: int) -> None:
        """Raise ValueError unless there are values for this number of epochs."""
        for name, value in self._values.items():
            if isinstance(value, list | tuple) and len(value) < n_epochs:
                raise ValueError(
                    f"a list of values must have one for each of {n_epochs} epochs, but that of "
                    f"{name!r} has {len(value)}; for a value that stays give a number, to choose "
                    "among values use BayesSearchCV"
                )

    def support(self, name: str) -> tuple[float, float]:
        """Return the smallest and the largest value."""
        return self._supports[name]

    def distinct(self, name: str) -> list[float]:
        """Return the different numbers that a list or a callable has, sorted."""
        return sorted(set(self._given[name]))

    def __getitem__(self, epoch: int) -> dict[str, Any]:
        return {name: _at(value, epoch) for name, value in self._values.items()}


def _at(value: Any, epoch: int) -> Any:
    if callable(value):
        return value(epoch)
    return value[epoch] if isinstance(value, list | tuple) else value
