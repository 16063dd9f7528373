"""A fit that is continued ends where an uninterrupted one would."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.ensemble import (
    BaggingClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.svm import SVC

from skhpo.evaluation._continuation import advance, way_to_continue

X, y = make_classification(n_samples=120, n_features=6, random_state=0)


def in_two_steps(estimator, resource, first, second):
    _, state = advance(clone(estimator), None, resource, X, y, {}, done=0, target=first)
    fitted, _ = advance(clone(estimator), state, resource, X, y, {}, done=first, target=second)
    return fitted


@pytest.mark.parametrize(
    ("estimator", "resource"),
    [
        (RandomForestClassifier(random_state=0), "n_estimators"),
        (ExtraTreesRegressor(random_state=0), "n_estimators"),
        (BaggingClassifier(random_state=0), "n_estimators"),
        (GradientBoostingClassifier(random_state=0, subsample=0.7), "n_estimators"),
        (HistGradientBoostingClassifier(random_state=0), "max_iter"),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else value,
)
def test_warm_started_estimators_equal_one_fit(estimator, resource):
    assert way_to_continue(estimator, resource, y) == "warm_start"
    method = "predict_proba" if hasattr(estimator, "predict_proba") else "predict"
    direct = clone(estimator).set_params(**{resource: 9}).fit(X, y)
    continued = in_two_steps(estimator, resource, 3, 9)
    np.testing.assert_allclose(getattr(continued, method)(X), getattr(direct, method)(X))


def test_warm_start_trains_only_what_is_missing(monkeypatch):
    estimator = RandomForestClassifier(random_state=0)
    _, state = advance(clone(estimator), None, "n_estimators", X, y, {}, done=0, target=3)
    old = list(state.estimators_)
    fitted, _ = advance(clone(estimator), state, "n_estimators", X, y, {}, done=3, target=9)
    assert fitted.estimators_[:3] == old
    assert len(fitted.estimators_) == 9


@pytest.mark.parametrize(
    "estimator",
    [
        MLPClassifier(hidden_layer_sizes=4, random_state=0),
        MLPRegressor(hidden_layer_sizes=4, random_state=0),
        SGDClassifier(random_state=0),
        SGDRegressor(random_state=0),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_one_partial_fit_per_epoch(estimator):
    assert way_to_continue(estimator, "max_iter", y) == "partial_fit_per_epoch"
    direct = clone(estimator).set_params(random_state=np.random.RandomState(0))
    more = (
        {"classes": [0, 1]} if hasattr(estimator, "classes") or "Class" in repr(estimator) else {}
    )
    for _ in range(9):
        direct.partial_fit(X, y, **more)
    continued = in_two_steps(estimator, "max_iter", 3, 9)
    np.testing.assert_array_equal(continued.predict(X), direct.predict(X))
    trained = continued.n_iter_ if hasattr(continued, "loss_curve_") else continued.t_
    assert trained == (direct.n_iter_ if hasattr(direct, "loss_curve_") else direct.t_)


def test_epochs_of_an_integer_seed_are_shuffled_differently():
    order = []

    class Recording(SGDClassifier):
        def partial_fit(self, X, y, classes=None, sample_weight=None):
            order.append(self.random_state.get_state()[2])
            return super().partial_fit(X, y, classes, sample_weight)

    advance(Recording(random_state=0), None, "max_iter", X, y, {}, done=0, target=3)
    assert len(set(order)) == 3


@pytest.mark.parametrize(
    ("estimator", "resource"),
    [
        (MLPClassifier(solver="lbfgs"), "max_iter"),
        (MLPClassifier(early_stopping=True), "max_iter"),
        (SGDClassifier(class_weight="balanced"), "max_iter"),
        (SGDClassifier(learning_rate="adaptive", eta0=0.1), "max_iter"),
        (SGDClassifier(), "n_iter_no_change"),
        (GradientBoostingClassifier(n_iter_no_change=3), "n_estimators"),
        (HistGradientBoostingClassifier(early_stopping=True), "max_iter"),
        (BaggingClassifier(oob_score=True), "n_estimators"),
        (RandomForestClassifier(class_weight="balanced"), "n_estimators"),
        (LogisticRegression(), "max_iter"),
        (SVC(), "max_iter"),
        (RandomForestClassifier(), "max_depth"),
        (HistGradientBoostingClassifier(), "n_samples"),
    ],
)
def test_anything_else_is_trained_again(estimator, resource):
    assert way_to_continue(estimator, resource, y) == "retrain"


def test_multilabel_targets_are_trained_again():
    assert way_to_continue(MLPClassifier(), "max_iter", np.eye(4)) == "retrain"


def test_training_again_starts_from_scratch():
    estimator = LogisticRegression()
    _, state = advance(clone(estimator), None, "max_iter", X, y, {}, done=0, target=100)
    assert state is None
    fitted, _ = advance(clone(estimator), None, "max_iter", X, y, {}, done=0, target=200)
    assert fitted.max_iter == 200
    np.testing.assert_array_equal(fitted.coef_, LogisticRegression(max_iter=200).fit(X, y).coef_)
