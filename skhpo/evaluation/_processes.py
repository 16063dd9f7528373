"""The engine of processes on this machine, and of whatever backend is registered with joblib."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from joblib.parallel import BatchedCalls, LokyBackend, MultiprocessingBackend

from .._joblib import LokyWorkers, backend_arguments
from ..process import end_with_parent, ignoring
from ._engine import Ended, Engine

__all__ = ["JoblibEngine"]

# Loky replaces workers that have used much memory, and warns. Where warnings are errors, this one
# would end its thread that hands out calls, and the search would wait for ever.
_WORKER_STOPPED = re.compile("A worker stopped while some jobs")


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
