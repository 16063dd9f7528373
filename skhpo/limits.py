"""What a running fit is limited by: the device of its slot, its time, and Ctrl-C.

The first two belong to the thread that fits, not to the estimator: they are set around a fit, and
estimators of this package read them. Other code is interrupted a little later: by a signal in the
main thread, in other threads by an exception that Python raises in them as soon as they run Python
code. Ctrl-C is noticed also if a library swallows it or converts it to another error.
"""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

from .process import TORCH_THREADS

__all__ = [
    "HOPELESS",
    "Cut",
    "FitTimeoutError",
    "SearchTimeoutError",
    "check_time",
    "current_slot",
    "interrupt",
    "is_interrupt",
    "limited",
    "noticing",
    "time_for",
]


_slot: ContextVar[str | None] = ContextVar("slot", default=None)
_limits: ContextVar[tuple[_Limits, Any] | None] = ContextVar("limits", default=None)

# Seconds for a fit to stop by itself after its time limit, and between two interrupts.
_GRACE = 0.5
# Seconds after its time limit from which on a fit counts as not interruptible: it was interrupted
# three times by then.
HOPELESS = 1.5
# Longest setting, in seconds, that timers of every system accept. Then they wait again.
_LONGEST = 1e6

_around: ContextVar[BaseException | None] = ContextVar("around", default=None)


class Cut(BaseException):
    """Ends a fit after its time limit.

    Not an `Exception`, because code that handles those would catch it.
    """


class FitTimeoutError(Cut):
    """A fit took longer than the search's ``fit_timeout``."""

    def __init__(self, *args: Any) -> None:
        # Python creates it without arguments when it is raised in another thread.
        found = _limits.get()
        super().__init__(*(args or ([] if found is None else [found[0].explanation])))


class SearchTimeoutError(Cut):
    """The time of the search is over, so that its fits are abandoned."""


class _Limits:
    """Time limits of a fit: `seconds`, and `until`, the end of all fits (``time.monotonic()``).

    `around` are the limits of the fit that contains this one; `tell` is called whenever the end
    changes.
    """

    def __init__(
        self,
        seconds: float | None,
        until: float | None,
        around: _Limits | None,
        tell: Callable[[float | None], object] | None,
    ) -> None:
        self.seconds, self.until, self.around, self.tell = seconds, until, around, tell
        self.fit_end = None if seconds is None else time.monotonic() + seconds
        self.covered = False  # whether a part of the fit now has separate limits

    @property
    def end(self) -> float | None:
        """The earliest of all limits; None if there is none."""
        ends = [self.fit_end, self.until, None if self.around is None else self.around.end]
        return min((end for end in ends if end is not None), default=None)

    @property
    def explanation(self) -> str:
        return f"the fit took longer than fit_timeout={self.seconds} seconds"

    def over(self) -> Cut | None:
        """Return the error to raise now, or None."""
        now = time.monotonic()
        if self.around is not None and self.around.over() is not None:
            return Cut("the fit around this one is over its time")
        if self.until is not None and now > self.until:
            return SearchTimeoutError("the time of the search is over")
        if self.fit_end is not None and now > self.fit_end:
            return FitTimeoutError(self.explanation)
        return None

    def cover(self, covered: bool) -> None:
        """Set whether these limits replace those of the containing fit."""
        if self.around is not None:
            self.around.covered = covered

    def moved(self, alarm: Any) -> None:
        alarm.set(self.end)
        if self.tell is not None:
            self.tell(self.end)


def current_slot() -> str | None:
    """Return the device for ``device="auto"`` in this thread, or None."""
    return _slot.get()


def check_time() -> None:
    """Raise an error if the time of this thread's fit or of its search is over.

    Estimators call it between batches.
    """
    found = _limits.get()
    if found is not None and (cut := found[0].over()) is not None:
        raise cut


@contextmanager
def time_for(n_fits: int) -> Iterator[None]:
    """Set the limit of the body to the time of `n_fits` from now, if fits have a limit."""
    found = _limits.get()
    seconds = None if found is None else found[0].seconds
    if found is None or seconds is None:
        yield
        return
    limits, alarm = found
    before, limits.fit_end = limits.fit_end, time.monotonic() + n_fits * seconds
    limits.moved(alarm)
    try:
        yield
    finally:
        limits.fit_end = before
        limits.moved(alarm)


@contextmanager
def limited(
    slot: str | None = None,
    seconds: float | None = None,
    until: float | None = None,
    threads: int | None = None,
    tell: Callable[[float | None], object] | None = None,
) -> Iterator[Callable[[], Cut | None]]:
    """Set the limits of a fit in the body: `seconds` from now, and `until`, the end of all fits.

    `slot` is a torch device, such as ``"cuda:1"``; `threads` are those of torch within an
    operation, only restored if the caller is in `TORCH_THREADS`; `tell` is called whenever the end
    changes, with its ``time.monotonic()`` or None. Yields a function that returns the error that
    must end the body now, or None.
    """
    around = _limits.get()
    limits = _Limits(seconds, until, around and around[0], tell)
    alarm = None if limits.end is None else _alarm(limits)
    before = _slot.get()
    try:
        _slot.set(slot)
        with ExitStack() as stack:
            torch = sys.modules.get("torch")
            if torch is not None and slot is not None and slot.startswith("cuda"):
                stack.enter_context(torch.cuda.device(slot))
            if threads is not None:
                TORCH_THREADS.set(threads)
            if alarm is not None:
                stack.enter_context(_in_force(limits, alarm))
            yield limits.over
    finally:
        _slot.set(before)


@contextmanager
def _in_force(limits: _Limits, alarm: Any) -> Iterator[None]:
    before = _limits.get()
    try:
        try:
            try:
                _limits.set((limits, alarm))
                limits.cover(True)
                alarm.begin()
                limits.moved(alarm)
                yield
            finally:
                alarm.end()
        finally:
            alarm.end()  # again: an alarm or Ctrl-C may have interrupted the first call
    finally:
        _limits.set(before)
        limits.cover(False)
        if limits.tell is not None:
            limits.tell(None)


def _alarm(limits: _Limits) -> _Signal | _Watch:
    in_main = threading.current_thread() is threading.main_thread()
    # A handler that was not installed by Python (None) could not be restored.
    usable = hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) is not None
    return _Signal(limits) if in_main and usable else _Watch(limits)


class _Signal:
    """Interrupts the main thread in any Python code, also while it waits.

    A timer of other code is paused meanwhile.
    """

    def __init__(self, limits: _Limits) -> None:
        self._limits = limits
        self._timer: tuple[float, float] | None = None

    def begin(self) -> None:
        # Read before they are changed, so that `end` can restore them after any interruption.
        self._begun = time.monotonic()
        self._handler = signal.getsignal(signal.SIGALRM)
        self._timer = signal.getitimer(signal.ITIMER_REAL)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._ring)

    def set(self, end: float) -> None:
        seconds = min(max(end + _GRACE - time.monotonic(), 1e-3), _LONGEST)
        signal.setitimer(signal.ITIMER_REAL, seconds, _GRACE)

    def _ring(self, number: int, frame: Any) -> None:
        if (cut := self._limits.over()) is not None:
            raise cut

    def end(self) -> None:
        """Restore handler and timer, unless that was done."""
        if self._timer is None:
            return
        signal.setitimer(signal.ITIMER_REAL, 0)
        if signal.getsignal(signal.SIGALRM) == self._ring:
            signal.signal(signal.SIGALRM, self._handler)
        seconds, interval = self._timer
        left = max(seconds - (time.monotonic() - self._begun), 1e-3)
        self._timer = None
        if seconds:
            signal.setitimer(signal.ITIMER_REAL, left, interval)


class _Watch:
    """Makes Python raise an exception in a thread; a system call there is not interrupted."""

    def __init__(self, limits: _Limits) -> None:
        self._limits: _Limits | None = limits
        self._thread = threading.get_ident()
        self._changed = threading.Condition()
        self._end: float | None = None

    def begin(self) -> None:
        threading.Thread(target=self._watch, daemon=True).start()

    def set(self, end: float) -> None:
        with self._changed:
            self._end = end + _GRACE
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while self._limits is not None:
                left = None if self._end is None else self._end - time.monotonic()
                if left is None or left > 0:
                    self._changed.wait(min(left or _LONGEST, _LONGEST))
                elif (cut := self._limits.over()) is not None:
                    if not self._limits.covered:  # else the part of the fit would get the error
                        _raise_in(self._thread, type(cut))
                    self._changed.wait(_GRACE)

    def end(self) -> None:
        with self._changed:
            self._limits = None
            _raise_in(self._thread, None)  # cancel an exception that has not arrived yet
            self._changed.notify()


def interrupt(thread: threading.Thread) -> None:
    """Raise Cut in a thread, as soon as it runs Python code."""
    if thread.is_alive():
        _raise_in(thread.ident, Cut)


def _raise_in(ident: int | None, kind: type[BaseException] | None) -> None:
    """Raise an exception in a thread as soon as it runs Python code; None cancels that."""
    _set_exception(ident, kind)
    # A pending or cancelled exception leaves a flag because of which Python checks for exceptions
    # at every step of every thread, and hangs under a profiler or debugger (Python 3.11). An
    # exception that arrives clears the flag, so this thread raises one in itself.
    error = settled = None
    while not settled:
        try:
            _set_exception(threading.get_ident(), _Settled)
            while True:
                pass
        except _Settled:
            settled = True
        except BaseException as other:  # Ctrl-C at this moment
            error = other
    if error is not None:
        raise error


class _Settled(BaseException):
    """Raised by a thread in itself."""


def _set_exception(ident: int | None, kind: type[BaseException] | None) -> None:
    raised = None if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident or 0), raised)


@contextmanager
def noticing() -> Iterator[Callable[[], None]]:
    """Detect each Ctrl-C in the body, even if its KeyboardInterrupt is swallowed.

    Yields a function that raises KeyboardInterrupt if there was one; the end of the body does so,
    too. Signals reach the main thread only; elsewhere nothing is detected. Under a user's handler
    only a KeyboardInterrupt that it raises counts.
    """
    noticed: list[int] = []

    def check() -> None:
        if noticed:
            raise KeyboardInterrupt

    token = _around.set(sys.exc_info()[1])
    try:
        with _handling(noticed):
            yield check
    finally:
        _around.reset(token)
        check()


@contextmanager
def _handling(noticed: list[int]) -> Any:
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if main else None
    if not callable(before):
        yield
        return

    def handler(number: int, frame: Any) -> None:
        try:
            before(number, frame)
        except KeyboardInterrupt:
            noticed.append(number)
            raise

    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        # Not if the body has installed another handler.
        if signal.getsignal(signal.SIGINT) is handler:
            signal.signal(signal.SIGINT, before)


def is_interrupt(error: BaseException) -> bool:
    """Whether an error is a KeyboardInterrupt, or has one among its causes and contexts.

    An error that was being handled when `noticing` was entered does not count.
    """
    seen = {id(_around.get())}
    chain: list[BaseException | None] = [error]
    while chain:
        one = chain.pop()
        if one is None or id(one) in seen:
            continue
        if isinstance(one, KeyboardInterrupt):
            return True
        seen.add(id(one))
        chain += [one.__cause__, one.__context__]
    return False
