"""Arguments of Keras estimators: subclasses, fit, several inputs, values that cannot be."""

import io
import pickle
from functools import wraps

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skhpo import (
    BayesSearchCV,
    HalvingHyperbandSearchCV,
    KerasClassifier,
    KerasRegressor,
    SearchCV,
)
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler

pytestmark = [
    pytest.mark.xdist_group("keras"),
    # Keras' own, with NumPy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def build(out_features, units=4):
    import keras

    return keras.Sequential([keras.layers.Dense(units), keras.layers.Dense(out_features)])


class Subclass(KerasClassifier):
    def __init__(self, build_fn=build, *, extra=1, epochs=3, **kwargs):
        super().__init__(build_fn, epochs=epochs, **kwargs)
        self.extra = extra


class SubSubclass(Subclass):
    """Adds nothing."""


@pytest.mark.parametrize("cls", [Subclass, SubSubclass])
def test_a_subclass_keeps_the_parameters_of_its_parents(cls, blobs):
    net = cls(extra=5, units=7, batch_size=64, optimizer__learning_rate=0.5)
    params = net.get_params()
    assert (params["extra"], params["epochs"], params["units"], params["shuffle"]) == (
        5,
        3,
        7,
        True,
    )
    assert clone(net).get_params() == params
    assert clone(net).set_params(batch_size=16, extra=2, units=3).batch_size == 16
    fitted = clone(net).fit(*blobs)
    assert (fitted.n_iter_, fitted.model_.layers[0].units) == (3, 7)
    assert pickle.loads(pickle.dumps(fitted)).get_params() == params


def test_arguments_of_fit_are_those_of_the_fit(blobs):
    import keras

    X, y = blobs
    seen = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    net = KerasClassifier(build, epochs=1, random_state=0)
    net.fit(X, y, epochs=2, callbacks=[note], batch_size=64, class_weight={0: 2, 1: 1, 2: 1})
    assert (net.n_iter_, net.epochs, net.callbacks, net.batch_size) == (2, 1, None, 32)
    given = clone(net).set_params(epochs=2, batch_size=64, class_weight={0: 2, 1: 1, 2: 1})
    np.testing.assert_array_equal(given.fit(X, y).predict_proba(X), net.predict_proba(X))
    net.partial_fit(X, y, epochs=2, callbacks=[note])
    assert net.n_iter_ == 4
    net.partial_fit(X, y, callbacks=[])
    assert seen == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"has no argument 'epoch'; .* nearest first: epochs"):
        net.fit(X, y, epoch=3)
    with pytest.raises(ValueError, match=r"'epochs' .* an int in the range \[1, inf\)"):
        net.fit(X, y, epochs=0)
    assert net.epochs == 1


def test_objectives_and_constraints_of_keras_models_in_pipelines(blobs, monkeypatch):
    trained = []
    fit = KerasClassifier.fit

    @wraps(fit)
    def counting(self, *args, **kwargs):
        trained.append(self.units)
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(KerasClassifier, "fit", counting)
    search = SearchCV(
        make_pipeline(StandardScaler(), KerasClassifier(build, epochs=1)),
        {"kerasclassifier__units": [2, 900]},
        scheduler=lambda space, seed: FullScheduler(GridSampler(space), 2),
        scoring=["accuracy", "neg_predict_time", "neg_n_parameters", "neg_memory"],
        objectives=["accuracy", "neg_predict_time", "neg_memory"],
        constraints={"n_parameters": (None, 100)},
        refit="neg_predict_time",
        cv=2,
    ).fit(*blobs)
    table, sizes = search.cv_results_, [(8 + 1) * n + (n + 1) * 3 for n in (2, 900)]
    assert set(trained) == {2}
    np.testing.assert_array_equal(table["constraint_n_parameters"], sizes)
    np.testing.assert_array_equal(table["mean_test_neg_n_parameters"], [-sizes[0], np.nan])
    assert table["mean_test_neg_predict_time"][0] < 0
    assert table["mean_test_neg_memory"][0] < -1000 * 3 * 4
    assert search.pareto_front_.tolist() == [search.best_index_] == [0]


def test_arguments_of_fit_in_a_search(blobs, monkeypatch):
    import keras

    X, y = blobs[0], blobs[0][:, 0]
    net = KerasRegressor(build, epochs=1, random_state=0)
    params = {"epochs": 2, "validation_data": (X[:20], y[:20], np.ones(20))}
    params["callbacks"] = [keras.callbacks.EarlyStopping("loss")]
    search = BayesSearchCV(net, {"units": [4]}, n_iter=1, cv=2, error_score="raise")
    assert len(search.fit(X, y, **params).best_estimator_.history_["val_loss"]) == 2
    grid = GridSearchCV(net, {"units": [4]}, cv=2).fit(X, y, **params)
    assert search.best_score_ == pytest.approx(grid.best_score_, abs=1e-6)
    monkeypatch.setattr(keras.Model, "fit", lambda *args, **kwargs: pytest.fail("was trained"))
    with pytest.raises(ValueError, match="has no argument 'epoch'"):
        search.fit(X, y, epoch=3)
    with pytest.raises(ValueError, match="'units', which is in param_distributions"):
        search.fit(X, y, units=3)
    hyperband = HalvingHyperbandSearchCV(net, {"units": [4]}, resource="epochs", max_resources=2)
    with pytest.raises(ValueError, match="'epochs', which is the resource"):
        hyperband.fit(X, y, epochs=3)
    for wrong, hint in (({"model": build}, "write build_fn="), ({"model__units": 3}, "'units'")):
        search = BayesSearchCV(KerasRegressor(**wrong), {"epochs": [1, 2]}, n_iter=1, cv=2)
        with pytest.raises(ValueError, match=hint):
            search.fit(X, y)


def two_inputs(out_features):
    import keras

    a, b = (keras.layers.Input((width,), name=name) for width, name in ((2, "a"), (6, "b")))
    output = keras.layers.Dense(out_features)(keras.layers.Concatenate()([a, b]))
    return keras.Model([a, b], output)


def test_several_inputs_by_name_and_by_position(blobs):
    X, y = blobs
    a, b = X[:, :2], X[:, 2:]
    params = {"epochs": 2, "random_state": 0, "optimizer__learning_rate": 0.05}
    nets = [KerasClassifier(two_inputs, **params) for _ in range(4)]
    forms = [{"a": a, "b": b}, {"b": b, "a": a}, [a, b], (torch.from_numpy(a), b)]
    for net, form in zip(nets, forms, strict=True):
        net.fit(form, y, validation_data=(form, y), sample_weight=(y > 0) + 0.5)
        # The same rows in other places of the memory: float32 may round otherwise.
        outputs = net.predict_proba(form), nets[0].predict_proba(forms[0])
        np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-6)
        assert net.history_.keys() == nets[0].history_.keys()
    loaded = pickle.loads(pickle.dumps(nets[2])).partial_fit([a, b], y)
    file = io.BytesIO()
    nets[2].save_checkpoint(file)
    file.seek(0)
    other = KerasClassifier(two_inputs, **params).load_checkpoint(file).partial_fit([a, b], y)
    np.testing.assert_array_equal(loaded.predict([a, b]), other.predict([a, b]))
    # A list of as many arrays as there are targets is one of samples.
    rows = KerasClassifier(build, **params).fit(list(X), y)
    expected = KerasClassifier(build, **params).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(rows.predict_proba(list(X)), expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="must have the keys"):
        nets[2].predict([a])
    with pytest.raises(ValueError, match="validation_data must be like X and y, but: "):
        nets[2].fit([a, b], y, validation_data=([a], y))
    with pytest.raises(ValueError, match="validation_data must be a pair"):
        nets[2].fit([a, b], y, validation_data=[a])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"shuffle": "a"}, "'shuffle' parameter of KerasClassifier must be .* Got 'a'"),
        ({"verbose": "a"}, "'verbose' parameter .* Got 'a'"),
        ({"verbose": 7}, "'verbose' parameter .* Got 7"),
        ({"validation_freq": 0}, "'validation_freq' parameter .* Got 0"),
        ({"optimizer__learning_rate": -1.0}, "learning rate must be a number >= 0, but is -1.0"),
        ({"optimizer__learning_rate": np.nan}, "learning rate must be .* but is nan"),
    ],
)
def test_values_that_cannot_be(params, message, blobs, monkeypatch):
    import keras

    monkeypatch.setattr(keras.Model, "fit", lambda *args, **kwargs: pytest.fail("was trained"))
    with pytest.raises(ValueError, match=message):
        KerasClassifier(build, **params).fit(*blobs)


def test_a_checkpoint_without_weights_is_refused(blobs):
    file = io.BytesIO()
    KerasClassifier(build, epochs=1).fit(*blobs).save_checkpoint(file)
    file.seek(0)
    checkpoint = torch.load(file)
    for spoilt, message in (
        (
            {k: v for k, v in checkpoint.items() if k != "variables"},
            "lacks the section 'variables'",
        ),
        ({**checkpoint, "variables": {"optimizer": []}}, "lacks the variables of 'model'"),
        ({**checkpoint, "variables": {"model": [], "optimizer": []}}, "restore build_fn"),
    ):
        file = io.BytesIO()
        torch.save(spoilt, file)
        file.seek(0)
        with pytest.raises(ValueError, match=message):
            KerasClassifier(build).load_checkpoint(file)
