"""Wrappers around a network take nothing away from a search."""

import logging

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import make_classification, make_regression
from sklearn.linear_model import LogisticRegression, Ridge, SGDRegressor
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

import skhpo.lockstep
from skhpo import HalvingHyperbandSearchCV, SearchCV, TorchClassifier, TorchRegressor
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

X, y = make_regression(90, 4, noise=1.0, random_state=0)
X_labelled, labels = make_classification(90, 4, random_state=0)


def whole_grid(space, random_state):
    return FullScheduler(GridSampler(space), n_candidates=space.size)


def grid(estimator, space, *data, fit_params=None, **kwargs):
    search = SearchCV(estimator, space, scheduler=whole_grid, cv=3, random_state=0, **kwargs)
    return search.fit(*data, **fit_params or {})


def scores(search):
    return search.cv_results_["mean_test_score"]


def scaled(estimator):
    return Pipeline([("scale", StandardScaler()), ("last", estimator)])


def of_scaled_y(estimator):
    return TransformedTargetRegressor(estimator, transformer=StandardScaler())


NET = TorchRegressor(module__n_units=8, max_epochs=2, random_state=0)
WRAPPED = {
    "target": ("regressor__", of_scaled_y(NET)),
    "all": ("last__regressor__last__", scaled(of_scaled_y(scaled(NET)))),
}


class Curves:
    """Keeps the lengths of the learning curves that a search has read."""

    curves = True

    def __init__(self):
        self.lengths = []

    def on_fit_end(self, search, trial, result):
        self.lengths.append(len((result.curves or {}).get("train_loss", ())))


@pytest.fixture
def together(monkeypatch):
    """The numbers of networks that are trained as one."""
    sizes = []
    train_together = skhpo.lockstep.train_together

    def spy(members):
        sizes.append(len(members))
        return train_together(members)

    monkeypatch.setattr(skhpo.lockstep, "train_together", spy)
    return sizes


@pytest.mark.parametrize("name", WRAPPED)
def test_networks_train_together_continue_and_show_their_curves(name, together):
    prefix, estimator = WRAPPED[name]
    space = {prefix + "lr": [0.01, 0.03, 0.1]}
    expected = GridSearchCV(estimator, space, cv=3).fit(X, y)
    search = grid(estimator, space, X, y, lockstep=True)
    np.testing.assert_allclose(scores(search), scores(expected), rtol=1e-3)
    assert together == [9]
    np.testing.assert_allclose(search.predict(X), expected.predict(X), rtol=1e-3)

    kwargs = {"resource": prefix + "max_epochs", "max_resources": 3, "cv": 2, "random_state": 0}
    curves = Curves()
    search = HalvingHyperbandSearchCV(
        estimator, space, lockstep=False, callbacks=[curves], **kwargs
    )
    search.fit(X, y)
    assert set(curves.lengths) == {1, 3}
    joint = HalvingHyperbandSearchCV(estimator, space, lockstep=True, **kwargs).fit(X, y)
    np.testing.assert_allclose(scores(joint), scores(search), rtol=1e-3, atol=1e-4)


FITTED = []


class Counting(RegressorMixin, BaseEstimator):
    """Counts the epochs that it is trained."""

    def __init__(self, level=0.0, max_epochs=10):
        self.level = level
        self.max_epochs = max_epochs

    def fit(self, X, y):
        self.n_features_in_ = X.shape[1]
        return self.partial_fit(X, y)

    def partial_fit(self, X, y):
        FITTED.append(self.max_epochs)
        self.mean_ = np.mean(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.mean_ + self.level)


@pytest.mark.parametrize(
    ("prefix", "whole"),
    [
        ("regressor__last__", of_scaled_y(scaled(Counting()))),
        ("last__regressor__", scaled(of_scaled_y(Counting()))),
    ],
    ids=["out", "in"],
)
def test_a_larger_level_goes_on_from_the_smaller_one(prefix, whole):
    FITTED.clear()
    search = HalvingHyperbandSearchCV(
        whole,
        {prefix + "level": [0.0, 0.1, 0.2, 0.3]},
        resource=prefix + "max_epochs",
        max_resources=9,
        n_brackets=1,
        cv=2,
        refit=False,
        random_state=0,
    ).fit(X, y)
    table = search.cv_results_
    last = dict(zip(table["candidate"], table["n_resources"], strict=True))
    assert sum(FITTED) == 2 * sum(last.values())
    # Each level is a fit of its own where the resource is another's, or counts rows.
    FITTED.clear()
    search.set_params(resource="n_samples", max_resources=30, min_resources=10).fit(X, y)
    assert len(FITTED) == 2 * len(search.cv_results_["params"])


def test_epochs_that_are_counted_one_by_one_are_refitted_so():
    whole = of_scaled_y(scaled(SGDRegressor(tol=10.0, random_state=0)))
    search = HalvingHyperbandSearchCV(
        whole,
        {"regressor__last__alpha": [1e-4, 1e-2]},
        resource="regressor__last__max_iter",
        min_resources=3,
        max_resources=9,
        cv=2,
        random_state=0,
    ).fit(X, y)
    best = search.best_estimator_
    assert best.regressor_.steps[-1][1].t_ == 1 + 9 * len(y)
    assert not hasattr(best.regressor.steps[-1][1], "t_")
    assert search.score(X, y) > 0.9


def test_thresholds_are_set_after_training(together):
    net = TorchClassifier(module__n_units=8, max_epochs=2, random_state=0)
    whole = FixedThresholdClassifier(net)
    space = {"estimator__lr": [0.01, 0.1], "threshold": [0.2, 0.8]}
    expected = GridSearchCV(whole, space, cv=3).fit(X_labelled, labels)
    search = grid(whole, space, X_labelled, labels, lockstep=True)
    np.testing.assert_allclose(scores(search), scores(expected), atol=1e-6)
    assert sum(together) == 12
    assert len(set(scores(search))) > 2


def test_what_is_inside_may_differ_between_candidates():
    poly = scaled(make_pipeline(PolynomialFeatures(), Ridge()))
    space = [
        {"last": [Ridge(), of_scaled_y(Ridge(10.0)), make_pipeline(StandardScaler(), Ridge(5.0))]},
        {"last__ridge__alpha": [0.1, 100.0], "scale": ["passthrough", StandardScaler()]},
        {"steps": [[("only", Ridge(50.0))], [("a", StandardScaler()), ("b", Ridge(50.0))]]},
    ]
    expected = GridSearchCV(poly, space, cv=3).fit(X, y)
    np.testing.assert_allclose(scores(grid(poly, space, X, y)), scores(expected))


class Bootstraps(Pipeline):
    """A pipeline that changes rows and targets, as those of imbalanced-learn do."""

    def fit(self, X, y):
        rows = np.random.RandomState(0).randint(len(X), size=len(X))
        return super().fit(X[rows], y[rows])


def test_a_subclass_of_pipeline_is_fitted_whole():
    whole = Bootstraps([("scale", StandardScaler()), ("last", LogisticRegression())])
    space = {"last__C": [0.01, 1.0]}
    for estimator, prefix in ((whole, ""), (make_pipeline(whole), "bootstraps__")):
        named = {prefix + name: values for name, values in space.items()}
        expected = GridSearchCV(estimator, named, cv=3).fit(X_labelled, labels)
        search = grid(estimator, named, X_labelled, labels)
        np.testing.assert_allclose(scores(search), scores(expected))
        np.testing.assert_array_equal(search.predict(X_labelled), expected.predict(X_labelled))


def test_what_is_lost_is_said_once(caplog):
    caplog.set_level(logging.INFO, "skhpo")
    net = TorchClassifier(module__n_units=4, max_epochs=1, random_state=0)
    calibrated = CalibratedClassifierCV(net, cv=2)
    grid(calibrated, {"estimator__lr": [0.01, 0.1]}, X_labelled, labels)
    (message,) = [record.message for record in caplog.records if record.levelname == "INFO"]
    assert "CalibratedClassifierCV is fitted whole, with the TorchClassifier inside" in message
    caplog.clear()
    grid(make_pipeline(net), {"torchclassifier__lr": [0.01, 0.1]}, X_labelled, labels)
    assert not [record for record in caplog.records if record.levelname == "INFO"]


def test_arguments_of_fit_are_refused_before_any_training():
    FITTED.clear()
    weight = np.ones(len(y))
    for estimator, prefix, name, error, message in (
        (make_pipeline(Counting()), "counting__", "sample_weight", ValueError, "does not accept"),
        (make_pipeline(Counting()), "counting__", "counting__sample_weight", TypeError, "leave it"),
        (Counting(), "", "max_epochs", TypeError, r"set it in Counting\(...\)"),
        (of_scaled_y(Counting()), "regressor__", "epochs", TypeError, "no argument 'epochs'"),
    ):
        for make in (lambda e, s: SearchCV(e, s, scheduler=whole_grid), GridSearchCV):
            kind = error if make is not GridSearchCV else ValueError
            with pytest.raises(kind, match=message if kind is error else "fits failed"):
                make(clone(estimator), {prefix + "level": [0.0]}).fit(X, y, **{name: weight})
    assert FITTED == []
    # What the space puts there may take other arguments.
    space = {"counting": [Ridge(alpha=2.0)]}
    params = {"counting__sample_weight": np.linspace(0, 1, len(y))}
    expected = GridSearchCV(make_pipeline(Counting()), space, cv=3).fit(X, y, **params)
    search = grid(make_pipeline(Counting()), space, X, y, fit_params=params)
    np.testing.assert_allclose(scores(search), scores(expected))
