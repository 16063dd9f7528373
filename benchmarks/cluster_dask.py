"""A Dask cluster of processes on this machine: short fits, and workers that are killed one by one.

* *throughput*: fits per second of a random search, over those of ``RandomizedSearchCV`` on joblib's
  own Dask backend, in turn.
* *killed*: a search while a worker is killed every second that all are there. Each fit must have
  its own score, and none may be done again whose result had come back: so many fits at most are
  done twice as the killed workers had in their tasks.
* *bytes*: of tasks of one fit, on their way to a worker.

Run it with ``python benchmarks/cluster_dask.py``.
"""

import argparse
import os
import signal
import statistics
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import cloudpickle
import dask
import joblib
import numpy as np
from distributed import Client, LocalCluster
from scipy.stats import uniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import RandomizedSearchCV

from skhpo import SearchCV
from skhpo.evaluation import _clusters
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler

X, y = np.zeros((20, 1)), np.tile([0, 1], 10)
SPLIT = [(np.arange(10), np.arange(10, 20))]
SPACE = {"quality": uniform()}
SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,  # else Dask itself tries a killed task again
    "distributed.worker.profile.enabled": False,
    "distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": "1"},
}


class Nap(ClassifierMixin, BaseEstimator):
    """Sleeps, and notes in a file of its process that it has done so."""

    def __init__(self, quality=0.0, seconds=0.01, folder=None):
        self.quality = quality
        self.seconds = seconds
        self.folder = folder

    def fit(self, X, y):
        self.classes_ = np.array([0, 1])
        time.sleep(self.seconds)
        if self.folder is not None:
            with open(os.path.join(self.folder, str(os.getpid())), "a") as file:
                file.write(f"{self.quality!r}\n")
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)

    def score(self, X, y):
        return self.quality


def ours(n, seed, folder=None):
    def at_random(space, random_state):
        return FullScheduler(RandomSampler(space, random_state), n)

    return SearchCV(
        Nap(folder=folder), SPACE, scheduler=at_random, cv=SPLIT, refit=False, random_state=seed
    )


def theirs(n, seed):
    return RandomizedSearchCV(Nap(), SPACE, n_iter=n, cv=SPLIT, refit=False, random_state=seed)


def fits_per_second(search, n, backend="dask"):
    start = time.perf_counter()
    with joblib.parallel_config(backend):
        search.fit(X, y)
    return n / (time.perf_counter() - start)


@contextmanager
def killing(workers, every, n_workers):
    """Kill one of ``workers()``, which are pids, now and then, when all are there; yields those."""
    stop, killed = threading.Event(), []

    def kill():
        while not stop.wait(every):
            pids = workers()
            if len(pids) >= n_workers:
                killed.append(pids[len(killed) % len(pids)])
                os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


@contextmanager
def sizes_of_tasks():
    """Yield the fits and the bytes of each task, as they are submitted."""
    sizes, submit = [], _clusters.DaskEngine.submit

    def measured(engine, call, shared, done):
        sizes.append((len(call.args[0].items), len(cloudpickle.dumps(call))))
        submit(engine, call, shared, done)

    _clusters.DaskEngine.submit = measured
    try:
        yield sizes
    finally:
        _clusters.DaskEngine.submit = submit


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--fits", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--killed-fits", type=int, default=10_000, help="while workers are killed")
    args = parser.parse_args()
    n = args.fits
    cluster = {
        "n_workers": args.workers,
        "threads_per_worker": 1,
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
        "worker_dashboard_address": "127.0.0.1:0",
        "silence_logs": "CRITICAL",
    }
    with dask.config.set(SETTINGS), LocalCluster(**cluster) as there, Client(there) as client:
        client.wait_for_workers(args.workers)
        fits_per_second(ours(200, 0), 200)
        fits_per_second(theirs(200, 0), 200)
        rates = {"skhpo": [], "joblib": []}
        for seed in range(args.repeats):
            rates["skhpo"].append(fits_per_second(ours(n, seed), n))
            rates["joblib"].append(fits_per_second(theirs(n, seed), n))
        ratios = [own / peer for own, peer in zip(*rates.values(), strict=True)]
        found = " and ".join(f"{statistics.median(rate):.0f}" for rate in rates.values())
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{args.workers} workers, fits of 10 ms\n\n| what | |\n| --- | ---: |")
        print(f"| fits per second of {n:,}, skhpo and joblib | {found} |")
        print(f"| ratio, {args.repeats} in turn | {ratio} |", flush=True)
        with tempfile.TemporaryDirectory() as folder, sizes_of_tasks() as sizes:
            search = ours(args.killed_fits, 7, folder)

            def workers():
                return [pid for pid in client.run(os.getpid, on_error="ignore").values() if pid]

            with killing(workers, 1.0, args.workers) as killed:
                rate = fits_per_second(search, args.killed_fits)
            notes = Counter(q for file in Path(folder).iterdir() for q in file.read_text().split())
    print(f"| fits per second of {args.killed_fits:,} while workers are killed | {rate:.0f} |")
    print(f"| workers killed, most fits of a task | {len(killed)}, {max(sizes)[0]} |")
    scores = search.cv_results_["mean_test_score"]
    own = np.array([params["quality"] for params in search.cv_results_["params"]])
    wrong = np.count_nonzero(scores != own)  # also of those without a score
    print(f"| rows, fits without their own score | {len(scores):,}, {wrong} |")
    again = sum(notes.values()) - len(notes)
    print(f"| fits never done, done again | {args.killed_fits - len(notes)}, {again} |")
    ones = [n_bytes for n_fits, n_bytes in sizes if n_fits == 1]
    print(f"| bytes of the first and of the last task of one fit | {ones[0]:,}, {ones[-1]:,} |")


if __name__ == "__main__":
    main()
