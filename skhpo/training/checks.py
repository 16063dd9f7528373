"""Checks of a network on held-out rows during training, which keep the best weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .state import TrainingState

__all__ = ["Checks"]

# Checks of which trend and spread are computed where there is no patience.
_RECENT = 5


class Checks:
    """Checks a network during training, and stops it when it no longer improves.

    Parameters
    ----------
    state : TrainingState
        Gets the counters of checks and the best weights.
    measure : callable
        Returns the current monitored value.
    name : str
        Of the monitored value in the history.
    lower_is_better : bool
    every : int or None
        Batches between two checks; None checks after each epoch.
    patience : int or None
        Checks without improvement after which training stops.
    min_epochs : int
        Epochs before which training does not stop.
    """

    def __init__(
        self,
        state: TrainingState,
        measure: Callable[[], float],
        name: str,
        *,
        lower_is_better: bool,
        every: int | None,
        patience: int | None,
        min_epochs: int,
    ) -> None:
        self.state = state
        self.measure = measure
        self.name = name
        self.lower_is_better = lower_is_better
        self.every = every
        self.patience = patience
        self.min_epochs = min_epochs
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Forget the checks of the previous epoch."""
        self.values: list[float] = []
        self.improved = False

    def after_batch(self, n_batches: int) -> None:
        """Check, if a check is due."""
        if self.every is not None and n_batches % self.every == 0:
            self.check()
            self.state.set_training(True)

    def end_epoch(self) -> None:
        """Check, if checks are per epoch; record the checks; decide whether to stop."""
        counters, history = self.state.counters, self.state.history
        if self.every is None:
            self.check()
        if self.values:
            window = counters.recent
            history.record(self.name, self.values[-1])
            history.record(f"{self.name}_best", self.improved)
            history.record(f"{self.name}_trend", _slope(window))
            history.record(f"{self.name}_spread", float(np.std(window)))
        history.record("checks", list(self.values))
        waited = counters.n_checks - counters.best_check
        enough = self.patience is not None and waited >= self.patience
        counters.stopped = bool(enough and counters.n_epochs + 1 >= self.min_epochs)

    def check(self) -> None:
        """Measure the monitored value, and keep the weights if it is the best so far."""
        with self.state.averaged():
            self._check()

    def _check(self) -> None:
        counters, value = self.state.counters, self.measure()
        better = counters.best is None or (
            value < counters.best if self.lower_is_better else value > counters.best
        )
        counters.n_checks += 1
        counters.last = value
        length = max(self.patience or _RECENT, 2)
        counters.recent = [*counters.recent, value][-length:]
        self.values.append(value)
        if better and math.isfinite(value):
            counters.best, counters.best_check = value, counters.n_checks
            counters.best_epoch = counters.n_epochs + 1
            self.improved = True
            self.state.best_weights = self.state.copy_weights()


def _slope(values: list[float]) -> float:
    """Return the slope of the least-squares line, per check; 0 for a single check."""
    if len(values) < 2 or not np.isfinite(values).all():
        return 0.0
    places = np.arange(len(values)) - (len(values) - 1) / 2
    return float(places @ np.asarray(values) / (places @ places))
