"""When training should have ended: what the checks of a fit found, and a fit that uses it."""

from __future__ import annotations

import math

from ..searchable import EndOfTraining
from ..training.batches import batch_sizes
from ..training.schedule import needs_monitor
from .parameters import arguments_of

__all__ = ["end_of_training"]


def end_of_training(net):
    """Return the `EndOfTraining` of a torch estimator."""
    return EndOfTraining(
        finds=net.validation_fraction is not None,
        found=lambda: _found(net),
        parameters=lambda n_epochs: _parameters(net, n_epochs),
        steps_per_epoch=lambda n_samples: _steps_per_epoch(net, n_samples),
    )


def _found(net):
    epoch = net._state.counters.best_epoch
    if not epoch:
        return {}
    n_batches = net.history_[epoch - 1].get("train_batch_count")  # may be recorded by a callback
    if n_batches is None:
        return {"best_epoch": epoch}
    return {"best_epoch": epoch, "best_step": epoch * math.ceil(n_batches / net.accumulate)}


def _parameters(net, n_epochs):
    if net.lr_scheduler is not None and needs_monitor(net.lr_scheduler):
        raise ValueError(
            "a fit on all rows must not need rows that are held out, but "
            f"lr_scheduler={net.lr_scheduler!r} waits for the monitored value to stall; choose "
            "another schedule, such as 'cosine'"
        )
    for callback in net.callbacks if isinstance(net.callbacks, list | tuple) else ():
        one = callback[1] if isinstance(callback, tuple) else callback
        monitor = _monitor_of(one)
        if isinstance(monitor, str) and monitor.startswith("valid_"):
            raise ValueError(
                "a fit on all rows must not need rows that are held out, but a callback monitors "
                f"{monitor!r} ({one!r}); leave it out: `patience` ends the fits that hold rows out"
            )
    return {
        "max_epochs": n_epochs,
        "schedule_epochs": net.schedule_epochs or net.max_epochs,
        "validation_fraction": None,
        "patience": None,
        "check_every": None,
    }


def _monitor_of(callback):
    if not isinstance(callback, type):
        return getattr(callback, "monitor", None)
    return (arguments_of(callback) or {}).get("monitor")


def _steps_per_epoch(net, n_samples):
    settings = net.get_params_for("iterator_train")
    size = settings.get("batch_size", net.batch_size)
    if size == -1:
        return 1
    if settings.get("drop_last", False):
        n_batches = n_samples // size
    else:
        n_batches = len(batch_sizes(n_samples, size))
    return max(1, math.ceil(n_batches / net.accumulate))
