"""An epoch of training steps with tuning steps in between."""

from __future__ import annotations

import contextlib

import torch

from ..limits import check_time
from ..training.batches import RowBatches
from ..training.engine import EpochReport, EpochRunner
from ._direct import direct_passes
from ._passes import AutogradPasses
from ._steps import steps_of

__all__ = ["TuningRunner"]


class TuningRunner(EpochRunner):
    """Trains one self-tuning network, or a plain one with a given schedule.

    Where all layers have rules, an epoch runs without autograd. `valid` is the data to tune on;
    None only where nothing is tuned.
    """

    def __init__(self, net, batches, valid, train_steps):
        self.net, self.train_steps = net, train_steps
        self.steps = steps_of(net)
        self.batches = None
        if net.tuning_.to_follow is None:
            generator = net._state.streams["tuning"].generator()
            self.batches = RowBatches(valid, batches.batch_size, generator)
        self.by_autograd = AutogradPasses(net)
        self.by_rules = direct_passes(net, batches, self.batches)

    def run(self, networks):
        """Train one network for an epoch, and tune its hyperparameters."""
        (network,) = networks
        net, tuning = self.net, self.net.tuning_
        n_epochs = network.state.counters.n_epochs
        tuning.module.train()
        losses, sizes = self._train(network, n_epochs)
        # The plain module is the one that is checked and that predicts.
        values = tuning.values() if tuning.to_follow is None else tuning.to_follow[n_epochs]
        tuning.fold_into(net.module_, values)
        columns = {}
        if tuning.to_follow is None or tuning.is_fixed:
            scales = dict(zip(tuning.context.names, tuning.scales().tolist(), strict=True))
            columns = {"hyperparameters": dict(values), "scales": scales}
        # One transfer per epoch: reading the loss of each batch would wait for the device.
        return [EpochReport(torch.stack(losses).tolist(), sizes, columns)]

    def _train(self, network, n_epochs):
        net, tuning, steps = self.net, self.net.tuning_, self.steps
        by_rules = self.by_rules.can_train()
        tunes = n_epochs >= net.warmup_epochs and tuning.to_follow is None
        to_tune_on = _endless(self.batches)
        losses, sizes = [], []
        with torch.inference_mode() if by_rules else contextlib.nullcontext():
            steps.begin(self.by_rules.program if by_rules else self.by_autograd)
            try:
                for X, y, weight in network.batches.triples():
                    check_time()
                    losses.append(steps.train(X, y, weight))
                    sizes.append(len(y))
                    if network.each_batch:
                        with torch.inference_mode(False):
                            network.after_batch()
                    tuning.n_steps += 1
                    if tunes and tuning.n_steps % self.train_steps == 0:
                        for _ in range(net.val_steps):
                            steps.tune(*next(to_tune_on))
            finally:
                steps.passes.finish()
                tuning.context.rest()
                net._batch_weight = None
        return losses, sizes


def _endless(batches):
    while True:
        yield from batches.triples()
