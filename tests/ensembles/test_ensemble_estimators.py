"""Estimators that average others."""

import io
import pickle
import warnings

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from skhpo import EnsembleClassifier, EnsembleRegressor, TorchClassifier, TorchRegressor
from skhpo.estimators import TorchClassifier as Net

TREES = [DecisionTreeClassifier(max_depth=d, random_state=0) for d in (2, 4)]


@parametrize_with_checks(
    [
        EnsembleClassifier([LogisticRegression(), DecisionTreeClassifier(max_depth=3)]),
        EnsembleRegressor([Ridge(), DecisionTreeRegressor(max_depth=3)]),
    ]
)
def test_scikit_learns_contract(estimator, check):
    check(estimator)


def test_it_is_the_weighted_average(blobs):
    X, y = blobs
    both = EnsembleClassifier(TREES, weights=[3, 1]).fit(X, y)
    alone = [clone(tree).fit(X, y).predict_proba(X) for tree in TREES]
    expected = 0.75 * alone[0] + 0.25 * alone[1]
    np.testing.assert_allclose(both.predict_proba(X), expected)
    np.testing.assert_array_equal(both.predict(X), both.classes_[expected.argmax(axis=1)])
    assert not hasattr(both, "decision_function")
    assert all(not hasattr(tree, "tree_") for tree in TREES)
    with pytest.raises(AttributeError, match="no n_parameters_"):
        _ = both.n_parameters_


def test_averaged_probabilities_sum_to_one(blobs):
    X, y = blobs
    ensemble = EnsembleClassifier(nets(TorchClassifier), weights=[3, 1, 1]).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what scikit-learn thinks of probabilities that do not
        log_loss(y, ensemble.predict_proba(X))


def test_votes_and_decision_values(blobs):
    X, y = blobs
    names = np.array(["a", "b", "c"])[y]
    voting = EnsembleClassifier([*TREES, RidgeClassifier()], method="predict").fit(X, names)
    alone = np.array([member.predict(X) for member in voting.members_])
    votes = (alone[..., None] == voting.classes_).sum(axis=0)
    np.testing.assert_array_equal(voting.predict(X), voting.classes_[votes.argmax(axis=1)])
    assert not hasattr(voting, "predict_proba")
    ridges = EnsembleClassifier([RidgeClassifier(alpha=a) for a in (1, 100)]).fit(X, names)
    assert ridges.method_ == "decision_function"
    alone = [member.decision_function(X) for member in ridges.members_]
    np.testing.assert_allclose(ridges.decision_function(X), np.mean(alone, axis=0))


def test_members_that_know_other_classes(blobs):
    X, y = blobs
    some = TREES[0].fit(X[y < 2], y[y < 2])
    every = clone(TREES[1]).fit(X, y)
    both = EnsembleClassifier.from_fitted([some, every])
    probabilities = both.predict_proba(X)
    np.testing.assert_array_equal(both.classes_, [0, 1, 2])
    np.testing.assert_allclose(probabilities[:, 2], every.predict_proba(X)[:, 2] / 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    ridges = [RidgeClassifier().fit(X[y < 2], y[y < 2]), RidgeClassifier().fit(X, y)]
    with pytest.raises(ValueError, match="must know all classes"):
        EnsembleClassifier.from_fitted(ridges).predict(X)


def nets(kind, **kwargs):
    common = {"max_epochs": 2, "batch_size": 64, **kwargs}
    return [
        make_pipeline(StandardScaler(), kind(lr=lr, random_state=seed, **common))
        for seed, lr in enumerate([0.01, 0.02, 0.03])
    ]


@pytest.mark.parametrize("kind", [TorchClassifier, TorchRegressor])
def test_networks_are_trained_together_and_predict_in_one_pass(kind, blobs, monkeypatch):
    X, y = blobs
    y = y if kind is TorchClassifier else y.astype(np.float32)
    of = EnsembleClassifier if kind is TorchClassifier else EnsembleRegressor
    members = nets(kind)
    ensemble = of(members).fit(X, y)
    alone = [clone(member).fit(X, y) for member in members]
    method = "predict_proba" if kind is TorchClassifier else "predict"
    expected = np.mean([getattr(one, method)(X) for one in alone], axis=0)
    passes = []
    own = Net.forward_iter
    monkeypatch.setattr(Net, "forward_iter", lambda *a, **k: passes.append(1) or own(*a, **k))
    np.testing.assert_allclose(getattr(ensemble, method)(X), expected, rtol=1e-4, atol=1e-6)
    assert not passes
    assert getattr(ensemble, method)(X).dtype == np.float32
    assert ensemble.n_parameters_ == 3 * alone[0][-1].n_parameters_


def test_it_is_pickled_dumped_and_cloned(blobs):
    X, y = blobs
    ensemble = EnsembleClassifier(nets(TorchClassifier), weights=[1, 2, 3]).fit(X, y)
    file = io.BytesIO()
    joblib.dump(ensemble, file)
    file.seek(0)
    for copy in (pickle.loads(pickle.dumps(ensemble)), joblib.load(file)):
        np.testing.assert_array_equal(copy.predict_proba(X), ensemble.predict_proba(X))
    assert not hasattr(clone(ensemble), "members_")
    np.testing.assert_allclose(clone(ensemble).fit(X, y).weights_, [1 / 6, 1 / 3, 1 / 2])


def test_in_a_pipeline_and_cross_validated(blobs):
    X, y = blobs
    scores = cross_val_score(make_pipeline(StandardScaler(), EnsembleClassifier(TREES)), X, y, cv=3)
    assert scores.mean() > 0.5


def test_metadata(blobs):
    X, y = blobs
    weight = (y > 0).astype(float)
    ensemble = EnsembleClassifier(TREES).fit(X, y, sample_weight=weight)
    assert set(ensemble.predict(X)) == {1, 2}
    with sklearn.config_context(enable_metadata_routing=True):
        asks = [clone(TREES[0]).set_fit_request(sample_weight=True), TREES[1]]
        asks[1] = clone(asks[1]).set_fit_request(sample_weight=False)
        routed = EnsembleClassifier(asks).fit(X, y, sample_weight=weight)
    assert set(routed.members_[0].predict(X)) == {1, 2}
    assert set(routed.members_[1].predict(X)) == {0, 1, 2}


def test_several_labels(blobs):
    X, y = blobs
    labels = np.column_stack([y == 0, y > 0, y == 2]).astype(int)
    networks = [TorchClassifier(max_epochs=2, random_state=seed) for seed in (0, 1)]
    ensemble = EnsembleClassifier(networks).fit(X, labels)
    alone = [member.predict_proba(X) for member in ensemble.members_]
    np.testing.assert_allclose(ensemble.predict_proba(X), np.mean(alone, axis=0), rtol=1e-5)
    np.testing.assert_array_equal(ensemble.predict(X), (np.mean(alone, axis=0) > 0.5).astype(int))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"estimators": []}, "there is none"),
        ({"estimators": [Ridge()]}, "must be a list of classifiers, but one is Ridge"),
        ({"estimators": [3]}, "but one is 3"),
        ({"estimators": TREES, "weights": [1]}, "weights must be 2 numbers"),
        ({"estimators": TREES, "weights": [-1, 2]}, "weights must be 2 numbers"),
        ({"estimators": TREES, "weights": [0, 0]}, "not all 0"),
    ],
    ids=["none", "regressor", "number", "few weights", "negative", "zeros"],
)
def test_bad_arguments(arguments, message, blobs):
    with pytest.raises(ValueError, match=message):
        EnsembleClassifier(**arguments).fit(*blobs)


def test_every_fitted_attribute_is_documented(blobs, undocumented):
    X, y = blobs
    assert undocumented(EnsembleClassifier(TREES).fit(X, y)) == set()
    regressor = EnsembleRegressor([TorchRegressor(max_epochs=1)])
    assert undocumented(regressor.fit(X, y.astype(float))) == set()
