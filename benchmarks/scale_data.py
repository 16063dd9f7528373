"""Rows of `scale.py`: what data cost in memory and in time."""

import glob
import os
import statistics
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from joblib.externals.loky import get_reusable_executor
from memory import family
from scale_rows import Figure, row
from scipy.stats import loguniform, uniform
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import RandomizedSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV, TorchClassifier

REPEATS = 5


class Readings(threading.Thread):
    """Reads the memory of this process and its workers: their own, and files in shared memory."""

    def __init__(self):
        super().__init__(daemon=True)
        self.own, self.shared = [], []
        self._stopped = threading.Event()

    def run(self):
        while not self._stopped.wait(0.02):
            self.own.append(sum(map(own_bytes, family(os.getpid()))))
            self.shared.append(shared_bytes())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self.join()

    def peaks(self):
        """Return the largest sum, and the largest of either."""
        own, shared = np.array(self.own), np.array(self.shared)
        return np.array([(own + shared).max(), own.max(), shared.max()])


def own_bytes(pid):
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss_Anon:"))


def shared_bytes():
    files = glob.glob(f"/dev/shm/*[_-]{os.getpid()}[_-]*/**", recursive=True)
    found = 0
    for path in files:
        try:
            found += os.stat(path).st_blocks * 512
        except OSError:  # gone
            continue
    return found


def peaks_of(fit, X, y):
    """Return the peaks of a search beyond those of one over 1,000 rows, in copies of X."""
    found = []
    for n in (1000, len(X)):
        part = X if n == len(X) else X[:n].copy()
        with Readings() as readings:
            fit(part, y[:n])
        found.append(readings.peaks())
        get_reusable_executor().shutdown(wait=True)
    return (found[1] - found[0]) / X.nbytes


def seconds(function, *args):
    """Return the processor time of a call, which other work on the machine hardly changes."""
    start = time.process_time()
    function(*args)
    return time.process_time() - start


def spread(values):
    return statistics.median(values), min(values), max(values)


class Shift(TransformerMixin, BaseEstimator):
    def __init__(self, by=0.0):
        self.by = by

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X + np.float32(self.by)


@row("transformers that differ, 100 candidates", "4 and 4 copies of X")
def differing_transformers():
    X = np.random.default_rng(0).normal(size=(100_000, 50)).astype("float32")
    y = np.arange(len(X)) % 2
    pipeline = Pipeline([("shift", Shift()), ("dummy", DummyClassifier())])
    space, same = {"shift__by": uniform(0, 1)}, {"cv": 2, "n_jobs": 2, "refit": False}
    ours = BayesSearchCV(pipeline, space, n_iter=100, n_initial_points=100, n_points=4, **same)
    total, own, shared = peaks_of(ours.fit, X, y)
    peer = RandomizedSearchCV(pipeline, space, n_iter=100, **same)
    of_peer = peaks_of(peer.fit, X, y)
    text = (
        f"{shared:.1f} copies of X in shared memory, {own:.1f} in that of processes; "
        f"`RandomizedSearchCV` {of_peer[2]:.1f} and {of_peer[1]:.1f}"
    )
    return Figure(text, total / of_peer[0])


@row("StandardScaler in Hyperband, X of 191 MB", "4.5 copies of X")
def scaled_hyperband():
    X = np.random.default_rng(0).normal(size=(500_000, 100)).astype("float32")
    y = (X[:, 0] > 0).astype(int)
    found = []
    for prefix in ("", "net__"):
        estimator = TorchClassifier(module__n_units=8, batch_size=4096)
        if prefix:
            estimator = Pipeline([("scale", StandardScaler()), ("net", estimator)])
        search = HalvingHyperbandSearchCV(
            estimator,
            {f"{prefix}lr": loguniform(1e-3, 1e-1)},
            resource=f"{prefix}max_epochs",
            max_resources=3,
            cv=2,
            n_jobs=2,
            refit=False,
            random_state=0,
        )
        found.append(1 + peaks_of(search.fit, X, y)[0])
    return Figure(f"{found[1]:.1f} copies of X, that of the user included; without {found[0]:.1f}")


@row("a frame of three types", "1.1 times the frame beside it")
def mixed_frame():
    rng = np.random.default_rng(0)
    n, k = 500_000, 20
    types = {"float32": k, "int32": k, "float64": k}
    frame = pd.concat(
        [pd.DataFrame(rng.normal(size=(n, k)) * 9).astype(kind).add_prefix(kind) for kind in types],
        axis=1,
    )
    y = (frame["float640"] > 0).astype(int)
    net = TorchClassifier(max_epochs=1, batch_size=4096, module__n_units=8, random_state=0)
    net.fit(frame[:1000].copy(), y[:1000])
    before = own_bytes(os.getpid())
    with Readings() as readings:
        net.fit(frame, y)
    size = int(frame.memory_usage(index=False).sum())
    return Figure(
        f"{(readings.peaks()[1] - before) / size:.2f} times a frame of {size / 1e6:.0f} MB"
    )


@row("validation_fraction=0.1: a rung of one epoch, 100,000 rows", "1.15 times as much")
def held_out():
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100_000, 20)).astype("float32")
    y = (X[:, 0] + X[:, 1] ** 2 > 1).astype(int)
    nets = [
        TorchClassifier(max_epochs=1, random_state=0, validation_fraction=fraction).fit(X, y)
        for fraction in (None, 0.1)
    ]
    times = np.array([[seconds(net.partial_fit, X, y) for net in nets] for _ in range(9)])
    text = "{:.2f} s of processor time; with it {:.2f} s".format(*np.median(times, 0))
    return Figure(text, spread((times[:, 1] / times[:, 0]).tolist()))


def sparse_data():
    n, width, per_row = 20_000, 100_000, 50
    rng = np.random.default_rng(0)
    values, columns = rng.random(n * per_row, np.float32), rng.integers(0, width, n * per_row)
    starts = np.arange(0, n * per_row + 1, per_row)
    X = scipy.sparse.csr_matrix((values, columns, starts), (n, width))
    X.sum_duplicates()
    return X, rng.integers(0, 2, n)


def sparse_nets(X, y):
    ours = TorchClassifier(module__n_units=100, batch_size=200, max_epochs=1, random_state=0)
    peer = MLPClassifier((100,), batch_size=200, max_iter=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ours.fit(X[:600], y[:600]), peer.fit(X[:600], y[:600])


@row("CSR of 20,000 x 100,000, 50 values a row: an epoch", "5.0 s where MLPClassifier takes 5.0")
def sparse_epoch():
    torch.set_num_threads(1)
    X, y = sparse_data()
    nets = sparse_nets(X, y)
    times = np.array([[seconds(net.partial_fit, X, y) for net in nets] for _ in range(3)])
    text = "{:.2f} s; `MLPClassifier` {:.2f} s".format(*np.median(times, 0))
    return Figure(text, spread((times[:, 0] / times[:, 1]).tolist()))


@row("the same matrix: predict_proba", "0.1 s where MLPClassifier takes 0.08")
def sparse_predictions():
    torch.set_num_threads(1)
    X, y = sparse_data()
    nets = sparse_nets(X, y)
    times = np.array([[seconds(net.predict_proba, X) for net in nets] for _ in range(REPEATS)])
    text = "{:.3f} s; `MLPClassifier` {:.3f} s".format(*np.median(times, 0))
    return Figure(text, spread((times[:, 0] / times[:, 1]).tolist()))
