"""skorch's callbacks, and its own loop for what needs it.

Callbacks are checked before training, and notified of epochs like the net itself and those of
scikit-learn.
"""

from __future__ import annotations

import dis
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NoReturn

import torch
from skorch.callbacks import LRScheduler, PassthroughScoring, PrintLog
from skorch.callbacks.scoring import ScoringBase
from skorch.dataset import get_len
from skorch.utils import TeeGenerator
from torch.utils.data import DataLoader

from ..limits import check_time
from ..names import OPTIMIZERS, nearest_first
from ..training.batches import RowBatches
from ..training.data import as_container
from ..training.engine import ActiveNetwork, Checks, EpochReport, EpochRunner
from ..training.forwarding import plain_tuple
from ..training.runners import GradientSteps, parameters_of
from .settings import changed_settings, has_own_dataset, overridden, own_classes

__all__ = [
    "HookedRunner",
    "HookedWatcher",
    "NetWatcher",
    "begin_training",
    "changes_steps",
    "check_monitors",
    "given_callbacks",
    "let_callbacks_set_params",
    "stopped_by_skorch",
    "why_hooked",
    "with_epoch_table",
]


_PRINT = inspect.signature(PrintLog).parameters["sink"].default

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


def given_callbacks(net: Any) -> dict[str, Any]:
    """Return the user's callbacks by name, without skorch's defaults."""
    if not net.callbacks or net.callbacks == "disable":
        return {}
    defaults = {name for name, _ in net.get_default_callbacks()}
    return {name: callback for name, callback in net.callbacks_ if name not in defaults}


def let_callbacks_set_params(net: Any, X: Any, y: Any) -> None:
    """Call callbacks that set parameters by the data, as skorch's `InputShapeSetter` does.

    skorch calls them when training begins, but here the module is built and tested before that.
    They are recognised by ``set_params`` in ``on_train_begin``. `X` and `y` are the user's.
    """
    if not net.callbacks or net.callbacks == "disable":
        return
    net._initialize_callbacks()
    for callback in given_callbacks(net).values():
        code = getattr(getattr(type(callback), "on_train_begin", None), "__code__", None)
        if code is not None and "set_params" in code.co_names:
            callback.on_train_begin(net, X=X, y=y)


def check_monitors(net: Any, valid: Any, checks: Checks | None) -> None:
    """Raise ValueError if a callback monitors a value that is not going to be recorded.

    It needs a validation part (of `train_split`) or `checks` and there is none, or nothing records
    it. No error where classes of the user may record it.
    """
    given = given_callbacks(net)
    if not given:
        return
    scores = [callback for _, callback in net.callbacks_ if _needs_validation(callback)]
    of_validation = _with_best("valid_loss", *(_name_of(score) for score in scores))
    recorded = _recorded_without_validation(net, checks)
    if valid is not None:
        recorded |= {*of_validation, "valid_batch_count"}
    for name, callback in given.items():
        monitor = getattr(callback, "monitor", None)
        if not isinstance(monitor, str) or monitor in recorded:
            continue
        owners = [type(owner) for owner in (net, *given.values())]
        if monitor in of_validation:
            base = monitor.removesuffix("_best")
            if not any(base in _constants_of(owner) for owner in owners):
                _raise_without_validation(net, checks, name, monitor, base)
        elif not any(own_classes(owner) for owner in owners):
            known = ", ".join(map(repr, nearest_first(monitor, recorded)))
            raise ValueError(
                f"what a callback monitors must be recorded in each epoch, but {name} monitors "
                f"{monitor!r}; recorded are {known}"
            )
    if valid is not None:
        return
    idle = [name for name, callback in given.items() if callback in scores]
    if idle:
        warnings.warn(
            f"{', '.join(idle)} scores what train_split holds out, but train_split="
            f"{net.train_split}; set it, or on_train=True, or leave the callback out",
            UserWarning,
            stacklevel=2,
        )


def _needs_validation(callback: Any) -> bool:
    return isinstance(callback, ScoringBase | PassthroughScoring) and not callback.on_train


def _name_of(score: Any) -> str:
    name: str = getattr(score, "name_", score.name)
    return name


def _with_best(*names: str) -> set[str]:
    return {name + suffix for name in names for suffix in ("", "_best")}


def _recorded_without_validation(net: Any, checks: Checks | None) -> set[str]:
    callbacks = [callback for _, callback in net.callbacks_]
    names = {"epoch", "dur", "train_batch_count", *_with_best("train_loss")}
    scores = (c for c in callbacks if isinstance(c, ScoringBase | PassthroughScoring))
    names |= _with_best(*(_name_of(c) for c in scores if not _needs_validation(c)))
    names |= {c.event_name for c in callbacks if getattr(c, "event_name", None)}
    if net.lr_scheduler is not None:
        names.add("lr")
    if checks is not None:
        names |= {checks.name + end for end in ("", "_best", "_trend", "_spread")}
    return names


def _raise_without_validation(
    net: Any, checks: Checks | None, name: str, monitor: str, base: str
) -> NoReturn:
    other = "train_loss" + monitor.removeprefix(base)
    if checks is None:
        found = "train_split=None and validation_fraction=None"
        fix = f"set train_split=ValidSplit(5) or validation_fraction=0.2, or monitor={other!r}"
    else:
        found = f"validation_fraction={net.validation_fraction} records {checks.name!r}"
        fix = f"monitor that, or {other!r}, or use train_split in its place"
    raise ValueError(
        f"what a callback monitors must be recorded in each epoch, but {name} monitors "
        f"{monitor!r} and {found}; {fix}"
    )


def _constants_of(cls: type[Any]) -> set[object]:
    """Return the constants in the user's code of a class."""
    codes = (
        getattr(value, "__code__", None)
        for base in own_classes(cls)
        for value in vars(base).values()
    )
    return {constant for code in codes if code is not None for constant in code.co_consts}


class EpochTable(PrintLog):  # type: ignore[misc] # skorch has no types
    """skorch's table of epochs, for environments such as Ray that replace ``print``.

    skorch's own compares its sink with the current ``print``: after a replacement it ignores
    `verbose`, and cannot be pickled.
    """

    def _sink(self, text: str, verbose: object) -> None:
        if verbose or self.sink is not _PRINT:
            self.sink(text)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if v is not _PRINT}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update({"sink": _PRINT, **state})


def with_epoch_table(callbacks: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return skorch's default callbacks, as pairs of name and callback, with our table."""
    return [
        (name, EpochTable() if type(callback) is PrintLog else callback)
        for name, callback in callbacks
    ]


class NetWatcher:
    """Notifies a net, and its callbacks except skorch's defaults.

    `datasets` (`dataset_train` and `dataset_valid`) are passed to skorch's callbacks, `hook_data`
    to scikit-learn's, whose `context` may be None.
    """

    def __init__(
        self,
        net: Any,
        datasets: Mapping[str, Any],
        context: Any = None,
        hook_data: Mapping[str, Any] | None = None,
    ) -> None:
        self.net = net
        self.datasets = datasets
        self.context = context
        self.hook_data = hook_data or {}

        is_told = overridden(net, "on_epoch_end") or "on_epoch_end" in vars(net)
        # Whether anything may read the network's weights at the end of an epoch.
        self.reads_weights = bool(context is not None or is_told or given_callbacks(net))

    def epoch_begins(self) -> bool:
        """Open a row of the history; return whether to train the epoch."""
        if self.context is not None:
            self.of_epoch = self.context.subcontext(task_name="epoch")
            self.of_epoch.call_on_fit_task_begin(**self.hook_data)
        return self._tell("on_epoch_begin")

    def epoch_ends(self) -> bool:
        """Notify of the completed row; return whether to go on."""
        go_on = self._tell("on_epoch_end")
        self._print()
        return go_on

    def epoch_counted(self) -> bool:
        """Notify scikit-learn's callbacks of the end of the epoch; return whether to go on."""
        if self.context is None:
            return True
        snapshot = {"reconstruction_attributes": self.net._snapshot}
        return not self.of_epoch.call_on_fit_task_end(**self.hook_data, **snapshot)

    def _tell(self, event: str) -> bool:
        net = self.net
        getattr(net, event)(net, **self.datasets)
        given = given_callbacks(net).values()

        def tell_given() -> None:
            for callback in given:
                getattr(callback, event)(net, **self.datasets)

        return not given or not stopped_by_skorch(net, tell_given)

    def _print(self) -> None:
        if self.net.verbose:
            callbacks = dict(self.net.callbacks_)
            if "print_log" in callbacks:
                callbacks["print_log"].on_epoch_end(self.net)


class HookedWatcher(NetWatcher):
    """Notifies all callbacks, as skorch does; they record and print."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.reads_weights = True

    def _tell(self, event: str) -> bool:
        return not stopped_by_skorch(self.net, lambda: self.net.notify(event, **self.datasets))

    def _print(self) -> None:
        """Do nothing: a callback prints."""


def stopped_by_skorch(net: Any, function: Callable[[], object]) -> bool:
    """Call a function in the environment of skorch's callbacks; return whether one stopped."""
    try:
        with net._as_callbacks_expect():
            function()
    except KeyboardInterrupt as error:
        if not _raised_by_skorch(error):
            raise
        return True
    return False


def _raised_by_skorch(error: BaseException) -> bool:
    """Whether a callback of skorch raised the error to stop training, as EarlyStopping does.

    A signal that arrives during such a callback is not raised by a `raise` statement.
    """
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return False
    frame = last.tb_frame
    in_callback = frame.f_globals.get("__name__", "").startswith("skorch.callbacks.")
    return in_callback and frame.f_code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def begin_training(net: Any, X: Any, y: Any) -> None:
    """Notify skorch's callbacks, except schedules of the learning rate that must continue."""
    net.on_train_begin(net, X=X, y=y)
    for _, callback in net.callbacks_:
        scheduler = getattr(callback, "lr_scheduler_", None)
        continues = isinstance(callback, LRScheduler) and net.n_iter_ > 0
        if continues and scheduler is not None and scheduler.optimizer is net.optimizer_:
            continue
        given = (X, y) if not isinstance(callback, ScoringBase) else _as_containers(net, X, y)
        callback.on_train_begin(net, X=given[0], y=given[1])


def _as_containers(net: Any, X: Any, y: Any) -> tuple[Any, Any]:
    """Return lists of rows as arrays: skorch looks into lists for further arrays."""
    if has_own_dataset(net) or None not in net._integer_inputs:
        return X, as_container(y)
    return as_container(X), as_container(y)


def why_hooked(
    net: Any, batches: object, valid_batches: object, fit_params: Mapping[str, Any]
) -> str | None:
    """Return the reason why epochs must run in skorch's own loop, or None."""
    name, hooks = type(net).__name__, overridden(net, *_HOOKS)
    if not (isinstance(batches, RowBatches) or net.iterator_train is DataLoader):
        return "an iterator of its own makes the batches"
    if valid_batches is not None:
        return "train_split holds data out"
    if fit_params:
        return "the module's forward takes fit_params"
    if net.callbacks and net.callbacks != "disable":
        return "there are callbacks"
    if hooks:
        return f"{name} overrides {', '.join(hooks)}"
    if overridden(net, "get_default_callbacks"):
        return f"{name} has default callbacks of its own"
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

    def __init__(
        self,
        net: Any,
        valid_batches: Any,
        drawing: AbstractContextManager[Any],
        fit_params: Mapping[str, Any],
    ) -> None:
        self.net = net
        self.valid_batches = valid_batches
        self.drawing = drawing
        self.fit_params = fit_params

    def run(self, networks: Sequence[ActiveNetwork]) -> list[EpochReport]:
        """Train one network for an epoch."""
        (network,) = networks
        stopped = stopped_by_skorch(self.net, lambda: self._run(network))
        return [EpochReport(finished=not stopped)]

    def _run(self, network: ActiveNetwork) -> None:
        net = self.net
        steps = self._steps(network) if changes_steps(net) else None

        def train_step(batch: Any, **params: Any) -> dict[str, Any]:
            check_time()
            with self.drawing:
                if steps is None:
                    step = net.train_step(batch, **params)
                else:
                    step = self._accumulated(steps, batch, params)
            if steps is None:
                network.after_batch()
            return {**step, "y_pred": plain_tuple(step["y_pred"])}

        def validation_step(batch: Any, **params: Any) -> dict[str, Any]:
            step = net.validation_step(batch, **params)
            return {**step, "y_pred": plain_tuple(step["y_pred"])}

        net.run_single_epoch(
            network.batches, training=True, prefix="train", step_fn=train_step, **self.fit_params
        )
        if steps is not None:
            steps.finish()
        with network.state.averaged(), network.at_check():
            net.run_single_epoch(
                self.valid_batches,
                training=False,
                prefix="valid",
                step_fn=validation_step,
                **self.fit_params,
            )

    def _steps(self, network: ActiveNetwork) -> GradientSteps:
        net = self.net

        def step() -> None:
            net._step_optimizer(None)
            network.after_batch()

        optimizers = (getattr(net, name + "_") for name in net._optimizers)
        return GradientSteps(parameters_of(*optimizers), step, net.accumulate, net.max_grad_norm)

    def _accumulated(self, steps: GradientSteps, batch: Any, params: Mapping[str, Any]) -> Any:
        """Return what skorch's ``train_step`` does, which steps the optimizer for each batch."""
        net = self.net
        steps.begin_batch(get_len(batch[0] if isinstance(batch, tuple | list) else batch))
        step = net.train_step_single(batch, **params)
        named = TeeGenerator(net.get_all_learnable_params())
        net.notify("on_grad_computed", named_parameters=named, batch=batch)
        steps.end_batch()
        return step


def changes_steps(net: Any) -> bool:
    """Whether a step of the optimizer is not that of skorch's ``train_step``."""
    return net.accumulate > 1 or net.max_grad_norm is not None
