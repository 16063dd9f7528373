"""How busy a search keeps its workers when fits take very different times.

Fits sleep for lognormal times (sigma 1.5) in eight threads. The lower bound of a search's time is
``max(total / 8, longest)``, over the seconds slept: for Hyperband `longest` is the candidate with
the longest chain of fits, since each of them continues the one before.

* 400 candidates at full resource, on one split: asynchronously, synchronously, and
  ``RandomizedSearchCV``. Beside them *in order*: the same sleeps in the same order, each started
  at the very moment that a worker is free. Nobody who does not know the times beforehand can count
  on less.
* Hyperband up to 27 epochs, asynchronously and synchronously.

Run it with ``python benchmarks/utilisation.py``.
"""

import argparse
import heapq
import statistics
import time
from functools import partial

import joblib
import numpy as np
from scipy.stats import lognorm, uniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import RandomizedSearchCV

from skhpo import HalvingHyperbandSearchCV, SearchCV
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler, hyperband_plan
from skhpo.space import SearchSpace

SIGMA = 1.5
WORKERS = 8
CANDIDATES = 400
MAX_EPOCHS = 27
SPACE = {"seconds": lognorm(SIGMA), "quality": uniform(0, 1)}
X, y = np.zeros((20, 1)), np.tile([0, 1], 10)
SPLIT = [(np.arange(10), np.arange(10, 20))]


class Sleeper(ClassifierMixin, BaseEstimator):
    """Sleeps ``seconds * scale`` per epoch."""

    def __init__(self, seconds=0.0, quality=0.0, scale=1.0, max_epochs=1):
        self.seconds = seconds
        self.quality = quality
        self.scale = scale
        self.max_epochs = max_epochs

    def fit(self, X, y):
        return self.partial_fit(X, y)

    def partial_fit(self, X, y):
        self.classes_ = np.array([0, 1])
        time.sleep(self.seconds * self.scale * self.max_epochs)
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)

    def score(self, X, y):
        return self.quality


def at_random(space, random_state):
    return FullScheduler(RandomSampler(space, random_state), CANDIDATES)


def full_searches(scale, seed):
    common = {"cv": SPLIT, "n_jobs": WORKERS, "refit": False, "random_state": seed}
    own = partial(SearchCV, Sleeper(scale=scale), SPACE, scheduler=at_random, **common)
    return {
        "SearchCV, asynchronous": own(asynchronous=True),
        "SearchCV": own(),
        "RandomizedSearchCV": RandomizedSearchCV(
            Sleeper(scale=scale), SPACE, n_iter=CANDIDATES, **common
        ),
    }


def hyperband_searches(scale, seed):
    own = partial(
        HalvingHyperbandSearchCV,
        Sleeper(scale=scale),
        SPACE,
        max_resources=MAX_EPOCHS,
        cv=SPLIT,
        n_jobs=WORKERS,
        refit=False,
        random_state=seed,
    )
    return {"Hyperband, asynchronous": own(asynchronous=True), "Hyperband": own()}


def fit(search):
    """Return the seconds that a search took, and its table of results."""
    start = time.perf_counter()
    with joblib.parallel_config("threading"):
        search.fit(X, y)
    return time.perf_counter() - start, search.cv_results_


def bound_of(table, scale):
    """Return ``max(total / 8, longest)`` of what a search slept."""
    slept = scale * np.array([params["seconds"] for params in table["params"]])
    if "n_resources" not in table:
        return max(slept.sum() / WORKERS, slept.max())
    chains, total = {}, 0.0
    for candidate, epochs, seconds in zip(
        table["candidate"], table["n_resources"], slept, strict=True
    ):
        total += seconds * epochs - chains.get(candidate, 0.0)
        chains[candidate] = seconds * epochs
    return max(total / WORKERS, max(chains.values()))


def in_order(slept):
    """Return the time of the sleeps, each started as soon as a worker is free."""
    free_at = [0.0] * WORKERS
    for seconds in slept:
        heapq.heapreplace(free_at, free_at[0] + seconds)
    return max(free_at)


def scale_of_full(seed, target):
    """Return the scale at which a search's lower bound is `target` seconds, roughly."""
    slept = [p["seconds"] for p in RandomSampler(SearchSpace(SPACE), seed).sample(CANDIDATES)]
    return target / max(sum(slept) / WORKERS, max(slept))


def scale_of_hyperband(target):
    n_epochs = 0
    for rungs in hyperband_plan(1, MAX_EPOCHS):
        before = 0
        for size, level in rungs:
            n_epochs += size * (level - before)
            before = level
    return target * WORKERS / (n_epochs * SPACE["seconds"].mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10, help="of a search, about")
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    spent, ratios = {}, {}

    def note(name, seconds, bound):
        spent.setdefault(name, []).append(seconds)
        ratios.setdefault(name, []).append(seconds / bound)

    for seed in range(args.seeds):
        scale = scale_of_full(seed, args.seconds)
        for name, search in full_searches(scale, seed).items():
            seconds, table = fit(search)
            bound = bound_of(table, scale)
            note(name, seconds, bound)
            if name == "SearchCV, asynchronous":
                slept = [scale * params["seconds"] for params in table["params"]]
                note("in order", in_order(slept), bound)
        scale = scale_of_hyperband(args.seconds)
        for name, search in hyperband_searches(scale, seed).items():
            seconds, table = fit(search)
            note(name, seconds, bound_of(table, scale))

    print(f"{CANDIDATES} fits, or Hyperband up to {MAX_EPOCHS} epochs, {WORKERS} threads\n")
    seeds = " | ".join(f"seed {seed}" for seed in range(args.seeds))
    print(f"| search | seconds (median) | time / lower bound (median) | {seeds} |")
    print("| --- |" + " ---: |" * (2 + args.seeds))
    for name, own in ratios.items():
        each = " | ".join(f"{ratio:.3f}" for ratio in own)
        median = statistics.median(own)
        print(f"| {name} | {statistics.median(spent[name]):.2f} | {median:.3f} | {each} |")


if __name__ == "__main__":
    main()
