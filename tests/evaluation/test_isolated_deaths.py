"""Whom the death of a worker concerns: all that run, or itself where each call has a process."""

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

from skhpo.evaluation import Evaluator, Setting, _pool
from skhpo.evaluation._workers import Engine
from skhpo.trial import Trial

X, y = np.zeros((20, 1)), np.tile([0, 1], 10)
SPLIT = [(np.arange(10), np.arange(10, 20))]


class Lost(Exception):
    pass


class Engines(Engine):
    """Three workers whose calls end in the order in which they started; some die."""

    n_jobs = 3
    tells_deaths = True
    lost = (Lost,)

    def __init__(self, isolated, deaths):
        self.isolated = isolated
        self.deaths = deaths
        self.log = []

    def submit(self, call, shared, done):
        trials = [task.trial for group in call.args[0].items for task in group.tasks]
        self.log += [("start", trial) for trial in trials]

        def get():
            for trial in trials:
                if trial in self.deaths:
                    self.deaths.remove(trial)
                    self.log.append(("death", trial))
                    raise Lost
            self.log += [("end", trial) for trial in trials]
            return call(*shared)

        done(get)


def evaluated(isolated, deaths, monkeypatch):
    """Return the results of five trials, and what happened."""
    engine = Engines(isolated, list(deaths))
    monkeypatch.setattr(_pool, "active_engine", lambda n_jobs: engine)
    setting = Setting(DummyClassifier(), lambda estimator, X, y: 0.5, seed=0)
    with Evaluator(setting, X, y, SPLIT) as evaluator:
        evaluator.submit([Trial(i, i, {}) for i in range(5)])
        results = []
        while found := evaluator.next():
            results += found
    return {result.trial: result for result in results}, engine.log


@pytest.mark.parametrize("isolated", [True, False])
def test_what_dies_is_tried_again(isolated, monkeypatch):
    results, log = evaluated(isolated, [0], monkeypatch)
    assert sorted(results) == list(range(5))
    assert all(result.error is None for result in results.values())
    assert log.count(("start", 0)) == 2
    again = len(log) - 1 - log[::-1].index(("start", 0))
    before = log[:again]
    running = (
        before.count(("start", 1))
        + before.count(("start", 2))
        - (before.count(("end", 1)) + before.count(("end", 2)))
    )
    assert running == (2 if isolated else 0)


@pytest.mark.parametrize("isolated", [True, False])
def test_what_dies_twice_has_failed_and_nothing_else(isolated, monkeypatch):
    results, log = evaluated(isolated, [1, 1, 3], monkeypatch)
    assert [trial for trial, result in sorted(results.items()) if result.error] == [1]
    assert log.count(("start", 1)) == log.count(("start", 3)) == 2
    assert all(log.count(("start", trial)) == 1 for trial in (0, 2, 4)) or not isolated
