"""Epochs in skorch's own loop, for callbacks and overridden methods that need it."""

from __future__ import annotations

import torch
from skorch import NeuralNet
from skorch.dataset import get_len
from skorch.utils import TeeGenerator
from torch.utils.data import DataLoader

from ..limits import check_time
from ..names import OPTIMIZERS
from ..training.batches import RowBatches
from ..training.device import plain_tuple
from ..training.engine import EpochReport, EpochRunner
from ..training.gradients import GradientSteps, parameters_of
from .defaults import changed_settings
from .watching import stopped_by_skorch

__all__ = ["HookedRunner", "changes_steps", "why_hooked"]

# Methods that only skorch's own loop calls.
_HOOKS = (
    "_step_optimizer",
    "_zero_grad_optimizer",
    "get_train_step_accumulator",
    "notify",
    "on_batch_begin",
    "on_batch_end",
    "on_grad_computed",
    "run_single_epoch",
    "train_step",
    "train_step_single",
)


def why_hooked(net, batches, valid_batches, fit_params):
    """Return the reason why epochs must run in skorch's own loop, or None."""
    cls = type(net)
    hooks = [hook for hook in _HOOKS if getattr(cls, hook) is not getattr(NeuralNet, hook)]
    if not (isinstance(batches, RowBatches) or net.iterator_train is DataLoader):
        return "an iterator of its own makes the batches"
    if valid_batches is not None:
        return "train_split holds data out"
    if fit_params:
        return "the module's forward takes fit_params"
    if net.callbacks and net.callbacks != "disable":
        return "there are callbacks"
    if hooks:
        return f"{cls.__name__} overrides {', '.join(hooks)}"
    if cls.get_default_callbacks is not NeuralNet.get_default_callbacks:
        return f"{cls.__name__} has default callbacks of its own"
    if changed_settings(net, "callbacks"):
        return "default callbacks are set otherwise"
    if len(net._optimizers) != 1 or type(net.optimizer_) not in OPTIMIZERS.values():
        return "the optimizer is not one of torch's"
    if isinstance(net.optimizer_, torch.optim.LBFGS):
        return "LBFGS asks for the loss again"
    return None


class HookedRunner(EpochRunner):
    """Trains one net by ``run_single_epoch``; callbacks record the results.

    `valid_batches` are scored after the epoch; within `drawing` forward passes draw random
    numbers; `fit_params` are passed to the module's ``forward``.
    """

    def __init__(self, net, valid_batches, drawing, fit_params):
        self.net = net
        self.valid_batches = valid_batches
        self.drawing = drawing
        self.fit_params = fit_params

    def run(self, networks):
        """Train one network for an epoch."""
        (network,) = networks
        stopped = stopped_by_skorch(self.net, lambda: self._run(network))
        return [EpochReport(finished=not stopped)]

    def _run(self, network):
        net, accumulates = self.net, changes_steps(self.net)
        steps = self._steps(network) if accumulates else None

        def train_step(batch, **params):
            check_time()
            with self.drawing:
                if accumulates:
                    step = self._accumulated(steps, batch, params)
                else:
                    step = net.train_step(batch, **params)
            if not accumulates:
                network.after_batch()
            return {**step, "y_pred": plain_tuple(step["y_pred"])}

        def validation_step(batch, **params):
            step = net.validation_step(batch, **params)
            return {**step, "y_pred": plain_tuple(step["y_pred"])}

        net.run_single_epoch(
            network.batches, training=True, prefix="train", step_fn=train_step, **self.fit_params
        )
        if accumulates:
            steps.finish()
        with network.state.averaged(), network.at_check():
            net.run_single_epoch(
                self.valid_batches,
                training=False,
                prefix="valid",
                step_fn=validation_step,
                **self.fit_params,
            )

    def _steps(self, network):
        net = self.net

        def step():
            net._step_optimizer(None)
            network.after_batch()

        optimizers = (getattr(net, name + "_") for name in net._optimizers)
        return GradientSteps(parameters_of(*optimizers), step, net.accumulate, net.max_grad_norm)

    def _accumulated(self, steps, batch, params):
        """Return what skorch's ``train_step`` does, which steps the optimizer for each batch."""
        net = self.net
        steps.begin_batch(get_len(batch[0] if isinstance(batch, tuple | list) else batch))
        step = net.train_step_single(batch, **params)
        named = TeeGenerator(net.get_all_learnable_params())
        net.notify("on_grad_computed", named_parameters=named, batch=batch)
        steps.end_batch()
        return step


def changes_steps(net):
    """Whether a step of the optimizer is not that of skorch's ``train_step``."""
    return net.accumulate > 1 or net.max_grad_norm is not None
