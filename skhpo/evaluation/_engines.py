"""Where calls run: what a pool needs of a joblib backend, for each kind of backend.

``joblib.Parallel`` pulls its tasks ahead and returns at a barrier. A search needs neither: it
hands over what can start now and wants each result as soon as it is there. The backend objects of
joblib can do that on one machine. On Dask and Ray they cannot quite: joblib's Dask backend never
reports a task whose worker died, and Ray's assigns tasks to workers in turn, busy or not, and does
not replace those that died. So with these two the backend says which cluster is meant, and the
cluster itself is asked to do the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from joblib import Parallel
from joblib.parallel import (
    FallbackToBackend,
    SequentialBackend,
    ThreadingBackend,
    get_active_backend,
)

from .._joblib import backend_arguments
from ._clusters import CLUSTERS
from ._engine import PlainEngine, ThreadEngine
from ._processes import JoblibEngine

if TYPE_CHECKING:
    from ._engine import Engine

__all__ = ["active_engine"]

# More than any cluster has slots for a search; workers start one by one, and each needs memory.
_MOST_JOBS = 10_000


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
    engine = CLUSTERS.get(type(backend).__name__)
    if engine is not None:
        return engine(backend, n_jobs)
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
