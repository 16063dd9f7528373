"""Detection of Ctrl-C, also if a library swallows it or converts it to another error."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["is_interrupt", "noticing"]

_around = ContextVar("around", default=None)


@contextmanager
def noticing() -> Iterator[Callable[[], None]]:
    """Detect each Ctrl-C in the body, even if its KeyboardInterrupt is swallowed.

    Signals reach the main thread only; elsewhere nothing is detected. Under a user's handler only
    a KeyboardInterrupt that it raises counts.

    Yields
    ------
    check : callable
        Raises KeyboardInterrupt if there was one. The end of the body does so, too.
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
    seen, chain = {id(_around.get())}, [error]
    while chain:
        error = chain.pop()
        if error is None or id(error) in seen:
            continue
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        chain += [error.__cause__, error.__context__]
    return False
