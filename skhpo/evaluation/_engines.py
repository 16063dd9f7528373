"""Where calls run: what a pool needs of a joblib backend, for each kind of backend.

``joblib.Parallel`` pulls its tasks ahead and returns at a barrier. A search needs neither: it
hands over what can start now and wants each result as soon as it is there. The backend objects of
joblib can do that on one machine. On Dask and Ray they cannot quite: joblib's Dask backend never
reports a task whose worker died, and Ray's assigns tasks to workers in turn, busy or not, and does
not replace those that died. So with these two the backend says which cluster is meant, and the
cluster itself is asked to do the work.
"""

from __future__ import annotations

import os
import queue
import re
import tempfile
import threading
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from functools import partial

from joblib import Parallel, parallel_config
from joblib._parallel_backends import (
    FallbackToBackend,
    LokyBackend,
    MultiprocessingBackend,
    SequentialBackend,
    ThreadingBackend,
)
from joblib.parallel import BatchedCalls, get_active_backend

from ..limits import Cut, interrupt
from ..process import end_with_parent, ignoring

__all__ = ["active_engine"]

# More than any cluster has slots for a search; workers start one by one, and each needs memory.
_MOST_JOBS = 10_000
# Loky replaces workers that have used much memory, and warns. Where warnings are errors, this one
# would end its thread that hands out calls, and the search would wait for ever.
_WORKER_STOPPED = re.compile("A worker stopped while some jobs")


def active_engine(n_jobs):
    """Return the engine for the active joblib backend.

    Parameters
    ----------
    n_jobs : int or None
        None means what ``joblib.parallel_config`` says, and without that 1, or all of a cluster.

    Returns
    -------
    engine
        All of them have

        * ``n_jobs``: calls that run at a time;
        * ``local``: whether all workers are on this machine;
        * ``in_processes``: whether calls leave this process, and so are pickled;
        * ``lost``: exceptions that say that a worker died, or took data with it;
        * ``ship(value)``: what travels in the place of a value that many calls share;
        * ``submit(call, shared, done)``: start ``call(*shared)``; when it has ended,
          ``done(get)`` is called in some thread, where ``get()`` returns what the call did, or
          raises;
        * ``tells_deaths``: whether calls come back whose worker died;
        * ``leave_behind()``: nobody waits for one of the calls any more, which goes on;
        * ``restart()``: replace workers after some died; what was shipped may be gone;
        * ``stop()``, ``abort()``: the end, with nothing running or in the middle of it.

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
    known = {"DaskDistributedBackend": DaskEngine, "RayBackend": RayEngine}
    engine = known.get(type(backend).__name__)
    if engine is not None:
        return engine(backend, n_jobs)
    parallel = Parallel(n_jobs=n_jobs)
    try:
        # With its settings, the workers are those that ``joblib.Parallel`` started before.
        n_jobs = backend.configure(n_jobs=n_jobs, parallel=parallel, **parallel._backend_kwargs)
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


class PlainEngine:
    """A plain loop: a call runs when its result is asked for."""

    n_jobs = 1
    local = True
    in_processes = False
    tells_deaths = False
    lost = ()

    def ship(self, value):
        return value

    def submit(self, call, shared, done):
        done(partial(call, *shared))

    def restart(self):
        pass

    stop = abort = leave_behind = restart


class ThreadEngine:
    """Threads of this process, which nobody waits for when it ends."""

    local = True
    in_processes = False
    tells_deaths = False
    lost = ()

    def __init__(self, backend, n_jobs):
        self.n_jobs = n_jobs
        self._backend = backend
        self._calls = queue.SimpleQueue()
        self._threads = []
        self._n_left_behind = 0

    def ship(self, value):
        return value

    def submit(self, call, shared, done):
        nested = self._backend.get_nested_backend()
        self._calls.put((BatchedCalls([(call, shared, {})], nested), done))
        if len(self._threads) < self.n_jobs + self._n_left_behind:
            self._threads.append(
                threading.Thread(target=_do_calls, args=(self._calls,), daemon=True)
            )
            self._threads[-1].start()

    def leave_behind(self):
        self._n_left_behind += 1

    def restart(self):
        pass

    def stop(self):
        for _ in self._threads:
            self._calls.put(None)

    def abort(self):
        self.stop()
        for thread in self._threads:
            interrupt(thread)


class JoblibEngine:
    """Processes of this machine, or any other registered backend."""

    in_processes = True
    lost = (BrokenExecutor,)

    def __init__(self, backend, n_jobs):
        self.n_jobs = n_jobs
        self.local = isinstance(backend, LokyBackend | MultiprocessingBackend)
        self.tells_deaths = isinstance(backend, LokyBackend)
        self._backend = backend
        self._before_pickling = self._own_folder if isinstance(backend, LokyBackend) else None
        self._quiet = ignoring(UserWarning, _WORKER_STOPPED)
        self._quiet.__enter__()
        self._backend.start_call()
        self._end_workers_with_driver()

    def _end_workers_with_driver(self):
        """Let also those workers that never get a call see that this process is gone."""
        workers = getattr(self._backend, "_workers", None)
        if self.tells_deaths and workers._initializer is None:
            workers._initializer, workers._initargs = end_with_parent, (os.getpid(),)

    def leave_behind(self):
        pass  # who joblib's pools lose they replace

    @property
    def folder(self):
        """Where large arrays are written."""
        if not self.tells_deaths:
            return tempfile.gettempdir()
        return self._backend._workers._temp_folder_manager.resolve_temp_folder_name()

    def _own_folder(self):
        """Have memory maps made where `stop` looks for what to remove."""
        folders = self._backend._workers._temp_folder_manager
        folders.set_current_context(self._backend.parallel._id)

    def ship(self, value):
        return value  # large arrays become memory maps by themselves

    def submit(self, call, shared, done):
        nested = self._backend.get_nested_backend()
        work = BatchedCalls([(call, shared, {})], nested, self._before_pickling)
        self._backend.submit(work, callback=lambda out: done(partial(self._result, out)))

    def _result(self, out):
        return self._backend.retrieve_result_callback(out)[0]

    def restart(self):
        if isinstance(self._backend, LokyBackend):
            self._backend.abort_everything(ensure_ready=True)
            self._end_workers_with_driver()

    def stop(self):
        with self._end():
            self._backend.terminate()

    @contextmanager
    def _end(self):
        self._backend.stop_call()
        try:
            yield
        finally:
            self._quiet.__exit__()

    def abort(self):
        with self._end():
            self._abort()

    def _abort(self):
        if self.tells_deaths:
            # The thread that hands out calls fails by those that are dropped before it took them.
            with suppress(queue.Empty):
                while True:
                    self._backend._workers._work_ids.get_nowait()
        self._backend.abort_everything(ensure_ready=False)


class DaskEngine:
    """A Dask cluster. What is shipped lies on the workers that use it, until it is forgotten."""

    local = False
    tells_deaths = True

    def __init__(self, backend, n_jobs):
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        self._client = backend.client
        self._options = backend.submit_kwargs
        self._running = set()
        if self._client.asynchronous:
            raise ValueError("a search needs a Dask client made with asynchronous=False")
        self.n_jobs = _jobs(n_jobs, backend.effective_n_jobs(-1))  # waits for a first worker
        self.in_processes = not self._client.scheduler.address.startswith("inproc")
        self.lost = (KilledWorker, FutureCancelledError)

    def ship(self, value):
        # To all workers, because Dask starts calls where their data are. Hashing, by which Dask
        # finds out what it has already, would take longer than sending.
        return self._client.scatter([value], broadcast=True, hash=False)[0]

    def submit(self, call, shared, done):
        # What a fit is continued from may be large, and is different for every fit.
        with ignoring(UserWarning, re.compile("Sending large graph")):
            future = self._client.submit(_on_one_worker, call, *shared, pure=False, **self._options)
        self._running.add(future)
        future.add_done_callback(lambda future: done(partial(self._result, future)))

    def _result(self, future):
        self._running.discard(future)
        return future.result()

    def restart(self):
        pass  # the workers' nannies do that

    def stop(self):
        pass

    def abort(self):
        # What runs already runs on, in a thread of its worker, but nobody waits for it.
        self._client.cancel(list(self._running), force=True)


class RayEngine:
    """A Ray cluster. Calls are tasks; what is shipped lies in the object store."""

    local = False
    in_processes = True
    tells_deaths = True

    def __init__(self, backend, n_jobs):
        import ray
        from ray import cloudpickle, exceptions

        if not ray.is_initialized():
            ray.init()
        # A task that died is tried again by the search, with no other beside it.
        options = {"max_retries": 0, **(backend.ray_remote_args or {})}
        self.n_jobs = _jobs(n_jobs, _room(ray.cluster_resources(), options))
        self.lost = (
            exceptions.WorkerCrashedError,
            exceptions.NodeDiedError,
            exceptions.ObjectLostError,
            exceptions.OutOfMemoryError,
        )
        self._ray = ray
        self._pickle = cloudpickle
        self._task = ray.remote(_unpickled).options(**options)
        self._running = set()

    def ship(self, value):
        return self._ray.put(value)

    def submit(self, call, shared, done):
        # Arrays that Ray itself unpickles are read-only, which no fit could be continued from.
        ref = self._task.remote(self._pickle.dumps(call), *shared)
        self._running.add(ref)
        ref.future().add_done_callback(lambda future: done(partial(self._result, ref, future)))

    def _result(self, ref, future):
        self._running.discard(ref)
        return self._pickle.loads(future.result())

    def restart(self):
        pass  # a task that starts gets a new worker

    def stop(self):
        pass

    def abort(self):
        for ref in self._running:
            self._ray.cancel(ref, force=True)


def _do_calls(calls):
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


def _return(result):
    return result


def _raise(error):
    raise error


def _on_one_worker(call, *shared):
    """Run a call such that joblib, in it, stays on this worker, as it does on one machine."""
    with parallel_config(ThreadingBackend(nesting_level=1), n_jobs=None):
        return call(*shared)


def _unpickled(call, *shared):
    from ray import cloudpickle

    return cloudpickle.dumps(_on_one_worker(cloudpickle.loads(call), *shared))


def _jobs(n_jobs, room):
    """Return how many calls run at a time in a cluster that has room for so many."""
    if n_jobs is None:
        return room
    return min(n_jobs, room) if n_jobs > 0 else max(1, room + 1 + n_jobs)


def _room(resources, options):
    """Return how many tasks with these options run at a time on a Ray cluster."""
    needs = {
        "CPU": options.get("num_cpus", 1),
        "GPU": options.get("num_gpus", 0),
        **(options.get("resources") or {}),
    }
    room = min(int(resources.get(name, 0) // need) for name, need in needs.items() if need)
    if room == 0:
        raise ValueError(
            f"every fit must fit into the Ray cluster, but one needs {needs} and the cluster has "
            f"{resources}; see ray_remote_args of joblib.parallel_config"
        )
    return room
