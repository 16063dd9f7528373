"""variant="global": a hypernetwork over the range of hyperparameters."""

import io

import numpy as np
import pytest
from scipy.stats import loguniform, uniform
from torch import nn

from skhpo import SelfTuningClassifier, SelfTuningRegressor
from skhpo.self_tuning.gradients import _hypernetwork

RANGES = {"weight_decay": loguniform(1e-3, 10), "input_noise": uniform(0, 1)}
PARAMS = {
    "variant": "global",
    "module__n_units": 6,
    "module__n_layers": 1,
    "n_hidden": 8,
    "warmup_epochs": 2,
    "max_epochs": 4,
    "lr": 0.02,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def fitted(line):
    return SelfTuningRegressor(hyperparameters=RANGES, **PARAMS).fit(*line)


def test_schedule(fitted):
    for name, values in fitted.schedule_.items():
        low, high = RANGES[name].support()
        assert all(low <= value <= high for value in values)
        assert values[0] != values[-1], "warm-up, then moving"
    losses = fitted.history[:, "valid_loss"]
    assert losses[fitted.best_epoch_ - 1] == min(losses)


def test_a_response_curve_is_that_of_networks_trained_one_by_one(line):
    X, y = line
    ranges = {"weight_decay": loguniform(1e-3, 10)}
    net = SelfTuningRegressor(hyperparameters=ranges, **PARAMS)
    net.set_params(max_epochs=100, warmup_epochs=100, batch_size=-1, n_hidden=16)
    valid = X[90:], y[90:]
    with pytest.warns(UserWarning, match="nothing was tuned"):
        net.fit(X[:90], y[:90], validation_data=valid)
    values, losses = net.response_curve("weight_decay")
    assert values.shape == losses.shape == (50,)
    assert 1e-3 < values[0] < values[-1] < 10
    for value in (0.01, 3.0):
        one = SelfTuningRegressor(hyperparameters={"weight_decay": value}, **PARAMS)
        one.set_params(max_epochs=100, batch_size=-1).fit(X[:90], y[:90], validation_data=valid)
        true = one.history[-1]["valid_loss"]
        assert np.interp(value, values, losses) == pytest.approx(true, rel=0.3, abs=0.05)
    assert losses[-1] > 5 * losses.min()


def test_a_checkpoint_continues_exactly(fitted, line):
    half = SelfTuningRegressor(hyperparameters=RANGES, **{**PARAMS, "max_epochs": 3}).fit(*line)
    file = io.BytesIO()
    half.save_checkpoint(file)
    file.seek(0)
    half = SelfTuningRegressor(hyperparameters=RANGES, **PARAMS).load_checkpoint(file)
    half.set_params(max_epochs=1).partial_fit(*line)
    np.testing.assert_array_equal(half.predict(line[0]), fitted.predict(line[0]))
    assert half.schedule_ == fitted.schedule_
    for name in RANGES:
        np.testing.assert_array_equal(half.response_curve(name), fitted.response_curve(name))


def test_refit(line):
    net = SelfTuningRegressor(hyperparameters=RANGES, refit="final", **PARAMS).fit(*line)
    assert len(net.refit_history_) == 4


def test_what_is_refused(line, blobs, fitted, monkeypatch):
    X, y = line
    with pytest.raises(ValueError, match="needs variant='global' and one of"):
        fitted.response_curve("lr")
    many = {"weight_decay[:]": loguniform(1e-3, 1)}
    with pytest.raises(ValueError, match="too many for variant='global'"):
        SelfTuningRegressor(hyperparameters=many, **PARAMS).fit(X, y)
    with pytest.raises(ValueError, match="n_terms is read by variant='implicit'"):
        SelfTuningRegressor(hyperparameters=RANGES, n_terms=3, **PARAMS).fit(X, y)
    norm = nn.Sequential(nn.Linear(8, 3), nn.BatchNorm1d(3))
    plain = {k: v for k, v in PARAMS.items() if not k.startswith("module__")}
    with pytest.raises(ValueError, match="without running statistics"):
        SelfTuningClassifier(norm, RANGES, **plain).fit(*blobs)
    monkeypatch.setattr(_hypernetwork, "total_memory", lambda: 1000.0)
    with pytest.raises(ValueError, match="it is for small networks"):
        SelfTuningRegressor(hyperparameters=RANGES, **PARAMS).fit(X, y)
