"""Batch normalization after a fit: new statistics for predictions, or a warning of a gap."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..exceptions import BatchNormWarning
from ..training.averaging import by_batches, renew_statistics
from ..training.batches import RowBatches
from ..training.forwarding import plain_tuple, row_count
from ..training.randomness import Stream
from .feeding import batches_of, drawing_from
from .transforms import batch_transform

__all__ = ["recalibrate", "warn_of_gap"]

# Batches on which both modes are compared: enough for a spread, and few beside an epoch.
_FEW_BATCHES = 8
# A smaller gap, as a share of the loss of the first epoch, does not matter.
_SMALL = 0.1


def recalibrate(net: Any, dataset: Any) -> None:
    """Replace the moving averages by those of all training rows, for predictions only."""
    state = net._state
    if state.running_weights is None:
        state.running_weights = state.copy_weights()  # with the averages that training goes on with
    batches = batches_of(net, dataset, training=False)
    if isinstance(batches, RowBatches):
        # Rows of a class or a source may lie side by side.
        batches.generator = Stream(net.seed_, "recalibration").generator()
        batches.batch_size, batches.joins = max(batches.batch_size, 2), True
    with _passes(net) as forward:
        renew_statistics(state.modules().values(), forward, _of_two(batches.inputs()))


def _of_two(batches: Any) -> Iterator[Any]:
    """Yield batches, except for one row that is left over."""
    for number, batch in enumerate(batches):
        if number == 0 or row_count(batch) > 1:
            yield batch


@contextlib.contextmanager
def _passes(net: Any) -> Iterator[Any]:
    """Yield the function that passes inputs through a net, in whatever mode it is."""
    module = net.module_
    drawing = drawing_from(net, Stream(net.seed_, "recalibration"))
    net.module_ = getattr(module, "_orig_mod", module)  # what is compiled does not see hooks
    try:
        with drawing:
            yield net._forward_in_training
    finally:
        net.module_ = module


def warn_of_gap(net: Any, batches: Any) -> None:
    """Warn if the loss with moving averages is much higher than with statistics of batches."""
    first = next((row["train_loss"] for row in net.history_ if "train_loss" in row), None)
    if first is None:
        return
    stream = Stream(net.seed_, "recalibration")
    batches_again = RowBatches(
        batches.rows,
        batches.batch_size,
        None if batches.generator is None else stream.generator(),
        balance=batches.balance,
        sparse=batches.sparse,
    )
    batches_again.change = batch_transform(net, training=False)
    few = list(itertools.islice(batches_again.triples(), _FEW_BATCHES))
    if len(few) < 2:
        return
    modules = list(net._state.modules().values())
    with torch.no_grad(), _passes(net) as forward:
        losses: tuple[list[float], list[float]] = [], []
        for mode, of_mode in zip(
            (by_batches(modules), _as_predicted(modules)), losses, strict=True
        ):
            with mode:
                for X, y, _ in few:
                    output = plain_tuple(forward(X))
                    of_mode.append(float(net.get_loss(output, y, X=X, training=False)))
    of_batches, of_averages = losses
    gap = np.mean(of_averages) - np.mean(of_batches)
    if gap > max(np.std(of_batches, ddof=1), _SMALL * abs(first)):
        warnings.warn(
            "the moving averages of batch normalization do not stand for the training rows: the "
            "loss is higher with them than with the statistics of batches, by more than batches "
            "differ; use recalibrate=True, shuffle the rows, or train for more steps "
            "(skhpo.inspection.batch_norm_gap shows how far they are off)",
            BatchNormWarning,
            stacklevel=2,
        )


@contextlib.contextmanager
def _as_predicted(modules: Any) -> Iterator[Any]:
    for module in modules:
        module.eval()
    yield
