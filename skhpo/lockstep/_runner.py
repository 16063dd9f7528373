"""The runner that trains networks of one graph in lockstep."""

from __future__ import annotations

import math

import torch

from ..limits import check_time
from ..training.direct import keep_one_thread
from ..training.engine import EpochReport
from ..training.forwarding import low_precision
from ._averages import Averages
from ._feed import Feed
from ._optimizers import make_optimizer, settings_of
from ._passes import NORMALIZATIONS, Parameters, Passes, RowLosses
from ._registry import LockstepError, log

__all__ = ["LockstepRunner"]


# Rows on which rules of user-defined modules are compared with the modules.
_FEW_ROWS = 32
# What `torch.renorm` adds to norms, so that networks alone have the same limits.
_EPS = 1e-7


class LockstepRunner:
    """Trains networks that share a graph with joint steps.

    `runs` are objects with `net`, its ActiveNetwork `network`, and `batches`. Raises LockstepError,
    and changes nothing, if the networks cannot be computed jointly.
    """

    def __init__(self, runs):
        self.runs = _in_order(runs)
        nets = [run.net for run in self.runs]
        modules = [net.module_ for net in nets]
        self.losses = RowLosses(nets)
        n_batches = [len(run.batches) for run in self.runs]
        self.parameters = Parameters(modules, _optimizer_groups(self.runs[0].network.state))
        for run in self.runs:
            run.network.state.set_training(True)
        streams = [run.network.state.streams["forward"] for run in self.runs]
        rows, precision = self._first_rows(), low_precision(nets[0].amp, nets[0].device_)
        self.passes = Passes(modules, self.parameters, rows, streams, precision)
        parts = ", ".join(self.passes.by_autograd)
        how = f"by autograd where there is no rule: {parts}" if parts else "without autograd"
        log.debug("%d nets in lockstep: steps %s", len(self.runs), how)
        self.optimizer = make_optimizer(self.parameters, nets, n_batches)
        for run in self.runs:
            if run.network.state.schedule is not None:
                # Torch's schedules check that the optimizer has stepped before them.
                run.net.optimizer_._opt_called = True
        self.limits = _NormLimits(self.parameters, nets, "max_norm")
        self.gradient_limits = _GradientLimits(self.parameters, nets, "max_grad_norm")
        self.accumulate = nets[0].accumulate
        self._make_feed()
        self.averages = Averages(self.parameters, [run.network.state for run in self.runs])
        self.parameters.attach()

    def _first_rows(self):
        batches = [run.batches for run in self.runs]
        n = min(_FEW_ROWS, batches[0].batch_size, *(len(one.rows) for one in batches))
        return torch.stack([one.few(n) for one in batches])

    def _make_feed(self):
        self.feed = Feed(self.runs, not self.passes.mixes_rows, self.parameters.dtype)
        self.counting = [row for row, run in enumerate(self.runs) if run.network.counts_batches]
        self.waiting = _Waiting(self.parameters, self.accumulate, self.feed)
        self._prepare()

    def _prepare(self):
        for run in self.runs:
            run.network.state.set_training(True)  # checks leave them in evaluation
        self.passes.prepare(self.feed.steps, self.feed.targets.shape[1:], self.losses)

    @property
    def networks(self):
        """list of ActiveNetwork: the networks that are trained."""
        return [run.network for run in self.runs]

    def run(self, networks):
        """Train each network for an epoch."""
        keep_one_thread()
        self._keep(networks)
        changing = (n.state.schedule is not None or n.at_begin is not None for n in networks)
        self.optimizer.refresh_settings([row for row, changes in enumerate(changing) if changes])
        self._freeze_and_thaw()
        self.averages.begin_epoch()
        with self.passes.context():
            steps = [(step, self._step(step, *batch)) for step, *batch in self.feed.epoch()]
        self.averages.after_epoch()
        losses = self._losses_of_nets(steps)
        return [
            EpochReport(of_net, sizes, is_averaged=True)
            for of_net, sizes in zip(losses, self.feed.sizes, strict=True)
        ]

    def release(self, network):
        """Write the weights and the state of the optimizer of a network that leaves."""
        row = self.networks.index(network)
        self.averages.release(row)
        self.parameters.release(row)
        self.optimizer.release(row)

    def _keep(self, networks):
        """Drop networks that have left."""
        kept = [row for row, network in enumerate(self.networks) if network in networks]
        if len(kept) < len(self.runs):
            self.runs = [self.runs[row] for row in kept]
            parts = self.parameters, self.optimizer, self.passes, self.losses
            for part in (*parts, self.limits, self.gradient_limits, self.averages):
                part.keep(kept)
            self._make_feed()

    def _step(self, step, x, y, weight):
        check_time()
        losses = self.passes.gradients(step, x, y, weight)
        start, stop = self.waiting.rows_to_step(step)
        if start < stop:
            self._step_optimizers(start, stop)
        return losses * weight

    def _step_optimizers(self, start, stop):
        self.gradient_limits.keep_to(start, stop)
        self.optimizer.step(start, stop)
        self.limits.keep_to(start, stop)
        self.averages.after_step(start, stop)
        if self.counting:
            rows = [row for row in self.counting if start <= row < stop]
            with torch.inference_mode(False):
                for row in rows:
                    self.runs[row].network.count_batch()
                scheduled = (row for row in rows if self._has_schedule(row))
                self.optimizer.refresh_settings(scheduled)

    def _has_schedule(self, row):
        schedule = self.runs[row].network.state.schedule
        return schedule is not None and schedule.every_batch

    def _losses_of_nets(self, steps):
        """Return the losses of each network's batches; one transfer from the device."""
        shapes = {}
        for number, (_, rows) in enumerate(steps):
            shapes.setdefault(rows.shape, []).append(number)
        values = [None] * len(steps)
        for numbers in shapes.values():
            of_steps = torch.stack([steps[n][1] for n in numbers]).sum(-1).tolist()
            for number, of_step in zip(numbers, of_steps, strict=True):
                values[number] = of_step
        losses = [[] for _ in self.runs]
        for (step, _), of_step in zip(steps, values, strict=True):
            for row, loss in enumerate(of_step, step.start):
                losses[row].append(loss)
        return losses

    def _freeze_and_thaw(self):
        state = self.runs[0].network.state
        if state.frozen_until:
            trained = {name: p.requires_grad for name, p in state.module.named_parameters()}
            if self.parameters.set_trained(trained):
                self.optimizer.rebuild_calls()
                self._prepare()


class _Waiting:
    """Gradients of batches that wait for a step of their network, with `accumulate`.

    A network steps after so many batches, and after its last one, with the mean over their rows.
    """

    def __init__(self, parameters, accumulate, feed):
        self.parameters, self.accumulate, self.n_batches = parameters, accumulate, feed.n_batches
        self.batch_size = feed.runs[0].batches.batch_size
        self.sums = self.n_rows = None

    def rows_to_step(self, step):
        """Take the gradients of a batch; return the range of networks that step now."""
        if self.accumulate == 1:
            return step.start, step.stop
        gradients = [b.gradients for b in self.parameters.blocks if b.gradients is not None]
        number = step.first_row // self.batch_size
        if number == 0 and step.start == 0:  # of an epoch
            self.sums = [torch.zeros_like(of_nets) for of_nets in gradients]
            self.n_rows = gradients[0].new_zeros(len(gradients[0]))
        lengths = step.lengths or [step.size] * (step.stop - step.start)
        n_rows = self.n_rows.new_tensor(lengths)
        part = slice(step.start, step.stop)
        self.n_rows[part] += n_rows
        for total, of_nets in zip(self.sums, gradients, strict=True):
            total[part] += of_nets[part] * _like(n_rows, of_nets)
        start = step.start
        if (number + 1) % self.accumulate:
            # Those with fewer batches come last.
            while start < step.stop and self.n_batches[start] > number + 1:
                start += 1
        part = slice(start, step.stop)
        for total, of_nets in zip(self.sums, gradients, strict=True):
            of_nets[part] = total[part] / _like(self.n_rows[part], of_nets)
            total[part] = 0
        self.n_rows[part] = 0
        return start, step.stop


def _like(numbers, tensor):
    """Return a number for each network in the dimensions of a tensor of networks."""
    return numbers.view(-1, *[1] * (tensor.ndim - 1))


class _Limits:
    """A limit of each net, given by the parameter `name` of the nets."""

    def __init__(self, parameters, nets, name):
        self.parameters = parameters
        self.limits = None
        given = [getattr(net, name) for net in nets]
        if any(limit is not None for limit in given):
            values = parameters.blocks[0].values
            limits = [math.inf if limit is None else limit for limit in given]
            self.limits = torch.tensor(limits, dtype=values.dtype, device=values.device)

    def keep(self, rows):
        if self.limits is not None:
            self.limits = self.limits[rows]


class _GradientLimits(_Limits):
    """The largest norm of all gradients of a net together."""

    def keep_to(self, start, stop):
        """Scale gradients down to their limits, as `torch.nn.utils.clip_grad_norm_` does."""
        if self.limits is None:
            return
        blocks = (block.gradients for block in self.parameters.blocks)
        gradients = [of_nets[start:stop] for of_nets in blocks if of_nets is not None]
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
        factors = (self.limits[start:stop] / (norms + 1e-6)).clamp(max=1)
        for of_nets in gradients:
            of_nets.mul_(_like(factors, of_nets))


class _NormLimits(_Limits):
    """The largest norm of the incoming weights of units, for each net."""

    def keep_to(self, start, stop):
        """Scale incoming weights down to their limits."""
        if self.limits is None:
            return
        limits = self.limits[start:stop, None]
        for values in self.parameters.trained(start, stop):
            if values.ndim > 2:
                # Torch's norm of stored rows that are columns takes 20 times as long. Squares of
                # half precision overflow from 256 on.
                precise = values.float() if values.itemsize < 4 else values
                norms = precise.square().flatten(2).sum(dim=2).sqrt_()
                factors = torch.where(norms > limits, limits / (norms + _EPS), 1)
                values.mul_(factors.view(*norms.shape, *[1] * (values.ndim - 2)))


def _in_order(runs):
    """Sort networks into ranges that take a step together.

    Those that have a batch left at a step must come first. Of those with as many batches the ones
    with the same settings are adjacent, as their optimizers step by one call; but if rows of a
    batch are normalized together, those whose last batches have the same size.
    """
    settings = [settings_of(run.net.optimizer_) for run in runs]
    by_batch = any(isinstance(m, NORMALIZATIONS) for m in runs[0].net.module_.modules())

    def place(number):
        sizes, first = runs[number].batches.sizes(), settings.index(settings[number])
        last = -sizes[-1] if sizes else 0
        return -len(sizes), *((last, first) if by_batch else (first, last))

    return [runs[number] for number in sorted(range(len(runs)), key=place)]


def _optimizer_groups(state):
    """Return the optimizer's group of each parameter."""
    names = {id(p): name for name, p in state.module.named_parameters()}
    groups = {}
    for i, group in enumerate(state.optimizer.param_groups):
        for parameter in group["params"]:
            if id(parameter) not in names:
                raise LockstepError("the optimizer has parameters that are not the module's")
            groups[names[id(parameter)]] = i
    return groups
