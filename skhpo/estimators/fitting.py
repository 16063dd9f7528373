"""The preparation of a fit, and its epochs: state, runner, notifications."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from sklearn.base import is_classifier
from torch import nn
from torch.utils.data import Dataset

from .._compat import num_samples
from ..preprocessing import n_categories_of
from ..rows import is_row_numbers, row_mask
from ..training.averaging import WeightAverage, has_batch_norm
from ..training.batches import RowBatches
from ..training.engine import ActiveNetwork, EpochRunner, train
from ..training.randomness import Masks, may_draw
from ..training.runners import DirectRunner, DirectSteps, PlainRunner
from ..training.schedule import Schedule
from ..training.structure import frozen
from ._batch_norm import recalibrate, warn_of_gap
from ._criterion import USUAL, check_criterion
from ._hyperparameter_schedule import HyperparameterSchedule
from ._outputs import learn_from
from ._targets import BINARY, current_smoothing
from .building import apply_freeze, build_for
from .callbacks import (
    HookedRunner,
    HookedWatcher,
    NetWatcher,
    begin_training,
    check_monitors,
    let_callbacks_set_params,
    why_hooked,
)
from .feeding import batches_of, drawing_from, first_batch, rows_of, split_rows
from .held_out import hold_out
from .parameters import named_in_init

__all__ = [
    "Findings",
    "activate",
    "build",
    "describe_training",
    "end_of_fit",
    "goes_on",
    "is_of_probabilities",
    "make_schedule",
    "prepare_fit",
    "return_to",
    "run_epochs",
    "snapshot",
]


_NOTHING: Mapping[str, Any] = MappingProxyType({})

_log = logging.getLogger("skhpo.training")

# Share of the epochs before "swa" averages, as in its paper.
_SWA_STARTS_AFTER = 0.75


def goes_on(net: Any) -> bool:
    """Whether ``fit`` goes on with the network that is there; ValueError if it cannot."""
    if not (net.warm_start and net.initialized_):
        return False
    net._check_takes_parameters()
    return True


def prepare_fit(
    net: Any,
    X: Any,
    y: Any,
    sample_weight: Any,
    classes: Any,
    continuing: bool,
    fit_params: Any,
    split_params: Any = _NOTHING,
    validation: Any = None,
    findings: Any = None,
) -> Any:
    """Check everything, build the net, and return ``(train, valid, checks)``.

    Networks to which the same `Findings` are passed must be kept alive, and their data unchanged.
    """
    net.check_training_readiness()
    net._check_params()
    net._check_sources(validation)
    # A net that was only initialized has not seen data.
    reset = not (continuing and net._has_seen_data)
    once, templates = _call, None
    # Methods of subclasses may read any parameter.
    of_package = type(net).__module__.partition(".")[0] == "skhpo"
    if findings is not None and of_package and not isinstance(X, Dataset):
        once, templates = findings.of(net, X, y, sample_weight, classes), findings.templates
    check = partial(net._check_training_data, X, y, sample_weight, classes, reset)
    inputs, targets, weight, kept = once("data", check)
    net.check_data(X, y)
    if validation is not None and is_row_numbers(validation):
        n_rows = len(inputs) if targets is None else num_samples(targets)
        n_rows = n_rows if kept is None else len(kept)
        mask = row_mask(validation, n_rows, "validation_data")
        validation = mask if kept is None else mask[kept]
    net._targets_are_encoded = not isinstance(inputs, Dataset)
    if not continuing:
        if net.callbacks:
            let_callbacks_set_params(net, X, y)
        n_categories = None if type(X) is np.ndarray else n_categories_of(X)
        build_for(net, inputs, fit_params, targets, n_categories, once, templates)
    elif net._freeze_changed:
        apply_freeze(net)
    if continuing and reset:
        learn_from(net, inputs, first_batch(net, inputs, targets)[0], fit_params)
    if validation is None and net.validation_fraction is None:
        dataset, checks = once("rows", partial(_all_rows, net, inputs, targets, weight)), None
    else:
        dataset, checks = hold_out(net, inputs, targets, weight, validation)
    whole = inputs if checks is None else dataset
    train, valid = split_rows(net, dataset, whole, targets, split_params)
    if not isinstance(net.criterion_, USUAL[is_classifier(net)]):
        check_criterion(net, train, fit_params, is_new=reset)
    if net.callbacks:
        check_monitors(net, valid, checks)
    return train, valid, checks


def _all_rows(net: Any, inputs: Any, targets: Any, weight: Any) -> Any:
    net._targets = net._targets.with_scaling(targets, weight)
    return rows_of(net, inputs, targets, weight, training=True)


def _call(name: str, step: Any) -> Any:
    return step()


class Findings:
    """What steps of `prepare_fit` found for networks, for others for which they find the same.

    Those have the same data, and the same settings apart from those that the steps do not read.
    """

    _UNREAD = frozenset({"lr", "random_state", "seeds", "max_epochs"})
    _PREFIXES_UNREAD = "optimizer__", "lr_scheduler__", "seeds__"

    def __init__(self) -> None:
        self._found: dict[Any, Any] = {}
        self._numbers: dict[Any, int] = {}  # of long keys, which are hashed once for a network
        self.templates: dict[Any, Any] = {}  # of modules that differ in their seeds

    def of(self, net: Any, *data: Any) -> Any:
        """Return the function that maps the name of a step, and the step, to what it returns.

        A step may only learn attributes of the net. It is not called if it was called for another
        one; then the attributes are set.
        """
        settings: Any = {}
        of_module: Any = {}
        defaults = named_in_init(type(net))
        for name, value in vars(net).items():
            if defaults.get(name, self) is value:
                continue
            if name == "module" or name.startswith("module__"):
                of_module[name] = value
            elif name not in self._UNREAD and not name.startswith(self._PREFIXES_UNREAD):
                settings[name] = value
        cls: Any = type(net)
        common = self._number((cls, *map(id, data), frozen(settings)))
        of_module = self._number(frozen(of_module))

        def once(name: str, step: Any) -> Any:
            # Checks of data do not read the settings of the module.
            key = name, common, None if name == "data" else of_module
            if key not in self._found:
                before = dict(vars(net))
                result = step()
                learned = {k: v for k, v in vars(net).items() if before.get(k, self) is not v}
                self._found[key] = learned, result
            learned, result = self._found[key]
            vars(net).update(learned)
            return result

        return once

    def _number(self, key: Any) -> int:
        return self._numbers.setdefault(key, len(self._numbers))


def build(net: Any, X: Any, y: Any, *, optimizer: bool = True) -> None:
    """Build a net for data without training it, as `prepare_fit` does.

    Without an optimizer that takes less time: the first one of a process imports parts of torch.
    """
    if not optimizer:
        net._initialize_optimizer = lambda reason=None: net
    net.check_training_readiness()
    net._check_params()
    inputs, *_ = net._check_training_data(X, y, None, None, True)
    build_for(net, inputs, {})


def run_epochs(
    net: Any,
    train_part: Any,
    valid: Any,
    checks: Any = None,
    *,
    X: Any,
    y: Any,
    sample_weight: Any,
    task: str,
    fit_params: Any,
) -> None:
    """Train for ``net.max_epochs`` more epochs, unless checks stop earlier.

    With checks the module has the best weights afterwards, and the current ones are stored for
    the next call. `X`, `y`, `sample_weight` and `task` ("fit" or "partial_fit") are for callbacks;
    `fit_params` are passed to the module's ``forward``.
    """
    valid_batches = None if valid is None else batches_of(net, valid, training=False)
    hook_data = {"estimator": net, "X": X, "y": y}
    if sample_weight is not None:
        hook_data["metadata"] = {"sample_weight": sample_weight}
    context = None
    if hasattr(net, "_skl_callbacks"):
        context = net._init_callback_context(task_name=task, max_subtasks=net.max_epochs)
    network = activate(net, train_part, checks)
    batches = network.batches
    runner = _choose_runner(net, batches, valid_batches, checks, fit_params)
    watcher = HookedWatcher if isinstance(runner, HookedRunner) else NetWatcher
    datasets = {"dataset_train": train_part, "dataset_valid": valid}
    datasets = {name: getattr(part, "given", part) for name, part in datasets.items()}
    network.watcher = watcher(net, datasets, context, hook_data)
    if context is not None:
        context.call_on_fit_task_begin(**hook_data)
    begin_training(net, X, y)
    try:
        train([network], runner)
    except KeyboardInterrupt:
        net.notify("on_train_end", X=X, y=y)
        raise
    except ValueError as error:
        _explain_single_rows(error, net)
        raise
    finally:
        net._batch_weight = None
    net.notify("on_train_end", X=X, y=y)
    if context is not None:
        context.call_on_fit_task_end(**hook_data, reconstruction_attributes=net._snapshot)


def snapshot(net: Any) -> Any:
    """Return what a checkpoint of a net would hold, in the memory of the CPU."""
    return _copied(net._checkpoint())


def return_to(net: Any, earlier: Any) -> None:
    """Restore a net from a snapshot, which is used up."""
    net._restore(earlier)


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu() if value.is_cuda else value.detach().clone()
    if isinstance(value, dict):
        twin = copy.copy(value)
        twin.update((key, _copied(item)) for key, item in value.items())
        return twin
    if isinstance(value, list | tuple):
        return type(value)(map(_copied, value))
    return value


def activate(net: Any, train_part: Any, checks: Any) -> Any:
    """Return the `ActiveNetwork` that continues training a net; the first call makes a schedule."""
    batches = batches_of(net, train_part, training=True)
    state = net._gathered_state()
    if net.lr_scheduler is not None and state.counters.n_epochs == 0 and state.schedule is None:
        n_batches = len(batches) if hasattr(batches, "__len__") else 0
        n_steps = math.ceil(n_batches / net.accumulate)
        state.schedule = make_schedule(net, net.schedule_epochs or net.max_epochs, n_steps)
    state.average = None if net.average is None else _averaging(net, state.average)
    state.resume(checked=checks is not None)
    needed = net.max_norm is not None or state.frozen_until
    given: Any = None
    if net.hyperparameter_schedule is not None:
        given = HyperparameterSchedule(net, state.counters.n_epochs + net.max_epochs)
    at_check = given.compared if given else contextlib.nullcontext
    if checks is not None:
        checks.measure.may_draw, checks.measure.compared = _draws(net), at_check
    return ActiveNetwork(
        state,
        batches,
        net.max_epochs,
        NetWatcher(net, {"dataset_train": getattr(batches, "rows", None), "dataset_valid": None}),
        checks,
        parameters=list(net.get_all_learnable_params()) if needed else (),
        max_norm=net.max_norm,
        at_end=end_of_fit(net, train_part, batches, checks),
        at_begin=given and given.begin_epoch,
        at_leave=given and checks and given.return_to_best,
        at_check=at_check,
    )


def _averaging(net: Any, earlier: Any) -> Any:
    """Return the average of a net's weights that goes on, or a new one."""
    if earlier is not None and earlier.kind == net.average:
        earlier.decay = net.average_decay
        earlier.forget_modules()
        return earlier
    start = net.average_from
    if start is None:
        n_epochs = net.schedule_epochs or net.max_epochs
        start = 1 if net.average == "ema" else math.floor(_SWA_STARTS_AFTER * n_epochs) + 1
    return WeightAverage(net.average, net.average_decay, start)


def make_schedule(net: Any, n_epochs: int, n_batches: int) -> Any:
    """Return a new schedule of a length, for the optimizer of a net."""
    arguments = net.get_params_for("lr_scheduler")
    lower_is_better = net.monitor == "valid_loss"
    return Schedule(
        *(net.lr_scheduler, net.optimizer_, arguments, n_epochs, n_batches),
        lower_is_better=lower_is_better,
    )


def _choose_runner(net: Any, batches: Any, valid_batches: Any, checks: Any, fit_params: Any) -> Any:
    """Return the runner of a net's epochs."""
    runner: EpochRunner
    reason: str | None
    drawing: AbstractContextManager[Any] = contextlib.nullcontext()
    if _draws(net):
        drawing = drawing_from(net, net._state.streams["forward"])
    if net.has_own_epochs:
        reason = f"{type(net).__name__} has training steps of its own"
        runner = net._own_runner(batches, checks, fit_params)
    elif (reason := why_hooked(net, batches, valid_batches, fit_params)) is not None:
        runner = HookedRunner(net, valid_batches, drawing, fit_params)
    else:
        reason = "nothing looks into an epoch"
        by_rows = isinstance(batches, RowBatches)
        weighted = by_rows and batches.rows.weight is not None
        loss_of = _batch_loss(net, weighted)
        runner = plain = PlainRunner(loss_of, drawing, net.accumulate, net.max_grad_norm)
        if by_rows:
            masks = Masks(lambda: net._state.streams["forward"].generator())
            steps = DirectSteps(lambda: describe_training(net, batches, masks))
            runner = DirectRunner(steps, plain)
    _log.debug("%s trains by %s: %s", type(net).__name__, type(runner).__name__, reason)
    return runner


def describe_training(net: Any, batches: Any, masks: Any) -> Any:
    """Return the arguments of `Program`, or the reason why an estimator trains by autograd."""
    rows = batches.rows
    reasons = {
        f"the device is of type {net.device_.type}": net.device_.type not in ("cpu", "cuda"),
        "the module is compiled": net.compile,
        "there are several inputs, or rows that collate makes": net.input_shape_ is None,
        "it computes in low precision": net._low_precision is not None,
        "infer is overridden": net._forward_of_training() is not net.module_,
        "get_loss is overridden": (
            "get_loss" in vars(net)
            or not type(net).get_loss.__module__.startswith("skhpo.estimators.")
        ),
        "autograd looks for anomalies": torch.is_anomaly_enabled(),
        "autocast is on": torch.is_autocast_enabled(net.device_.type),
        "there are several modules": len(net._modules) + len(net._criteria) > 2,
        "there are no targets": not rows.are_items and rows.targets is None,
        "there are no batches": len(batches) == 0,
        "the criterion is no module": not isinstance(net.criterion_, nn.Module),
    }
    found = next((reason for reason, holds in reasons.items() if holds), None)
    if found is not None:
        return found
    if batches.formats is None:
        return "there are several inputs, or what collates or transforms rows makes them"
    inputs, targets = batches.formats
    settings = {}
    if isinstance(net.criterion_, BINARY):
        settings["smoothing"] = current_smoothing(net)
    if isinstance(net.criterion_, nn.NLLLoss):
        settings["of_probabilities"] = is_of_probabilities(net)
    return {
        "module": net.module_,
        "criterion": net.criterion_,
        "optimizer": net.optimizer_,
        "inputs": inputs,
        "targets": targets,
        "sizes": batches.sizes(),
        "max_grad_norm": net.max_grad_norm,
        "accumulate": net.accumulate,
        # On a GPU, kernels that accept no generator draw the masks.
        "draw_mask": masks if net.device_.type == "cpu" else None,
        **settings,
    }


def is_of_probabilities(net: Any) -> Any:
    """Whether the criterion takes logarithms, and the module returns probabilities."""
    return isinstance(net.criterion_, nn.NLLLoss) and net._meaning == "probabilities"


def _batch_loss(net: Any, weighted: bool) -> Any:
    """Return the function from a batch to its loss."""

    def loss_of(X: Any, y: Any, weight: Any) -> Any:
        if weighted:
            net._batch_weight = weight
        # Looked up at each call, as it may be replaced between epochs.
        return net.get_loss(net._forward_in_training(X), y, X=X, training=True)

    return loss_of


def _draws(net: Any) -> bool:
    """Whether a forward pass in training may draw random numbers."""
    parts = [getattr(net, name + "_") for name in net._modules + net._criteria]
    return not all(isinstance(part, nn.Module) and not may_draw(part) for part in parts)


def _explain_single_rows(error: Any, net: Any) -> None:
    if "more than 1 value per channel" in str(error):
        raise ValueError(
            "batch normalization needs at least two rows in each batch, but got one row with "
            f"batch_size={net.batch_size}; raise batch_size, or leave the normalization out"
        ) from error


def end_of_fit(net: Any, dataset: Any, batches: Any, checks: Any) -> Any:
    """Return what is to be done when a net has been trained, and has its best weights; or None.

    Parameters
    ----------
    net : TorchClassifier or TorchRegressor
    dataset : Rows or Dataset
        The training part.
    batches : iterable of batches
        Those of training.
    checks : Checks or None
    """
    if net.recalibrate:
        then = partial(recalibrate, net, dataset)
    elif checks is not None and isinstance(batches, RowBatches):
        then = partial(warn_of_gap, net, batches)
    else:
        return None
    return then if any(map(has_batch_norm, net._state.modules().values())) else None
