"""What skorch's callbacks need before anything is trained."""

from __future__ import annotations

import warnings

from skorch.callbacks import PassthroughScoring
from skorch.callbacks.scoring import ScoringBase

__all__ = ["check_monitors", "let_callbacks_set_params"]

_OF_PACKAGES = ("skorch", "skhpo", "sklearn", "torch", "builtins")
_SUFFIXES = ("", "_best")


def given_callbacks(net):
    """Return the callbacks that the user gave, by name; those of skorch itself are left out."""
    if not net.callbacks or net.callbacks == "disable":
        return {}
    defaults = {name for name, _ in net.get_default_callbacks()}
    return {name: callback for name, callback in net.callbacks_ if name not in defaults}


def let_callbacks_set_params(net, X, y):
    """Let callbacks that set parameters by the data (skorch's `InputShapeSetter`) do so.

    They do it when training begins; here the module is built and tried before that. A callback is
    known by ``set_params`` in its ``on_train_begin``.

    Parameters
    ----------
    net : estimator
    X, y : array-like
        As given by the user.
    """
    if not net.callbacks or net.callbacks == "disable":
        return
    net._initialize_callbacks()
    for callback in given_callbacks(net).values():
        code = getattr(getattr(type(callback), "on_train_begin", None), "__code__", None)
        if code is not None and "set_params" in code.co_names:
            callback.on_train_begin(net, X=X, y=y)


def check_monitors(net, valid, checks):
    """Raise where a callback waits for a value that only a validation part gives.

    Parameters
    ----------
    net : estimator
        Initialized.
    valid : Rows, Dataset or None
        What `train_split` has split off.
    checks : Checks or None
        Those of `validation_fraction`.

    Raises
    ------
    ValueError
        If there is no such part, or another value of it.
    """
    given = given_callbacks(net)
    if valid is not None or not given:
        return
    scores = [callback for _, callback in net.callbacks_ if _needs_validation(callback)]
    names = {"valid_loss", *(getattr(score, "name_", score.name) for score in scores)}
    missing = {name + suffix for name in names for suffix in _SUFFIXES}
    if checks is not None:
        missing -= {checks.name + suffix for suffix in _SUFFIXES}
    for name, callback in given.items():
        monitor = getattr(callback, "monitor", None)
        if not isinstance(monitor, str) or monitor not in missing:
            continue
        base = monitor.removesuffix("_best")
        if any(_mentions(type(owner), base) for owner in (net, *given.values())):
            continue  # somebody else may record it
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


def _mentions(cls, text):
    """Tell whether code of the user's in a class names a text."""
    own = (base for base in cls.__mro__ if base.__module__.partition(".")[0] not in _OF_PACKAGES)
    codes = (getattr(value, "__code__", None) for base in own for value in vars(base).values())
    return any(code is not None and text in code.co_consts for code in codes)
