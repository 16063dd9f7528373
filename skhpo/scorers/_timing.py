"""How long a call takes by itself, on a machine that does other work, too."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from statistics import median

import numpy as np

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]

__all__ = ["seconds_alone"]

# A call is repeated until the repeats had the processor for so many seconds, or lasted so many.
_SECONDS, _MOST_SECONDS = 0.1, 1.0
_LEAST, _MOST = 5, 200

# Like a prediction of a small network: a third of it is arithmetic, the rest Python. The products
# are too small for more than one thread.
_N_PRODUCTS, _SIZE, _N_STEPS = 8, 64, 1500
_ENOUGH = 100  # of its runs show how fast it is at best


def seconds_alone(call: Callable[[], object]) -> float:
    """Return how many seconds a call would take if the machine did nothing else.

    While a thread waits for a processor that others have, its own processor time stands still. This
    is what counts, unless the thread gives the processor up by itself: a call that waits in every
    repeat, for a device or for threads of its own, counts by its shortest repeat. Where the system
    cannot tell (other than Linux), that counts for all.

    Other work also slows a thread that runs, because processors share caches and memory. So a
    computation that is always the same runs before and after each repeat, and what it takes more
    than at its best in this process, the call takes more, too: medians are compared.

    Parameters
    ----------
    call : callable
        Called at least five times.
    """
    elapsed: list[float] = []
    used: list[float] = []  # of repeats without waiting
    references = [_reference()]
    while len(elapsed) < _LEAST or (
        sum(used) < _SECONDS and sum(elapsed) < _MOST_SECONDS and len(elapsed) < _MOST
    ):
        n_waits, start_used, start = _n_waits(), time.thread_time(), time.perf_counter()
        call()
        elapsed.append(time.perf_counter() - start)
        spent = time.thread_time() - start_used
        if n_waits is not None and n_waits == _n_waits():
            used.append(spent)
        references.append(_reference())
    if not used:
        return min(elapsed)
    best = _best_reference()
    best[0] = min(best[0], *references)
    return median(used) * best[0] / median(references)


def _n_waits() -> int | None:
    """Return how often this thread gave its processor up by itself; None if that is not known."""
    if hasattr(resource, "RUSAGE_THREAD"):
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    return None


def _reference() -> float:
    """Return the processor time of a computation that is always the same."""
    one, other = _matrices()
    start = time.thread_time()
    for _ in range(_N_PRODUCTS):
        one @ other
    for _ in range(_N_STEPS):
        pass
    return time.thread_time() - start


@cache
def _matrices() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    one, other = rng.random((2, _SIZE, _SIZE), dtype=np.float32)
    return one, other


@cache
def _best_reference() -> list[float]:
    """Return the least processor time of the reference in this process, in a list."""
    return [min(_reference() for _ in range(_ENOUGH))]
