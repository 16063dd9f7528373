"""What a search may use: epochs exactly, seconds of all workers."""

import time
import warnings

import numpy as np
import pytest
from joblib import parallel_config
from scipy.stats import uniform
from sklearn.base import BaseEstimator, ClassifierMixin

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV
from skhpo.exceptions import SearchStoppedWarning
from skhpo.trial import FitResult, Trial

X, Y = np.arange(40.0)[:, None], np.arange(40) % 2


class Epochs(ClassifierMixin, BaseEstimator):
    """Counts the epochs of all fits."""

    trained = 0

    def __init__(self, a=0.5, max_epochs=1, seconds=0.0):
        self.a = a
        self.max_epochs = max_epochs
        self.seconds = seconds

    def fit(self, X, y):
        return self.partial_fit(X, y)

    def partial_fit(self, X, y):
        self.classes_ = np.unique(y)
        Epochs.trained += self.max_epochs
        time.sleep(self.seconds)
        return self

    def score(self, X, y):
        return self.a

    def predict(self, X):
        return np.zeros(len(X), dtype=int)


class Retrained(Epochs):
    partial_fit = property()  # is not there

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        Epochs.trained += self.max_epochs
        return self


def hyperband(estimator=None, **kwargs):
    arguments = {"max_resources": 9, "cv": 2, "random_state": 0, "refit": False, **kwargs}
    estimator = Epochs() if estimator is None else estimator
    return HalvingHyperbandSearchCV(estimator, {"a": uniform(0, 1)}, **arguments)


def trained(search):
    """Return the table of a search and the epochs that it took."""
    before = Epochs.trained
    return search.fit(X, Y).cv_results_, Epochs.trained - before


@pytest.mark.parametrize("estimator", [Epochs(), Retrained()], ids=["continued", "retrained"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_epochs_are_never_exceeded_and_used_as_far_as_trials_fit(estimator, asynchronous):
    for limit in (60, 61, 75):
        search = hyperband(estimator, max_cost={"epochs": limit}, asynchronous=asynchronous)
        with pytest.warns(SearchStoppedWarning, match="max_cost was used up"):
            _, used = trained(search)
        assert limit - 18 < used <= limit
        assert search.stop_reason_ == "max_cost was used up"


def test_a_limit_that_is_not_reached_changes_nothing():
    whole, used = trained(hyperband())
    with warnings.catch_warnings():
        warnings.simplefilter("error", SearchStoppedWarning)
        table, again = trained(hyperband(max_cost={"epochs": used, "seconds": 1e6}))
    assert again == used
    np.testing.assert_array_equal(table["mean_test_score"], whole["mean_test_score"])


def test_what_is_done_depends_on_no_timing_and_a_larger_limit_goes_on(tmp_path):
    tables = []
    for n_jobs in (1, 3):
        search = hyperband(max_cost={"epochs": 70}, n_jobs=n_jobs, journal=tmp_path / f"{n_jobs}")
        with parallel_config("threading"), pytest.warns(SearchStoppedWarning):
            tables.append(trained(search)[0])
    assert tables[0]["params"] == tables[1]["params"]
    with pytest.warns(SearchStoppedWarning):
        _, used = trained(hyperband(max_cost={"epochs": 70}, journal=tmp_path / "1"))
    assert used == 0
    table, more = trained(hyperband(max_cost={"epochs": 10_000}, journal=tmp_path / "1"))
    whole, used = trained(hyperband())
    assert table["params"] == whole["params"]
    assert used - 70 <= more < used


def test_seconds_end_a_search():
    search = hyperband(Epochs(seconds=0.02), max_cost={"seconds": 0.2})
    with pytest.warns(SearchStoppedWarning, match="max_cost was used up"):
        table, _ = trained(search)
    assert len(table["params"]) <= 5


def test_iterations_may_go_on_until_the_cost_is_used():
    with warnings.catch_warnings():
        warnings.simplefilter("error", SearchStoppedWarning)
        table, used = trained(hyperband(n_iterations="auto", max_cost={"epochs": 500}))
    assert 480 < used <= 500
    assert table["bracket"].max() > 2


def test_fits_that_are_not_made_give_their_epochs_back():
    from skhpo.model_selection._cost import Budget

    budget = Budget({"epochs": 20}, n_fits=2, continues=True)
    first = Trial(number=0, candidate=0, params={}, resource=3)
    assert budget.admit([first]) == 1
    for split in range(2):
        budget.spend(FitResult(trial=0, split=split, skipped="n_parameters"))
    assert budget.epochs == 0
    assert budget.admit([Trial(number=1, candidate=1, params={}, resource=10)]) == 1
    assert budget.admit([Trial(number=2, candidate=2, params={}, resource=1)]) == 0


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, "keys 'epochs' or 'seconds'"),
        ({"minutes": 3}, "keys 'epochs' or 'seconds'"),
        ({"epochs": 0}, "positive numbers"),
        ({"seconds": "3"}, "positive numbers"),
        ({"epochs": True}, "positive numbers"),
    ],
    ids=range(5),
)
def test_bad_limits_are_errors(limits, message):
    with pytest.raises(ValueError, match=message):
        hyperband(max_cost=limits).fit(X, Y)


def test_epochs_need_a_resource():
    search = BayesSearchCV(Epochs(), {"a": uniform(0, 1)}, max_cost={"epochs": 10})
    with pytest.raises(ValueError, match="counts the resource of the search, but it has none"):
        search.fit(X, Y)
