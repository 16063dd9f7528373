"""What the search itself costs, beside the fits: against RandomizedSearchCV, and as it grows.

* 2,000 fits (400 candidates, 5 folds) of an estimator that does nothing, two worker processes:
  ``RandomizedSearchCV`` and ``SearchCV`` with the same number of random candidates, in turn.
* Searches of 1,000, 5,000 and 20,000 trials on one split, each in a process of its own: seconds,
  CPU time of the driving process, and the most memory that the search held in it at a time
  (`tracemalloc`, in a run of its own).

Run it with ``python benchmarks/engine_overhead.py``.
"""

import argparse
import statistics
import subprocess
import sys
import time
import tracemalloc
from functools import partial

import numpy as np
from scipy.stats import uniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import RandomizedSearchCV

from skhpo import SearchCV
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler

SPACE = {"a": uniform(0, 1), "b": ["x", "y", "z"]}


class DoNothing(ClassifierMixin, BaseEstimator):
    def __init__(self, a=0.0, b="x"):
        self.a = a
        self.b = b

    def fit(self, X, y):
        self.classes_ = np.array([0, 1])
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)

    def score(self, X, y):
        return self.a


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(100, 5)), np.tile([0, 1], 50)


def at_random(n_candidates, space, random_state):
    return FullScheduler(RandomSampler(space, random_state), n_candidates)


def own_search(n_candidates, **kwargs):
    scheduler = partial(at_random, n_candidates)
    return SearchCV(DoNothing(), SPACE, scheduler=scheduler, refit=False, random_state=0, **kwargs)


def peer_search(n_candidates, **kwargs):
    return RandomizedSearchCV(
        DoNothing(), SPACE, n_iter=n_candidates, refit=False, random_state=0, **kwargs
    )


def seconds(search):
    start = time.perf_counter()
    search.fit(*data())
    return time.perf_counter() - start


def against_the_peer(n_candidates, n_jobs, repeats):
    for make in (peer_search, own_search):  # the workers start, and import what they need
        make(20, cv=5, n_jobs=n_jobs).fit(*data())
    times = {"RandomizedSearchCV": [], "SearchCV": []}
    for _ in range(repeats):
        times["RandomizedSearchCV"].append(seconds(peer_search(n_candidates, cv=5, n_jobs=n_jobs)))
        times["SearchCV"].append(seconds(own_search(n_candidates, cv=5, n_jobs=n_jobs)))
    print(f"{5 * n_candidates} fits that do nothing, n_jobs={n_jobs}, {repeats} repeats\n")
    print("| search | seconds (median) | ratio (median, min to max) |")
    print("| --- | ---: | ---: |")
    for name, own in times.items():
        ratios = [a / b for a, b in zip(own, times["RandomizedSearchCV"], strict=True)]
        print(
            f"| {name} | {statistics.median(own):.2f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) |",
            flush=True,
        )


def one_size(n_trials, n_jobs, trace):
    """Print what a search costs, after a small one that imports everything.

    Seconds, seconds of this process's own work, and mebibytes at the peak.
    """
    split = [(np.arange(50), np.arange(50, 100))]
    own_search(20, cv=split, n_jobs=n_jobs).fit(*data())
    if trace:
        tracemalloc.start()
    worked = time.process_time()
    spent = seconds(own_search(n_trials, cv=split, n_jobs=n_jobs))
    print(spent, time.process_time() - worked, tracemalloc.get_traced_memory()[1] / 2**20)


def in_a_process(n_trials, n_jobs, trace=False):
    command = [sys.executable, __file__, "--n-jobs", str(n_jobs), "--one-size", str(n_trials)]
    command += ["--trace"] if trace else []
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return tuple(map(float, out.split()))


def as_it_grows(sizes, n_jobs, repeats):
    print(f"\nTrials on one split, n_jobs={n_jobs}, median of {repeats} repeats\n")
    print("| trials | seconds | ms per trial | CPU ms per trial | MiB | KiB per trial |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    times = {size: [] for size in sizes}
    for _ in range(repeats):
        for size in sizes:
            times[size].append(in_a_process(size, n_jobs)[:2])
    for size, spent in times.items():
        wall, worked = map(statistics.median, zip(*spent, strict=True))
        mebibytes = in_a_process(size, n_jobs, trace=True)[2]
        print(
            f"| {size} | {wall:.2f} | {1e3 * wall / size:.2f} | {1e3 * worked / size:.2f} "
            f"| {mebibytes:.1f} | {1024 * mebibytes / size:.2f} |",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=400)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 5000, 20_000])
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--one-size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--trace", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one_size is not None:
        one_size(args.one_size, args.n_jobs, args.trace)
        return
    against_the_peer(args.candidates, args.n_jobs, args.repeats)
    if args.sizes:
        as_it_grows(args.sizes, args.n_jobs, max(1, args.repeats // 3))


if __name__ == "__main__":
    main()
