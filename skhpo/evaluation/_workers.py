"""Where calls run: the engines of one machine; devices, names and imports of workers.

``joblib.Parallel`` pulls its tasks ahead and returns at a barrier. A search needs neither: it
hands over what can start now and wants each result as soon as it is there. The backend objects of
joblib can do that on one machine. On Dask and Ray they cannot quite: joblib's Dask backend never
reports a task whose worker died, and Ray's assigns tasks to workers in turn, busy or not, and does
not replace those that died. So with these two the backend says which cluster is meant, and the
cluster itself is asked to do the work (`_clusters`).
"""

from __future__ import annotations

import importlib
import os
import queue
import re
import socket
import sys
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NoReturn

from joblib import Parallel
from joblib.parallel import (
    BatchedCalls,
    FallbackToBackend,
    LokyBackend,
    MultiprocessingBackend,
    SequentialBackend,
    ThreadingBackend,
    get_active_backend,
)

from .._compat import LokyWorkers, backend_arguments
from ..limits import Cut, interrupt
from ..process import end_with_parent, ignoring

__all__ = [
    "Ended",
    "Engine",
    "JoblibEngine",
    "PlainEngine",
    "ThreadEngine",
    "active_engine",
    "import_first",
    "raised",
    "slots_of",
    "this_worker",
]

_HOST = socket.gethostname()

Ended = Callable[[Callable[[], Any]], None]

# Loky replaces workers that have used much memory, and warns. Where warnings are errors, this one
# would end its thread that hands out calls, and the search would wait for ever.
_WORKER_STOPPED = re.compile("A worker stopped while some jobs")
# Backends of joblib that are a plain loop where there is one job, as by default.
_LOCAL = LokyBackend | MultiprocessingBackend | ThreadingBackend
# More than any cluster has slots for a search; workers start one by one, and each needs memory.
_MOST_JOBS = 10_000


def slots_of(devices: str | Sequence[str]) -> Callable[[int, bool], Sequence[str | None]]:
    """Turn a search's `devices` into slots; a running fit holds one.

    Parameters
    ----------
    devices : "auto", str or list of str
        "auto" spreads fits over the visible CUDA devices where torch is in use and there are some;
        a list has one slot for each time that a device is named.

    Returns
    -------
    callable
        From the number of jobs, and whether they all run on this machine, to the list of slots:
        devices, or None for "as the estimator says". Raises ValueError for a list of devices if
        they do not run here.

    Raises
    ------
    ValueError
        If a device does not exist.
    """
    if isinstance(devices, str) and devices == "auto":
        return _auto
    named = [devices] if isinstance(devices, str) else list(devices)
    if not named:
        raise ValueError("devices must name at least one device, but is empty; use 'auto' or 'cpu'")
    _check(named)
    if isinstance(devices, str) and devices == "cpu":
        return lambda n_jobs, local: ["cpu"] * n_jobs
    return partial(_named, named)


def _named(devices: Sequence[str], n_jobs: int, local: bool) -> Sequence[str]:
    if not local:
        raise ValueError(
            f"devices={devices!r} names devices of this machine, but the fits run on a cluster; "
            "use devices='auto', and set CUDA_VISIBLE_DEVICES for each worker"
        )
    return devices[:n_jobs]


def _auto(n_jobs: int, local: bool) -> Sequence[str | None]:
    if not local:
        return [None] * n_jobs
    torch = sys.modules.get("torch")
    count = torch.cuda.device_count() if torch is not None and torch.cuda.is_available() else 0
    return [f"cuda:{i % count}" if count else None for i in range(n_jobs)]


def _check(named: Sequence[str]) -> None:
    import torch

    for name in named:
        try:
            device = torch.device(name)
        except (RuntimeError, TypeError) as error:
            raise ValueError(
                f"devices must be 'auto', 'cpu' or a list of torch devices such as "
                f"['cuda:0', 'cuda:1'], but {name!r} is none: {error}"
            ) from error
        count = torch.cuda.device_count()
        if device.type == "cuda" and (device.index or 0) >= count:
            raise ValueError(
                f"every device must exist, but devices has {name!r} and this machine has {count} "
                "CUDA devices; use devices='auto'"
            )


def import_first() -> None:
    """Import what estimators import while they are fitted for the first time: no fit's time."""
    if "skhpo.estimators" in sys.modules:
        importlib.import_module("torch._dynamo")  # by the first optimizer
        importlib.import_module("skhpo.lockstep")
    if "skhpo.estimators.keras" in sys.modules:
        sys.modules["skhpo.estimators.keras"]._backend.import_keras()


def this_worker() -> str:
    """Return the name of what runs here: host, process, and thread if it is not the main one."""
    name = f"{_HOST}:{os.getpid()}"
    if threading.current_thread() is threading.main_thread():
        return name
    return f"{name}:{threading.get_native_id()}"


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
                get = partial(raised, error)
            done(get)
            del work, call, done, get


def _return(result: Any) -> Any:
    return result


def raised(error: BaseException) -> NoReturn:
    """Raise an error."""
    raise error


class JoblibEngine(Engine):
    """Processes of this machine, or any other registered backend.

    Large arrays become memory maps by themselves, and joblib's pools replace workers that are lost.
    """

    in_processes = True
    lost = (BrokenExecutor,)

    def __init__(self, backend: Any, n_jobs: int) -> None:
        self.n_jobs = n_jobs
        self.local = isinstance(backend, LokyBackend | MultiprocessingBackend)
        self.tells_deaths = isinstance(backend, LokyBackend)
        self._backend = backend
        self._workers = LokyWorkers(backend)
        self._successors: Any = None  # workers that `prepare` turned joblib to
        self._backend.start_call()
        self._end_workers_with_driver()
        self._quiet = ignoring(UserWarning, _WORKER_STOPPED)
        self._quiet.__enter__()

    def _end_workers_with_driver(self) -> None:
        """Make workers end with this process, also those that never get a call."""
        if self.tells_deaths:
            self._workers.call_first(end_with_parent, os.getpid())

    @property
    def folder(self) -> str:
        if not self.tells_deaths:
            return super().folder
        return os.path.dirname(self._workers.folder_of_call())

    def submit(self, call: Callable[..., Any], shared: Sequence[Any], done: Ended) -> None:
        work = self._as_work(call, shared)
        self._backend.submit(work, callback=lambda out: done(partial(self._result, out)))

    def _as_work(self, call: Callable[..., Any], shared: Sequence[Any]) -> BatchedCalls:
        set_folder = self._workers.folder_of_call if self.tells_deaths else None
        return BatchedCalls([(call, shared, {})], self._backend.get_nested_backend(), set_folder)

    def look_after(self) -> None:
        if self.tells_deaths:
            self._workers.end_calls_without_thread()

    def prepare(self, call: Callable[..., Any], shared: Sequence[Any]) -> None:
        if self.tells_deaths and self._successors is None:
            with suppress(*self.lost):  # it died at once, and `restart` finds others
                self._successors = self._workers.successors(
                    self._configure, lambda: self._backend.submit(self._as_work(call, shared))
                )

    def _result(self, out: Any) -> Any:
        return self._backend.retrieve_result_callback(out)[0]

    def restart(self) -> None:
        if self.tells_deaths:
            self._backend.abort_everything(ensure_ready=False)
            self._configure()
            self._successors = None

    def _configure(self) -> None:
        """Use joblib's current workers, or new ones if these cannot be used."""
        parallel = self._backend.parallel
        self._backend.configure(parallel.n_jobs, parallel, **backend_arguments(parallel))
        self._end_workers_with_driver()

    def stop(self) -> None:
        with self._end():
            if self._successors is not None:  # joblib has turned to them
                self._workers.executor.shutdown(wait=False)
            self._backend.terminate()

    @contextmanager
    def _end(self) -> Iterator[None]:
        self._backend.stop_call()
        try:
            yield
        finally:
            self._quiet.__exit__()
            if self._successors is not None:
                self._workers.executor = self._successors
                self._backend.terminate()

    def abort(self) -> None:
        with self._end():
            self._abort()

    def _abort(self) -> None:
        if self.tells_deaths:
            # The thread that hands out calls fails by those that are dropped before it took them.
            self._workers.drop_waiting()
        self._backend.abort_everything(ensure_ready=False)


def active_engine(n_jobs: int | None) -> Engine:
    """Return the engine for the active joblib backend.

    Parameters
    ----------
    n_jobs : int or None
        None means what ``joblib.parallel_config`` says, and without that 1, or all of a cluster.

    Returns
    -------
    Engine

    Raises
    ------
    ValueError
        If the backend cannot run a search.
    """
    backend, default = get_active_backend()
    n_jobs = default if n_jobs is None else n_jobs
    if n_jobs == 0:
        raise ValueError("n_jobs == 0 has no meaning: use -1 for all that there are, None for one")
    if n_jobs is not None and n_jobs > _MOST_JOBS:
        raise ValueError(
            f"n_jobs <= {_MOST_JOBS:,} must hold, but got n_jobs={n_jobs:,}; -1 is one job for "
            "each processor"
        )
    # By name, because importing Dask or Ray takes long and they may not be there.
    if type(backend).__name__ in ("DaskDistributedBackend", "RayBackend"):
        from ._clusters import CLUSTERS

        return CLUSTERS[type(backend).__name__](backend, n_jobs)
    if n_jobs in (None, 1) and isinstance(backend, _LOCAL):
        return PlainEngine()
    parallel = Parallel(n_jobs=n_jobs)
    try:
        # With its settings, the workers are those that ``joblib.Parallel`` started before.
        n_jobs = backend.configure(n_jobs=n_jobs, parallel=parallel, **backend_arguments(parallel))
    except FallbackToBackend as fallback:
        backend = fallback.backend
    if isinstance(backend, SequentialBackend):
        return PlainEngine()
    if not backend.supports_retrieve_callback:
        raise ValueError(
            f"a search takes results as they come, which {type(backend).__name__} cannot do (its "
            "supports_retrieve_callback is false); use joblib.parallel_config with 'loky', "
            "'threading', 'dask' or 'ray'"
        )
    if isinstance(backend, ThreadingBackend):
        return ThreadEngine(backend, n_jobs)
    return JoblibEngine(backend, n_jobs)
