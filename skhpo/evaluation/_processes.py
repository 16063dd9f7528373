"""The engine of processes on this machine, and of whatever backend is registered with joblib."""

from __future__ import annotations

import os
import queue
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from joblib._parallel_backends import LokyBackend, MultiprocessingBackend
from joblib.externals.loky import reusable_executor
from joblib.parallel import BatchedCalls

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
        self._successors: Any = None  # workers that `prepare` turned joblib to
        self._backend.start_call()
        self._end_workers_with_driver()
        self._quiet = ignoring(UserWarning, _WORKER_STOPPED)
        self._quiet.__enter__()

    def _end_workers_with_driver(self) -> None:
        """Let also those workers that never get a call see that this process is gone."""
        workers: Any = getattr(self._backend, "_workers", None)
        if self.tells_deaths and workers._initializer is None:
            workers._initializer, workers._initargs = end_with_parent, (os.getpid(),)

    @property
    def folder(self) -> str:
        if not self.tells_deaths:
            return super().folder
        folder: str = self._own_folder(self._backend._workers).resolve_temp_folder_name()
        return os.path.dirname(folder)

    def _own_folder(self, workers: Any) -> Any:
        """Have memory maps made where `stop` looks for what to remove."""
        folders = workers._temp_folder_manager
        folders.set_current_context(self._backend.parallel._id)
        return folders

    def submit(self, call: Callable[..., Any], shared: Sequence[Any], done: Ended) -> None:
        work = self._as_work(call, shared)
        self._backend.submit(work, callback=lambda out: done(partial(self._result, out)))

    def _as_work(self, call: Callable[..., Any], shared: Sequence[Any]) -> BatchedCalls:
        set_folder = None
        if self.tells_deaths:
            set_folder = partial(self._own_folder, self._backend._workers)
        nested = self._backend.get_nested_backend()
        return BatchedCalls([(call, shared, {})], nested, set_folder)

    def look_after(self) -> None:
        workers: Any = self._backend._workers if self.tells_deaths else None
        thread = None if workers is None else workers._executor_manager_thread
        if thread is None or thread.is_alive() or not workers._pending_work_items:
            return
        thread.terminate_broken(
            BrokenProcessPool("the thread that hands calls to workers ended by an error of its own")
        )

    def prepare(self, call: Callable[..., Any], shared: Sequence[Any]) -> None:
        if not self.tells_deaths or self._successors is not None:
            return
        present = self._backend._workers
        try:
            with reusable_executor._executor_lock:
                reusable_executor._executor = None  # joblib would end the present ones
                self._configure()
            self._successors = self._backend._workers
            # One worker alone is there the sooner; the others start with the next call.
            self._successors._max_workers = 1
            self._backend.submit(self._as_work(call, shared))
            self._successors._max_workers = self.n_jobs
        finally:
            self._backend._workers = present

    def _result(self, out: Any) -> Any:
        return self._backend.retrieve_result_callback(out)[0]

    def restart(self) -> None:
        if self.tells_deaths:
            self._backend.abort_everything(ensure_ready=False)
            self._configure()
            self._successors = None

    def _configure(self) -> None:
        """Turn to joblib's workers of now, which are new ones where it has none of use."""
        parallel = self._backend.parallel
        self._backend.configure(parallel.n_jobs, parallel, **parallel._backend_kwargs)
        self._end_workers_with_driver()

    def stop(self) -> None:
        with self._end():
            if self._successors is not None:  # joblib has turned to them
                self._backend._workers.shutdown(wait=False)
            self._backend.terminate()

    @contextmanager
    def _end(self) -> Iterator[None]:
        self._backend.stop_call()
        try:
            yield
        finally:
            self._quiet.__exit__()
            if self._successors is not None:
                self._backend._workers = self._successors
                self._backend.terminate()

    def abort(self) -> None:
        with self._end():
            self._abort()

    def _abort(self) -> None:
        if self.tells_deaths:
            # The thread that hands out calls fails by those that are dropped before it took them.
            with suppress(queue.Empty):
                while True:
                    self._backend._workers._work_ids.get_nowait()
        self._backend.abort_everything(ensure_ready=False)
