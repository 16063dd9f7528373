"""What it costs to keep predictions: time and bytes of a search with them, over one without.

* ``time``: pairs of searches that differ in ``return_predictions`` alone take turns. The figure is
  the ratio of their processor times within a turn, so that a busy machine disturbs both alike.
* ``bytes``: what lies in files and in memory, over what the documentation states, and what the
  memory of the process has at its peak beyond that of a search without.
* ``fits``: the same for fits that take a given time of the processor, from 2 to 40 ms.

Run it with ``python benchmarks/predictions_overhead.py``, or some parts of it: ``--parts time``.
``--repeats 15`` says how often; with ``--write`` the rows of a file are
replaced: docs/benchmarks/predictions_overhead.md.
"""

import argparse
import gc
import multiprocessing
import os
import tempfile
import time
import warnings
from pathlib import Path

import faults
import numpy as np
import torch
from joblib import parallel_config
from scale_rows import peak_bytes
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_diabetes, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV, SearchCV, TorchClassifier
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
NET = make_pipeline(StandardScaler(), TorchClassifier(optimizer="adam"))
FORK = multiprocessing.get_context("fork")
TIMES = 10  # that the rows are repeated where bytes are counted
N_FITS = 90  # of the search whose bytes are counted
HEAD = ["| what | tried | found | to reach |", "| --- | --- | --- | --- |"]


def thirty_at_random(space, random_state):
    return FullScheduler(RandomSampler(space, random_state), n_candidates=30)


def networks(**kwargs):
    """Return a function that fits a Hyperband search of networks."""

    def fit(**more):
        return HalvingHyperbandSearchCV(
            NET,
            {"torchclassifier__lr": loguniform(1e-4, 1e-1)},
            resource="torchclassifier__max_epochs",
            max_resources=9,
            cv=3,
            random_state=0,
            refit=False,
            **{**kwargs, **more},
        ).fit(X, y)

    return fit


def full_fits(**more):
    return BayesSearchCV(
        NET.set_params(torchclassifier__max_epochs=3),
        {"torchclassifier__lr": loguniform(1e-4, 1e-1)},
        n_iter=12,
        cv=3,
        random_state=0,
        refit=False,
        **more,
    ).fit(X, y)


def forests(**more):
    return SearchCV(
        RandomForestClassifier(20),
        {"max_features": [0.05, 0.1], "min_samples_leaf": [1, 2, 4]},
        scheduler=thirty_at_random,
        cv=3,
        random_state=0,
        refit=False,
        **more,
    ).fit(X, y)


def ridges(**more):
    return SearchCV(
        Ridge(),
        {"alpha": loguniform(1e-3, 1e3)},
        scheduler=thirty_at_random,
        cv=5,
        random_state=0,
        refit=False,
        **more,
    ).fit(*load_diabetes(return_X_y=True))


SEARCHES = {
    "networks, Hyperband": networks(),
    "networks, Hyperband, one by one": networks(lockstep=False),
    "networks, Hyperband, log loss": networks(scoring="neg_log_loss"),
    "networks, Bayes": full_fits,
    "forests, random": forests,
    "forests, random, log loss": lambda **more: forests(scoring="neg_log_loss", **more),
    "ridge regressions (2 ms a fit), random": ridges,
}


def time_of(fit, **arguments):
    gc.collect()
    start = time.process_time()
    fit(**arguments)
    return time.process_time() - start


class Busy(ClassifierMixin, BaseEstimator):
    """Keeps the processor busy for some milliseconds, and predicts frequencies of classes."""

    def __init__(self, milliseconds=1, i=0):
        self.milliseconds = milliseconds
        self.i = i

    def fit(self, X, y):
        end = time.process_time() + self.milliseconds / 1000
        self.classes_, counts = np.unique(y, return_counts=True)
        self.shares_ = counts / counts.sum()
        while time.process_time() < end:
            pass
        return self

    def predict_proba(self, X):
        return np.tile(self.shares_, (len(X), 1))

    def predict(self, X):
        return np.full(len(X), self.classes_[self.shares_.argmax()])


def busy(milliseconds):
    """Return a function that fits a search whose fits take so long."""

    def fit(**more):
        return SearchCV(
            Busy(milliseconds),
            {"i": list(range(1000))},
            scheduler=thirty_at_random,
            cv=3,
            random_state=0,
            refit=False,
            **more,
        ).fit(X, y)

    return fit


def times(args):
    """Yield a row for each search, with and without a journal."""
    for name, fit in SEARCHES.items():
        for beside in (False, True):
            yield compared(name, fit, beside, args.repeats)


def fits(args):
    """Yield a row for fits of each length, beside a journal."""
    for milliseconds in (2, 5, 10, 20, 40):
        yield compared(f"fits of {milliseconds} ms", busy(milliseconds), True, args.repeats)


def compared(name, fit, beside, repeats):
    """Return a row that compares a search with predictions and one without."""
    ratios = []
    for turn in range(repeats + 1):
        seconds = {}
        for kept in (False, True) if turn % 2 else (True, False):
            with tempfile.TemporaryDirectory() as folder:
                journal = Path(folder) / "run.jsonl" if beside else None
                seconds[kept] = time_of(fit, journal=journal, return_predictions=kept)
        if turn:  # the first one warms up
            ratios.append(seconds[True] / seconds[False])
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    where = "beside a journal" if beside else "in memory"
    return (
        f"time of a search with predictions {where} over one without: {name}",
        f"{repeats} pairs of {seconds[False]:.1f} s",
        f"{middle:.3f} ({low:.3f} to {high:.3f})",
        "1.03",
    )


def peak_of(kept):
    """Return how much a search of a process of its own adds to its memory, in bytes."""
    receive, send = FORK.Pipe(duplex=False)

    def run():
        Path("/proc/self/clear_refs").write_text("5")  # a forked process has the peak of its parent
        before = peak_bytes()
        search = many_rows(kept)
        after = peak_bytes()
        found = search.predictions_ if kept else None
        n_bytes = 0
        if found:
            splits = range(len(found.test_rows))
            n_bytes = sum(found.of_fit(row, i).nbytes for row in found.rows for i in splits)
        send.send((after - before, n_bytes))
        os._exit(0)

    process = FORK.Process(target=run)
    process.start()
    found = receive.recv()
    process.join()
    return found


def many_rows(kept, journal=None):
    """Fit a search whose predictions are large beside all else of it: 22 MB."""
    repeated = np.repeat(X, TIMES, axis=0), np.repeat(y, TIMES)
    return SearchCV(
        TorchClassifier(max_epochs=1, batch_size=4096),
        {"lr": loguniform(1e-4, 1e-1)},
        scheduler=thirty_at_random,
        cv=3,
        random_state=0,
        refit=False,
        return_predictions=kept,
        journal=journal,
    ).fit(*repeated)


def sizes(args):
    """Yield rows of what is kept in memory and in files, and of the peak of a process."""
    stated = 4 * 10 * TIMES * len(X) * 30
    peaks = {kept: [peak_of(kept) for _ in range(3)] for kept in (False, True)}
    without = np.median([peak for peak, _ in peaks[False]])
    more = np.array([peak for peak, _ in peaks[True]]) - without
    yield (
        "bytes in memory over those stated (4 x rows x outputs)",
        f"30 candidates, {TIMES * len(X):,} rows, 10 classes",
        f"{peaks[True][0][1] / stated:.4f}",
        "1",
    )
    yield (
        "memory of the process at its peak beyond that of a search without, over those bytes",
        f"3 processes each, which have {without / 1e6:.0f} MB without",
        f"{np.median(more) / stated:.2f} ({more.min() / stated:.2f} to {more.max() / stated:.2f})",
        "as stated",
    )
    with tempfile.TemporaryDirectory() as folder:
        many_rows(True, Path(folder) / "run.jsonl")
        files = list(Path(folder).rglob("predictions-*"))
        n_bytes = sum(file.stat().st_size for file in files)
    yield (
        "bytes beside a journal over those stated (and 100 a fit)",
        f"{N_FITS} fits, {len(files)} file",
        f"{n_bytes / (stated + 100 * N_FITS):.4f}",
        "at most 1",
    )


PARTS = {"time": times, "bytes": sizes, "fits": fits}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--searches", nargs="+", default=None, help="parts of names, for time")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--write", type=Path, help="file whose table gets the rows")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.searches:
        for name in [name for name in SEARCHES if not any(p in name for p in args.searches)]:
            del SEARCHES[name]
    print("\n".join(HEAD))
    with warnings.catch_warnings(), parallel_config("loky"):
        warnings.simplefilter("ignore")
        for part in args.parts:
            for row in PARTS[part](args):
                line = "| " + " | ".join(map(str, row)) + " |"
                print(line, flush=True)
                if args.write:
                    faults.put(args.write, line)


if __name__ == "__main__":
    main()
