"""Ctrl-C that reaches us, also where a library swallows it or makes another error of it."""

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
    """Notice each Ctrl-C in the body, whatever becomes of the KeyboardInterrupt that it raises.

    Signals come to the main thread; elsewhere nothing is noticed. A handler of somebody's own
    decides for itself: where it does not raise KeyboardInterrupt, that was no Ctrl-C.

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
        # Unless it was replaced in the body, by somebody who wants it to stay.
        if signal.getsignal(signal.SIGINT) is handler:
            signal.signal(signal.SIGINT, before)


def is_interrupt(error: BaseException) -> bool:
    """Whether an error is a KeyboardInterrupt, or was raised in the wake of one.

    What was being handled when `noticing` was entered does not count.
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
