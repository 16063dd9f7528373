"""What bookkeeping costs, counted in operations, calls and bytes, never in seconds."""

import heapq
import os
import subprocess
import sys
import tracemalloc
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin

from skhpo import HalvingHyperbandSearchCV, SearchSpace, TorchClassifier
from skhpo.evaluation._planning import Waiting
from skhpo.evaluation._tasks import FitGroup, FitTask
from skhpo.journal import Journal, Recorded, fit_event, seal
from skhpo.journal._lines import read_lines
from skhpo.model_selection._loop import TrialLoop
from skhpo.results import TrialTable, results_table
from skhpo.samplers import RandomSampler
from skhpo.schedulers import AsynchronousHyperband, Hyperband
from skhpo.trial import FitResult, Trial

HEADER = {
    "skhpo": 2,
    "journal": "0123456789abcdef",
    "search": "SearchCV",
    "seed": 0,
    "resource": "max_epochs",
    "n_repeats": 1,
    "n_splits": 1,
    "return_train_score": False,
    "asynchronous": False,
    "fingerprint": {},
    "splits": "",
}


def operations(function):
    """Return how many instructions of Python a call takes."""
    n = 0

    def trace(frame, event, arg):
        nonlocal n
        frame.f_trace_opcodes = True
        n += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return n


class LevelClassifier(ClassifierMixin, BaseEstimator):
    """Is fitted at once."""

    def __init__(self, x=0.0, level=1):
        self.x = x
        self.level = level

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)


class Workers:
    """An evaluator that has its results in an order of its own, one at a time."""

    known = {}
    setting = SimpleNamespace(keep_errors=False)

    def __init__(self, n):
        self.n = n
        self.running = []
        self.order = np.random.default_rng(0)

    @property
    def has_room(self):
        return len(self.running) < self.n

    def submit(self, trials):
        for trial in trials:
            result = FitResult(trial.number, 0, 0, {"score": trial.params["x"]})
            heapq.heappush(self.running, (self.order.random(), trial.number, result))

    def next(self):
        return [heapq.heappop(self.running)[-1]] if self.running else []

    def drop(self, trials=None):
        pass


SPACE = SearchSpace({"x": stats.uniform()})


def a_search(scheduler, n_workers=20, **plan):
    asked = scheduler(RandomSampler(SPACE, 0), **plan)
    asynchronous = scheduler is AsynchronousHyperband
    return TrialLoop(asked, Workers(n_workers), 1, told, asynchronous=asynchronous)


def told(results):
    return results[0].test_scores["score"], None, None


@pytest.mark.parametrize("scheduler", [Hyperband, AsynchronousHyperband])
def test_a_trial_costs_the_same_however_many_there_were(scheduler):
    searches = {n: a_search(scheduler, max_resources=9, n_iterations=n) for n in (5, 40)}
    few, many = (operations(search.run) / n for n, search in searches.items())
    assert many < 1.2 * few


@pytest.mark.parametrize("scheduler", [Hyperband, AsynchronousHyperband])
def test_a_trial_costs_the_same_however_many_run_beside_it(scheduler):
    plan = {"max_resources": 9, "n_iterations": 30}
    few, many = (operations(a_search(scheduler, n, **plan).run) for n in (20, 400))
    assert many < 1.3 * few


@pytest.mark.parametrize("scheduler", [Hyperband, AsynchronousHyperband])
def test_a_trial_costs_little_more_in_a_large_bracket(scheduler):
    costs = []
    for max_resources in (27, 729):
        search = a_search(scheduler, max_resources=max_resources, n_brackets=1)
        costs.append(operations(search.run) / search.scheduler.n_trials)
    assert costs[1] < 1.3 * costs[0]


def test_what_starts_next_is_found_without_a_look_at_all_that_waits():
    costs = []
    for n in (10, 1000):
        waiting = Waiting()
        for i in range(n):
            waiting.add(FitGroup([FitTask(i, i, 0, 0, {}, (None,))]))
        assert waiting.n_fits == n

        def take(waiting=waiting):
            waiting.take()
            return waiting.n_fits

        costs.append(operations(take))
    assert costs[0] == costs[1]


def fits(n):
    params = RandomSampler(SPACE, 0).sample(n)
    for i in range(n):
        trial = Trial(i, i, params[i], 1, None, {"bracket": 0, "iter": 0})
        yield trial, FitResult(i, 0, 0, {"score": 0.5}, fit_time=0.001, score_time=0.001)


def test_a_line_of_a_journal_costs_the_same_however_many_there_are():
    def content(n):
        lines = [seal(HEADER, HEADER["journal"])]
        for i, (trial, result) in enumerate(fits(n), start=1):
            lines.append(seal({"n": i, **fit_event(trial, result)}, HEADER["journal"]))
        return b"".join(lines)

    few, many = (
        operations(partial(read_lines, content(n), "it", lambda _: None)) / n for n in (50, 500)
    )
    assert many < 1.05 * few


def test_replaying_a_fit_costs_the_same_however_many_there_are(tmp_path):
    def replayed(n):
        search = HalvingHyperbandSearchCV(
            LevelClassifier(),
            {"x": stats.uniform()},
            resource="level",
            max_resources=3,
            n_iterations=n,
            cv=[(np.arange(4), np.arange(4, 8))],
            refit=False,
            random_state=0,
            journal=tmp_path / f"{n}.jsonl",
        )
        X, y = np.zeros((8, 1)), np.tile([0, 1], 4)
        search.fit(X, y)
        return operations(partial(search.fit, X, y))

    few, more, many = map(replayed, (5, 20, 35))
    assert many - more < 1.02 * (more - few)


def test_what_a_journal_said_takes_fewer_bytes_than_its_lines_as_dicts(tmp_path):
    n, path = 3000, tmp_path / "run.jsonl"
    with Journal(path) as journal:
        start = {k: v for k, v in HEADER.items() if k not in ("skhpo", "journal", "splits")}
        journal.start(start, events=[fit_event(*fit) for fit in fits(n)])
    held = {}
    for name in ("dicts", "recorded"):
        recorded = Recorded()
        tracemalloc.start()
        with Journal(path, None if name == "dicts" else recorded.take) as journal:
            held[name], peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(recorded.results) == (n if name == "recorded" else 0)
        # The file as a whole, and no more, is there beside what is kept.
        assert peak < held[name] + 2.5 * path.stat().st_size
    assert held["recorded"] < 0.6 * held["dicts"]


@pytest.mark.parametrize(
    ("fit_time", "n_syncs"), [(0.001, 3), (1.5, 100)], ids=["short fits", "long fits"]
)
def test_lines_of_short_fits_are_synced_together(fit_time, n_syncs, tmp_path, monkeypatch):
    """A hundred fits in 99 ms: at once, after 50 ms, and at the end; long ones at once."""
    now = [1000.0]
    synced = []
    with Journal(tmp_path / "run.jsonl") as journal:
        journal.start({k: v for k, v in HEADER.items() if k not in ("skhpo", "journal", "splits")})
        monkeypatch.setattr("skhpo.journal._file.time.monotonic", lambda: now[0])
        monkeypatch.setattr(os, "fsync", synced.append)
        for trial, result in fits(100):
            event = fit_event(trial, result) | {"fit_time": fit_time}
            journal.append(event)
            journal.sync(only_if_due=True)
            now[0] += 0.001
        assert journal.sync()
    assert len(synced) == n_syncs


def test_a_row_of_the_table_costs_the_same_however_many_there_are():
    def per_row(n):
        table = TrialTable(1)
        for trial, result in fits(n):
            table.add(trial, [result])
        return operations(partial(results_table, table, resource="max_epochs")) / n

    assert per_row(500) < per_row(50)


def test_a_fit_that_is_done_takes_few_bytes():
    n = 5000
    given = list(fits(n))
    tracemalloc.start()
    table = TrialTable(1)
    for trial, result in given:
        table.add(trial, [result])
    held, _ = tracemalloc.get_traced_memory()
    results_table(table, resource="max_epochs")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 120 * n
    assert peak < 440 * n


def test_rows_that_are_held_out_pass_a_network_once_a_rung_as_others_do():
    passed = []

    class Counting(torch.nn.Linear):
        def forward(self, X):
            passed.append(len(X))
            return super().forward(X)

    X = np.random.default_rng(0).normal(size=(300, 4)).astype("float32")
    y = np.tile([0, 1], 150)
    net = TorchClassifier(
        Counting,
        module__in_features=4,
        module__out_features=2,
        max_epochs=1,
        batch_size=50,
        validation_fraction=0.1,
        random_state=0,
    ).fit(X, y)
    passed.clear()
    net.partial_fit(X, y)
    assert sum(passed) == 300


def test_quantiles_are_asked_for_many_configurations_at_once():
    class Counted:
        n = 0

        def __init__(self):
            self.distribution = stats.uniform()

        def __getattr__(self, name):
            return getattr(self.distribution, name)

        def ppf(self, q):
            Counted.n += 1
            return self.distribution.ppf(q)

    space = SearchSpace({"x": Counted()})
    Counted.n = 0
    RandomSampler(space, 0).sample(1000)
    assert Counted.n == 1
    sampler = RandomSampler(space, 0)
    one_by_one = [params for _ in range(1000) for params in sampler.sample(1)]
    assert Counted.n < 20
    assert one_by_one == RandomSampler(space, 0).sample(1000)


@pytest.mark.parametrize("name", ["BayesSearchCV", "HalvingHyperbandSearchCV"])
def test_a_search_class_imports_few_modules(name):
    """What only a fit needs is imported by one."""
    code = (
        "import sys, sklearn.model_selection; before = {*sys.modules}; "
        f"from skhpo import {name}; print(*({{*sys.modules}} - before))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    modules = set(printed.stdout.split())
    assert "skhpo.model_selection._base" in modules
    assert len(modules) <= 24, sorted(modules)
    assert not {"sklearn.ensemble", "sklearn.neural_network", "torch"} & modules
