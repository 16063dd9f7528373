"""Whatever stops Hyperband, earlier brackets are finished before later ones are begun."""

import logging
import re
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import uniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris

from skhpo import HalvingHyperbandSearchCV, HarmonicaSearchCV, SearchSpace, TorchClassifier
from skhpo.exceptions import SearchStoppedWarning
from skhpo.model_selection._loop import TrialLoop
from skhpo.samplers import GridSampler
from skhpo.schedulers import Hyperband
from skhpo.trial import FitResult

X, y = load_iris(return_X_y=True)


class Quality(ClassifierMixin, BaseEstimator):
    """Scores its quality, whatever it is trained on."""

    def __init__(self, quality=0.5, max_epochs=1):
        self.quality = quality
        self.max_epochs = max_epochs

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def score(self, X, y):
        return self.quality


class Order:
    """Notes bracket and rung of every fit; presses Ctrl-C after so many."""

    def __init__(self, stop_after=None):
        self.places = []
        self.resources = []
        self.stop_after = stop_after

    def on_fit_end(self, search, trial, result):
        self.places.append((trial.tags["bracket"], trial.tags["iter"]))
        self.resources.append(trial.resource)
        if len(self.places) == self.stop_after:
            raise KeyboardInterrupt


def search_of(callback, kind=HalvingHyperbandSearchCV, estimator=None, space=None, **kwargs):
    kwargs = {
        "max_resources": 9,
        "cv": 2,
        "random_state": 0,
        "refit": False,
        "enqueue": (),
    } | kwargs
    space = {"quality": uniform(0, 1)} if space is None else space
    return kind(estimator or Quality(), space, callbacks=[callback], **kwargs)


NET = {
    "estimator": TorchClassifier(module__n_units=2, batch_size=64),
    "space": {"lr": uniform(0.01, 0.1)},
    "max_resources": 4,
    "factor": 2,
}


@pytest.mark.parametrize(
    "kwargs",
    [
        {"n_iterations": 2},
        {"sampler": "bayes", "n_iterations": 2},
        {**NET, "lockstep": True},
    ],
    ids=["random", "bayes", "joint training"],
)
def test_brackets_are_trained_one_after_another_each_to_its_end(kwargs):
    order = Order()
    search_of(order, **kwargs).fit(X, y)
    assert order.places == sorted(order.places)


def test_brackets_after_the_stages_of_harmonica():
    order = Order()
    kwargs = {"n_stages": 1, "n_samples": 20, "resource": "max_epochs", "stage_resource": 1}
    search_of(order, HarmonicaSearchCV, **kwargs).fit(X, y)
    assert order.places[:40] == [(-1, -1)] * 40
    assert order.places[40:] == sorted(order.places[40:])
    assert order.places[-1] == (2, 0)


def test_an_asynchronous_bracket_is_finished_before_the_next_begins():
    order = Order()
    search_of(order, asynchronous=True).fit(X, y)
    first_full = order.resources.index(9)
    assert {bracket for bracket, _ in order.places[:first_full]} == {0}
    assert [bracket for bracket, _ in order.places] == sorted(b for b, _ in order.places)


@pytest.mark.parametrize("sampler", ["random", "bayes"])
def test_interrupted_after_the_first_bracket_the_best_is_a_full_candidate(sampler):
    n_fits = 2 * (9 + 3 + 1)
    search = search_of(Order(n_fits), sampler=sampler, n_iterations=9)
    with pytest.warns(SearchStoppedWarning, match="it was interrupted"):
        search.fit(X, y)
    table = search.cv_results_
    assert list(table["n_resources"]) == [1] * 9 + [3] * 3 + [9]
    assert search.best_index_ == 12
    assert search.best_score_ == table["mean_test_score"].max()


class Shuffled:
    """An evaluator with room for so many fits, which end in any order."""

    n_splits = 2
    setting = SimpleNamespace(keep_errors=False)

    def __init__(self, room, rng):
        self.known = {}
        self.room = room
        self.rng = rng
        self.waiting = []

    @property
    def has_room(self):
        return len(self.waiting) < self.room

    def submit(self, trials):
        self.waiting += [
            FitResult(trial.number, split, 0, {"score": float(trial.params["x"])})
            for trial in trials
            for split in range(self.n_splits)
        ]

    def next(self):
        if not self.waiting:
            return []
        return [self.waiting.pop(self.rng.integers(len(self.waiting)))]

    def drop(self, trials=None):
        pass


def run(room, seed):
    """Return the trials of a search and the order in which they were asked for."""
    sampler = GridSampler(SearchSpace({"x": [7 * i % 101 for i in range(101)]}))
    scheduler = Hyperband(sampler, max_resources=9, n_iterations=2)
    asked = []

    class Watch:
        def on_ask(self, trials):
            asked.append(trials)

        def on_fit_end(self, trial, result):
            pass

        def on_trial_end(self, trial, results, score):
            pass

    def score(results):
        return results[0].test_scores["score"], None, None

    evaluator = Shuffled(room, np.random.default_rng(seed))
    loop = TrialLoop(scheduler, evaluator, 2, score, observers=[Watch()])
    loop.run()
    return loop.table.trials(), asked


def test_idle_workers_look_ahead_and_nothing_that_was_found_depends_on_it():
    trials, asked = run(room=0, seed=0)
    assert [batch[0].tags["bracket"] for batch in asked] == [0, 0, 0, 1, 1, 2, 3, 3, 3, 4, 4, 5]
    for seed in range(4):
        others, asked = run(room=5 + 10 * seed, seed=seed)
        assert others == trials
        brackets = [batch[0].tags["bracket"] for batch in asked]
        assert brackets != sorted(brackets)


class Clock:
    """A clock that a callback sets forward by a second with each fit."""

    now = 0.0

    def monotonic(self):
        return self.now

    def on_fit_end(self, search, trial, result):
        self.now += 1.0


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in ("_base", "_loop", "_observers"):
        monkeypatch.setattr(f"skhpo.model_selection.{module}.time.monotonic", clock.monotonic)
    return clock


@pytest.mark.parametrize("asynchronous", [False, True])
def test_as_many_iterations_as_there_is_time_for(clock, asynchronous, tmp_path):
    kwargs = {"n_iterations": "auto", "asynchronous": asynchronous, "journal": tmp_path / "a"}
    search = search_of(clock, max_time=99.5, **kwargs).fit(X, y)  # no warning
    assert search.stop_reason_ == "max_time was over"
    assert len(search.cv_results_["params"]) == 50
    assert search.cv_results_["bracket"].max() == 6
    again = search_of(clock, max_time=149.5, **kwargs).fit(X, y)
    assert len(again.cv_results_["params"]) == 75  # the clock counts those of the journal, too
    assert again.cv_results_["params"][:50] == search.cv_results_["params"][:50]


def test_where_the_time_was_enough_for_one_candidate_only_it_is_said(clock):
    search = search_of(clock, n_iterations="auto", max_time=2.5)
    with pytest.warns(SearchStoppedWarning, match="max_time was over.* the one trial that was"):
        search.fit(X, y)


def test_as_many_iterations_as_a_finite_space_has(clock):
    space = {"quality": [i / 30 for i in range(30)]}
    search = search_of(clock, space=space, n_iterations="auto", max_time=1e6).fit(X, y)
    assert search.stop_reason_ is None
    assert len(set(search.cv_results_["param_quality"])) == 30


def test_interrupted_before_time_is_over_is_said(clock):
    search = search_of(Order(40), n_iterations="auto", max_time=1e6)
    with pytest.warns(SearchStoppedWarning, match="it was interrupted"):
        search.fit(X, y)


def test_as_many_as_there_is_time_for_needs_a_time():
    with pytest.raises(ValueError, match=r"n_iterations='auto'.* but got max_time=None; give"):
        search_of(Order(), n_iterations="auto").fit(X, y)


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"n_iterations": "auto"}, "10 brackets of 3 an iteration are likely to end"),
        ({"n_iterations": 2}, r"all brackets are likely to end after 171 s"),
        ({"n_iterations": 2, "asynchronous": True}, "all brackets are likely to end after 1"),
    ],
    ids=str,
)
def test_after_the_first_bracket_a_search_says_what_it_will_reach(
    clock, kwargs, expected, caplog, capsys
):
    """A bracket of 9, 3 and 1 candidates trains 21 of the resource in 26 fits of a second."""
    caplog.set_level(logging.INFO, logger="skhpo")
    search_of(clock, max_time=300, verbose=1, **kwargs).fit(X, y)
    (line,) = [r.getMessage() for r in caplog.records if "ended after" in r.getMessage()]
    assert line.startswith("bracket 0 ended after 26 s; ")
    assert re.search(expected + ".*, max_time=300 s", line)
    assert line in capsys.readouterr().err.splitlines()


class StoppedClock(Clock):
    """Goes on by a second with each fit, and presses Ctrl-C after forty."""

    def on_fit_end(self, search, trial, result):
        super().on_fit_end(search, trial, result)
        if self.now == 40:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("n_iterations", "expected"),
    [(40, []), (50, ["the 2,200 fits of all brackets are likely to take 1.19 h"])],
    ids=["less than an hour", "more"],
)
def test_a_search_without_an_end_says_that_it_is_long(n_iterations, expected, caplog, monkeypatch):
    clock = StoppedClock()
    for module in ("_base", "_observers"):
        monkeypatch.setattr(f"skhpo.model_selection.{module}.time.monotonic", clock.monotonic)
    caplog.set_level(logging.INFO, logger="skhpo")
    with pytest.warns(SearchStoppedWarning):
        search_of(clock, n_iterations=n_iterations).fit(X, y)
    lines = [r.getMessage() for r in caplog.records if "ended after" in r.getMessage()]
    assert [line.split("; ")[1] for line in lines] == expected
    assert all(line.startswith("bracket 0 ended after 26 s; ") for line in lines)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_search_whose_results_no_memory_can_hold_is_refused(asynchronous, tmp_path):
    """22 trials an iteration with two fits each, of 620 bytes together."""
    kwargs = {"asynchronous": asynchronous, "journal": tmp_path / "run.jsonl"}
    order = Order()
    search = search_of(order, n_iterations=10**9, **kwargs)
    message = "22,000,000,000 trials with 2 fits each, 44,000,000,000 fits, take about 13,640 GB"
    with pytest.raises(ValueError, match=f"{message}.*; plan fewer iterations"):
        search.fit(X, y)
    assert not list(tmp_path.iterdir())
    search.set_params(max_time=1e-3)
    with pytest.raises(ValueError, match="no trial was finished: max_time was over"):
        search.fit(X, y)
