"""The estimator's own parameters, tried first."""

import logging

import numpy as np
import pandas as pd
import pytest
from scipy.stats import loguniform, norm, randint, uniform
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

from skhpo import (
    BayesSearchCV,
    HalvingHyperbandSearchCV,
    HarmonicaSearchCV,
    SearchCV,
    SearchSpace,
    TorchClassifier,
    log_randint,
)
from skhpo.exceptions import SearchStoppedWarning
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler
from skhpo.space import nearest

X, y = load_iris(return_X_y=True)


class Slow(ClassifierMixin, BaseEstimator):
    """Scores 1 with its own parameters and all of the resource, and nothing with less."""

    def __init__(self, x=0.25, max_epochs=1):
        self.x = x
        self.max_epochs = max_epochs

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])

    def score(self, X, y):
        if self.x == 0.25:
            return float(self.max_epochs == 9)
        return self.x / 2


@pytest.mark.parametrize(
    ("estimator", "space", "expected"),
    [
        (
            SVC(C=3.0),
            {"C": loguniform(0.1, 10), "kernel": ["rbf", "linear"]},
            {"C": 3.0, "kernel": "rbf"},
        ),
        (SVC(C=3.0), {"C": loguniform(0.1, 1)}, {"C": 1.0}),
        (SVC(C=3.0), {"C": [1, 3]}, {"C": 3}),
        (SVC(), {"coef0": norm(), "degree": randint(4, 9)}, {"coef0": 0.0, "degree": 4}),
        (SVC(), {"degree": log_randint(1, 2)}, {"degree": 1}),
        (SVC(), {"shrinking": [False, True]}, {"shrinking": True}),
        (SVC(), {"class_weight": [None, "balanced"]}, {"class_weight": None}),
        (
            SVC(),
            [{"C": loguniform(2, 10)}, {"C": loguniform(0.1, 10), "degree": [3]}],
            {"C": 1.0, "degree": 3},
        ),
        (SVC(), [{"gamma": uniform(0, 1)}, {"C": loguniform(2, 10)}], {"C": 2.0}),
        (
            make_pipeline(StandardScaler(), TorchClassifier(lr=0.02)),
            {
                "torchclassifier__lr": loguniform(1e-4, 1e-1),
                "torchclassifier__optimizer__weight_decay": loguniform(1e-6, 1e-3),
                "torchclassifier__module__dropout": uniform(0, 0.6),
                "torchclassifier__module__activation": ["tanh", "relu"],
            },
            {
                "torchclassifier__lr": 0.02,
                "torchclassifier__optimizer__weight_decay": 1e-3,
                "torchclassifier__module__dropout": 0.0,
                "torchclassifier__module__activation": "relu",
            },
        ),
    ],
)
def test_own_parameters_in_the_space(estimator, space, expected):
    own, _ = nearest(SearchSpace(space), estimator.get_params())
    assert own == expected
    assert {name: type(value) for name, value in own.items()} == {
        name: type(value) for name, value in expected.items()
    }


def test_a_choice_is_that_of_the_space():
    steps = [MinMaxScaler(), StandardScaler()]
    pipeline = Pipeline([("scale", StandardScaler()), ("svc", SVC())])
    own, _ = nearest(SearchSpace({"scale": steps}), pipeline.get_params())
    assert own["scale"] is steps[1]


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        ({"gamma": loguniform(1e-4, 1)}, "gamma='scale' is not in the space"),
        ({"class_weight": ["balanced"]}, "class_weight=None is not in the space"),
        ({"probability": uniform(0, 1)}, "probability=False is not in the space"),
        ({"kernel": ["linear"], "C": [1.0]}, "kernel='rbf' is not in the space"),
        ({"base__x": [1]}, "has no base__x to begin with"),
    ],
)
def test_own_parameters_outside_the_space(space, reason):
    own, why = nearest(SearchSpace(space), SVC(probability=False).get_params())
    assert own is None
    assert reason in why


def hyperband(**kwargs):
    kwargs = {"max_resources": 9, "cv": 2, "random_state": 0} | kwargs
    return HalvingHyperbandSearchCV(Slow(), {"x": uniform(0, 1)}, **kwargs)


@pytest.mark.parametrize("kwargs", [{}, {"sampler": "bayes"}, {"asynchronous": True}], ids=str)
def test_hyperband_starts_with_them_and_all_of_the_resource(kwargs):
    search = hyperband(**kwargs).fit(X, y)
    table = pd.DataFrame(search.cv_results_)
    assert table.loc[0, ["param_x", "n_resources", "bracket", "iter"]].tolist() == [0.25, 9, 2, 0]
    assert search.best_index_ == 0
    assert search.best_score_ == 1.0
    sizes = table.groupby(["bracket", "iter"]).size()
    without = pd.DataFrame(hyperband(enqueue=(), **kwargs).fit(X, y).cv_results_)
    pd.testing.assert_series_equal(sizes, without.groupby(["bracket", "iter"]).size())
    assert 0.25 not in without["param_x"].tolist()


def test_without_a_bracket_of_full_candidates_they_start_in_the_first_rung():
    table = hyperband(n_brackets=1).fit(X, y).cv_results_
    assert (table["param_x"][0], table["n_resources"][0]) == (0.25, 1)
    assert len(table["params"]) == 13


class Stop:
    def on_fit_end(self, search, trial, result):
        if (trial.number, result.split) == (5, 1):
            raise KeyboardInterrupt


def test_resumed_from_a_journal(tmp_path):
    path = tmp_path / "run.jsonl"
    with pytest.warns(SearchStoppedWarning):
        hyperband(journal=path, callbacks=[Stop()]).fit(X, y)
    searches = hyperband(journal=path).fit(X, y), hyperband().fit(X, y)
    tables = [pd.DataFrame(search.cv_results_) for search in searches]
    a, b = (table.filter(regex="^(?!.*_time$)") for table in tables)
    pd.testing.assert_frame_equal(a, b)


def test_bayes_starts_with_them_unless_an_earlier_search_knows_more(tmp_path):
    path = tmp_path / "run.jsonl"
    kwargs = {"n_iter": 3, "cv": 2, "random_state": 0, "refit": False}
    space = {"x": uniform(0, 1)}
    first = BayesSearchCV(Slow(), space, journal=path, **kwargs).fit(X, y)
    assert first.cv_results_["param_x"][0] == 0.25
    warm = BayesSearchCV(Slow(), space, warm_start_from=path, **kwargs).fit(X, y)
    assert 0.25 not in warm.cv_results_["param_x"]
    finite = BayesSearchCV(Slow(), {"x": [0.1, 0.25, 0.3]}, **kwargs).fit(X, y)
    assert finite.cv_results_["param_x"].tolist() in ([0.25, 0.1, 0.3], [0.25, 0.3, 0.1])


def test_other_searches_start_with_them_where_they_are_told_to(caplog):
    space = {"x": [0.1, 0.25, 0.3]}

    def grid(space, random_state):
        return FullScheduler(GridSampler(space), 3)

    kwargs = {"cv": 2, "random_state": 0, "refit": False}
    plain = SearchCV(Slow(), space, scheduler=grid, **kwargs).fit(X, y)
    assert plain.cv_results_["param_x"].tolist() == [0.1, 0.25, 0.3]
    told = SearchCV(Slow(), space, scheduler=grid, enqueue="defaults", **kwargs).fit(X, y)
    assert told.cv_results_["param_x"].tolist() == [0.25, 0.1, 0.3]
    stages = HarmonicaSearchCV(
        Slow(),
        {"x": uniform(0, 1)},
        n_stages=1,
        n_samples=20,
        n_iter=2,
        enqueue="defaults",
        **kwargs,
    ).fit(X, y)
    assert stages.cv_results_["param_x"][0] == 0.25
    caplog.set_level(logging.INFO, logger="skhpo")
    logistic = LogisticRegression(C=5.0)
    BayesSearchCV(logistic, {"C": [0.1, 1.0]}, n_iter=2, **kwargs).fit(X, y)
    assert "own parameters are not tried first: C=5.0 is not in the space" in caplog.text
    with pytest.raises(ValueError, match="'enqueue'"):
        SearchCV(Slow(), space, scheduler=grid, enqueue="default", **kwargs).fit(X, y)
