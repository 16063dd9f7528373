"""When training should have ended: the best epoch of a fit, and a fit that uses it."""

from __future__ import annotations

import math
from typing import Any

from sklearn.base import clone

from ..training.batches import batch_sizes
from ..training.schedule import needs_monitor
from .callbacks import given_callbacks
from .settings import own_classes, reads_by_number

__all__ = ["found", "parameters_for", "steps_per_epoch", "why_same"]


def why_same(net: Any) -> str | None:
    if net.validation_fraction is None:
        return "validation_fraction=None holds no rows out"
    callbacks = _callbacks_of(net)
    own = [cls for cls in map(type, callbacks) if own_classes(cls)]
    if own:
        return f"callbacks of your own ({own[0].__name__}) may need rows that are held out"
    bases = own_classes(type(net))
    hooks = [name for base in bases for name in vars(base) if name.startswith("on_")]
    if hooks:
        return f"{hooks[0]} of your {type(net).__name__} may need rows that are held out"
    if any(callable(getattr(one, "monitor", None)) for one in callbacks):
        return "what a callback monitors by a function may need rows that are held out"
    try:
        parameters_for(net, 1)
    except ValueError as error:
        return str(error)
    return None


def found(net: Any) -> dict[str, int]:
    epoch = net._state.counters.best_epoch
    if not epoch:
        return {}
    n_batches = net.history_[epoch - 1].get("train_batch_count")  # may be recorded by a callback
    if n_batches is None:
        return {"best_epoch": epoch}
    return {"best_epoch": epoch, "best_step": epoch * math.ceil(n_batches / net.accumulate)}


def parameters_for(net: Any, n_epochs: int) -> dict[str, Any]:
    if net.lr_scheduler is not None and needs_monitor(net.lr_scheduler):
        raise ValueError(
            "a fit on all rows must not need rows that are held out, but "
            f"lr_scheduler={net.lr_scheduler!r} waits for the monitored value to stall; choose "
            "another schedule, such as 'cosine'"
        )
    for one in _callbacks_of(net):
        monitor = getattr(one, "monitor", None)
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


def _callbacks_of(net: Any) -> list[Any]:
    """Return the user's callbacks as a fit has them: made, and with what parameters set of them."""
    if not net.callbacks or net.callbacks == "disable":
        return []
    net = clone(net)
    net._initialize_callbacks()
    return list(given_callbacks(net).values())


def steps_per_epoch(net: Any, n_samples: int) -> int:
    settings = net.get_params_for("iterator_train")
    size: int | None = settings.get("batch_size", net.batch_size)
    if size == -1:
        return 1
    n_batches = len(
        batch_sizes(
            n_samples,
            1 if size is None else size,  # a loader then takes each item for a batch
            joins=reads_by_number(net, None, training=True),
            drop_last=settings.get("drop_last", False),
        )
    )
    return max(1, math.ceil(n_batches / int(net.accumulate)))
