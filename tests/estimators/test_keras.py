"""Keras models as estimators."""

import copy
import gc
import io
import pickle
import random
import subprocess
import sys
import threading
import weakref
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, check_cv
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._testing import assert_allclose

from skhpo import (
    BayesSearchCV,
    HalvingHyperbandSearchCV,
    KerasClassifier,
    KerasRegressor,
    TorchRegressor,
)
from skhpo.estimators.keras._builders import mlp
from skhpo.exceptions import NonFiniteLossError

pytestmark = [
    pytest.mark.xdist_group("keras"),
    # Keras' own, with NumPy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def create_model(units=8, dropout=0.2):
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((64,)),
            layers.Dense(units, activation="relu"),
            layers.Dropout(dropout),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def uncompiled(in_features, out_features, units=8, activation="softmax"):
    import keras

    dense = keras.layers.Dense
    layers = [dense(units, activation="tanh"), dense(out_features, activation=activation)]
    return keras.Sequential([keras.layers.Input((in_features,)), *layers])


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X[:200] / 16).astype(np.float32), y[:200]


def same(a, b, X):
    return np.array_equal(a.predict_proba(X), b.predict_proba(X)) and a.history_ == b.history_


def test_importing_the_estimators_imports_no_keras():
    code = (
        "import sys, skhpo, skhpo.estimators; from skhpo import KerasClassifier; "
        "KerasClassifier(units=3).get_params(); sys.exit('keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_missing_keras_names_the_extra(monkeypatch, digits):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ImportError, match=r"pip install skhpo\[keras\]"):
        KerasClassifier().fit(*digits)


def test_grid_of_scikit_learn_over_builder_and_fit_arguments(digits):
    model = KerasClassifier(build_fn=create_model, verbose=0, random_state=0)
    space = {"batch_size": [32, 64], "epochs": [1, 3], "units": [4, 16]}
    grid = GridSearchCV(model, space, cv=2).fit(*digits)
    best = grid.best_params_
    assert grid.best_estimator_.model is grid.best_estimator_.model_
    assert len(grid.best_estimator_.model.history.history["loss"]) == best["epochs"]
    assert grid.best_estimator_.model.layers[0].units == best["units"]
    # Epochs that are dropped on the way would make these alike.
    scores = grid.cv_results_["mean_test_score"].reshape(2, 2, 2)
    assert (scores[:, 0] != scores[:, 1]).any()


def test_without_a_builder_it_is_a_multilayer_perceptron(digits):
    X, y = digits
    net = KerasClassifier(n_units=32, n_layers=2, epochs=10, optimizer__learning_rate=0.01)
    net.set_params(random_state=0).fit(X, y)
    assert net.score(X, y) > 0.9
    assert net.n_parameters_ == 64 * 32 + 32 + 32 * 32 + 32 + 32 * 10 + 10
    assert list(net.history_) == ["accuracy", "loss"]
    np.testing.assert_allclose(net.predict_proba(X).sum(axis=1), 1, rtol=1e-5)


def test_an_equal_seed_gives_equal_results_and_leaves_global_generators_alone(digits):
    X, y = digits
    import keras

    keras.utils.set_random_seed(5)

    def states():
        return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002

    before = states()
    nets = [KerasClassifier(create_model, epochs=2, random_state=seed) for seed in (0, 0, 1)]
    for net in nets:
        net.fit(X, y).predict(X)
    assert states() == before
    assert same(nets[0], nets[1], X)
    assert not same(nets[0], nets[2], X)


@pytest.mark.parametrize(
    "mode",
    [torch.no_grad, torch.inference_mode, lambda: torch.device("meta")],
    ids=["no_grad", "inference", "device"],
)
def test_a_mode_of_the_caller_changes_nothing(mode, digits):
    X, y = digits
    settings = {"epochs": 1, "random_state": 0, "dropout": 0.2}
    wanted = KerasClassifier(create_model, **settings).fit(X, y).partial_fit(X, y)
    with mode():
        net = KerasClassifier(create_model, **settings).fit(X, y)
        net = pickle.loads(pickle.dumps(net)).partial_fit(X, y)
        assert same(net, wanted, X)
    assert not any(v.value.is_inference() for v in net.model_.variables)


def test_fits_in_threads_are_those_in_turn(digits):
    X, y = digits
    nets = [KerasClassifier(create_model, epochs=2, random_state=seed) for seed in (0, 1)]
    in_turn = [clone(net).fit(X, y) for net in nets]
    threads = [threading.Thread(target=net.fit, args=(X, y)) for net in nets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(a, b, X) for a, b in zip(nets, in_turn, strict=True))


@pytest.mark.parametrize("way", ["in memory", "pickle", "checkpoint", "deepcopy"])
def test_two_epochs_and_three_more_are_five(way, digits):
    X, y = digits
    weight = np.linspace(0.5, 2, len(y))
    settings = {"dropout": 0.5, "random_state": 0, "validation_split": 0.1}
    long = KerasClassifier(create_model, epochs=5, **settings).fit(X, y, sample_weight=weight)
    net = KerasClassifier(create_model, epochs=2, **settings).fit(X, y, sample_weight=weight)
    if way == "pickle":
        net = pickle.loads(pickle.dumps(net))
    elif way == "deepcopy":
        net = copy.deepcopy(net)
    elif way == "checkpoint":
        file = io.BytesIO()
        net.save_checkpoint(file)
        file.seek(0)
        assert torch.load(file, weights_only=True)
        file.seek(0)
        net = clone(net).load_checkpoint(file)
    net.set_params(epochs=3).partial_fit(X, y, sample_weight=weight)
    assert same(net, long, X)
    assert net.n_iter_ == 5
    assert net.model.history.history == net.history_
    assert net.model.history.epoch == list(range(5))


def test_a_pickle_keeps_the_fitted_model_when_parameters_change(digits):
    X, y = digits
    net = KerasClassifier(create_model, units=4, epochs=1, random_state=0).fit(X, y)
    loaded = pickle.loads(pickle.dumps(net)).set_params(units=16)
    assert same(net, loaded, X)
    assert pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(net)))).model_ is not None


def test_warm_start_refuses_what_the_model_cannot_take(digits):
    net = KerasClassifier(create_model, epochs=1, warm_start=True, random_state=0).fit(*digits)
    assert net.set_params(batch_size=16, units=8, dropout=0.2).fit(*digits).n_iter_ == 2
    message = "model, which cannot take units=4, as it was made with units=8; set warm_start=False"
    with pytest.raises(ValueError, match=message):
        net.set_params(units=4).fit(*digits)
    with pytest.raises(ValueError, match="cannot take loss='mse'"):
        net.set_params(units=8, loss="mse").fit(*digits)
    assert net.set_params(loss=None).fit(*digits).n_iter_ == 3


def test_models_are_freed(digits):
    models = []
    for _ in range(3):
        net = KerasClassifier(create_model, epochs=1).fit(*digits)
        models.append(weakref.ref(net.model_))
    del net
    gc.collect()
    assert [model() for model in models] == [None] * 3


def test_scores_and_kept_predictions_are_of_one_pass(digits, monkeypatch):
    rows, passed = [], KerasClassifier.predict_outputs

    def counting(net, X):
        rows.append(len(X))
        return passed(net, X)

    monkeypatch.setattr(KerasClassifier, "predict_outputs", counting)
    net = KerasClassifier(create_model, epochs=1, random_state=0)
    search = BayesSearchCV(net, {"units": [4]}, n_iter=1, cv=2, return_predictions=True)
    search.set_params(refit=False, scoring=["accuracy", "neg_log_loss"]).fit(*digits)
    assert sum(rows) == len(digits[0])


def test_hyperband_continues_fits(digits, tmp_path):
    space = {"units": [4, 8, 12], "optimizer__learning_rate": [0.01, 0.03, 0.1]}
    settings = {"resource": "epochs", "max_resources": 4, "factor": 2, "cv": 2, "random_state": 0}
    net = KerasClassifier(create_model)
    search = HalvingHyperbandSearchCV(net, space, journal=tmp_path / "j", **settings)
    search.fit(*digits)
    epochs = search.cv_results_["n_resources"]
    assert set(epochs) == {1, 2, 4}
    assert search.best_estimator_.n_iter_ == 4
    again = HalvingHyperbandSearchCV(net, space, **settings).fit(*digits)
    for name in ("mean_test_score", "n_resources"):
        np.testing.assert_array_equal(again.cv_results_[name], search.cv_results_[name])


def test_a_parameter_set_to_its_value_changes_nothing(digits):
    def by_run(hp, input_shape, out_features, validation_split=0.25):
        assert validation_split == 0.25
        return mlp(input_shape, out_features, n_units=hp.Int("units", 2, 8, default=4))

    for builder in (None, create_model, by_run):
        net = KerasClassifier(builder, epochs=2, random_state=0)
        params = {**net.get_params(deep=True), "validation_split": float("0")}
        same_net = clone(net).set_params(**params)
        # One code path, so that not a bit differs.
        assert same(same_net.fit(*digits), net.fit(*digits), digits[0])


@pytest.mark.parametrize("cls", [KerasClassifier, KerasRegressor])
def test_predictions_have_the_precision_of_the_model(digits, cls):
    X, y = digits
    net = cls(epochs=1, random_state=0).fit(X, y)
    output = net.predict_proba if cls is KerasClassifier else net.predict
    assert output(X).dtype == np.float32
    assert_allclose(np.concatenate([output(X[i : i + 1]) for i in range(20)]), output(X)[:20])


def test_labels_of_any_kind(digits):
    X, y = digits
    kept = y < 3
    X, y = X[kept], y[kept]
    settings = {"epochs": 8, "optimizer__learning_rate": 0.02, "random_state": 0}
    expected = KerasClassifier(**settings).fit(X, y).predict(X)
    assert (expected == y).mean() > 0.9
    for labels in (np.array(["a", "b", "c"]), np.array([-5, 0, 7]), np.array([0.0, 1.0, 2.0])):
        net = KerasClassifier(**settings).fit(X, labels[y])
        assert net.classes_.tolist() == labels.tolist()
        assert net.predict(X).tolist() == labels[expected].tolist()
    truth = KerasClassifier(**settings).fit(X, y == 0)
    assert truth.predict(X).dtype == bool
    assert truth.score(X, y == 0) > 0.9
    several = np.stack([y == 0, y != 1], axis=1).astype(int)
    net = KerasClassifier(**settings).fit(X, several)
    assert net.predict_proba(X).shape == net.predict(X).shape == several.shape
    assert net.score(X, several) > 0.8


@pytest.mark.parametrize(
    ("n_classes", "width", "activation", "loss"),
    [
        (2, 1, "sigmoid", None),
        (2, 1, None, None),
        (3, 3, "softmax", None),
        (3, 3, None, None),
        (3, 5, "softmax", None),
        (3, 3, "softmax", "categorical_crossentropy"),
        (3, 3, "softmax", "sparse_categorical_crossentropy"),
        (2, 1, "sigmoid", "binary_crossentropy"),
        (2, 1, "tanh", "hinge"),
    ],
)
def test_outputs_and_losses_of_all_kinds(n_classes, width, activation, loss, digits):
    X, y = digits
    X, y = X[y < n_classes], y[y < n_classes]

    def build():
        return uncompiled(64, width, activation=activation)

    net = KerasClassifier(build, loss=loss, epochs=8, optimizer__learning_rate=0.02)
    net.set_params(random_state=0).fit(X, y)
    assert net.score(X, y) > 0.9
    assert net.predict_proba(X).shape == (len(y), n_classes)
    np.testing.assert_allclose(net.predict_proba(X).sum(axis=1), 1, rtol=1e-5)
    assert (net.predict_proba(X).argmax(axis=1) == net.predict(X)).all()


def test_what_is_set_wins_over_what_the_builder_compiled(digits):
    import keras

    net = KerasClassifier(create_model, epochs=1, optimizer__learning_rate=0.25).fit(*digits)
    assert float(net.model_.optimizer.learning_rate) == 0.25
    assert isinstance(net.model_.optimizer, keras.optimizers.Adam)
    net.set_params(optimizer__beta_1=0.5).fit(*digits)
    assert net.model_.optimizer.beta_1 == 0.5
    assert float(net.model_.optimizer.learning_rate) == 0.25
    net = KerasClassifier(
        create_model, optimizer="sgd", epochs=1, metrics=["sparse_top_k_categorical_accuracy"]
    )
    net.set_params(optimizer__momentum=0.5, loss="sparse_categorical_crossentropy").fit(*digits)
    assert isinstance(net.model_.optimizer, keras.optimizers.SGD)
    assert net.model_.optimizer.momentum == 0.5
    assert "sparse_top_k_categorical_accuracy" in net.history_


def test_a_built_model_is_copied_with_its_weights_and_compilation(digits):
    X, y = digits
    model = create_model(units=4, dropout=0.0)
    model.optimizer.learning_rate = 0.125
    weights = [w.copy() for w in model.get_weights()]
    net = KerasClassifier(model, epochs=1, optimizer__learning_rate=1e-12).fit(X, y)
    for now, before, copied in zip(
        model.get_weights(), weights, net.model_.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(now, before)
        np.testing.assert_allclose(copied, before, atol=1e-9)
    net = KerasClassifier(model, epochs=1).fit(X, y)
    assert float(net.model_.optimizer.learning_rate) == 0.125
    assert "accuracy" in net.history_


def test_a_builder_sees_the_estimators_parameters_by_name(digits):
    seen = []

    def build(in_features, out_features, optimizer="rmsprop", batch_size=7):
        seen.append((optimizer, batch_size))
        model = uncompiled(in_features, out_features)
        model.compile(optimizer, "sparse_categorical_crossentropy")
        return model

    KerasClassifier(build, epochs=1).fit(*digits)
    KerasClassifier(build, epochs=1, optimizer="sgd", batch_size=64).fit(*digits)
    assert seen == [("rmsprop", 7), ("sgd", 64)]


def test_frames_weights_and_class_weights(digits):
    X, y = digits
    frame = pd.DataFrame(X, columns=[f"pixel{i}" for i in range(64)])
    settings = {"epochs": 3, "random_state": 0}
    plain = KerasClassifier(create_model, **settings).fit(X, y)
    named = KerasClassifier(create_model, **settings).fit(frame, pd.Series(y))
    # A frame's columns lie in memory one after another: float32 may round otherwise.
    outputs = named.predict_proba(frame), plain.predict_proba(X)
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-6)
    assert list(named.feature_names_in_) == list(frame.columns)

    weight = np.where(y < 5, 3.0, 1.0)
    by_class = {label: 3.0 if label < 5 else 1.0 for label in range(10)}
    weighted = KerasClassifier(create_model, **settings).fit(X, y, sample_weight=weight)
    dictionary = KerasClassifier(create_model, class_weight=by_class, **settings).fit(X, y)
    assert same(weighted, dictionary, X)
    assert not same(weighted, plain, X)
    balanced = len(y) / (10 * np.bincount(y))[y]
    expected = KerasClassifier(create_model, **settings).fit(X, y, sample_weight=balanced)
    actual = KerasClassifier(create_model, class_weight="balanced", **settings).fit(X, y)
    np.testing.assert_allclose(actual.predict_proba(X), expected.predict_proba(X), rtol=1e-4)


def test_tags_make_folds_stratified(digits):
    assert is_classifier(KerasClassifier(create_model))
    assert is_regressor(KerasRegressor())
    cv = check_cv(3, digits[1], classifier=is_classifier(KerasClassifier()))
    assert type(cv).__name__ == "StratifiedKFold"


def test_clone_keeps_every_parameter():
    net = KerasClassifier(create_model, units=3, epochs=7, optimizer__learning_rate=0.5)
    copy_ = clone(net.set_params(dropout=0.1))
    assert copy_.get_params() == net.get_params()
    assert copy_.get_params()["units"] == 3
    assert KerasClassifier(create_model).get_params()["units"] == 8
    assert clone(make_pipeline(StandardScaler(), net))[-1].dropout == 0.1


def test_validation_and_callbacks(digits):
    import keras

    X, y = digits
    stopping = keras.callbacks.EarlyStopping(monitor="loss", patience=1, min_delta=100)
    net = KerasClassifier(create_model, epochs=9, callbacks=[stopping], validation_split=0.2)
    net.fit(X, y)
    assert net.n_iter_ == 2
    assert stopping.model is None
    assert {"val_loss", "val_accuracy"} <= set(net.history_)
    net = KerasClassifier(create_model, epochs=2).fit(X, y, validation_data=(X[:20], y[:20]))
    assert len(net.history_["val_loss"]) == 2
    assert net.set_params(callbacks=[stopping], epochs=9).partial_fit(X, y).n_iter_ == 4
    assert net.set_params(callbacks=None).partial_fit(X, y, epochs=1).n_iter_ == 5
    assert net.partial_fit(X, y, callbacks=[stopping]).n_iter_ == 7
    assert net.partial_fit(X, y, epochs=3).n_iter_ == 10, "they were for one call"


def test_regression_of_one_and_several_targets(line):
    X, y = line
    settings = {"epochs": 20, "optimizer__learning_rate": 0.02, "random_state": 0}
    net = KerasRegressor(**settings).fit(X, y)
    assert net.score(X, y) > 0.8
    assert net.predict(X).shape == y.shape
    both = np.stack([y, -y], axis=1)
    net = KerasRegressor(uncompiled, activation="linear", **settings).fit(X, both)
    assert net.predict(X).shape == both.shape
    assert net.score(X, both) > 0.8
    assert pickle.loads(pickle.dumps(net)).score(X, both) == net.score(X, both)


DATES = np.arange(40).astype("datetime64[D]")


@pytest.mark.parametrize("net", [KerasRegressor(), TorchRegressor(device="cpu")], ids=repr)
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (DATES, r"y must be of numbers, but has the type datetime64\[D\]; convert it, as by"),
        (DATES - DATES[0], r"has the type timedelta64\[D\]; convert it"),
        (pd.DataFrame({"when": DATES, "x": 1.0}), r"but y\['when'\] has the type datetime64"),
        (np.array(["a", "b"] * 20), "y must be of numbers, but .* a classifier takes labels"),
        (
            pd.Series(["a", "b"] * 20, dtype="category"),
            "y must be of numbers, but .* a classifier takes labels",
        ),
        (np.arange(40) * 1e38, "y must fit into float32 .* has the value 3.9e.39; scale"),
        ([None] + [1.0] * 39, "y contains NaN"),
        ({"a": np.ones(40)}, "(TorchRegressor|criterion of your own)"),
    ],
    ids=["dates", "durations", "frame", "strings", "categories", "large", "none", "dict"],
)
def test_targets_of_a_regressor_are_numbers(net, y, message, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "backward", lambda *args: pytest.fail("was trained"))
    with pytest.raises(ValueError, match=message):
        clone(net).fit(np.ones((40, 2), np.float32), y)


def test_targets_that_are_numbers_of_any_kind(line):
    X, y = line
    settings = {"epochs": 1, "random_state": 0}
    wanted = KerasRegressor(**settings).fit(X, y).predict(X)
    kinds = [y.astype(object), y.tolist(), [Decimal(value) for value in y.tolist()]]
    kinds += [pd.Series(y), torch.tensor(y), y.astype(">f8"), np.longdouble(y)]
    for kind in kinds:
        assert np.array_equal(KerasRegressor(**settings).fit(X, kind).predict(X), wanted)
    with pytest.raises(ValueError, match="at most two dimensions, but has the shape"):
        KerasRegressor().fit(X, X[:, None])


class Nothing:
    """Builders that do wrong, at the top level so that they have names."""

    @staticmethod
    def forgets_to_return(units=3):
        create_model(units)

    @staticmethod
    def of_another_width():
        return uncompiled(64, 3)

    @staticmethod
    def of_other_inputs():
        return uncompiled(5, 10)

    @staticmethod
    def of_images():
        import keras

        return keras.Sequential([keras.layers.Input((64,)), keras.layers.Reshape((8, 8))])


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (KerasClassifier(Nothing.forgets_to_return), "returned nothing; does it lack its return"),
        (KerasClassifier(lambda: 3), "returned 3"),
        (KerasClassifier(build_fn="mlp"), "build_fn must be a function"),
        (KerasClassifier(Nothing.of_images), "no loss can be inferred for the uncompiled"),
        (KerasClassifier(Nothing.of_another_width), "an output for each of 10 classes"),
        (KerasClassifier(Nothing.of_other_inputs), r"inputs of shape X \(8, 64\)"),
        (KerasClassifier(create_model, unit=3), "'unit'.*nearest first: units"),
        (KerasClassifier(lambda a: create_model(a)), "'a' .* has none; set it"),
        (KerasClassifier(create_model, optimizer__rate=3), "optimizer__.*learning_rate"),
        (KerasClassifier(create_model, optimizer="adm"), "known: 'adam'"),
        (KerasClassifier(create_model, epochs=0), r"'epochs' .* an int in the range \[1, inf\)"),
        (KerasClassifier(create_model, epochs=1.5), r"'epochs' .* an int in the range \[1, inf\)"),
        (
            KerasClassifier(create_model, validation_split=1),
            r"'validation_split' .* in the range \[0.0, 1.0\)",
        ),
        (KerasClassifier(create_model, callbacks=3), "'callbacks' .* None, .*'list'"),
        (KerasClassifier(create_model, class_weight="even"), "class_weight must be"),
    ],
    ids=lambda value: value[:25] if isinstance(value, str) else "",
)
def test_wrong_input_is_told_before_training(net, message, digits, monkeypatch):
    import keras

    monkeypatch.setattr(keras.Model, "fit", lambda *args, **kwargs: pytest.fail("was trained"))
    with pytest.raises((ValueError, TypeError), match=message):
        net.fit(*digits)
    with pytest.raises(NotFittedError):
        net.predict(digits[0])


def test_set_params_names_the_nearest_known_names():
    net = KerasClassifier(create_model)
    for name, nearest in [("unitz", "units"), ("epoch", "epochs"), ("fit", "attribute")]:
        with pytest.raises(ValueError, match=nearest):
            net.set_params(**{name: 1})
    with pytest.raises(ValueError, match="optimizer__learning_rate"):
        net.set_params(optimizer__learningrate=1)


def test_a_loss_that_is_not_finite_is_an_error(digits):
    X, y = digits
    net = KerasClassifier(optimizer="sgd", optimizer__learning_rate=1e30, epochs=3)
    with pytest.raises(NonFiniteLossError, match="lower optimizer__learning_rate"):
        net.fit(X * 100, y)


def test_resuming_needs_torch(digits, monkeypatch):
    import keras

    net = KerasClassifier(create_model, epochs=1).fit(*digits)
    monkeypatch.setattr(keras.config, "backend", lambda: "tensorflow")
    with pytest.raises(RuntimeError, match="KERAS_BACKEND=torch"):
        net.partial_fit(*digits)
    monkeypatch.setattr(keras.Model, "fit", lambda *args, **kwargs: pytest.fail("was trained"))
    search = HalvingHyperbandSearchCV(
        make_pipeline(StandardScaler(), net),
        {"kerasclassifier__units": [4, 8]},
        resource="kerasclassifier__epochs",
        max_resources=3,
    )
    with pytest.raises(RuntimeError, match="a search whose resource is 'epochs' needs Keras on"):
        search.fit(*digits)


def test_a_checkpoint_of_another_model_is_refused(digits):
    file = io.BytesIO()
    KerasClassifier(create_model, units=3, epochs=1).fit(*digits).save_checkpoint(file)
    file.seek(0)
    with pytest.raises(ValueError, match="restore build_fn and the parameters"):
        KerasClassifier(create_model, units=4).load_checkpoint(file)
    file.seek(0)
    with pytest.raises(ValueError, match="one of KerasRegressor"):
        KerasRegressor().load_checkpoint(file)


def test_fitted_attributes_are_documented(digits, undocumented):
    for cls in (KerasClassifier, KerasRegressor):
        assert undocumented(cls(epochs=1).fit(*digits)) == set()
