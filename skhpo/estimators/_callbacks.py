"""skorch's callbacks: checks before training, and the table of epochs."""

from __future__ import annotations

import inspect
import warnings

from skorch.callbacks import PassthroughScoring, PrintLog
from skorch.callbacks.scoring import ScoringBase

from ..names import nearest_first

__all__ = [
    "check_monitors",
    "given_callbacks",
    "let_callbacks_set_params",
    "own_classes",
    "with_epoch_table",
]

_PRINT = inspect.signature(PrintLog).parameters["sink"].default
_OF_PACKAGES = ("skorch", "skhpo", "sklearn", "torch", "builtins")


def given_callbacks(net):
    """Return the user's callbacks by name, without skorch's defaults."""
    if not net.callbacks or net.callbacks == "disable":
        return {}
    defaults = {name for name, _ in net.get_default_callbacks()}
    return {name: callback for name, callback in net.callbacks_ if name not in defaults}


def let_callbacks_set_params(net, X, y):
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


def check_monitors(net, valid, checks):
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


def _needs_validation(callback):
    return isinstance(callback, ScoringBase | PassthroughScoring) and not callback.on_train


def _name_of(score):
    return getattr(score, "name_", score.name)


def _with_best(*names):
    return {name + suffix for name in names for suffix in ("", "_best")}


def _recorded_without_validation(net, checks):
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


def _raise_without_validation(net, checks, name, monitor, base):
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


def own_classes(cls):
    """Return the user's classes among the bases of a class."""
    return [base for base in cls.__mro__ if base.__module__.partition(".")[0] not in _OF_PACKAGES]


def _constants_of(cls):
    """Return the constants in the user's code of a class."""
    codes = (
        getattr(value, "__code__", None)
        for base in own_classes(cls)
        for value in vars(base).values()
    )
    return {constant for code in codes if code is not None for constant in code.co_consts}


class EpochTable(PrintLog):
    """skorch's table of epochs, for environments such as Ray that replace ``print``.

    skorch's own compares its sink with the current ``print``: after a replacement it ignores
    `verbose`, and cannot be pickled.
    """

    def _sink(self, text, verbose):
        if verbose or self.sink is not _PRINT:
            self.sink(text)

    def __getstate__(self):
        return {k: v for k, v in vars(self).items() if v is not _PRINT}

    def __setstate__(self, state):
        vars(self).update({"sink": _PRINT, **state})


def with_epoch_table(callbacks):
    """Return skorch's default callbacks, as pairs of name and callback, with our table."""
    return [
        (name, EpochTable() if type(callback) is PrintLog else callback)
        for name, callback in callbacks
    ]
