"""Rows of `scale.py` about the process that runs a search, whoever does the fits."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque

import numpy as np
from scale_rows import Figure, exponent, median_seconds, row
from scipy.stats import loguniform, randint, uniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import ParameterSampler, RandomizedSearchCV
from virtual_cluster import SPLIT, Cluster, Epochs, X, simulated, y

from skhpo import HalvingHyperbandSearchCV, SearchCV, SearchSpace
from skhpo.evaluation._planning import Waiting
from skhpo.evaluation._tasks import FitGroup, FitTask
from skhpo.journal import fit_event, seal
from skhpo.journal._lines import read_lines
from skhpo.results import TrialTable, results_table
from skhpo.samplers import RandomSampler
from skhpo.schedulers import AsynchronousHyperband, FullScheduler
from skhpo.trial import FitResult, Trial

SPACE = {"lr": loguniform(1e-4, 1), "units": randint(8, 512), "quality": uniform()}


class Nothing(ClassifierMixin, BaseEstimator):
    """Is fitted in no time."""

    def __init__(self, lr=0.1, units=16, quality=0.0, max_epochs=1):
        self.lr = lr
        self.units = units
        self.quality = quality
        self.max_epochs = max_epochs

    def fit(self, X, y):
        self.classes_ = np.array([0, 1])
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)

    def score(self, X, y):
        return self.quality


class RandomSearch:
    """So many full fits at random, as a scheduler that can be described in a journal."""

    def __init__(self, n_candidates):
        self.n_candidates = n_candidates

    def __call__(self, space, random_state):
        return FullScheduler(RandomSampler(space, random_state), self.n_candidates)


def hyperband(n_fits, estimator, **params):
    """Return a search of about so many fits, 69 an iteration."""
    return HalvingHyperbandSearchCV(
        estimator,
        SPACE,
        max_resources=27,
        n_iterations=max(1, n_fits // 69),
        cv=SPLIT,
        refit=False,
        random_state=0,
        **params,
    )


def shown(sizes, costs, unit):
    return ", ".join(
        f"{size:,}: {cost:.3g} {unit}" for size, cost in zip(sizes, costs, strict=True)
    )


@row("driver, processor time of a fit, asynchronous, 1,000 workers", "0.25 ms, exponent 1.05")
def asynchronous():
    return own_time(asynchronous=True)


@row("driver, processor time of a fit, synchronous, 1,000 workers", "0.25 ms, exponent 1.05")
def synchronous():
    return own_time(asynchronous=False)


def own_time(asynchronous):
    sizes, spent = (5_000, 50_000), []
    for n_fits in sizes:
        cluster = Cluster(1000, epochs=4.0)
        search = hyperband(n_fits, Epochs(), asynchronous=asynchronous)
        start = time.process_time()
        with simulated(cluster):
            search.fit(X, y)
        spent.append((time.process_time() - start - cluster.own_seconds) / cluster.n_fits)
    each = [1e3 * seconds for seconds in spent]
    return Figure(shown(sizes, each, "ms"), exponent=1 + exponent(sizes, spent))


@row("processor time of a fit in no time, over RandomizedSearchCV's", "1.0")
def in_no_time():
    sizes, spent, peer = (500, 5_000), [], []
    for n in sizes:
        ours = SearchCV(
            Nothing(), SPACE, scheduler=RandomSearch(n), cv=SPLIT, refit=False, random_state=0
        )
        theirs = RandomizedSearchCV(
            Nothing(), SPACE, n_iter=n, cv=SPLIT, refit=False, random_state=0
        )
        for search, into in ((ours, spent), (theirs, peer)):
            start = time.process_time()
            search.fit(X, y)
            into.append((time.process_time() - start) / n)
    each = [1e3 * seconds for seconds in spent]
    return Figure(shown(sizes, each, "ms"), spent[-1] / peer[-1], 1 + exponent(sizes, spent))


@row("asking, telling and releasing a trial of an asynchronous bracket", "O(log n)")
def asynchronous_bracket():
    levels, sizes, spent = (2_187, 19_683), [], []
    for level in levels:
        scheduler = AsynchronousHyperband(
            RandomSampler(SearchSpace(SPACE), 0), max_resources=level, n_brackets=1
        )
        running = deque()
        start = time.process_time()
        while True:
            while len(running) < 100 and (asked := scheduler.ask()):
                running.extend(asked)
            if not running:
                break
            trial = running.popleft()
            scheduler.tell(trial, trial.params["quality"])
            scheduler.released()
        spent.append((time.process_time() - start) / scheduler.n_trials)
        sizes.append(scheduler.n_trials)
    each = [1e6 * seconds for seconds in spent]
    return Figure(shown(sizes, each, "us"), exponent=1 + exponent(sizes, spent))


@row("submitting where so many fits wait", "flat")
def waiting():
    sizes, spent = (1_000, 10_000, 100_000), []
    for size in sizes:
        queue = Waiting()
        for i in range(size):
            queue.add(FitGroup([FitTask(i, i, 0, 0, {}, (None,))]))

        def take(queue=queue):
            for _ in range(200):
                queue.n_fits  # noqa: B018
                queue.add(queue.take())

        spent.append(median_seconds(take, clock=time.process_time) / 200)
    each = [1e6 * seconds for seconds in spent]
    return Figure(shown(sizes, each, "us"), exponent=exponent(sizes, spent))


def journal_lines(n_fits):
    """Return a journal of fits as bytes."""
    identity = "0123456789abcdef"
    header = {
        "skhpo": 2,
        "journal": identity,
        "search": "HalvingHyperbandSearchCV",
        "seed": 1,
        "resource": "max_epochs",
        "n_repeats": 1,
        "n_splits": 1,
        "return_train_score": False,
        "asynchronous": False,
        "fingerprint": {},
        "splits": "",
    }
    params = RandomSampler(SearchSpace(SPACE), 0).sample(n_fits)
    lines = [seal(header, identity)]
    for i in range(n_fits):
        trial = Trial(i, i, params[i], 1, None, {"bracket": 0, "iter": 0})
        result = FitResult(i, 0, 0, {"score": params[i]["quality"]}, fit_time=0.5, score_time=0.25)
        lines.append(seal({"n": i + 1, **fit_event(trial, result)}, identity))
    return b"".join(lines)


@row("reading a line of a journal, over json.loads of it", "20 us, exponent 1.0")
def reading():
    sizes, spent, ratios = (2_000, 20_000), [], []
    for size in sizes:
        content = journal_lines(size)
        lines = content.splitlines()
        pairs = []
        for _ in range(7):
            start = time.process_time()
            read_lines(content, "it", lambda _: None)
            middle = time.process_time()
            for line in lines:
                json.loads(line)
            pairs.append((middle - start, time.process_time() - middle))
        own, peer = np.array(pairs).T
        spent.append(float(np.median(own)) / size)
        ratios = own / peer
    each = [1e6 * seconds for seconds in spent]
    ratio = float(np.median(ratios)), min(ratios), max(ratios)
    return Figure(shown(sizes, each, "us"), ratio, 1 + exponent(sizes, spent))


@row("replaying a fit of a journal, read and all", "100 us, exponent 1.0")
def replaying():
    sizes, spent = (500, 5_000), []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            search = hyperband(size, Nothing(), journal=os.path.join(folder, "run.jsonl"))
            search.fit(X, y)
            start = time.process_time()
            search.fit(X, y)
            spent.append((time.process_time() - start) / len(search.cv_results_["params"]))
    each = [1e6 * seconds for seconds in spent]
    return Figure(shown(sizes, each, "us"), exponent=1 + exponent(sizes, spent))


@row("what a journal adds to the time of a fit in no time", "grouped fsync")
def syncing():
    n, spent, n_syncs = 1_000, {}, []
    fsync = os.fsync

    def counted(descriptor):
        n_syncs.append(1)
        fsync(descriptor)

    os.fsync = counted
    for journal in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "run.jsonl") if journal else None
            search = hyperband(n, Nothing(), journal=path)
            start = time.perf_counter()
            search.fit(X, y)
            spent[journal] = (time.perf_counter() - start) / len(search.cv_results_["params"])
    os.fsync = fsync
    text = f"{1e3 * spent[False]:.3g} to {1e3 * spent[True]:.3g} ms, {len(n_syncs)} syncs"
    return Figure(text, spent[True] / spent[False])


MEMORY = """
import contextlib
import sys
import tracemalloc
sys.path[:0] = {path!r}
from scale_driver import *

def peak(n):
    search = {search}
    with contextlib.ExitStack() as stack:
        if {ours}:
            stack.enter_context(simulated(Cluster(100, epochs=4.0)))
        tracemalloc.start()
        search.fit(X, y)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return found, len(search.cv_results_["params"])

peak(100)
(few, n), (many, m) = map(peak, {sizes})
print((many - few) / (m - n))
"""


@row("memory of the driver at its peak, a fit", "0.7 KB")
def memory():
    ours = "hyperband(n, Epochs())"
    theirs = "RandomizedSearchCV(Nothing(), SPACE, n_iter=n, cv=SPLIT, refit=False)"
    found = []
    for search, own, sizes in ((ours, True, (2000, 6000)), (theirs, False, (500, 1500))):
        code = MEMORY.format(path=sys.path, search=search, ours=own, sizes=sizes)
        printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        found.append(float(printed.stdout) / 1e3)
    return Figure(f"{found[0]:.2f} KB (RandomizedSearchCV {found[1]:.2f})", found[0] / found[1])


@row("cv_results_ of 20,000 rows, 20 metrics, over scikit-learn's", "1.2")
def table():
    n, metrics = 20_000, [f"metric{i}" for i in range(20)]
    params = RandomSampler(SearchSpace(SPACE), 0).sample(n)
    scores = np.random.default_rng(0).random((n, len(metrics)))
    filled = TrialTable(1)
    outs = []
    for i in range(n):
        values = dict(zip(metrics, scores[i].tolist(), strict=True))
        filled.add(Trial(i, i, params[i]), [FitResult(i, 0, 0, values, fit_time=0.1)])
        outs.append({"test_scores": values, "fit_time": 0.1, "score_time": 0.0})
    search = RandomizedSearchCV(DummyClassifier(), SPACE, n_iter=n, refit=metrics[0])
    ratios, spent = [], []
    for _ in range(5):
        own = median_seconds(lambda: results_table(filled, metrics=metrics), 1, time.process_time)
        peer = median_seconds(
            lambda: search._format_results(params, 1, outs, None), 1, time.process_time
        )
        ratios.append(own / peer)
        spent.append(own)
    ratio = float(np.median(ratios)), min(ratios), max(ratios)
    return Figure(f"{1e3 * np.median(spent):.0f} ms", ratio)


@row("drawing 100 configurations of 200 parameters, over scikit-learn's", "1.2")
def drawing():
    kinds = [uniform(), loguniform(1e-4, 1), randint(1, 100), ["a", "b", "c"]]
    space = {f"p{i:03}": kinds[i % 4] for i in range(200)}
    ours = SearchSpace(space)
    ratios = []
    for seed in range(3):
        own = median_seconds(
            lambda s=seed: RandomSampler(ours, s).sample(100), 1, time.process_time
        )
        peer = median_seconds(
            lambda s=seed: list(ParameterSampler(space, 100, random_state=s)), 1, time.process_time
        )
        ratios.append(own / peer)
    return Figure("", (float(np.median(ratios)), min(ratios), max(ratios)))


IMPORT = """
import time
start = time.process_time()
{imported}
print(time.process_time() - start)
"""


@row("importing a search class, over that of scikit-learn's", "1.03")
def importing():
    sklearn = "from sklearn.model_selection import RandomizedSearchCV"
    ours = "from skhpo import HalvingHyperbandSearchCV"
    ratios, extra = [], []
    for _ in range(7):
        spent = []
        for imported in (sklearn, f"{sklearn}\n{ours}"):
            code = IMPORT.format(imported=imported)
            printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
            spent.append(float(printed.stdout))
        ratios.append(spent[1] / spent[0])
        extra.append(spent[1] - spent[0])
    ratio = float(np.median(ratios)), min(ratios), max(ratios)
    return Figure(f"{1e3 * np.median(extra):.0f} ms more", ratio)
