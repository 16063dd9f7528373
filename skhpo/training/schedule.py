"""Learning-rate schedules that continue with a fit, and values given for each epoch."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.optim import lr_scheduler as torch_schedules

from ..names import resolve_scheduler

__all__ = ["EpochValues", "Schedule"]

# The argument of a schedule that is its length.
_LENGTH = {
    torch_schedules.CosineAnnealingLR: "T_max",
    torch_schedules.LinearLR: "total_iters",
    torch_schedules.OneCycleLR: "total_steps",
    torch_schedules.PolynomialLR: "total_iters",
}
_EVERY_BATCH = (torch_schedules.OneCycleLR, torch_schedules.CyclicLR)
_PLATEAU = torch_schedules.ReduceLROnPlateau


class Schedule:
    """A torch schedule and its length.

    Parameters
    ----------
    scheduler : str, class or callable
    optimizer : torch.optim.Optimizer
    arguments : dict
        Arguments of the schedule that are set.
    epochs : int
        Length of the schedule. After it the learning rate stays constant.
    batches : int
        Batches per epoch.
    lower_is_better : bool, default=True
        Whether the monitored value is a loss.
    """

    def __init__(
        self,
        scheduler: Any,
        optimizer: torch.optim.Optimizer,
        arguments: Mapping[str, Any],
        epochs: int,
        batches: int,
        *,
        lower_is_better: bool = True,
    ) -> None:
        self.epochs = epochs
        self.batches = batches
        factory = resolve_scheduler(scheduler)
        defaults = schedule_defaults(scheduler)
        kwargs = {**defaults, **arguments}
        kwargs = {k: v for k, v in kwargs.items() if v is not None or k not in defaults}
        self.every_batch = isinstance(factory, type) and issubclass(factory, _EVERY_BATCH)
        self.on_plateau = isinstance(factory, type) and issubclass(factory, _PLATEAU)
        length = _LENGTH.get(factory)
        # With a user-defined length, torch decides what follows it (restarts of a cosine).
        self.ends = length is not None and length not in kwargs
        if length is not None and self.ends:
            kwargs[length] = epochs * batches if self.every_batch else epochs
        if factory is torch_schedules.OneCycleLR:
            kwargs = {"max_lr": [group["lr"] for group in optimizer.param_groups], **kwargs}
            kwargs.setdefault("cycle_momentum", _has_momentum(optimizer))
        if self.on_plateau:
            kwargs.setdefault("mode", "min" if lower_is_better else "max")
        self.torch_schedule = factory(optimizer, **kwargs)

    def state_dict(self) -> dict[str, Any]:
        """Return the length and the state of torch's schedule."""
        state = {k: v for k, v in self.torch_schedule.state_dict().items() if not callable(v)}
        return {"epochs": self.epochs, "batches": self.batches, "state": state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a schedule of the same length."""
        self.torch_schedule.load_state_dict(state["state"])

    def after_batch(self, n_batches: int) -> None:
        """Step, if this schedule steps per batch; `n_batches` were trained over all epochs."""
        if self.every_batch and (n_batches < self.epochs * self.batches or not self.ends):
            self.torch_schedule.step()

    def after_epoch(self, n_epochs: int, value: float | None) -> None:
        """Step, if this schedule steps per epoch; `value` is monitored, if there are checks."""
        if self.on_plateau:
            if value is not None:
                self.torch_schedule.step(value)
        elif not self.every_batch and (n_epochs < self.epochs or not self.ends):
            self.torch_schedule.step()


def schedule_defaults(scheduler: Any) -> dict[str, Any]:
    """Return the defaults of a schedule's arguments that differ from torch's; None if inferred."""
    if scheduler is None:
        return {}
    factory = resolve_scheduler(scheduler)
    defaults: dict[str, Any] = {_LENGTH[factory]: None} if factory in _LENGTH else {}
    if factory is torch_schedules.LinearLR and isinstance(scheduler, str):
        defaults |= {"start_factor": 1.0, "end_factor": 0.0}
    elif factory is torch_schedules.OneCycleLR:
        defaults |= {"max_lr": None, "cycle_momentum": None}
    elif inspect.isclass(factory) and issubclass(factory, _PLATEAU):
        defaults["mode"] = None
    return defaults


def needs_monitor(scheduler: Any) -> bool:
    """Whether a schedule steps by a monitored value."""
    factory = resolve_scheduler(scheduler)
    return inspect.isclass(factory) and issubclass(factory, _PLATEAU)


def _has_momentum(optimizer: torch.optim.Optimizer) -> bool:
    group = optimizer.param_groups[0]
    return bool(group.get("momentum")) or "betas" in group


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
        if callable(value):
            return [_plain(value(epoch)) for epoch in range(n_epochs)]
        return list(map(_plain, value)) if isinstance(value, list | tuple) else _plain(value)

    def _support(self, name: str) -> tuple[float, float]:
        given = self._given[name]
        try:
            each = given if isinstance(given, list) else [given]
            found = np.concatenate([_real(value) for value in each])
        except (TypeError, ValueError):
            found = np.array([np.nan])
        if not found.size or not np.isfinite(found).all():
            raise ValueError(
                "a hyperparameter must be a finite number, or have one in each epoch, but "
                f"{name!r} is {given}"
            )
        return float(found.min()), float(found.max())

    def check_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raise ValueError unless values are numbers, or have the shapes that names have here."""
        for name, given in self._given.items():
            shape = shapes.get(name, ())
            each = given if isinstance(given, list) else [given]
            wrong = [epoch for epoch, one in enumerate(each) if np.shape(one) not in ((), shape)]
            if wrong:
                or_array = f", or an array of the shape {shape}," if shape else ""
                raise ValueError(
                    f"{name!r} must have a number{or_array} in each epoch, but has "
                    f"{each[wrong[0]]!r} in epoch {wrong[0] + 1}; give numbers, or leave {name!r} "
                    "out and search it, as with BayesSearchCV"
                )

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
        return _plain(value(epoch))
    return _plain(value[epoch] if isinstance(value, list | tuple) else value)


def _plain(value: Any) -> Any:
    """Return a scalar of NumPy or torch as a number of Python."""
    is_scalar = isinstance(value, np.generic | np.ndarray | torch.Tensor) and value.ndim == 0
    return value.item() if is_scalar else value


def _real(value: Any) -> np.ndarray:
    found = np.ravel(value)
    if found.dtype.kind not in "biuf" and not isinstance(value, numbers.Real):
        raise ValueError("not a real number")
    return found.astype(float)
