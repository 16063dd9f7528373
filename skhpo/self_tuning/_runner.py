"""An epoch of training steps with tuning steps in between."""

from __future__ import annotations

import torch

from ..limits import check_time
from ..training.batches import RowBatches
from ..training.engine import EpochReport
from ._steps import steps_of

__all__ = ["TuningRunner"]


class TuningRunner:
    """Trains one self-tuning network, or one that follows a schedule.

    Parameters
    ----------
    net : estimator
        With its `tuning_`.
    batch_size : int
    valid : Rows or None
        What is tuned on; None only where nothing is tuned.
    """

    def __init__(self, net, batch_size, valid):
        self.net = net
        self.steps = steps_of(net)
        self.batches = None
        if net.tuning_.to_follow is None:
            generator = net._state.streams["tuning"].generator()
            self.batches = RowBatches(valid, batch_size, generator)

    def run(self, networks):
        """Train one network for an epoch, and tune its hyperparameters."""
        (network,) = networks
        net, tuning, steps = self.net, self.net.tuning_, self.steps
        n_epochs = network.state.counters.n_epochs
        tuning.module.train()
        tunes = n_epochs >= net.warmup_epochs and tuning.to_follow is None
        weighted = network.batches.rows.weight is not None
        if tunes:
            tuning_weighted = self.batches.rows.weight is not None
            to_tune_on = _endless(self.batches)
        losses, sizes = [], []
        for X, y, weight in network.batches.triples():
            check_time()
            if weighted:
                net._batch_weight = weight
            losses.append(steps.train(X, y))
            sizes.append(len(y))
            network.after_batch()
            tuning.n_steps += 1
            if tunes and tuning.n_steps % net.train_steps == 0:
                for _ in range(net.val_steps):
                    X, y, net._batch_weight = next(to_tune_on)
                    steps.tune(X, y, tuning_weighted)
        net._batch_weight = None
        # What is checked, and predicts, is the plain module.
        values = tuning.values() if tuning.to_follow is None else tuning.to_follow[n_epochs]
        tuning.fold_into(net.module_, values)
        columns = {}
        if tuning.to_follow is None or tuning.is_fixed:
            scales = dict(zip(tuning.context.names, tuning.scales().tolist(), strict=True))
            columns = {"hyperparameters": dict(values), "scales": scales}
        # One transfer for an epoch: asking each batch for its loss would wait for the device.
        return [EpochReport(torch.stack(losses).tolist(), sizes, columns)]

    def release(self, network):
        """Do nothing: the state was trained itself."""


def _endless(batches):
    while True:
        yield from batches.triples()
