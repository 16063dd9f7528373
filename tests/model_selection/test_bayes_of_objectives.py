"""Bayesian searches with several objectives and with constraints."""

import numpy as np
import pytest
from scipy.stats import uniform
from sklearn.base import BaseEstimator, ClassifierMixin

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV, SearchCV
from skhpo.objectives import hypervolume
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler

X, Y = np.arange(40.0)[:, None], np.arange(40) % 2
SPACE = {"a": uniform(0, 1), "b": uniform(0, 1), "c": uniform(0, 1)}


class Traded(ClassifierMixin, BaseEstimator):
    """The more of a the better one score and the worse the other; b and c are best at 0.6."""

    def __init__(self, a=0.5, b=0.5, c=0.5, max_epochs=1):
        self.a = a
        self.b = b
        self.c = c
        self.max_epochs = max_epochs

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.cost_ = 10 * self.a
        return self

    def predict(self, X):
        return np.zeros(len(X), dtype=int)


def loss(estimator):
    return (estimator.b - 0.6) ** 2 + (estimator.c - 0.6) ** 2 + 0.1 / estimator.max_epochs


def gain(estimator, X, y):
    return estimator.a - loss(estimator) + 1e-4 * X.mean()


def saving(estimator, X, y):
    return -(estimator.a**2) - loss(estimator)


OBJECTIVES = {
    "scoring": {"gain": gain, "saving": saving},
    "objectives": ["gain", "saving"],
    "constraints": {"cost_": (None, 5.0)},
    "refit": "gain",
    "cv": 2,
    "random_state": 0,
}


def bayes(n_iter=20, **kwargs):
    return BayesSearchCV(
        Traded(), SPACE, **{"n_iter": n_iter, "n_initial_points": 6, **OBJECTIVES, **kwargs}
    )


def volume(search):
    table = search.cv_results_
    values = np.column_stack([table["mean_test_gain"], table["mean_test_saving"]])
    return hypervolume(values[table["feasible"]], [-0.5, -1.0])


@pytest.fixture(scope="module")
def fitted():
    return bayes().fit(X, Y)


def test_the_front_is_found_inside_the_constraint(fitted):
    def random(space, random_state):
        return FullScheduler(RandomSampler(space, random_state), 40)

    others = SearchCV(Traded(), SPACE, scheduler=random, **OBJECTIVES).fit(X, Y)
    assert volume(fitted) > volume(others)
    assert fitted.cv_results_["feasible"][8:].mean() > 0.7
    assert fitted.best_params_["a"] == pytest.approx(0.5, abs=0.05)


def test_predictions_are_of_all_objectives(fitted):
    params = {"a": 0.4, "b": 0.6, "c": 0.6}
    mean, std = fitted.predict_score(params)
    estimator = Traded(**params)
    expected = [gain(estimator, X, Y), saving(estimator, X, Y)]
    assert mean == pytest.approx(expected, abs=0.1)
    assert std.shape == (2,)
    assert fitted.predict_score([params] * 3)[0].shape == (3, 2)
    assert set(fitted.relevance_["param"]) == set(SPACE)


def test_a_resumed_search_goes_on_as_it_would_have(fitted, tmp_path):
    journal = tmp_path / "run.jsonl"
    bayes(n_iter=9, journal=journal).fit(X, Y)
    resumed = bayes(journal=journal).fit(X, Y)
    for a, b in zip(resumed.cv_results_["params"], fitted.cv_results_["params"], strict=True):
        assert a == pytest.approx(b, abs=1e-6)


def test_one_score_with_a_constraint():
    search = bayes(16, objectives=None, scoring=gain, refit=True).fit(X, Y)
    assert search.best_params_["a"] == pytest.approx(0.5, abs=0.05)
    assert search.cv_results_["feasible"][search.best_index_]
    assert isinstance(search.predict_score({"a": 0.4, "b": 0.6, "c": 0.6})[0], float)


def test_hyperband_and_time_per_fit():
    search = HalvingHyperbandSearchCV(
        Traded(), SPACE, sampler="bayes", max_resources=9, factor=3, **OBJECTIVES
    ).fit(X, Y)
    last = search.cv_results_["bracket"] == search.cv_results_["bracket"][-1]
    assert search.cv_results_["feasible"][last].any()
    assert search.sampler_.predict([{"a": 0.4, "b": 0.6, "c": 0.6}])[0].shape == (1, 2)
    per_second = bayes(9, acquisition="log_ei_per_second").fit(X, Y)
    assert len(per_second.pareto_front_) > 1


def test_stopping_rule_is_refused_before_any_fit():
    class Unfit(Traded):
        def fit(self, X, y):
            raise AssertionError("was fitted")

    search = bayes(stop_tol=0.1).set_params(estimator=Unfit())
    with pytest.raises(ValueError, match=r"objectives=\['gain', 'saving'\], but got 0\.1; limit"):
        search.fit(X, Y)
