"""Limits of time: what is over them is ended wherever it runs, and the search goes on."""

import json
import signal
import time
from contextlib import suppress

import joblib
import numpy as np
import pytest
from scipy.stats import loguniform
from scripted import Scripted
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.pipeline import make_pipeline

from skhpo import HalvingHyperbandSearchCV, SearchCV, TorchClassifier
from skhpo.exceptions import SearchStoppedWarning
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

X, y = load_iris(return_X_y=True)
X = X.astype(np.float32)
ONE_SPLIT = [(np.arange(0, 150, 2), np.arange(1, 150, 2))]


def whole_grid(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


def search_of(estimator, space, **kwargs):
    settings = {"cv": ONE_SPLIT, "refit": False, **kwargs}
    return SearchCV(estimator, space, scheduler=whole_grid, **settings)


class SlowTransformer(TransformerMixin, BaseEstimator):
    def __init__(self, seconds=0):
        self.seconds = seconds

    def fit(self, X, y=None):
        time.sleep(self.seconds)
        return self

    def transform(self, X):
        return X


def slow_scorer(estimator, X, y):
    time.sleep(20 * estimator.i)
    return 1.0


def scores_of(search):
    with pytest.warns(FitFailedWarning, match=r"longer than fit_timeout="):
        return search.fit(X, y).cv_results_["mean_test_score"]


def test_what_hangs_in_this_process_is_a_failed_fit():
    handler, timer = signal.getsignal(signal.SIGALRM), signal.setitimer(signal.ITIMER_REAL, 100)
    space = {"act": ["nothing", "sleep", "loop"]}
    scores = scores_of(search_of(Scripted(), space, fit_timeout=0.1))
    np.testing.assert_array_equal(scores, [0, np.nan, np.nan])
    scores = scores_of(search_of(Scripted(), {"i": [0, 1]}, scoring=slow_scorer, fit_timeout=0.1))
    np.testing.assert_array_equal(scores, [1, np.nan])
    pipeline = make_pipeline(SlowTransformer(), Scripted())
    scores = scores_of(search_of(pipeline, {"slowtransformer__seconds": [0, 20]}, fit_timeout=0.1))
    np.testing.assert_array_equal(scores, [0, np.nan])
    assert signal.getsignal(signal.SIGALRM) == handler
    assert 0 < signal.setitimer(signal.ITIMER_REAL, *timer)[0] < 100
    with pytest.raises(TimeoutError, match=r"longer than fit_timeout=0\.1 seconds"):
        search_of(Scripted(), space, fit_timeout=0.1, error_score="raise").fit(X, y)


def test_what_hangs_in_a_process_is_a_failed_fit_and_nothing_else_is(tmp_path):
    log = str(tmp_path / "log")
    space = [{"act": ["sleep", "stop"], "log": [log]}, {"i": [1, 2, 3], "log": [log]}]
    scores = scores_of(search_of(Scripted(), space, fit_timeout=0.1, n_jobs=2))
    np.testing.assert_array_equal(scores, [np.nan, np.nan, 1, 2, 3])
    assert (tmp_path / "log").read_text().splitlines().count("0 stop") == 1


def test_what_hangs_together_is_ended_together(tmp_path):
    log = tmp_path / "log"
    stop = {"act": ["stop_together"], "log": [str(log)]}
    space = [{**stop, "i": [1]}, {"act": ["nap"]}, {**stop, "i": [2]}]  # the third starts later
    scores = scores_of(search_of(Scripted(), space, fit_timeout=1, n_jobs=2))
    np.testing.assert_array_equal(scores, [np.nan, 0, np.nan])
    assert sorted(log.read_text().splitlines()) == ["1 stop_together", "2 stop_together"]


def test_what_hangs_in_a_thread_is_a_failed_fit():
    space = [{"act": ["loop", "sleep"]}, {"i": [1, 2]}]
    with joblib.parallel_config("threading", n_jobs=2):
        scores = scores_of(search_of(Scripted(), space, fit_timeout=0.1))
    np.testing.assert_array_equal(scores, [np.nan, np.nan, 1, 2])


@pytest.mark.parametrize("lockstep", [False, True])
def test_max_time_ends_what_trains_and_nothing_is_noted_of_it(tmp_path, lockstep):
    endless = TorchClassifier(module__n_units=4, max_epochs=10**6)
    path = tmp_path / "run.jsonl"
    search = search_of(endless, {"lr": [0.01, 0.02]}, max_time=0.5, lockstep=lockstep, journal=path)
    with pytest.raises(ValueError, match="no trial was finished: max_time was over"):
        search.fit(X, y)
    assert not path.exists() or len(path.read_text().splitlines()) == 1


def test_a_search_that_ran_out_of_time_goes_on_to_the_same_end(tmp_path):
    def search(**kwargs):
        return HalvingHyperbandSearchCV(
            TorchClassifier(module__n_units=4),
            {"lr": loguniform(1e-3, 1e-1)},
            resource="max_epochs",
            max_resources=9,
            cv=2,
            random_state=0,
            lockstep=True,
            refit=False,
            **kwargs,
        )

    whole = search().fit(X, y).cv_results_["mean_test_score"]
    path = tmp_path / "run.jsonl"
    for max_time in (0.2, 0.4, 0.6, None):
        again = search(journal=path, max_time=max_time)
        with suppress(SearchStoppedWarning, ValueError):  # nothing was finished
            again.fit(X, y)
    lines = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert not any(line.get("error") for line in lines)
    np.testing.assert_array_equal(again.cv_results_["mean_test_score"], whole)


@pytest.mark.parametrize(("backend", "n_jobs"), [("loky", 1), ("loky", 2), ("threading", 2)])
def test_max_time_ends_what_hangs(backend, n_jobs):
    search = search_of(Scripted(), [{"i": [1, 2]}, {"act": ["sleep"]}], max_time=1, n_jobs=n_jobs)
    # Nothing may have been finished, where workers start slowly.
    with (
        joblib.parallel_config(backend),
        pytest.raises((SearchStoppedWarning, ValueError), match="max_time was over"),
    ):
        search.fit(X, y)


def test_a_search_within_a_fit_ends_with_the_fit():
    inner = search_of(Scripted(), {"act": ["sleep"]}, fit_timeout=15)
    inner.set_params(cv=[(np.arange(0, 75, 2), np.arange(1, 75, 2))])
    outer = search_of(inner, {"fit_timeout": [15], "error_score": [0.0, 1.0]}, fit_timeout=0.1)
    with pytest.raises(ValueError, match=r"All the 2 fits failed[\s\S]*fit_timeout=0.1 seconds"):
        outer.fit(X, y)
    outer.set_params(param_distributions={"fit_timeout": [0.1]}, fit_timeout=15)
    with pytest.raises(ValueError, match=r"All the 1 fits failed[\s\S]*fit_timeout=0.1 seconds"):
        outer.fit(X, y)
