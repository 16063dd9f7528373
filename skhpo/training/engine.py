"""The training loop over epochs: counting, checks, records, and when to stop.

A runner trains networks for an epoch and reports the results; everything around it is here, and
is the same for one network and for many.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import operator
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from ..exceptions import NonFiniteLossError
from .groups import constrain_rows, set_frozen
from .state import TrainingState

__all__ = ["ActiveNetwork", "Checks", "EpochReport", "EpochRunner", "EpochWatcher", "train"]


# Checks of which trend and spread are computed where there is no patience.
_RECENT = 5


@dataclass(slots=True)
class EpochReport:
    """Result of an epoch of one network.

    Parameters
    ----------
    losses : list of float or None, default=None
        Losses of the batches; None where the watcher records them.
    sizes : list of int, default=()
        Rows of the batches.
    columns : dict, default={}
        Further columns of the epoch's row in the history.
    finished : bool, default=True
        False if a callback ended the epoch before its last batch.
    is_averaged : bool, default=False
        Whether the runner has averaged the weights after the epoch, where they are.
    """

    losses: list[float] | None = None
    sizes: Sequence[int] = ()
    columns: dict[str, Any] = field(default_factory=dict)
    finished: bool = True
    is_averaged: bool = False


class EpochRunner(Protocol):
    """Trains networks for an epoch."""

    def run(self, networks: list[ActiveNetwork]) -> list[EpochReport]:
        """Train each network for one epoch, calling its `after_batch` after each of its steps.

        Networks that were there in an earlier call and are not any more have been released.
        """

    def release(self, network: ActiveNetwork) -> None:
        """Write the weights of a network that leaves into its state; not needed by default."""
        return


class EpochWatcher(Protocol):
    """Gets notifications of the epochs of one network; returns whether to go on."""

    @property
    def reads_weights(self) -> bool:
        """Whether it may read the network's weights at the end of an epoch."""

    def epoch_begins(self) -> bool:
        """Open a row of the history; False skips the epoch."""

    def epoch_ends(self) -> bool:
        """Read the complete row; the epoch is not counted yet."""

    def epoch_counted(self) -> bool:
        """Read the state before the next epoch."""


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
        counters = self.state.counters
        with self.state.averaged():
            value = self.measure()
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


class ActiveNetwork:
    """A network being trained in a call of ``fit``, with its remaining epochs.

    Parameters
    ----------
    state : TrainingState
    batches : iterable of batches
    n_epochs : int
        Epochs to train.
    watcher : EpochWatcher
    checks : Checks or None, default=None
    parameters : list of (str, Parameter), default=()
        The parameters; only needed for freezing and `max_norm`.
    max_norm : float or None, default=None
        Largest norm of the incoming weights of a unit.
    at_end : callable or None, default=None
        Called without arguments when training has ended without an error and the network has its
        best weights.
    at_begin : callable or None, default=None
        Called before each epoch with the number of epochs before; what it sets may change the steps
        of the epoch. Returns columns of the epoch's row in the history.
    at_leave : callable or None, default=None
        Called without arguments when the network has its best weights, also after an error.
    at_check : callable, default=contextlib.nullcontext
        Returns a context within which losses of all epochs are comparable.

    Attributes
    ----------
    each_batch : bool
        Whether `after_batch` does anything.
    counts_batches : bool
        Whether `count_batch` does anything.
    """

    def __init__(
        self,
        state: TrainingState,
        batches: Any,
        n_epochs: int,
        watcher: EpochWatcher,
        checks: Checks | None = None,
        *,
        parameters: Sequence[tuple[str, torch.nn.Parameter]] = (),
        max_norm: float | None = None,
        at_end: Callable[[], object] | None = None,
        at_begin: Callable[[int], dict[str, Any]] | None = None,
        at_leave: Callable[[], object] | None = None,
        at_check: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        self.state = state
        self.batches = batches
        self.epochs_left = n_epochs
        self.watcher = watcher
        self.checks = checks
        self.parameters = parameters
        self.max_norm = max_norm
        self.at_end = at_end
        self.at_begin = at_begin
        self.at_leave = at_leave
        self.at_check = at_check
        self._columns: dict[str, Any] = {}
        self._n_rows = len(state.history)
        self.limited = [] if max_norm is None else [p for _, p in parameters if p.ndim > 1]
        steps = state.schedule is not None and state.schedule.every_batch
        looks = checks is not None and checks.every is not None
        averages = state.average is not None and state.average.kind == "ema"
        self.counts_batches = bool(steps or looks)
        self.each_batch = bool(self.limited or averages or self.counts_batches)

    @property
    def is_done(self) -> bool:
        """Whether there is no epoch to train."""
        patient = self.checks is None or not self.state.counters.stopped
        return self.epochs_left < 1 or not patient

    def begin_epoch(self) -> bool:
        """Prepare an epoch; return whether to train it."""
        if self.state.frozen_until:
            set_frozen(self.parameters, self.state.frozen_until, self.state.counters.n_epochs)
        if self.at_begin is not None:
            self._columns = self.at_begin(self.state.counters.n_epochs)
        if self.checks is not None:
            self.checks.begin_epoch()
        return self.watcher.epoch_begins()

    def after_batch(self) -> None:
        """Do what belongs to a step of the optimizer: `max_norm`, averages, counting the batch."""
        state = self.state
        if self.max_norm is not None:
            constrain_rows([p for p in self.limited if p.requires_grad], self.max_norm)
        if state.average is not None:
            state.average.after_step(state.modules, state.counters.n_epochs + 1)
        if self.counts_batches:
            # What checks and schedules make is used outside of inference mode, too.
            with torch.inference_mode(False):
                self.count_batch()

    def count_batch(self) -> None:
        """Count a batch, for checks and schedules that step per batch."""
        counters = self.state.counters
        counters.n_batches += 1
        if self.checks is not None:
            self.checks.after_batch(counters.n_batches)
        if self.state.schedule is not None:
            self.state.schedule.after_batch(counters.n_batches)

    def finish_epoch(self, report: EpochReport, seconds: float) -> None:
        """Record and count an epoch; NonFiniteLossError if its loss is not finite."""
        state, start = self.state, time.perf_counter()
        go_on = report.finished
        if report.finished:
            if state.average is not None and not report.is_averaged:
                state.average.after_epoch(state.modules, state.counters.n_epochs + 1)
            self._record(report)
            if report.losses is not None:
                _last_row(state.history)["dur"] = seconds + time.perf_counter() - start
            with self._as_watched():
                go_on = self.watcher.epoch_ends()
        self._n_rows = len(state.history)
        self.epochs_left -= 1
        state.counters.n_epochs += 1
        _check_loss(state)
        if state.schedule is not None:
            state.schedule.after_epoch(state.counters.n_epochs, state.counters.last)
        # The watcher is notified in any case.
        with self._as_watched():
            go_on = self.watcher.epoch_counted() and go_on
        if not go_on:
            self.epochs_left = 0

    def _as_watched(self) -> AbstractContextManager[None]:
        """Return the context in which the network has the weights that a watcher may read."""
        return self.state.averaged() if self.watcher.reads_weights else contextlib.nullcontext()

    def _record(self, report: EpochReport) -> None:
        row = _last_row(self.state.history)
        row |= {**self._columns, **report.columns}
        if report.losses is not None:
            row |= _columns_of_losses(self.state.history, report.losses, report.sizes)
        if self.state.schedule is not None:
            row["lr"] = float(self.state.optimizer.param_groups[0]["lr"])
        if self.checks is not None:
            self.checks.end_epoch()

    def leave(self) -> None:
        """Set the best weights for predictions, and drop the row of an unfinished epoch."""
        del self.state.history[self._n_rows :]
        self.state.settle()
        if self.at_leave is not None:
            self.at_leave()


def train(
    networks: Iterable[ActiveNetwork],
    runner: EpochRunner,
    errors: dict[ActiveNetwork, BaseException] | None = None,
) -> None:
    """Train networks until all are done. In any case they have their best weights afterwards.

    `errors` collects, by network, errors at the end of an epoch, after which the network leaves;
    if it is None they are raised.
    """
    active = list(networks)
    try:
        while active:
            for network in [one for one in active if one.is_done or one in (errors or ())]:
                active.remove(network)
                _leave(network, runner)
                if network.at_end is not None and network not in (errors or ()):
                    _finish(network, errors)
            if active:
                _train_epoch(active, runner, errors)
    finally:
        for network in active:
            _leave(network, runner)


def _leave(network: ActiveNetwork, runner: EpochRunner) -> None:
    runner.release(network)
    network.leave()


def _finish(network: ActiveNetwork, errors: dict[ActiveNetwork, BaseException] | None) -> None:
    assert network.at_end is not None
    try:
        network.at_end()
    except (Exception, SystemExit) as error:
        if errors is None:
            raise
        errors[network] = error


def _train_epoch(
    networks: list[ActiveNetwork],
    runner: EpochRunner,
    errors: dict[ActiveNetwork, BaseException] | None,
) -> None:
    start = time.perf_counter()
    begun = [network.begin_epoch() for network in networks]
    reports = runner.run(networks) if all(begun) else [EpochReport(finished=False)]
    seconds = (time.perf_counter() - start) / len(networks)
    for network, report in zip(networks, reports, strict=True):
        try:
            network.finish_epoch(report, seconds)
        except (Exception, SystemExit) as error:
            if errors is None:
                raise
            errors[network] = error


def _last_row(history: Any) -> dict[str, Any]:
    # skorch's history takes apart each index that it is given.
    row: dict[str, Any] = next(reversed(history))
    return row


def _columns_of_losses(history: Any, losses: list[float], sizes: Sequence[int]) -> dict[str, Any]:
    mean = sum(map(operator.mul, losses, sizes)) / sum(sizes)
    before = itertools.islice(reversed(history), 1, None)
    rows = (row for row in before if row.get("train_loss_best"))
    best = next(rows, {"train_loss": math.inf})["train_loss"]
    return {
        "train_loss": mean,
        "train_loss_best": mean < best,
        "train_batch_count": len(losses),
    }


def _check_loss(state: TrainingState) -> None:
    loss = _last_row(state.history).get("train_loss")
    if loss is not None and not math.isfinite(loss):
        raise NonFiniteLossError(
            f"the training loss must be finite, but is {loss} in epoch {state.counters.n_epochs}; "
            "lower lr, or scale the data"
        )


def _slope(values: list[float]) -> float:
    """Return the slope of the least-squares line, per check; 0 for a single check."""
    if len(values) < 2 or not np.isfinite(values).all():
        return 0.0
    places = np.arange(len(values)) - (len(values) - 1) / 2
    return float(places @ np.asarray(values) / (places @ places))
