"""A pool of workers on whatever joblib backend is active."""

from __future__ import annotations

import os
import queue
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

import sklearn
from joblib import cpu_count

from ..files import storing
from ..limits import (
    HOPELESS,
    Cut,
    FitTimeoutError,
    SearchTimeoutError,
    is_interrupt,
    limited,
    noticing,
)
from ..process import (
    TORCH_THREADS,
    end_with,
    own_filters,
    own_precision,
    remove_at_last,
    remove_now,
    with_filters,
    with_precision,
)
from ._board import Board, Row
from ._tasks import FAILURES, Environment, refused_by_system
from ._workers import active_engine, import_first, raised, this_worker

__all__ = ["RUNNING", "Done", "Overdue", "Pool"]

# Seconds between two looks at calls that have limits, and at workers that should bring others.
_PATIENCE = 0.25
_LOOK_AFTER = 5.0


@dataclass(frozen=True)
class Done:
    """A call that has ended.

    Parameters
    ----------
    items : list
        What was submitted.
    results : list or None
        One per item, `Overdue` for one that was over its time; None if the call came to nothing.
    error : Exception or None
        Why it came to nothing.
    lost : bool
        Whether a worker died, so that not all of the items, or none, caused it.
    overdue : int or None
        The item that exceeded its time and could not be interrupted, if any.
    """

    items: list[Any]
    results: list[Any] | None
    error: Exception | None = None
    lost: bool = False
    overdue: int | None = None


# What `Pool.wait` returns where nothing has ended in time.
RUNNING = Done([], [])


@dataclass(frozen=True)
class Overdue:
    """The result of an item that exceeded its time.

    Parameters
    ----------
    error : str or None
        The traceback, where it is to blame; None where the search is over its time.
    seconds : float
    run : dict
        Its `start` and its `worker`.
    """

    error: str | None
    seconds: float
    run: Mapping[str, Any]


class Pool:
    """Runs calls on the active joblib backend; a plain loop where there is one job.

    Parameters
    ----------
    n_jobs : int or None, default=None
        As everywhere in scikit-learn: None means 1 unless ``joblib.parallel_config`` says
        otherwise, -1 all processors.
    slots : callable or None, default=None
        From the number of jobs, and whether they all run on this machine, to a list of devices,
        one for each call that may run at a time; None in it leaves the choice to the fit.

    Attributes
    ----------
    n_jobs_ : int
        Calls that run at the same time.
    slots_ : tuple
        A device for each of them, or None.
    devices_ : tuple
        The devices for which groups are made: `slots_`, and the CPU where nothing is known.
    in_processes_ : bool
        Whether calls leave this process, and so are pickled.
    isolated_ : bool
        Whether each has a process of its own.
    """

    def __init__(
        self,
        n_jobs: int | None = None,
        slots: Callable[[int, bool], Sequence[str | None]] | None = None,
    ) -> None:
        self.n_jobs = n_jobs
        self.slots = slots

    def __enter__(self) -> Pool:
        engine = active_engine(self.n_jobs)
        self._engine: Any = engine  # None at the end
        self.in_processes_ = engine.in_processes
        self.isolated_ = engine.isolated
        slots: Sequence[str | None] = [None] * engine.n_jobs
        if self.slots is not None:
            with ExitStack() as on_error:
                on_error.callback(engine.stop)
                slots = self.slots(engine.n_jobs, engine.local)
                on_error.pop_all()
        self.slots_ = tuple(slots)
        # A GPU of this machine says nothing of those of a cluster.
        self.devices_ = self.slots_ if engine.local else tuple(slot or "cpu" for slot in slots)
        self.n_jobs_ = len(slots)
        self._free = list(enumerate(slots))
        parallel_here = self.n_jobs_ > 1 and engine.local
        self._threads = max(1, cpu_count() // self.n_jobs_) if parallel_here else None
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._shipped: dict[int, tuple[Any, Any]] = {}
        self._calls: dict[int, _Call] = {}
        self._numbers = count()
        self._has_limits = False
        self._board: Board | None = None
        self._parts: str | None = None
        self._exit = ExitStack()
        if not self.in_processes_:
            self._exit.enter_context(TORCH_THREADS)
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        with self._exit:
            self._stop(kind)

    def _stop(self, kind: Any) -> None:
        if self._engine is None:
            return
        if kind is not None and self._calls:  # an error is raised at once
            self.abort()
            return
        while self._calls:
            self._calls.pop(self._done.get()[0], None)
        self._engine.stop()

    def abort(self) -> None:
        """Stop the workers without waiting for their calls; the pool cannot be used afterwards."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.abort()

    @property
    def parts(self) -> str | None:
        """Folder of what workers write for one another; None where they share no disk, or all."""
        if self._parts is None and self.in_processes_ and self._engine.local:
            with storing(self._engine.folder):
                prefix = f"skhpo-{os.getpid()}-"
                self._parts = tempfile.mkdtemp(prefix=prefix, dir=self._engine.folder)
            remove_at_last(self._parts)
            self._exit.callback(remove_now, self._parts)
        return self._parts

    @property
    def running(self) -> int:
        """Calls that were submitted and have not come back from `wait`."""
        return len(self._calls)

    @property
    def free(self) -> int:
        """Calls that would start at once."""
        return len(self._free)

    def submit(
        self,
        function: Callable[..., Any],
        items: list[Any],
        shared: Sequence[Any] = (),
        seconds: float | None = None,
        until: float | None = None,
    ) -> None:
        """Start ``[function(item, *shared) for item in items]`` on one worker.

        Parameters
        ----------
        function : callable
        items : list
        shared : tuple of object
            What many calls share, each the very same object every time: it is shipped to a worker
            once, and kept there until `forget`.
        seconds : float or None, default=None
            Time limit of each item.
        until : float or None, default=None
            When all items are to be ended, as ``time.monotonic()``.
        """
        shipped = [self._ship(value) for value in shared]
        row, slot = self._free.pop()
        call = _Call(items, row, slot, seconds, until)
        number = next(self._numbers)
        self._calls[number] = call
        self._has_limits = self._has_limits or seconds is not None or until is not None
        work = _Work(
            function,
            items,
            {"slot": slot, "seconds": seconds, "threads": self._threads},
            until if self._engine.local or until is None else _Left(until - time.monotonic()),
            sklearn.get_config(),
            own_filters() if self.in_processes_ else None,
            own_precision(),
            self._note_of(call),
            os.getpid() if self.in_processes_ and self._engine.local else None,
        )
        call.imports = partial(_run, replace(work, items=[])), shipped
        done = partial(_put, self._done, number)
        try:
            self._engine.submit(partial(_run, work), shipped, done)
        except self._engine.lost as error:  # a worker has died, which `wait` has not reported yet
            if len(self._calls) > 1:
                done(partial(raised, error))  # like those that were beside it
                return
            self.restart()
            shipped = [self._ship(value) for value in shared]
            self._engine.submit(partial(_run, work), shipped, done)

    def _note_of(self, call: _Call) -> _Call | Row | None:
        """Return the object to which the call writes its current item."""
        if not self._engine.local or (call.seconds is None and call.until is None):
            return None
        if not self.in_processes_:
            return call
        if self._board is None:
            self._board = Board(self.n_jobs_)
            self._exit.callback(self._board.close)
        self._board.clear(call.row)
        return Row(self._board.path, call.row)

    def wait(self, seconds: float | None = None) -> Done | None:
        """Return a call that has ended, as soon as there is one; in a plain loop, run it.

        After so many seconds without one `RUNNING` is returned; None waits on.

        Calls that go on long after their time are ended: processes are killed, threads are left
        behind. None is returned if the time of all calls is over and none of them comes back.
        """
        while True:
            try:
                number, get = self._done.get(timeout=self._patience(seconds))
            except queue.Empty:
                self._engine.look_after()
                if (done := self._end_what_is_overdue()) is not None:
                    return done
                untils = [call.until for call in self._calls.values() if call.until is not None]
                if untils and time.monotonic() > max(untils) + HOPELESS + _PATIENCE:
                    return None
                if seconds is not None:
                    return RUNNING
                continue
            if number in self._calls:  # else it was left behind
                call = self._calls.pop(number)
                self._free.append((call.row, call.slot))
                return self._outcome(call, get)

    def _patience(self, seconds: float | None) -> float:
        patience = _PATIENCE if self._has_limits else _LOOK_AFTER
        return patience if seconds is None else min(patience, seconds)

    def _end_what_is_overdue(self) -> Done | None:
        for _, call, _ in self._beyond_their_time(HOPELESS / 2):
            # A first interrupt was of no use. A worker takes seconds to import what it needs, and
            # may as well do so while the second and the third are tried.
            if call.until is None or time.monotonic() < call.until:
                self._engine.prepare(*call.imports)
        for number, call, item in self._beyond_their_time(HOPELESS):
            call.overdue = item
            if self._board is not None:  # in processes
                self._board.end(call.row)
                if self._engine.tells_deaths:
                    # All workers die with this one. What is over its time as well has failed, too.
                    for _, other, its_item in self._beyond_their_time(0):
                        other.overdue = its_item
                    break
            self._engine.leave_behind()
            del self._calls[number]
            self._free.append((call.row, call.slot))
            return Done(call.items, None, call.explain(), overdue=item)
        return None

    def _beyond_their_time(self, seconds: float) -> list[tuple[int, _Call, int]]:
        """Return calls that are over their time by so many seconds: (number, call, item)."""
        now, beyond = time.monotonic(), []
        for number, call in self._calls.items():
            item, end = call.item, call.end
            if self._board is not None:
                _, item, end = self._board.read(call.row)
            if end and now >= end + seconds and call.overdue is None:
                beyond.append((number, call, item))
        return beyond

    def forget(self, value: Any) -> None:
        """Note that `value` will not be shared by any further call."""
        self._shipped.pop(id(value), None)

    def restart(self) -> None:
        """Replace workers after some died, and ship again what was lost with them.

        Unless each call has a process of its own, those in flight must have come back before.
        """
        self._engine.restart()
        for name, (_, shipped) in list(self._shipped.items()):
            if not self._engine.holds(shipped):
                del self._shipped[name]

    def _outcome(self, call: _Call, get: Callable[[], Any]) -> Done:
        try:
            results = get()
        except Exception as error:
            lost = isinstance(error, self._engine.lost)
            if lost and call.overdue is not None:
                return Done(call.items, None, call.explain(), True, call.overdue)
            if not lost and (refused := refused_by_system(error, self._engine.folder)) is not None:
                raise refused from error
            return Done(call.items, None, error, lost)
        for result in results:
            if isinstance(result, _Raised):
                raise result.error
        return Done(call.items, results)

    def _ship(self, value: Any) -> Any:
        # With the value, because the id of an object that is gone may be given to another.
        if id(value) not in self._shipped:
            self._shipped[id(value)] = value, self._engine.ship(value)
        return self._shipped[id(value)][1]


class _Call:
    """A call that runs; in a thread it stores its current item here."""

    def __init__(
        self,
        items: list[Any],
        row: int,
        slot: str | None,
        seconds: float | None,
        until: float | None,
    ) -> None:
        self.items, self.row, self.slot = items, row, slot
        self.seconds, self.until = seconds, until
        self.item = 0
        self.end: float | None = None
        self.overdue: int | None = None
        self.imports: tuple[Callable[..., Any], list[Any]]  # does nothing, but all imports

    def write(self, item: int, end: float | None) -> None:
        self.item, self.end = item, end

    def explain(self) -> TimeoutError:
        return TimeoutError(
            f"the fit took longer than fit_timeout={self.seconds} seconds, and could not be "
            "interrupted; its worker was ended, or its thread left behind"
        )


@dataclass(frozen=True)
class _Left:
    """Seconds that are left, because clocks of machines differ."""

    seconds: float


@dataclass(frozen=True)
class _Raised:
    """An exception of a call, as opposed to one of the machinery around it."""

    error: BaseException


@dataclass(frozen=True)
class _Work:
    """The function that a worker calls, and its settings."""

    function: Callable[..., Any]
    items: list[Any]
    limits: dict[str, Any]
    until: float | _Left | None
    config: dict[str, Any]
    filters: list[Any] | None
    precision: dict[str, Any] | None
    note: Any
    driver: int | None


def _put(done: queue.SimpleQueue[Any], number: int, get: Callable[[], Any]) -> None:
    done.put((number, get))


def _run(work: _Work, *shared: Any) -> list[Any]:
    """Run a call under the driver's configuration of scikit-learn, of warnings and of torch."""
    if work.driver is not None:
        end_with(work.driver)
    until = work.until
    if isinstance(until, _Left):
        until = time.monotonic() + until.seconds
    if work.limits["seconds"] is not None:
        import_first()
    with ExitStack() as stack:
        stack.enter_context(sklearn.config_context(**work.config))
        if work.filters is not None:  # threads of the driver have its filters
            stack.enter_context(with_filters(work.filters))
        stack.enter_context(with_precision(work.precision))
        stack.enter_context(noticing())
        results = []
        for number, item in enumerate(work.items):
            tell = None if work.note is None else partial(work.note.write, number)
            start, over = time.perf_counter(), None
            try:
                with limited(**work.limits, until=until, tell=tell) as over:
                    result = work.function(item, *shared)
            except Cut as cut:
                seconds = time.perf_counter() - start
                run = {"start": round(time.time() - seconds, 4), "worker": this_worker()}
                result = Overdue(_blame(cut, over and over()), seconds, run)
            except Environment as carrier:
                return [_Raised(carrier.error)]
            except FAILURES as error:
                if is_interrupt(error):
                    raise KeyboardInterrupt from error
                error.add_note("".join(traceback.format_exception(error)))
                return [_Raised(error)]
            results.append(result)
        return results


def _blame(cut: Cut, over: BaseException | None) -> str | None:
    """Return the traceback of an item that was cut; None if only the search is over its time."""
    if isinstance(over, FitTimeoutError):
        return "".join(traceback.format_exception(over.with_traceback(cut.__traceback__)))
    if not isinstance(over, SearchTimeoutError):  # a search around this one
        raise cut
    return None
