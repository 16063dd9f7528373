"""Faults of processes, as parts of ``faults.py``: kills, Ctrl-C, refused writes, what hangs."""

import errno
import os
import random
import signal
import tempfile
import time
import warnings
from functools import cache, partial
from pathlib import Path

import numpy as np
from faults_searches import (
    Child,
    X,
    Y,
    as_undisturbed,
    ends_the_same,
    fit,
    fits,
    in_child,
    left_after,
    leftovers,
    n_failed,
    setting_of,
    table,
    undisturbed,
    without_predictions,
    workers_of,
)
from joblib import _memmapping_reducer
from sklearn.base import BaseEstimator, ClassifierMixin

from skhpo import SearchCV
from skhpo.exceptions import StorageError
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler


def kill(number, folder, *, keeps=False):
    """SIGKILL to the driver or a worker at a random moment."""
    setting = setting_of(number, keeps)
    journal, left, right = folder / "run", 0, True
    with Child(partial(fit, journal, setting), new_workers=setting.new_workers) as child:
        hit = child.run(setting.moment())
        if hit:
            workers = workers_of(child.pid)
            of_worker = bool(workers) and random.random() < 0.5
            os.kill(random.choice(workers) if of_worker else child.pid, signal.SIGKILL)
            child.run()
            left = left_after(workers, 10)
            # A search goes on without a worker that is gone.
            right = not of_worker or as_undisturbed(child.value, setting)
    before, unpredicted = fits(journal), keeps and without_predictions(journal, setting)
    right = ends_the_same(journal, setting) and right
    after = fits(journal)
    return {
        "hit": hit,
        "mode": setting.mode,
        "new workers": setting.new_workers and setting.has_workers,
        **({"unpredicted": unpredicted + without_predictions(journal, setting)} if keeps else {}),
        "lost": len(set(before) - set(after)),
        "twice": len(after) - len(set(after)),
        "different": not right,
        "left": left,
        **({"error": child.error} if child.error else {}),
    }


def interrupt(number, folder):
    """Ctrl-C, once or twice, at a random moment.

    A terminal sends it to workers, too; others send it to the driver alone.
    """
    setting = setting_of(number)
    journal = folder / "run"
    call = partial(fit, journal, setting)
    with Child(call, expected=(KeyboardInterrupt,), new_workers=setting.new_workers) as child:
        hit = child.run(setting.moment())
        send = random.choice([os.kill, os.killpg])
        for _ in range(random.choice([1, 2])):
            if child.runs:
                send(child.pid, signal.SIGINT)
                child.run(child.seconds + random.uniform(0, 0.05))
        child.run()
    failed = n_failed(journal)
    # A search that is interrupted before a first trial is done has nothing to return.
    cut = child.raised or (child.value and len(child.value["rank_test_score"]) < n_trials(setting))
    different = not ends_the_same(journal, setting)
    return {
        "hit": hit,
        "cut": bool(cut),
        "mode": setting.mode,
        "new workers": setting.new_workers and setting.has_workers,
        "failed": failed,
        "different": different,
        "rest": len(leftovers(journal)),
        **raw(child),
    }


def n_trials(setting):
    """Return how many trials a search has that nothing disturbs."""
    return len(undisturbed(setting)[0]["rank_test_score"])


def raw(child):
    """Count what a child raised that it should not."""
    return {"raw": child.error is not None, **({"error": child.error} if child.error else {})}


class Refusing:
    """Refuses writes of a process to files of a search, from the n-th on, or cuts them.

    The arrays that joblib writes for workers are refused, too.

    Parameters
    ----------
    folder : Path
    nth : int
    error : int or None
        Number of the error; None cuts what is written.
    times : float
        How often it refuses before all is well again.
    """

    def __init__(self, folder, nth, error, times=1):
        self.folder, self.nth, self.error, self.times = str(folder), nth, error, times

    def install(self):
        self.pid = os.getpid()  # workers that are forked from it are to write
        self.write, os.write = os.write, self
        self.dump, _memmapping_reducer.dump = _memmapping_reducer.dump, self.dump_array

    def dump_array(self, array, filename):
        if self.is_due() and self.error is not None:
            raise OSError(self.error, os.strerror(self.error), filename)
        return self.dump(array, filename)

    def __call__(self, descriptor, content):
        ours = os.readlink(f"/proc/self/fd/{descriptor}").startswith(self.folder)
        if ours and os.getpid() == self.pid and self.is_due():
            if self.error is not None:
                raise OSError(self.error, os.strerror(self.error))
            content = content[: len(content) // 2 or 1]
        return self.write(descriptor, content)

    def is_due(self):
        self.nth -= 1
        return -self.times < self.nth <= 0


def starved(journal, setting, refusing, *, here):
    """Fit a search whose writes are refused here or in workers; return also what is left of n."""
    if here:
        refusing.install()
    settings = {} if here else {"initializer": refusing.install}
    return fit(journal, setting, max_nbytes=100, **settings), refusing.nth


@cache
def n_writes(setting):
    """Return how often a search writes that nothing refuses."""
    with tempfile.TemporaryDirectory() as folder:
        refusing = Refusing(folder, 0, None, times=0)
        call = partial(starved, Path(folder) / "run", setting, refusing, here=True)
        return -in_child(call, new_workers=False).value[1]


def refuse(number, folder):
    """Writes are refused, or short: to the journal, the splits, a checkpoint, or shared memory.

    One, or all from one on; in the process that searches, or in its workers, if any.
    """
    setting = setting_of(number)
    journal = folder / "run"
    error = random.choice([errno.ENOSPC, errno.EIO, errno.EROFS, None])
    here = random.random() < 0.5 or not setting.has_workers
    nth = random.randint(1, n_writes(setting) if here else 20)
    refusing = Refusing(folder, nth, error, random.choice([1, 1, np.inf]))
    call = partial(starved, journal, setting, refusing, here=here)
    with Child(call, expected=(StorageError,), new_workers=setting.new_workers) as child:
        child.run()
    right = child.value is None or as_undisturbed(child.value[0], setting)
    failed = n_failed(journal)
    return {
        "hit": child.raised or error is None or bool(here and child.value and child.value[1] <= 0),
        "mode": setting.mode,
        "new workers": setting.new_workers and setting.has_workers,
        "in workers": not here,
        "failed": failed,
        "different": not (ends_the_same(journal, setting) and right),
        **raw(child),
    }


class Hanging(ClassifierMixin, BaseEstimator):
    """Hangs in a way of its own, and notes since when; other ones are fitted at once."""

    def __init__(self, how="not", log=None):
        self.how = how
        self.log = log

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        if len(self.how) > 1:
            with open(self.log, "a") as file:
                file.write(f"{time.monotonic()}\n")
        if self.how == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        while self.how in ("sleep", "loop", "swallow"):
            try:
                time.sleep(1000 if self.how == "sleep" else 0)
            except BaseException:
                if self.how != "swallow":
                    raise
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


def in_order(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


# The number of jobs, and how a candidate hangs.
WAYS = [(None, "sleep"), (None, "loop"), (2, "sleep"), (2, "loop"), (2, "swallow"), (2, "stop")]


def hang(number, folder):
    """A candidate that hangs, between others that do not, under ``fit_timeout=1``.

    From its limit on until the search has its answer and has fitted what comes after it.
    """
    n_jobs, how = WAYS[number % len(WAYS)]
    log = folder / "log"

    def search():
        search = SearchCV(
            Hanging(log=str(log)),
            {"how": ["a", how, "b"]},
            scheduler=in_order,
            cv=2,
            n_jobs=n_jobs,
            refit=False,
            fit_timeout=1,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores = table(search.fit(X, Y))["mean_test_score"]
        return list(np.isnan(scores)), time.monotonic()

    failed, end = in_child(search).value or ([], np.inf)
    begin = float(log.read_text().split()[0])
    # Two splits hang: in turn in one process, together in two.
    seconds = (end - begin) / (1 if n_jobs else 2) - 1
    return {"hit": True, "seconds": seconds, "wrong": failed != [False, True, False]}
