"""A pool of workers on whatever joblib backend is active."""

from __future__ import annotations

import queue
import traceback
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import sklearn
from joblib import cpu_count

from ..interrupts import is_interrupt, noticing
from ..limits import limited
from ..process import TORCH_THREADS, with_filters
from ._blame import FAILURES, Environment
from ._engines import active_engine

__all__ = ["Done", "Pool"]


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
        From the number of jobs, and whether they all run on this machine, to a list of devices,
        one for each call that may run at a time; None in it leaves the choice to the fit.

    Attributes
    ----------
    n_jobs_ : int
        Calls that run at the same time.
    slots_ : tuple
        A device for each of them, or None.
    in_processes_ : bool
        Whether calls leave this process, and so are pickled.
    running : int
        Calls that were submitted and have not come back from `wait`.
    """

    def __init__(self, n_jobs=None, slots=None):
        self.n_jobs = n_jobs
        self.slots = slots

    def __enter__(self):
        self._engine = engine = active_engine(self.n_jobs)
        self.in_processes_ = engine.in_processes
        self._slots = [None] * engine.n_jobs
        if self.slots is not None:
            self._slots = self.slots(engine.n_jobs, engine.local)
        self.slots_ = tuple(self._slots)
        self.n_jobs_ = len(self._slots)
        parallel_here = self.n_jobs_ > 1 and engine.local
        self._threads = max(1, cpu_count() // self.n_jobs_) if parallel_here else None
        self._done = queue.SimpleQueue()
        self._shipped = {}
        self.running = 0
        self._exit = ExitStack()
        if not self.in_processes_:
            self._exit.enter_context(TORCH_THREADS)
        return self

    def __exit__(self, kind, *_):
        with self._exit:
            self._stop(kind)

    def _stop(self, kind):
        if self._engine is None:
            return
        if kind is not None and self.running:  # an error waits for nobody
            self.abort()
            return
        while self.running:
            self._done.get()
            self.running -= 1
        self._engine.stop()

    def abort(self):
        """Stop the workers in the middle of what they do; the pool is of no use afterwards."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.abort()

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
            What many calls share, each the very same object every time: it is shipped to a worker
            once, and kept there until `forget`.
        seconds : float or None, default=None
            Time limit of each item, for those who look at it.
        """
        slot = self._slots.pop()
        limits = {"slot": slot, "seconds": seconds, "threads": self._threads}
        filters = list(warnings.filters) if self.in_processes_ else None
        call = partial(_run, function, items, limits, sklearn.get_config(), filters)
        shared = [self._ship(value) for value in shared]
        self._engine.submit(call, shared, partial(_put, self._done, slot, items))
        self.running += 1

    def wait(self):
        """Return a call that has ended, as soon as there is one; in a plain loop, run it."""
        slot, items, get = self._done.get()
        self.running -= 1
        self._slots.append(slot)
        return self._outcome(items, get)

    def forget(self, value):
        """Note that `value` will not be shared by any further call."""
        self._shipped.pop(id(value), None)

    def restart(self):
        """Replace workers after some died. Calls in flight must have come back before."""
        self._engine.restart()
        self._shipped.clear()

    def _outcome(self, items, get):
        try:
            results = get()
        except Exception as error:
            return Done(items, None, error, isinstance(error, self._engine.lost))
        for result in results:
            if isinstance(result, _Raised):
                raise result.error
        return Done(items, results)

    def _ship(self, value):
        # With the value, because the id of an object that is gone may be given to another.
        if id(value) not in self._shipped:
            self._shipped[id(value)] = value, self._engine.ship(value)
        return self._shipped[id(value)][1]


@dataclass(frozen=True)
class _Raised:
    """An exception of a call, as opposed to one of the machinery around it."""

    error: BaseException


def _put(done, slot, items, get):
    done.put((slot, items, get))


def _run(function, items, limits, config, filters, *shared):
    """Run a call under the driver's configuration of scikit-learn and of warnings."""
    with ExitStack() as stack:
        stack.enter_context(sklearn.config_context(**config))
        if filters is not None:  # threads of the driver have its filters
            stack.enter_context(with_filters(filters))
        stack.enter_context(noticing())
        results = []
        for item in items:
            try:
                with limited(**limits):
                    results.append(function(item, *shared))
            except Environment as carrier:
                return [_Raised(carrier.error)]
            except FAILURES as error:
                if is_interrupt(error):
                    raise KeyboardInterrupt from error
                error.add_note("".join(traceback.format_exception(error)))
                return [_Raised(error)]
        return results
