"""The training loops."""

from __future__ import annotations

import contextlib
import dis
import math
import time

import torch
from skorch import NeuralNet
from skorch.callbacks import LRScheduler

from ..exceptions import NonFiniteLossError
from ..limits import check_time
from ..names import OPTIMIZERS
from ..training.batches import RowBatches
from ..training.checks import copy_weights, set_weights
from ..training.precision import plain_tuple
from ..training.randomness import may_draw
from ..training.schedule import Schedule
from ._defaults import changed_settings
from ._direct import direct_steps
from ._extras import Extras

__all__ = [
    "begin_training",
    "check_loss",
    "forward_randomness",
    "is_plain",
    "print_epoch",
    "record_epoch",
    "resume",
    "run_epochs",
    "settle_on_best",
    "tell_callbacks",
]

# Where one of these is overridden, epochs run through skorch's own loop, which calls them.
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


def run_epochs(net, train, valid, checks=None, *, X, y, sample_weight, task, fit_params):
    """Train for ``net.max_epochs`` more epochs, unless checks stop it before.

    Where there are checks the module has the best weights afterwards, and the running ones are
    kept aside for the next call.

    Parameters
    ----------
    net : estimator
        Initialized.
    train, valid : Rows or Dataset
        `valid` may be None.
    checks : Checks or None, default=None
    X, y, sample_weight : array-like
        As given by the user, for callbacks.
    task : {"fit", "partial_fit"}
        Name of the task that scikit-learn's callbacks are told.
    fit_params : dict
        Passed to the module's ``forward``.
    """
    train_batches = net._batches(train, training=True)
    valid_batches = None if valid is None else net._batches(valid, training=False)
    forward = forward_randomness(net)
    resume(net, train_batches, checks)
    if checks is not None:
        checks.may_draw = not isinstance(forward, contextlib.nullcontext)
    extras = Extras(net, checks)
    if net._has_own_epochs:
        run_epoch = net._epochs_of_its_own(train_batches, checks, extras, fit_params)
    elif is_plain(net, train_batches, valid_batches, fit_params):
        direct = direct_steps(net, train_batches)

        def run_epoch():
            return _plain_epoch(net, train_batches, forward, extras, direct)

    else:
        datasets = {"dataset_train": train, "dataset_valid": valid}

        def run_epoch():
            batches = train_batches, valid_batches
            return _hooked_epoch(net, datasets, *batches, forward, extras, fit_params)

    hook_data = {"estimator": net, "X": X, "y": y}
    if sample_weight is not None:
        hook_data["metadata"] = {"sample_weight": sample_weight}
    context = None
    if hasattr(net, "_skl_callbacks"):
        context = net._init_callback_context(task_name=task, max_subtasks=net.max_epochs)
        context.call_on_fit_task_begin(**hook_data)
    begin_training(net, X, y)
    try:
        for _ in range(net.max_epochs):
            if extras.stopped or not _one_epoch(net, run_epoch, extras, context, hook_data):
                break
    except KeyboardInterrupt:
        net.notify("on_train_end", X=X, y=y)
        raise
    finally:
        settle_on_best(net, checks)
    net.notify("on_train_end", X=X, y=y)
    if context is not None:
        context.call_on_fit_task_end(**hook_data, reconstruction_attributes=net._snapshot)


def _one_epoch(net, run_epoch, extras, context, hook_data):
    """Train for one epoch; return whether to go on."""
    if context is not None:
        context = context.subcontext(task_name="epoch")
        context.call_on_fit_task_begin(**hook_data)
    n_finished = len(net.history)
    extras.begin_epoch()
    try:
        go_on = run_epoch()
    except BaseException as error:
        # An epoch that was not finished leaves no row.
        del net.history[n_finished:]
        _explain_single_rows(error, net)
        raise
    finally:
        net._batch_weight = None
    net.n_iter_ += 1
    check_loss(net)
    extras.after_epoch()
    if context is not None:
        stop = context.call_on_fit_task_end(**hook_data, reconstruction_attributes=net._snapshot)
        go_on = go_on and not stop
    return go_on


def check_loss(net):
    """Raise NonFiniteLossError if the loss of the epoch just recorded is not finite."""
    loss = net.history[-1].get("train_loss")
    if loss is not None and not math.isfinite(loss):
        raise NonFiniteLossError(
            f"the training loss must be finite, but is {loss} in epoch {net.n_iter_}; lower lr, or "
            "scale the data"
        )


def resume(net, batches, checks):
    """Start or resume the schedule, and take up the running weights again."""
    if net.lr_scheduler is not None and net.n_iter_ == 0 and net.lr_schedule_ is None:
        n_batches = len(batches) if hasattr(batches, "__len__") else 0
        net.lr_schedule_ = Schedule(net, net.schedule_epochs or net.max_epochs, n_batches)
    if net._running_weights is not None:
        best, running = copy_weights(net), net._running_weights
        set_weights(net, running)
        net._running_weights = None
        if checks is not None:
            checks.best_weights = best


def settle_on_best(net, checks):
    if checks is not None and checks.best_weights is not None:
        net._running_weights = copy_weights(net)
        set_weights(net, checks.best_weights)


def _explain_single_rows(error, net):
    if isinstance(error, ValueError) and "more than 1 value per channel" in str(error):
        raise ValueError(
            "batch normalization needs at least two rows in each batch, but got one row with "
            f"batch_size={net.batch_size}; raise batch_size, or leave the normalization out"
        ) from error


def forward_randomness(net):
    parts = [getattr(net, name + "_") for name in net._modules + net._criteria]
    if all(isinstance(part, torch.nn.Module) and not may_draw(part) for part in parts):
        return contextlib.nullcontext()
    return net._drawing_from(net._streams["forward"])


def is_plain(net, train_batches, valid_batches, fit_params):
    """Tell whether nobody but the net itself looks into an epoch."""
    return (
        isinstance(train_batches, RowBatches)
        and not net._has_own_epochs
        and valid_batches is None
        and not fit_params
        and (not net.callbacks or net.callbacks == "disable")
        and all(getattr(type(net), hook) is getattr(NeuralNet, hook) for hook in _HOOKS)
        and type(net).get_default_callbacks is NeuralNet.get_default_callbacks
        and not changed_settings(net, "callbacks")
        and len(net._optimizers) == 1
        and type(net.optimizer_) in OPTIMIZERS.values()
        and not isinstance(net.optimizer_, torch.optim.LBFGS)
    )


def _plain_epoch(net, batches, forward, extras, direct):
    """Train for one epoch that nobody looks into."""
    start = time.perf_counter()
    datasets = {"dataset_train": batches.rows, "dataset_valid": None}
    net.on_epoch_begin(net, **datasets)
    net._set_training(True)
    after_batch = extras.after_batch if extras.each_batch else None
    if direct.can_train():
        values, sizes = direct.train(batches.triples(), after_batch)
    else:
        values, sizes = _steps_by_autograd(net, batches, forward, after_batch)
    record_epoch(net, values, sizes, extras)
    net.history.record("dur", time.perf_counter() - start)
    net.on_epoch_end(net, **datasets)
    print_epoch(net)
    return True


def _steps_by_autograd(net, batches, forward, after_batch):
    """Train with nothing in the loop that could be left out of it; return losses and sizes."""
    module = net._forward_of_training()
    optimizer = net.optimizer_
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    get_loss, step = net.get_loss, optimizer.step
    weighted = batches.rows.weight is not None
    losses, sizes = [], []
    for X, y, weight in batches.triples():
        check_time()
        if weighted:
            net._batch_weight = weight
        with forward:
            loss = get_loss(module(X), y, X=X, training=True)
        for parameter in parameters:
            parameter.grad = None
        loss.backward()
        step()
        if after_batch is not None:
            after_batch()
        losses.append(loss.detach())
        sizes.append(len(y))
    # One transfer for an epoch: asking each batch for its loss would wait for the device.
    return torch.stack(losses).tolist(), sizes


def print_epoch(net):
    """Print the last epoch's row of the history, where that is wanted."""
    if net.verbose:
        callbacks = dict(net.callbacks_)
        if "print_log" in callbacks:
            callbacks["print_log"].on_epoch_end(net)


def tell_callbacks(net, event, **data):
    """Tell the net, and the callbacks it was given beside skorch's defaults, of an event.

    Returns
    -------
    go_on : bool
        False if a callback said stop.
    """
    getattr(net, event)(net, **data)
    if not net.callbacks or net.callbacks == "disable":
        return True
    defaults = {name for name, _ in net.get_default_callbacks()}
    given = [callback for name, callback in net.callbacks_ if name not in defaults]
    try:
        with net._as_callbacks_expect():
            for callback in given:
                getattr(callback, event)(net, **data)
    except KeyboardInterrupt as error:
        if not _raised_by_skorch(error):
            raise
        return False
    return True


def record_epoch(net, losses, sizes, extras):
    """Write an epoch of batches with these losses and sizes into the history."""
    mean = sum(v * n for v, n in zip(losses, sizes, strict=True)) / sum(sizes)
    rows = (row for row in reversed(net.history[:-1]) if row.get("train_loss_best"))
    best = next(rows, {"train_loss": float("inf")})["train_loss"]
    net.history.record("train_loss", mean)
    net.history.record("train_loss_best", mean < best)
    net.history.record("train_batch_count", len(losses))
    extras.end_epoch()


def _hooked_epoch(net, datasets, train_batches, valid_batches, forward, extras, fit_params):
    """Train for one epoch through skorch's loop; return False if a callback said stop."""

    def train_step(batch, **params):
        check_time()
        with forward:
            step = net.train_step(batch, **params)
        extras.after_batch()
        return {**step, "y_pred": plain_tuple(step["y_pred"])}

    def validation_step(batch, **params):
        step = net.validation_step(batch, **params)
        return {**step, "y_pred": plain_tuple(step["y_pred"])}

    try:
        with net._as_callbacks_expect():
            net.notify("on_epoch_begin", **datasets)
            net.run_single_epoch(
                train_batches, training=True, prefix="train", step_fn=train_step, **fit_params
            )
            net.run_single_epoch(
                valid_batches,
                training=False,
                prefix="valid",
                step_fn=validation_step,
                **fit_params,
            )
            extras.end_epoch()
            net.notify("on_epoch_end", **datasets)
    except KeyboardInterrupt as error:
        if not _raised_by_skorch(error):
            raise
        return False
    return True


def _raised_by_skorch(error):
    """Tell whether a callback of skorch raised the error to stop training (as EarlyStopping does).

    A signal that arrives within such a callback is not raised by a `raise` statement.
    """
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    frame = last.tb_frame
    in_callback = frame.f_globals.get("__name__", "").startswith("skorch.callbacks.")
    return in_callback and frame.f_code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def begin_training(net, X, y):
    """Tell skorch's callbacks, but do not let them start their learning-rate schedules anew."""
    net.on_train_begin(net, X=X, y=y)
    for _, callback in net.callbacks_:
        scheduler = getattr(callback, "lr_scheduler_", None)
        continues = isinstance(callback, LRScheduler) and net.n_iter_ > 0
        if continues and scheduler is not None and scheduler.optimizer is net.optimizer_:
            continue
        callback.on_train_begin(net, X=X, y=y)
