"""Hyperband whose candidates come from a sampler that learns."""

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import uniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris

from skhpo import HalvingHyperbandSearchCV
from skhpo.exceptions import SearchStoppedWarning
from skhpo.samplers import BayesSampler, RandomSampler

X, y = load_iris(return_X_y=True)
EPOCHS = []


class Curve(ClassifierMixin, BaseEstimator):
    """Approaches 1 - 4 (x - 0.3)^2 - 2 (z - 0.6)^2 as it is trained."""

    def __init__(self, x=0.0, z=0.0, max_epochs=1):
        self.x = x
        self.z = z
        self.max_epochs = max_epochs

    def fit(self, X, y):
        self.epochs_ = 0
        return self.partial_fit(X, y)

    def partial_fit(self, X, y):
        EPOCHS.append(self.max_epochs)
        self.classes_ = np.unique(y)
        self.epochs_ += self.max_epochs
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def score(self, X, y):
        return 1 - 4 * (self.x - 0.3) ** 2 - 2 * (self.z - 0.6) ** 2 - 0.5 / self.epochs_


def search_of(**kwargs):
    kwargs = {"max_resources": 9, "cv": 2, "random_state": 0, "sampler": "bayes"} | kwargs
    return HalvingHyperbandSearchCV(Curve(), {"x": uniform(0, 1), "z": uniform(0, 1)}, **kwargs)


def frame(search):
    return pd.DataFrame(search.cv_results_)


def assert_same_results(a, b):
    a, b = frame(a), frame(b)
    columns = [name for name in a if not name.endswith("_time")]
    pd.testing.assert_frame_equal(a[columns], b[columns])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_later_brackets_learn_from_earlier(asynchronous):
    search = search_of(n_iterations=2, asynchronous=asynchronous).fit(X, y)
    drawn = search_of(n_iterations=2, sampler="random").fit(X, y)
    assert search.best_score_ > drawn.best_score_
    rows, random = frame(search), frame(drawn)
    sizes = [table.groupby(["bracket", "iter", "n_resources"]).size() for table in (rows, random)]
    pd.testing.assert_series_equal(*sizes)


def test_asynchronous_brackets_overlap_and_no_worker_waits():
    with joblib.parallel_config("threading"):
        search = search_of(n_iterations=2, asynchronous=True, n_jobs=3).fit(X, y)
    assert frame(search)["bracket"].nunique() == 6
    assert search.best_score_ > 0.93


def test_the_same_whatever_n_jobs():
    assert_same_results(search_of().fit(X, y), search_of(n_jobs=2).fit(X, y))


class StopAfter:
    def __init__(self, n_fits):
        self.left = n_fits

    def on_fit_end(self, search, trial, result):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stop", [20, 35])
def test_interrupted_and_resumed_equals_uninterrupted(stop, tmp_path):
    path = tmp_path / "run.jsonl"
    whole = search_of().fit(X, y)
    with pytest.warns(SearchStoppedWarning):
        short = search_of(journal=path, callbacks=[StopAfter(stop)]).fit(X, y)
    assert short.stop_reason_ == "it was interrupted"
    resumed = search_of(journal=path).fit(X, y)
    assert resumed.stop_reason_ is None
    assert_same_results(resumed, whole)


def test_a_sampler_of_ones_own():
    made = []

    def sampler(space, random_state):
        made.append(BayesSampler(space, random_state, n_initial_points=3))
        return made[0]

    search = search_of(sampler=sampler).fit(X, y)
    assert search.sampler_ is made[0]
    drawn = search_of(sampler=RandomSampler).fit(X, y)
    assert_same_results(drawn, search_of(sampler="random").fit(X, y))


def test_auto_learns_where_there_are_several_objectives(tmp_path):
    path = tmp_path / "run.jsonl"
    drawn = search_of(sampler="random", journal=path).fit(X, y)
    n_fits = len(EPOCHS)
    assert_same_results(search_of(sampler="auto", journal=path, refit=False).fit(X, y), drawn)
    assert len(EPOCHS) == n_fits  # the journal is one of the same search
    both = {"score": Curve.score, "x": lambda fitted, X, y: -fitted.x}
    one, several = (
        search_of(sampler="auto", max_resources=1, scoring=both, objectives=names, refit="score")
        for names in (["score"], ["score", "x"])
    )
    assert isinstance(one.fit(X, y).sampler_, RandomSampler)
    assert isinstance(several.fit(X, y).sampler_, BayesSampler)


def test_bad_input_is_told_before_any_training():
    EPOCHS.clear()
    with pytest.raises(ValueError, match=r"'sampler' parameter .*'bayes'.* Got 'tpe'"):
        search_of(sampler="tpe").fit(X, y)
    with pytest.raises(TypeError, match=r"must return a skhpo.samplers.Sampler, but .* returned 5"):
        search_of(sampler=lambda space, random_state: 5).fit(X, y)
    assert not EPOCHS
