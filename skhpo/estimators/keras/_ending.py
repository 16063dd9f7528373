"""When training should have ended: the best epoch of a fit, and a fit that uses it."""

from __future__ import annotations

import math

import numpy as np

from ...searchable import EndOfTraining
from ._backend import import_keras
from ._builders import builder_arguments

__all__ = ["best_epoch", "end_of_training"]

# Samples per batch where `batch_size` is None, as in ``keras.Model.fit``.
_BATCH_SIZE = 32
# Ends of the names of metrics that are better when they are larger.
_GROWING = ("acc", "accuracy", "auc", "precision", "recall", "f1_score", "r2_score")


def end_of_training(net):
    """Return the `EndOfTraining` of a Keras estimator."""
    return EndOfTraining(
        finds=bool(net.validation_split),
        found=lambda: _found(net),
        parameters=lambda n_epochs: _parameters(net, n_epochs),
        steps_per_epoch=lambda n_samples: _steps_per_epoch(net, n_samples),
        why_same=lambda: _why_same(net),
    )


def _why_same(net):
    if not net.validation_split:
        return "validation_split=0 holds no rows out"
    callbacks = list(net.callbacks or ())
    own = [type(one) for one in callbacks if type(one).__module__.partition(".")[0] != "keras"]
    if own:
        return f"callbacks of your own ({own[0].__name__}) may need rows that are held out"
    stopping = filter(_stops_early, callbacks)
    if not any(str(one.monitor).startswith("val_") for one in stopping):
        return "no EarlyStopping ends the fits by the rows that validation_split holds out"
    try:
        _parameters(net, 1)
    except ValueError as error:
        return str(error)
    return None


def best_epoch(net):
    """Return the epoch, from 1, with the best monitored value; None where nothing was validated.

    What is monitored is what the first callback that stops early monitors, else "val_loss".
    """
    stopping = next(filter(_stops_early, net._callbacks), None)
    monitor = getattr(stopping, "monitor", "val_loss")
    values = np.asarray(net.history_.get(monitor, ()), dtype=float)
    if not monitor.startswith("val_") or not np.isfinite(values).any():
        return None
    best = np.nanargmax(values) if _is_to_grow(monitor, stopping) else np.nanargmin(values)
    every = net.validation_freq
    return (int(best) + 1) * every if isinstance(every, int) else int(sorted(every)[best])


def _is_to_grow(monitor, stopping):
    if stopping is None or monitor == "val_loss":
        return False
    if stopping.mode in ("min", "max"):
        return stopping.mode == "max"
    if stopping.monitor_op is None:  # of a checkpoint, which has no callbacks
        return monitor.endswith(_GROWING)
    return stopping.monitor_op is import_keras().ops.greater


def _stops_early(callback):
    return isinstance(callback, import_keras().callbacks.EarlyStopping)


def _found(net):
    epoch = best_epoch(net)
    if epoch is None:
        return {}
    n_steps = getattr(net, "_n_steps", None)  # unknown of a checkpoint
    return {"best_epoch": epoch, **({} if n_steps is None else {"best_step": epoch * n_steps})}


def _parameters(net, n_epochs):
    callbacks = [one for one in net.callbacks or () if not _stops_early(one)]
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and monitor.startswith("val_"):
            raise ValueError(
                "a fit on all rows must not need rows that are held out, but "
                f"{type(callback).__name__} monitors {monitor!r}; let it monitor "
                f"{monitor.removeprefix('val_')!r}, or leave it out"
            )
    if "epochs" in (builder_arguments(net.build_fn) or {}):
        raise ValueError(
            "a fit for another number of epochs must build the same model, but build_fn has an "
            "argument 'epochs', which gets the estimator's; give that argument another name"
        )
    return {"epochs": n_epochs, "validation_split": 0.0, "callbacks": callbacks or None}


def _steps_per_epoch(net, n_samples):
    return net.steps_per_epoch or math.ceil(n_samples / (net.batch_size or _BATCH_SIZE))
