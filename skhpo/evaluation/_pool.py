"""A pool of workers on whatever joblib backend is active.

``joblib.Parallel`` pulls its tasks ahead and returns at a barrier. A search needs neither: it
hands over what can start now and wants each result as soon as it is there. The backend underneath
can do that, and every registered backend (loky, threading, dask, ray) implements it.
"""

from __future__ import annotations

import os
import queue
import traceback
import warnings
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import sklearn
from joblib import Parallel, cpu_count, delayed
from joblib._parallel_backends import (
    FallbackToBackend,
    LokyBackend,
    MultiprocessingBackend,
    SequentialBackend,
    ThreadingBackend,
)
from joblib.parallel import BatchedCalls, get_active_backend

from ..limits import limited

__all__ = ["Done", "Pool"]

# Errors by which dask and ray say that a worker died; loky's is a BrokenExecutor.
_LOST = {"KilledWorker", "RayActorError", "ActorDiedError", "WorkerCrashedError", "LostRunError"}


@dataclass(frozen=True)
class Done:
    """A call that has ended.

    Parameters
    ----------
    items : list
        What was submitted.
    results : list or None
        One per item; None if the call came to nothing.
    error : Exception or None
        Why it came to nothing.
    lost : bool
        Whether that was the death of a worker, so that the items are not to blame, or not all.
    """

    items: list
    results: list | None
    error: Exception | None = None
    lost: bool = False


class Pool:
    """Runs calls on the active joblib backend; a plain loop where there is one job.

    Parameters
    ----------
    n_jobs : int or None, default=None
        As everywhere in scikit-learn: None means 1 unless ``joblib.parallel_config`` says
        otherwise, -1 all processors.
    slots : callable or None, default=None
        From the number of jobs to a list of devices, one for each call that may run at a time;
        None in it leaves the choice to the fit. Used on this machine's workers only.

    Attributes
    ----------
    n_jobs_ : int
        Calls that run at the same time.
    in_processes_ : bool
        Whether calls leave this process, and so are pickled.
    """

    def __init__(self, n_jobs=None, slots=None):
        self.n_jobs = n_jobs
        self.slots = slots

    def __enter__(self):
        backend, n_jobs = get_active_backend()
        if self.n_jobs is not None:
            n_jobs = self.n_jobs
        self._parallel = Parallel(n_jobs=n_jobs)
        try:
            self.n_jobs_ = backend.configure(n_jobs=n_jobs, parallel=self._parallel)
        except FallbackToBackend as fallback:
            backend, self.n_jobs_ = fallback.backend, 1
        self._backend = None if isinstance(backend, SequentialBackend) else backend
        local = (SequentialBackend, ThreadingBackend, LokyBackend, MultiprocessingBackend)
        self._slots = [None] * self.n_jobs_
        if self.slots is not None and isinstance(backend, local):
            self._slots = self.slots(self.n_jobs_)
        self.n_jobs_ = len(self._slots)
        self.in_processes_ = not isinstance(backend, SequentialBackend | ThreadingBackend)
        parallel_here = self.n_jobs_ > 1 and isinstance(backend, local)
        self._threads = max(1, cpu_count() // self.n_jobs_) if parallel_here else None
        self._done = queue.SimpleQueue()
        self._running = 0
        self._queued = []
        self._refs = {}
        if self._backend is not None:
            self._backend.start_call()
        return self

    def __exit__(self, kind, *_):
        self._queued.clear()
        if self._backend is None:
            return
        if kind is not None and not issubclass(kind, Exception):  # Ctrl-C waits for nobody
            self.abort()
            return
        while self._running:
            self._done.get()
            self._running -= 1
        self._backend.stop_call()
        self._backend.terminate()

    def abort(self):
        """Stop the workers in the middle of what they do; the pool is of no use afterwards."""
        self._queued.clear()
        if self._backend is not None:
            self._backend.stop_call()
            self._backend.abort_everything(ensure_ready=False)
            self._backend = None

    @property
    def running(self):
        """Calls that were submitted and have not come back from `wait`."""
        return self._running + len(self._queued)

    @property
    def free(self):
        """Calls that would start at once."""
        return self.n_jobs_ - self.running

    def submit(self, function, items, shared=(), seconds=None):
        """Start ``[function(item, *shared) for item in items]`` on one worker.

        Parameters
        ----------
        function : callable
        items : list
        shared : tuple of object
            Passed on as they are, so that backends can ship what is large once per worker.
        seconds : float or None, default=None
            Time limit of each item, for those who look at it.
        """
        slot = self._slots.pop()
        call = partial(_run, function, {"slot": slot, "seconds": seconds, "threads": self._threads})
        if self._backend is None:
            self._queued.append((slot, items, partial(call, items, *shared)))
            return
        if self.in_processes_:
            filters = list(warnings.filters)
            call = partial(_in_process, os.getpid(), sklearn.get_config(), filters, call)
        shared = self._shipped(shared)
        work = BatchedCalls([delayed(call)(items, *shared)], self._backend.get_nested_backend())
        self._running += 1
        self._backend.submit(work, callback=partial(_put, self._done, slot, items))

    def wait(self):
        """Return a call that has ended, as soon as there is one; in a plain loop, run it."""
        if self._backend is None:
            slot, items, call = self._queued.pop(0)
            self._slots.append(slot)
            return self._outcome(items, call)
        slot, items, out = self._done.get()
        self._running -= 1
        self._slots.append(slot)
        return self._outcome(items, lambda: self._backend.retrieve_result_callback(out)[0])

    def restart(self):
        """Replace workers after some died. Calls in flight must have come back before."""
        if isinstance(self._backend, LokyBackend):
            self._backend.abort_everything(ensure_ready=True)

    def _outcome(self, items, get):
        try:
            results = get()
        except Exception as error:
            lost = isinstance(error, BrokenExecutor) or type(error).__name__ in _LOST
            return Done(items, None, error, lost)
        for result in results:
            if isinstance(result, _Raised):
                raise result.error
        return Done(items, results)

    def _shipped(self, shared):
        """Put large arrays into ray's object store, once each."""
        if type(self._backend).__module__.partition(".")[0] != "ray":
            return shared
        import ray

        refs = []
        for value in shared:
            if id(value) not in self._refs:
                self._refs[id(value)] = (value, _RayRef(ray.put(value)))
            refs.append(self._refs[id(value)][1])
        return tuple(refs)


@dataclass(frozen=True)
class _Raised:
    """An exception of a call, as opposed to one of the machinery around it."""

    error: Exception


@dataclass(frozen=True)
class _RayRef:
    ref: Any

    def get(self):
        import ray

        return ray.get(self.ref)


def _put(done, slot, items, out):
    done.put((slot, items, out))


def _run(function, limits, items, *shared):
    shared = [value.get() if isinstance(value, _RayRef) else value for value in shared]
    results = []
    for item in items:
        try:
            with limited(**limits):
                results.append(function(item, *shared))
        except Exception as error:
            error.add_note("".join(traceback.format_exception(error)))
            return [_Raised(error)]
    return results


def _in_process(driver, config, filters, call, *args):
    """Run a call under the driver's configuration of scikit-learn and of warnings."""
    if os.getpid() == driver:  # a backend with workers in threads after all
        return call(*args)
    with sklearn.config_context(**config), warnings.catch_warnings():
        warnings.filters[:] = filters
        return call(*args)
