"""The engines of clusters: Dask and Ray."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from joblib import parallel_config
from joblib.parallel import ThreadingBackend

from ..process import ignoring
from ._workers import Ended, Engine

__all__ = ["CLUSTERS"]

# Seconds in which a cluster without workers has some again.
_WORKERS_COME_WITHIN = 300
# Seconds in which Ray kills the workers of calls that are cancelled.
_STOPS_WITHIN = 10


class DaskEngine(Engine):
    """A Dask cluster. What is shipped lies on the workers that use it, until it is forgotten.

    Workers that die are replaced by their nannies.
    """

    local = False
    tells_deaths = True

    def __init__(self, backend: Any, n_jobs: int | None) -> None:
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        self._client = backend.client
        self._options = backend.submit_kwargs
        self._running: set[Any] = set()
        if self._client.asynchronous:
            raise ValueError("a search needs a Dask client made with asynchronous=False")
        self.n_jobs = _jobs(n_jobs, backend.effective_n_jobs(-1))  # waits for a first worker
        self.in_processes = not self._client.scheduler.address.startswith("inproc")
        self.isolated = all(threads == 1 for threads in self._client.nthreads().values())
        self.lost = (KilledWorker, FutureCancelledError)

    def ship(self, value: Any) -> Any:
        # To all workers, because Dask starts calls where their data are. Hashing, by which Dask
        # finds out what it has already, would take longer than sending. All of them may have died.
        self._client.wait_for_workers(1, timeout=_WORKERS_COME_WITHIN)
        return self._client.scatter([value], broadcast=True, hash=False)[0]

    def holds(self, shipped: Any) -> bool:
        # There may have been copies on other workers, of which new ones get theirs.
        return bool(shipped.status == "finished")

    def submit(self, call: Callable[..., Any], shared: Sequence[Any], done: Ended) -> None:
        # What a fit is continued from may be large, and is different for every fit.
        with ignoring(UserWarning, re.compile("Sending large graph")):
            future = self._client.submit(_on_one_worker, call, *shared, pure=False, **self._options)
        self._running.add(future)
        future.add_done_callback(lambda future: done(partial(self._result, future)))

    def _result(self, future: Any) -> Any:
        self._running.discard(future)
        return future.result()

    def abort(self) -> None:
        # A call that runs cannot be stopped: it goes on in a thread of its worker, unobserved.
        self._client.cancel(list(self._running), force=True)


class RayEngine(Engine):
    """A Ray cluster. Calls are tasks; what is shipped lies in the object store.

    A task that starts gets a new worker.
    """

    local = False
    in_processes = True
    tells_deaths = True
    isolated = True

    def __init__(self, backend: Any, n_jobs: int | None) -> None:
        import ray
        from ray import cloudpickle, exceptions

        if not ray.is_initialized():
            ray.init()
        # A task that died is tried again by the search, with no other beside it.
        options = {"max_retries": 0, **(backend.ray_remote_args or {})}
        there = ray.cluster_resources()  # type: ignore[no-untyped-call]
        self.n_jobs = _jobs(n_jobs, _room(there, options))
        self.lost = (
            exceptions.WorkerCrashedError,
            exceptions.NodeDiedError,
            exceptions.ObjectLostError,
            exceptions.OutOfMemoryError,
        )
        self._ray = ray
        self._pickle: Any = cloudpickle
        self._task = ray.remote(_unpickled).options(**options)
        self._running: set[Any] = set()

    def ship(self, value: Any) -> Any:
        return self._ray.put(value)

    def submit(self, call: Callable[..., Any], shared: Sequence[Any], done: Ended) -> None:
        # Arrays that Ray itself unpickles are read-only, which no fit could be continued from.
        ref = self._task.remote(self._pickle.dumps(call), *shared)
        self._running.add(ref)
        ref.future().add_done_callback(lambda future: done(partial(self._result, ref, future)))

    def _result(self, ref: Any, future: Any) -> Any:
        self._running.discard(ref)
        return self._pickle.loads(future.result())

    def abort(self) -> None:
        stopped = list(self._running)
        for ref in stopped:
            self._ray.cancel(ref, force=True)
        if stopped:
            # Else the next search's first tasks may get the workers that are about to be killed.
            self._ray.wait(stopped, num_returns=len(stopped), timeout=_STOPS_WITHIN)


def _on_one_worker(call: Callable[..., Any], *shared: Any) -> Any:
    """Run a call with joblib's backend of one machine, so that nested parallelism stays here."""
    with parallel_config(ThreadingBackend(nesting_level=1), n_jobs=None):
        return call(*shared)


def _unpickled(call: bytes, *shared: Any) -> Any:
    from ray import cloudpickle

    result = _on_one_worker(cloudpickle.loads(call), *shared)
    return cloudpickle.dumps(result)  # type: ignore[no-untyped-call]


def _jobs(n_jobs: int | None, room: int) -> int:
    """Return how many calls run at a time in a cluster with so many slots."""
    if n_jobs is None:
        return room
    return min(n_jobs, room) if n_jobs > 0 else max(1, room + 1 + n_jobs)


def _room(resources: Mapping[str, float], options: Mapping[str, Any]) -> int:
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


# By the names of joblib's backends.
CLUSTERS: dict[str, Callable[[Any, int | None], Engine]] = {
    "DaskDistributedBackend": DaskEngine,
    "RayBackend": RayEngine,
}
