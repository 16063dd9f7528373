"""Keras builders that define their space while they run."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone

from skhpo import HalvingHyperbandSearchCV, KerasClassifier, KerasRegressor, distributions_of
from skhpo.define_by_run import _builders

pytestmark = pytest.mark.xdist_group("keras")


def build(hp, out_features=3):
    import keras

    layers = keras.layers
    stack = [layers.Dense(hp.Int("units", 4, 12, step=4), activation="relu")]
    if hp.Boolean("extra"):
        stack.append(layers.Dropout(hp.Float("dropout", 0.1, 0.5)))
    model = keras.Sequential([*stack, layers.Dense(out_features, activation="softmax")])
    rate = hp.Float("lr", 1e-3, 1e-1, sampling="log")
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    return model


def alike(hp):
    hp.Int("units", 1, 2)
    hp.Int("units", 1, 3)


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.RandomState(0)
    y = np.arange(60) % 3
    return (rng.randn(60, 5) + 3 * np.eye(3, 5)[y]).astype(np.float32), y


def test_hyperparameters_are_parameters_of_the_estimator(blobs):
    net = KerasClassifier(build, units=8, epochs=1, random_state=0)
    params = net.get_params()
    assert (params["units"], params["extra"], params["lr"]) == (8, False, 1e-3)
    assert net.fit(*blobs).model_.layers[0].units == 8
    net.set_params(extra=True, dropout=0.25, lr=0.5).fit(*blobs)
    assert net.model_.layers[1].rate == 0.25
    assert float(net.model_.optimizer.learning_rate) == 0.5
    assert clone(net).get_params()["dropout"] == 0.25
    loaded = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(loaded.predict_proba(blobs[0]), net.predict_proba(blobs[0]))
    with pytest.raises(ValueError, match="nearest first: units"):
        net.set_params(unit=3)
    with pytest.raises(ValueError, match=r"never asks for 'unit'.*'units'"):
        KerasClassifier(build, unit=3).fit(*blobs)
    with pytest.raises(ValueError, match=r"'units' is Int\('units', 1, 2"):
        KerasRegressor(alike).fit(*blobs)


def test_a_search_takes_the_space_of_the_model_and_continues_fits(blobs):
    search = HalvingHyperbandSearchCV(
        KerasClassifier(build, batch_size=20),
        "model",
        resource="epochs",
        max_resources=4,
        factor=2,
        cv=2,
        random_state=0,
    )
    search.fit(*blobs)
    assert sorted(map(sorted, search.param_distributions_)) == [
        ["dropout", "extra", "lr", "units"],
        ["extra", "lr", "units"],
    ]
    assert search.best_estimator_.n_iter_ == 4
    assert clone(search.estimator).set_params(**search.best_params_).units in (4, 8, 12)


def test_a_worker_need_not_explore_again(monkeypatch, blobs):
    distributions_of(build)
    pickled = pickle.dumps(KerasClassifier(build, units=8))
    monkeypatch.setattr(_builders, "explore", lambda *_, **__: pytest.fail("explored again"))
    _builders._KNOWN.clear()
    net = pickle.loads(pickled).set_params(units=4)
    assert clone(net).set_params(extra=True).get_params()["units"] == 4
