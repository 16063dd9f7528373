"""An epoch of training steps with tuning steps in between."""

from __future__ import annotations

import time

import torch

from ..estimators._training import print_epoch, record_epoch, tell_callbacks
from ..limits import check_time
from ..training.batches import RowBatches
from ._steps import steps_of

__all__ = ["epochs_of"]


def epochs_of(net, batches, checks, extras):
    """Return a function that trains for one epoch and returns whether to go on.

    Parameters
    ----------
    net : estimator
        With its `tuning_`.
    batches : RowBatches
        Of the rows to train on.
    checks : Checks or None
        On the rows to tune on; None only where nothing is tuned.
    extras : Extras
    """
    steps = steps_of(net)
    tuning_batches = None
    if net.tuning_.to_follow is None:
        generator = net._streams["tuning"].generator()
        tuning_batches = RowBatches(checks.valid, batches.batch_size, generator)

    def run_epoch():
        return _epoch(net, steps, batches, tuning_batches, extras)

    return run_epoch


def _endless(batches):
    while True:
        yield from batches.triples()


def _epoch(net, steps, batches, tuning_batches, extras):
    start = time.perf_counter()
    tuning = net.tuning_
    datasets = {"dataset_train": batches.rows, "dataset_valid": None}
    go_on = tell_callbacks(net, "on_epoch_begin", **datasets)
    tuning.module.train()
    tunes = net.n_iter_ >= net.warmup_epochs and tuning.to_follow is None
    weighted = batches.rows.weight is not None
    if tunes:
        tuning_weighted = tuning_batches.rows.weight is not None
        to_tune_on = _endless(tuning_batches)
    losses, sizes = [], []
    for X, y, weight in batches.triples():
        check_time()
        if weighted:
            net._batch_weight = weight
        losses.append(steps.train(X, y))
        sizes.append(len(y))
        extras.after_batch()
        tuning.n_steps += 1
        if tunes and tuning.n_steps % net.train_steps == 0:
            for _ in range(net.val_steps):
                X, y, net._batch_weight = next(to_tune_on)
                steps.tune(X, y, tuning_weighted)
    net._batch_weight = None
    # What is checked, and predicts, is the plain module.
    values = tuning.values() if tuning.to_follow is None else tuning.to_follow[net.n_iter_]
    tuning.fold_into(net.module_, values)
    if tuning.to_follow is None or tuning.is_fixed:
        scales = dict(zip(tuning.context.names, tuning.scales().tolist(), strict=True))
        net.history.record("hyperparameters", dict(values))
        net.history.record("scales", scales)
    # One transfer for an epoch: asking each batch for its loss would wait for the device.
    record_epoch(net, torch.stack(losses).tolist(), sizes, extras)
    net.history.record("dur", time.perf_counter() - start)
    go_on &= tell_callbacks(net, "on_epoch_end", **datasets)
    print_epoch(net)
    return go_on
