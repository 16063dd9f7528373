"""Checks on rows held out while a network is trained, by which the best weights are kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .state import TrainingState

__all__ = ["Checks"]

# Checks over which trend and spread are taken where there is no patience.
_RECENT = 5


class Checks:
    """Measures a network while it is trained, and stops it when it gets no better.

    Parameters
    ----------
    state : TrainingState
        Its counters are advanced, and it keeps the best weights.
    measure : callable
        Returns the monitored value of the network as it is now.
    name : str
        What the history calls it.
    lower_is_better : bool
    every : int or None
        Batches between two checks; None checks after each epoch.
    patience : int or None
        Checks without a new best one after which training stops.
    min_epochs : int
        Epochs before which it does not stop.
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
        """Forget the checks of the epoch before."""
        self.values: list[float] = []
        self.improved = False

    def is_due(self, n_batches: int) -> bool:
        """Whether to check after so many batches."""
        return self.every is not None and n_batches % self.every == 0

    def after_batch(self, n_batches: int) -> None:
        """Check, if it is time for it."""
        if self.is_due(n_batches):
            self.check()
            self.state.set_training(True)

    def end_epoch(self) -> None:
        """Check, if epochs are what checks go by; write the history; see whether to stop."""
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
        """Measure the network as it is now."""
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
