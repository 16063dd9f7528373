"""Nets that share a graph, trained in lockstep."""

from __future__ import annotations

import math

import torch

from ..limits import check_time
from ..training.device import as_float32
from ..training.direct import Unknown
from ..training.engine import EpochReport
from ._direct import DirectPasses
from ._errors import LockstepError, log
from ._feed import Feed
from ._forms import Forms
from ._losses import RowLosses
from ._optimizers import make_optimizer
from ._parameters import Parameters
from ._proof import prove

__all__ = ["LockstepRunner"]


class LockstepRunner:
    """Trains nets that share a graph: each step is that of one network.

    Parameters
    ----------
    runs : list of object
        With `net`, its ActiveNetwork `network`, and `batches`.

    Raises
    ------
    LockstepError
        If something in the nets has no lockstep form. Nothing is changed then.
    """

    def __init__(self, runs):
        # A step is made by those that have a batch left, which then come first.
        self.runs = sorted(runs, key=lambda run: [-n for n in (len(run.batches), *_last(run))])
        nets = [run.net for run in self.runs]
        modules = [net.module_ for net in nets]
        for run in self.runs:
            run.network.state.set_training(True)
        self.forms = Forms(modules, [run.network.state.streams["forward"] for run in self.runs])
        self.losses = RowLosses(nets)
        self.low_precision = nets[0]._low_precision
        n_batches = [len(run.batches) for run in self.runs]
        groups = _optimizer_groups(self.runs[0].network.state)
        wanted = self.forms.views, self.forms.apart, self.forms.transposed
        self.parameters = Parameters(modules, groups, *wanted)
        if self.forms.unproven:
            prove(self.forms, self.parameters, modules, self._first_rows())
        self.optimizer = make_optimizer(self.parameters, nets, n_batches)
        for run in self.runs:
            if run.network.state.schedule is not None:
                # Torch's schedules ask whether the optimizer has stepped before them.
                run.net.optimizer_._opt_called = True
        self.limits = _NormLimits(self.parameters, nets)
        self.said = None
        self._make_feed()

    def _first_rows(self):
        rows = [run.batches.rows for run in self.runs]
        n = min(self.runs[0].batches.batch_size, *map(len, rows))
        return [part.take(torch.arange(n))[0] for part in rows]

    def _make_feed(self):
        dtype = self.parameters.blocks[0].values.dtype
        self.feed = Feed(self.runs, not self.forms.mixes_rows, dtype)
        self.watched = [row for row, run in enumerate(self.runs) if run.network.each_batch]
        self._make_passes()

    def _make_passes(self):
        try:
            self.direct, said = self._direct_passes(), "without autograd"
        except Unknown as reason:
            self.direct, said = None, f"by autograd: {reason}"
        except Exception as error:  # a module that is not what its class says
            self.direct, said = None, f"by autograd: {type(error).__name__}: {error}"
        if said != self.said:
            log.debug("%d nets in lockstep: steps %s", len(self.runs), said)
        self.said = said

    def _direct_passes(self):
        if self.low_precision is not None:
            raise Unknown("the nets compute in low precision")
        modules = [run.net.module_ for run in self.runs]
        for run in self.runs:
            run.network.state.set_training(True)  # checks leave them in evaluation
        return DirectPasses(modules, self.forms.streams, self.losses, self.parameters, self.feed)

    @property
    def networks(self):
        """list of ActiveNetwork: in the order of the runs."""
        return [run.network for run in self.runs]

    def run(self, networks):
        """Train each network for an epoch."""
        self._keep(networks)
        for row, network in enumerate(networks):
            if network.state.schedule is not None:
                self.optimizer.look_again(row)
        self._freeze_and_thaw()
        steps = [(step, self._step(step, *batch)) for step, *batch in self.feed.epoch()]
        losses = self._losses_of_nets(steps)
        for row, run in enumerate(self.runs):
            if run.network.checks is not None:
                self.parameters.give_back(row, run.net.module_)
        return list(map(EpochReport, losses, self.feed.sizes))

    def release(self, network):
        """Give a network its weights and the state of its optimizer."""
        row = self.networks.index(network)
        self.parameters.give_back(row, self.runs[row].net.module_)
        self.optimizer.give_back(row)

    def _keep(self, networks):
        """Drop what belongs to networks that have left."""
        kept = [row for row, network in enumerate(self.networks) if network in networks]
        if len(kept) < len(self.runs):
            self.runs = [self.runs[row] for row in kept]
            parts = self.parameters, self.optimizer, self.forms, self.losses, self.limits
            for part in parts:
                part.keep(kept)
            self._make_feed()

    def _step(self, step, x, y, weight):
        check_time()
        if self.direct is None:
            losses = self._losses_by_autograd(step, x, y, weight)
        else:
            losses = self.direct(step, x, y, weight)
        self.optimizer.step(step.start, step.stop)
        if self.watched:
            self.limits.keep_to(step.start, step.stop)
            for row in self.watched:
                if step.start <= row < step.stop:
                    self._after_batch(row, self.runs[row])
        return losses, weight

    def _losses_by_autograd(self, step, x, y, weight):
        part = self.parameters.part(step.start, step.stop)
        output = self._forward(x, part, step.lengths)
        losses, slopes = self.losses(output.detach(), y, weight, step.start)
        grads = torch.autograd.grad(output, part.leaves, grad_outputs=slopes)
        torch._foreach_copy_(part.grads, grads)
        return losses

    def _forward(self, x, part, lengths):
        if self.low_precision is None:
            return self.forms(x, part, lengths)
        with torch.autocast(self.low_precision, torch.bfloat16):
            return as_float32(self.forms(x, part, lengths))

    def _after_batch(self, row, run):
        network = run.network
        if network.checks is not None and network.checks.is_due(
            network.state.counters.n_batches + 1
        ):
            self.parameters.give_back(row, run.net.module_)
        network.count_batch()
        if network.state.schedule is not None:
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

    def _freeze_and_thaw(self):
        state = self.runs[0].network.state
        if state.frozen_until:
            trained = {name: p.requires_grad for name, p in state.module.named_parameters()}
            if self.parameters.set_trained(trained):
                self.optimizer.forget_calls()
                self._make_passes()


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


def _optimizer_groups(state):
    """Return the optimizer's group of each parameter, and how long it rests."""
    names = {id(p): name for name, p in state.module.named_parameters()}
    groups = {}
    for i, group in enumerate(state.optimizer.param_groups):
        for parameter in group["params"]:
            if id(parameter) not in names:
                raise LockstepError("the optimizer has parameters that are not the module's")
            name = names[id(parameter)]
            groups[name] = (i, (parameter.requires_grad, state.frozen_until.get(name)))
    return groups
