"""Rows to check on that are passed to fit."""

import numpy as np
import pytest
import scipy.sparse
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from skorch.dataset import Dataset, ValidSplit

from skhpo.estimators import MLP, TorchClassifier, TorchRegressor
from skhpo.lockstep import Member, train_together

NET = TorchClassifier(module__n_units=8, lr=0.1, max_epochs=5, batch_size=16, random_state=0)
ROWS = np.arange(0, 150, 5)


def losses(net):
    return net.history_[:, "valid_loss"]


@pytest.fixture(scope="module")
def parts(blobs):
    X, y = blobs
    mask = np.isin(np.arange(150), ROWS)
    return (X[~mask], y[~mask]), (X[mask], y[mask]), mask


@pytest.fixture(scope="module")
def fitted(parts):
    train, valid, _ = parts
    return clone(NET).fit(*train, validation_data=valid)


def test_the_best_on_a_pair_predicts(fitted, parts):
    (X, y), (X_valid, y_valid), _ = parts
    assert len(losses(fitted)) == 5
    p = fitted.predict_proba(X_valid)[np.arange(30), y_valid]
    assert -np.log(p).mean() == pytest.approx(min(losses(fitted)), rel=1e-5)
    # Checks draw nothing and change nothing of training.
    plain = clone(NET).fit(X, y)
    assert plain.history_[:, "train_loss"] == fitted.history_[:, "train_loss"]


@pytest.mark.parametrize("form", ["numbers", "list", "mask", "loop", "sparse", "dict"])
def test_rows_by_number_are_not_trained_on(form, parts, blobs, fitted):
    (X, y), mask = blobs, parts[2]
    rows = {"list": ROWS.tolist(), "mask": mask}.get(form, ROWS)
    net = clone(NET)
    if form == "loop":
        net.set_params(callbacks=[Callback])
    if form == "sparse":
        X = scipy.sparse.csr_array(X)
    if form == "dict":
        net, X = net.set_params(module=Named, module__in_features=8), {"x": X}
    net.fit(X, y, validation_data=rows)
    np.testing.assert_allclose(losses(net), losses(fitted), rtol=1e-4)


class Named(MLP):
    def forward(self, x):
        return super().forward(x)


def test_datasets(parts, blobs, fitted):
    train, valid, _ = parts
    for monitor in ("valid_loss", "accuracy"):
        net = clone(NET).set_params(monitor=monitor).fit(*train, validation_data=Dataset(*valid))
        if monitor == "valid_loss":
            np.testing.assert_allclose(losses(net), losses(fitted), rtol=1e-4)
        else:
            scores = net.history_[:, "valid_accuracy"]
            assert net.score(*valid) == pytest.approx(max(scores))
    by_number = clone(NET).set_params(classes=[0, 1, 2])
    by_number.fit(Dataset(*blobs), None, validation_data=ROWS)
    assert len(losses(by_number)) == 5
    with pytest.raises(ValueError, match="must be a Dataset or numbers of rows where X is"):
        clone(NET).fit(Dataset(*train), None, validation_data=valid)


def test_regression_and_labels_by_name(line, parts):
    X, y = line
    net = TorchRegressor(max_epochs=2, patience=1, random_state=0, monitor="r2")
    net.fit(X[20:], y[20:], validation_data=(X[:20], y[:20]))
    assert net.score(X[:20], y[:20]) == pytest.approx(max(net.history_[:, "valid_r2"]), abs=1e-5)
    (X, y), (X_valid, y_valid), _ = parts
    names = np.array(["a", "b", "c"])
    net = clone(NET).set_params(monitor="accuracy")
    net.fit(X, names[y], validation_data=(X_valid, names[y_valid]))
    assert net.score(X_valid, names[y_valid]) == max(net.history_[:, "valid_accuracy"])


def test_rows_of_weight_zero_keep_the_numbers(blobs):
    X, y = blobs
    weight = np.ones(150)
    weight[:40] = 0
    net = clone(NET).fit(X, y, sample_weight=weight, validation_data=ROWS)
    mask = np.isin(np.arange(40, 150), ROWS)
    other = clone(NET).fit(X[40:], y[40:], validation_data=mask)
    np.testing.assert_allclose(losses(net), losses(other), rtol=1e-6)


def test_further_epochs(parts, fitted):
    train, valid, _ = parts
    net = clone(NET).set_params(max_epochs=2).fit(*train, validation_data=valid)
    net.set_params(max_epochs=3).partial_fit(*train, validation_data=valid)
    assert losses(net) == losses(fitted)
    assert net.best_epoch_ == fitted.best_epoch_


def test_in_lockstep(parts, fitted):
    train, valid, _ = parts
    nets = [clone(NET), clone(NET).set_params(lr=0.05)]
    given = {"validation_data": valid}
    assert train_together([Member(net, *train, given) for net in nets]) == [None, None]
    np.testing.assert_allclose(losses(nets[0]), losses(fitted), rtol=1e-3)
    assert nets[0].best_epoch_ == fitted.best_epoch_


def test_through_a_pipeline_by_transform_input(parts):
    (X, y), (X_valid, y_valid), _ = parts
    X, X_valid = 50 * X + 3, 50 * X_valid + 3
    scaler = StandardScaler().fit(X)
    alone = clone(NET).fit(
        scaler.transform(X), y, validation_data=(scaler.transform(X_valid), y_valid)
    )
    with sklearn.config_context(enable_metadata_routing=True):
        net = clone(NET).set_fit_request(X_val=True, y_val=True)
        steps = [("scaler", StandardScaler()), ("net", net)]
        pipeline = Pipeline(steps, transform_input=["X_val"])
        pipeline.fit(X, y, X_val=X_valid, y_val=y_valid)
    np.testing.assert_allclose(losses(pipeline[-1]), losses(alone), rtol=1e-5)


def test_a_mask_is_divided_like_the_rows(blobs, parts):
    mask = parts[2]
    pipeline = make_pipeline(StandardScaler(), NET)
    params = {"torchclassifier__validation_data": mask}
    fits = cross_validate(pipeline, *blobs, cv=3, params=params, return_estimator=True)
    assert [len(losses(fit[-1])) for fit in fits["estimator"]] == [5, 5, 5]
    grid = GridSearchCV(clone(NET), {"lr": [0.1]}, cv=3, error_score="raise")
    assert len(losses(grid.fit(*blobs, validation_data=mask).best_estimator_)) == 5


@pytest.mark.parametrize(
    ("params", "given", "message"),
    [
        ({"validation_fraction": 0.1}, {"validation_data": ROWS}, "fraction=0.1 holds rows out"),
        ({"train_split": ValidSplit(2)}, {"validation_data": ROWS}, "set train_split=None"),
        ({}, {"validation_data": ROWS, "X_val": ROWS}, "got validation_data and X_val"),
        ({}, {"y_val": ROWS}, "y_val needs X_val, which fit did not get"),
        ({}, {"validation_data": np.ones((3, 2))}, r"got ndarray of shape \(3, 2\)"),
        ({}, {"validation_data": [150]}, "from 0 to 149, but has 150"),
        ({}, {"validation_data": [-1]}, "from 0 to 149, but has -1"),
        ({}, {"validation_data": np.ones(150, bool)}, "names all"),
        ({}, {"validation_data": np.zeros(150, bool)}, "names none"),
        ({}, {"validation_data": np.ones(149, bool)}, "of the 150 rows of X, but has 149"),
        ({}, {"validation_data": (np.ones((3, 2)), [0, 1, 2])}, "must be like X and y, but"),
        ({}, {"validation_data": (np.ones((3, 8)), [0, 1, 7])}, "must be like X and y, but"),
        ({"patience": 3}, {}, "patience=3 needs rows to check on.*or pass validation_data"),
    ],
)
def test_errors_before_training(params, given, message, blobs):
    net = clone(NET).set_params(**params)
    with pytest.raises(ValueError, match=message):
        net.fit(*blobs, **given)
    assert not net.history_


def test_a_dataset_for_a_regressor(line):
    X, y = line
    net = TorchRegressor(max_epochs=2, random_state=0)
    arrays, dataset = ((X[:20], y[:20]), Dataset(X[:20], y[:20].astype(np.float32)))
    nets = [clone(net).fit(X, y, validation_data=one) for one in (arrays, dataset)]
    np.testing.assert_allclose(*map(losses, nets), rtol=1e-5)
