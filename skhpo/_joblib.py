"""Every private name of joblib, and of loky in it, in this one file.

When a joblib release moves one of these, only this file changes. The methods of
``joblib.parallel.ParallelBackendBase`` are public: backends of others have them, too.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from joblib.externals.loky import BrokenProcessPool, reusable_executor
from joblib.externals.loky.backend import resource_tracker
from joblib.externals.loky.backend.reduction import dumps

__all__ = ["LokyWorkers", "backend_arguments", "dumps", "resource_tracker"]


def backend_arguments(parallel: Any) -> dict[str, Any]:
    """Return the arguments with which a ``joblib.Parallel`` configures its backend."""
    arguments: dict[str, Any] = parallel._backend_kwargs
    return arguments


class LokyWorkers:
    """The worker processes of a configured backend of kind loky, which joblib shares and reuses."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    @property
    def executor(self) -> Any:
        """The pool of processes that the backend uses."""
        return self._backend._workers

    @executor.setter
    def executor(self, executor: Any) -> None:
        self._backend._workers = executor

    def call_first(self, function: Callable[..., Any], *args: Any) -> None:
        """Have workers that start from now on call a function first, unless the user has one."""
        executor = self.executor
        if executor._initializer is None:
            executor._initializer, executor._initargs = function, args

    def folder_of_call(self) -> str:
        """Have arrays written where the backend's ``terminate`` removes them; return the folder."""
        folders = self.executor._temp_folder_manager
        folders.set_current_context(self._backend.parallel._id)
        folder: str = folders.resolve_temp_folder_name()
        return folder

    def end_calls_without_thread(self) -> None:
        """End the calls as lost, if the thread that hands them to workers has failed."""
        thread = self.executor._executor_manager_thread
        if thread is None or thread.is_alive() or not self.executor._pending_work_items:
            return
        thread.terminate_broken(
            BrokenProcessPool("the thread that hands calls to workers ended by an error of its own")
        )

    def drop_waiting(self) -> None:
        """Forget calls that no worker has taken."""
        with suppress(queue.Empty):
            while True:
                self.executor._work_ids.get_nowait()

    def successors(self, configure: Callable[[], Any], submit: Callable[[], Any]) -> Any:
        """Start a first one of new workers while the present ones stay; return their executor.

        `configure` configures the backend, `submit` submits a call to it. joblib has turned to the
        new ones then, the backend has not.
        """
        present = self.executor
        try:
            with reusable_executor._executor_lock:
                reusable_executor._executor = None  # joblib would end the present ones
                configure()
            executor = self.executor
            # One worker alone is there the sooner; the others start with the next call.
            n_jobs, executor._max_workers = executor._max_workers, 1
            submit()
            executor._max_workers = n_jobs
        finally:
            self.executor = present
        return executor
