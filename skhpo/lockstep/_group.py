"""Nets that share a graph, trained in lockstep."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch

from ..estimators._extras import Extras
from ..estimators._training import check_loss, record_epoch, settle_on_best
from ..limits import Cut, check_time
from ..training.precision import as_float32
from ._errors import LockstepError
from ._feed import Feed
from ._forms import Forms
from ._losses import RowLosses
from ._optimizers import make_optimizer
from ._parameters import Parameters
from ._proof import prove

__all__ = ["LockstepGroup", "Run"]


@dataclass
class Run:
    """A net on its way.

    Parameters
    ----------
    number : int
        Position among the members.
    net : estimator
        Built, with its schedule.
    batches : RowBatches
    extras : Extras
    """

    number: int
    net: Any
    batches: Any
    extras: Extras

    def __post_init__(self):
        self.epochs_left = self.net.max_epochs

    @property
    def is_done(self):
        """Whether there is no epoch to train."""
        return self.epochs_left < 1 or self.extras.stopped

    @property
    def watches_batches(self):
        """Whether something is done after each batch."""
        return self.extras.each_batch


class LockstepGroup:
    """Nets that are trained in lockstep: each step is that of one network.

    Parameters
    ----------
    runs : list of Run

    Raises
    ------
    LockstepError
        If something in the nets has no lockstep form. Nothing is changed then.
    """

    def __init__(self, runs):
        # A step is made by those that have a batch left, which then come first.
        self.runs = sorted(runs, key=lambda run: [-n for n in (len(run.batches), *_last(run))])
        nets = [run.net for run in self.runs]
        for net in nets:
            net._set_training(True)
        self.errors = {}
        self.forms = Forms([net.module_ for net in nets], [n._streams["forward"] for n in nets])
        self.losses = RowLosses(nets)
        self.low_precision = nets[0]._low_precision
        n_batches = [len(run.batches) for run in self.runs]
        groups = _optimizer_groups(nets[0])
        modules = [net.module_ for net in nets]
        wanted = self.forms.views, self.forms.apart, self.forms.transposed
        self.parameters = Parameters(modules, groups, *wanted)
        if self.forms.unproven:
            prove(self.forms, self.parameters, modules, self._first_rows())
        self.optimizer = make_optimizer(self.parameters, nets, n_batches)
        for run in self.runs:
            if run.extras.schedule is not None:
                # Torch's schedules ask whether the optimizer has stepped before them.
                run.net.optimizer_._opt_called = True
        self.limits = _NormLimits(self.parameters, nets)
        self._make_feed()

    def _first_rows(self):
        rows = [run.batches.rows for run in self.runs]
        n = min(self.runs[0].batches.batch_size, *map(len, rows))
        return [part.take(torch.arange(n))[0] for part in rows]

    def _make_feed(self):
        dtype = self.parameters.blocks[0].values.dtype
        self.feed = Feed(self.runs, not self.forms.mixes_rows, dtype)
        self.watched = [row for row, run in enumerate(self.runs) if run.watches_batches]

    def train(self):
        """Train all nets to their ends.

        Returns
        -------
        errors : dict of int to Exception
            What went wrong, by the number of the run.
        """
        self._drop_finished()
        try:
            while self.runs:
                self._epoch()
                self._drop_finished()
        except (KeyboardInterrupt, Cut):
            self._break_off()
            raise
        return self.errors

    def _break_off(self):
        """Leave the nets as far as they are; an epoch that was not finished leaves no row."""
        for row, run in enumerate(self.runs):
            del run.net.history[run.n_epochs :]
            self._let_go(row, run)

    def _let_go(self, row, run):
        self.parameters.give_back(row, run.net.module_)
        self.optimizer.give_back(row)
        settle_on_best(run.net, run.extras.checks)

    def _epoch(self):
        start = time.perf_counter()
        for run in self.runs:
            run.n_epochs = len(run.net.history)
            datasets = {"dataset_train": run.batches.rows, "dataset_valid": None}
            run.net.on_epoch_begin(run.net, **datasets)
            run.extras.begin_epoch()
        self._freeze_and_thaw()
        steps = [(step, self._step(step, *batch)) for step, *batch in self.feed.epoch()]
        losses = self._losses_of_nets(steps)
        seconds = (time.perf_counter() - start) / len(self.runs)
        for row, run in enumerate(self.runs):
            try:
                self._end_epoch(row, run, losses[row], seconds)
            except (Exception, SystemExit) as error:
                self.errors[run.number] = error

    def _step(self, step, x, y, weight):
        check_time()
        part = self.parameters.part(step.start, step.stop)
        output = self._forward(x, part, step.lengths)
        losses = self.losses(output, y, part)
        grads = torch.autograd.grad(losses, part.leaves, grad_outputs=weight)
        torch._foreach_copy_(part.grads, grads)
        self.optimizer.step(step.start, step.stop)
        if self.watched:
            self.limits.keep_to(step.start, step.stop)
            for row in self.watched:
                if step.start <= row < step.stop:
                    self._after_batch(row, self.runs[row])
        return losses.detach(), weight

    def _forward(self, x, part, lengths):
        if self.low_precision is None:
            return self.forms(x, part, lengths)
        with torch.autocast(self.low_precision, torch.bfloat16):
            return as_float32(self.forms(x, part, lengths))

    def _after_batch(self, row, run):
        net, extras = run.net, run.extras
        net._counters["n_batches"] += 1
        n_batches = net._counters["n_batches"]
        if extras.checks is not None:
            if net.check_every is not None and n_batches % net.check_every == 0:
                self.parameters.give_back(row, net.module_)
            extras.checks.after_batch(n_batches)
        if extras.schedule is not None:
            extras.schedule.after_batch(n_batches)
            self.optimizer.look_again(row)

    def _losses_of_nets(self, steps):
        """Return the losses of each net's batches; one transfer from the device."""
        sums = [(losses * weight).sum(1) for _, (losses, weight) in steps]
        values = torch.cat(sums).tolist()
        losses = [[] for _ in self.runs]
        done = 0
        for step, _ in steps:
            for row in range(step.start, step.stop):
                losses[row].append(values[done])
                done += 1
        return losses

    def _end_epoch(self, row, run, losses, seconds):
        net, extras = run.net, run.extras
        if extras.checks is not None:
            self.parameters.give_back(row, net.module_)
        record_epoch(net, losses, self.feed.sizes[row], extras)
        net.history.record("dur", seconds)
        net.on_epoch_end(net, dataset_train=run.batches.rows, dataset_valid=None)
        run.epochs_left -= 1
        run.n_epochs += 1
        net.n_iter_ += 1
        check_loss(net)
        extras.after_epoch()
        if extras.schedule is not None:
            self.optimizer.look_again(row)

    def _freeze_and_thaw(self):
        net = self.runs[0].net
        if net._frozen_until:
            trained = {name: p.requires_grad for name, p in net.module_.named_parameters()}
            self.parameters.set_trained(trained)
            self.optimizer.forget_calls()

    def _drop_finished(self):
        """Let nets that are done leave."""
        kept = []
        for row, run in enumerate(self.runs):
            if not run.is_done and run.number not in self.errors:
                kept.append(row)
                continue
            self._let_go(row, run)
        if len(kept) == len(self.runs):
            return
        self.runs = [self.runs[row] for row in kept]
        if self.runs:
            parts = self.parameters, self.optimizer, self.forms, self.losses, self.limits
            for part in parts:
                part.keep(kept)
            self._make_feed()


class _NormLimits:
    """The largest norms of what comes into the units of each net."""

    def __init__(self, parameters, nets):
        self.parameters = parameters
        self.limits = None
        if any(net.max_norm is not None for net in nets):
            values = parameters.blocks[0].values
            limits = [math.inf if net.max_norm is None else net.max_norm for net in nets]
            self.limits = torch.tensor(limits, dtype=values.dtype, device=values.device)

    def keep(self, rows):
        if self.limits is not None:
            self.limits = self.limits[rows]

    def keep_to(self, start, stop):
        """Scale down what is too large."""
        if self.limits is None:
            return
        limits = self.limits[start:stop, None]
        for values in self.parameters.trained(start, stop):
            if values.ndim > 2:
                norms = values.flatten(2).norm(dim=2)
                factors = torch.where(norms > limits, limits / norms, 1)
                values.mul_(factors.view(*norms.shape, *[1] * (values.ndim - 2)))


def _last(run):
    sizes = run.batches.sizes()
    return sizes[-1:]


def _optimizer_groups(net):
    """Return the optimizer's group of each parameter, and how long it rests."""
    names = {id(p): name for name, p in net.module_.named_parameters()}
    groups = {}
    for i, group in enumerate(net.optimizer_.param_groups):
        for parameter in group["params"]:
            if id(parameter) not in names:
                raise LockstepError("the optimizer has parameters that are not the module's")
            name = names[id(parameter)]
            groups[name] = (i, (parameter.requires_grad, net._frozen_until.get(name)))
    return groups
