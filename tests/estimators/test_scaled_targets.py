"""Targets that a regressor scales, and predictions in the units of the user."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import make_regression
from sklearn.metrics import mean_absolute_error
from sklearn.preprocessing import StandardScaler
from skorch.helper import predefined_split
from torch.utils.data import TensorDataset

from skhpo import HalvingHyperbandSearchCV, SelfTuningRegressor, TorchRegressor

X, y = make_regression(120, 5, n_targets=2, random_state=0)
X = X.astype(np.float32)
y = 1000 * y + [1e6, -3e5]


def net(**settings):
    settings = {"lr": 0.02, "max_epochs": 3, "random_state": 0, **settings}
    return TorchRegressor(scale_target="standard", **settings)


@pytest.mark.parametrize("targets", [y, y[:, 0], y[:, :1]], ids=["two", "one", "column"])
def test_as_a_transformed_target(targets):
    oracle = TransformedTargetRegressor(
        net().set_params(scale_target=None), transformer=StandardScaler()
    )
    fitted = net().fit(X, targets)
    wanted = oracle.fit(X, targets).predict(X)
    np.testing.assert_allclose(fitted.predict(X), wanted.reshape(targets.shape), rtol=1e-5)
    np.testing.assert_allclose(fitted.target_mean_, targets.mean(axis=0))
    np.testing.assert_allclose(fitted.target_scale_, targets.std(axis=0))


def test_it_learns_what_it_would_not_otherwise():
    fitted = net(max_epochs=30).fit(X, y)
    assert fitted.score(X, y) > 0.9 > fitted.set_params(scale_target=None).fit(X, y).score(X, y)


def test_constant_targets_stay_where_they_are():
    fitted = net().fit(X, np.full(len(X), 1e6) + 0.1)
    assert fitted.target_scale_ == 1
    assert fitted.predict(X) == pytest.approx(np.full(len(X), 1e6), rel=1e-5)


def test_small_differences_of_large_values():
    near = 2**24 + np.linspace(-1, 1, len(X))
    assert net().fit(X, near).target_scale_ == pytest.approx(near.std())


def test_held_out_rows_have_no_say(monkeypatch):
    outlying = y[:, 0].copy()
    fitted = net(
        validation_fraction=0.2, monitor="neg_mean_absolute_error", seeds={"validation": 1}
    )
    held_out = fitted.fit(X, outlying).target_mean_
    means = []
    for i in range(len(X)):
        changed = outlying.copy()
        changed[i] += 1e7
        if i < 25:
            means.append(clone(fitted).set_params(max_epochs=1).fit(X, changed).target_mean_)
    assert {bool(mean == held_out) for mean in means} == {True, False}
    best = max(fitted.history_[:, "valid_neg_mean_absolute_error"])
    assert -best == pytest.approx(mean_absolute_error(outlying, fitted.predict(X)), rel=0.5)


def test_weights_count():
    weight = np.random.default_rng(0).integers(0, 4, len(X))
    weighted = net(max_epochs=1).fit(X, y, sample_weight=weight)
    repeated = net(max_epochs=1).fit(X.repeat(weight, axis=0), y.repeat(weight, axis=0))
    np.testing.assert_allclose(weighted.target_mean_, repeated.target_mean_)
    np.testing.assert_allclose(weighted.target_scale_, repeated.target_scale_)


def test_it_is_kept_where_training_goes_on(tmp_path):
    whole = net(max_epochs=4).fit(X, y)
    half = net(max_epochs=2).fit(X, y)
    half.save_checkpoint(tmp_path / "net")
    others = (
        half,
        pickle.loads(pickle.dumps(half)),
        net(max_epochs=2).load_checkpoint(tmp_path / "net"),
    )
    for other in others:
        np.testing.assert_array_equal(other.partial_fit(X, y).predict(X), whole.predict(X))
    # Neither other rows nor another setting change what outputs mean.
    for other in others[:2]:
        other.set_params(scale_target=None).partial_fit(X[:20], y[:20] + 1)
        np.testing.assert_array_equal(other.target_mean_, whole.target_mean_)
    plain = net().set_params(scale_target=None).fit(X, y).set_params(scale_target="standard")
    assert not hasattr(plain.partial_fit(X, y), "target_mean_")


@pytest.mark.parametrize("lockstep", [True, False])
def test_searches(lockstep):
    search = HalvingHyperbandSearchCV(
        net(),
        {"lr": [0.01, 0.03, 0.1]},
        max_resources=4,
        factor=2,
        cv=2,
        scoring="neg_mean_absolute_error",
        random_state=0,
        lockstep=lockstep,
    ).fit(X, y)
    row = search.best_index_
    again = clone(search.estimator).set_params(**search.cv_results_["params"][row])
    halves = np.arange(60), np.arange(60, 120)
    scores = [
        -mean_absolute_error(
            y[test], again.set_params(random_state=0).fit(X[train], y[train]).predict(X[test])
        )
        for test, train in (halves, halves[::-1])
    ]
    assert np.mean(scores) == pytest.approx(search.cv_results_["mean_test_score"][row], rel=1e-3)


class Items(torch.utils.data.Dataset):
    """A dataset that stores no targets."""

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i], y[i]


@pytest.mark.parametrize("stored", [True, False])
def test_datasets(stored):
    data = TensorDataset(torch.tensor(X), torch.tensor(y)) if stored else Items()
    plain = net(max_epochs=1, iterator_train__shuffle=False)
    fitted = clone(plain).fit(data)
    np.testing.assert_allclose(fitted.target_mean_, y.mean(axis=0))
    np.testing.assert_allclose(fitted.predict(X), plain.fit(X, y).predict(X), rtol=1e-4)


@pytest.mark.parametrize(
    "settings", [{}, {"iterator_train__collate_fn": torch.utils.data.default_collate}]
)
def test_validation_data_is_scaled_alike(settings):
    valid = TensorDataset(torch.tensor(X), torch.tensor(y))
    of_fit = [net().fit(X, y, validation_data=given) for given in ((X, y), valid, np.arange(30))]
    for fitted in of_fit:
        assert 0 < fitted.history_[-1, "valid_loss"] < 2
    of_pair, of_dataset = (fitted.history_[:, "valid_loss"] for fitted in of_fit[:2])
    assert of_pair == pytest.approx(of_dataset, rel=1e-5)
    np.testing.assert_allclose(of_fit[0].target_mean_, y.mean(axis=0))
    np.testing.assert_allclose(of_fit[2].target_mean_, y[30:].mean(axis=0))
    fitted = net(train_split=predefined_split(valid), **settings).fit(X, y)
    assert 0 < fitted.history_[-1, "valid_loss"] < 2
    assert 0 < fitted.history_[-1, "train_loss"] < 2


def test_a_self_tuning_network():
    tuned = SelfTuningRegressor(
        hyperparameters={"weight_decay": 0.01},
        scale_target="standard",
        max_epochs=2,
        random_state=0,
    )
    predicted = tuned.fit(X, y, validation_data=(X[:30], y[:30])).predict(X)
    assert np.abs(predicted - y.mean(axis=0)).max() < 10 * y.std()
    np.testing.assert_allclose(tuned.target_mean_, y.mean(axis=0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"criterion": "poisson_nll"}, "scale_target='standard' needs .* PoissonNLLLoss takes"),
        ({"scale_target": "minmax"}, "'scale_target' .*'standard'.* Got 'minmax'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        net().set_params(**settings).fit(X, np.abs(y[:, 0]))


def test_targets_beside_a_dataset_agree_also_where_training_goes_on():
    data = TensorDataset(torch.tensor(X), torch.tensor(y))
    fitted = net(max_epochs=1).fit(data, y)
    assert fitted.partial_fit(data, y).n_iter_ == 2
