"""What a running fit may use: the device of its slot, and its time.

Both belong to the thread that fits, not to the estimator: they are set around a fit by whoever runs
it, and looked up by estimators that know of them.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

from .process import TORCH_THREADS

__all__ = ["FitTimeoutError", "check_time", "current_slot", "limited", "time_for"]

_slot = ContextVar("slot", default=None)
_deadline = ContextVar("deadline", default=None)


class FitTimeoutError(TimeoutError):
    """A fit took longer than the search's ``fit_timeout``."""


def current_slot():
    """Return the device that ``device="auto"`` means in this thread; None where none is set."""
    return _slot.get()


def check_time():
    """Raise FitTimeoutError if the fit of this thread is over its time.

    Estimators call it between batches.
    """
    deadline = _deadline.get()
    if deadline is not None and time.monotonic() > deadline[0]:
        raise FitTimeoutError(f"the fit took longer than fit_timeout={deadline[1]} seconds")


@contextmanager
def time_for(n_fits):
    """Give the body the time of so many fits, from now on; nothing where fits have no limit."""
    deadline = _deadline.get()
    if deadline is not None:
        deadline = time.monotonic() + n_fits * deadline[1], deadline[1]
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


@contextmanager
def limited(slot=None, seconds=None, threads=None):
    """Set the limits of the fits in the body.

    Parameters
    ----------
    slot : str or None, default=None
        A torch device, such as ``"cuda:1"``.
    seconds : float or None, default=None
        Time from now.
    threads : int or None, default=None
        Threads of torch within an operation; left so, unless somebody is in `TORCH_THREADS`.
    """
    deadline = None if seconds is None else (time.monotonic() + seconds, seconds)
    tokens = _slot.set(slot), _deadline.set(deadline)
    try:
        with ExitStack() as stack:
            torch = sys.modules.get("torch")
            if torch is not None and slot is not None and slot.startswith("cuda"):
                stack.enter_context(torch.cuda.device(slot))
            if threads is not None:
                TORCH_THREADS.set(threads)
            yield
    finally:
        _slot.reset(tokens[0])
        _deadline.reset(tokens[1])
