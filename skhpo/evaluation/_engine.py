"""The interface of engines, which run calls for a pool, and two engines: a loop and threads."""

from __future__ import annotations

import queue
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from joblib.parallel import BatchedCalls

from ..limits import Cut, interrupt

__all__ = ["Ended", "Engine", "PlainEngine", "ThreadEngine"]

Ended = Callable[[Callable[[], Any]], None]


class Engine(ABC):
    """Runs calls for a pool: they are started one by one, and each result comes when its call ends.

    Attributes
    ----------
    n_jobs : int
        Calls that run at a time.
    local : bool
        Whether all workers are on this machine.
    in_processes : bool
        Whether calls leave this process, and so are pickled.
    tells_deaths : bool
        Whether calls whose worker died are reported.
    isolated : bool
        Whether each call has a process of its own, so that its death is its own fault.
    lost : tuple of type
        Exceptions that mean that a worker died, possibly with data that it held.
    folder : str
        Where large arrays are written on their way to workers.
    """

    n_jobs: int = 1
    local: bool = True
    in_processes: bool = False
    tells_deaths: bool = False
    isolated: bool = False
    lost: tuple[type[BaseException], ...] = ()

    @property
    def folder(self) -> str:
        return tempfile.gettempdir()

    def ship(self, value: Any) -> Any:
        """Return a reference to a value that many calls share, which calls get in its place."""
        return value

    def holds(self, shipped: Any) -> bool:
        """Whether a reference of `ship` is still valid after a worker died."""
        return True

    @abstractmethod
    def submit(self, call: Callable[..., Any], shared: Sequence[Any], done: Ended) -> None:
        """Start ``call(*shared)``.

        Parameters
        ----------
        call : callable
        shared : sequence of object
            What `ship` returned.
        done : callable
            Called in some thread as ``done(get)`` when the call has ended; ``get()`` returns what
            it did, or raises.
        """

    def look_after(self) -> None:  # noqa: B027
        """Report calls as lost that never end because the thread that starts them failed."""

    def leave_behind(self) -> None:  # noqa: B027
        """Give up waiting for a call, which goes on."""

    def prepare(self, call: Callable[..., Any], shared: Sequence[Any]) -> None:  # noqa: B027
        """Start the first of new workers for `restart`, with a call whose result is not used."""

    def restart(self) -> None:  # noqa: B027
        """Replace workers after some died; shipped values may be lost."""

    def stop(self) -> None:  # noqa: B027
        """End the workers; nothing runs."""

    def abort(self) -> None:  # noqa: B027
        """End the workers without waiting for their calls."""


class PlainEngine(Engine):
    """A plain loop: a call runs when its result is asked for."""

    def submit(self, call: Callable[..., Any], shared: Sequence[Any], done: Ended) -> None:
        done(partial(call, *shared))


class ThreadEngine(Engine):
    """Threads of this process, which do not delay its end."""

    def __init__(self, backend: Any, n_jobs: int) -> None:
        self.n_jobs = n_jobs
        self._backend = backend
        self._calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._n_left_behind = 0

    def submit(self, call: Callable[..., Any], shared: Sequence[Any], done: Ended) -> None:
        nested = self._backend.get_nested_backend()
        self._calls.put((BatchedCalls([(call, shared, {})], nested), done))
        if len(self._threads) < self.n_jobs + self._n_left_behind:
            self._threads.append(
                threading.Thread(target=_do_calls, args=(self._calls,), daemon=True)
            )
            self._threads[-1].start()

    def leave_behind(self) -> None:
        self._n_left_behind += 1

    def stop(self) -> None:
        for _ in self._threads:
            self._calls.put(None)

    def abort(self) -> None:
        self.stop()
        for thread in self._threads:
            interrupt(thread)


def _do_calls(calls: Any) -> None:
    with suppress(Cut):  # by `abort`
        while (work := calls.get()) is not None:
            call, done = work
            try:
                (result,) = call()
                get = partial(_return, result)
            except BaseException as error:
                get = partial(_raise, error)
            done(get)
            del work, call, done, get


def _return(result: Any) -> Any:
    return result


def _raise(error: BaseException) -> NoReturn:
    raise error
