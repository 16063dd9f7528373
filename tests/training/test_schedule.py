"""Learning-rate schedules: their values, their length, and that they go on."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skhpo import HalvingHyperbandSearchCV
from skhpo.estimators import TorchClassifier, TorchRegressor

SCHEDULES = [
    {"lr_scheduler": "cosine"},
    {"lr_scheduler": "linear"},
    {"lr_scheduler": "one_cycle", "optimizer": "sgd", "optimizer__momentum": 0.9},
    {"lr_scheduler": "polynomial", "lr_scheduler__power": 2.0},
    {"lr_scheduler": torch.optim.lr_scheduler.StepLR, "lr_scheduler__step_size": 2},
    {"lr_scheduler": "multi_step", "lr_scheduler__milestones": [1, 3]},
    {"lr_scheduler": "cosine_restarts", "lr_scheduler__T_0": 2},
]


def in_between(way, net, tmp_path):
    if way == "pickle":
        return pickle.loads(pickle.dumps(net))
    if way == "checkpoint":
        net.save_checkpoint(tmp_path / "net.pt")
        return clone(net).load_checkpoint(tmp_path / "net.pt")
    return net


@pytest.mark.parametrize("way", ["nothing", "pickle", "checkpoint"])
@pytest.mark.parametrize("params", SCHEDULES, ids=lambda p: str(p["lr_scheduler"]))
def test_epochs_continue_one_schedule(line, params, way, tmp_path):
    params = {**params, "random_state": 0, "schedule_epochs": 6, "batch_size": 40}
    whole = TorchRegressor(max_epochs=6, **params).fit(*line)
    parts = TorchRegressor(max_epochs=2, **params).fit(*line)
    parts = in_between(way, parts, tmp_path)
    parts.partial_fit(*line).partial_fit(*line)
    assert parts.history[:, "lr"] == whole.history[:, "lr"]
    np.testing.assert_array_equal(parts.predict(line[0]), whole.predict(line[0]))


def test_values_and_what_comes_after_the_end(line):
    params = {"lr": 0.4, "random_state": 0, "lr_scheduler": "linear"}
    net = TorchRegressor(max_epochs=4, **params).fit(*line).partial_fit(*line)
    assert net.history[:, "lr"] == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1])
    cosine = TorchRegressor(max_epochs=4, lr=0.4, lr_scheduler="cosine").fit(*line)
    assert cosine.history[:, "lr"] == pytest.approx(0.2 * (1 + np.cos(np.pi * np.arange(4) / 4)))
    cycle = TorchRegressor(max_epochs=3, lr=0.1, lr_scheduler="one_cycle").fit(*line)
    cycle.partial_fit(*line)
    assert len(cycle.history) == 6


def test_a_schedule_changes_the_fit(line):
    plain, scheduled = (
        TorchRegressor(max_epochs=3, random_state=0, lr_scheduler=s).fit(*line).predict(line[0])
        for s in (None, "cosine")
    )
    assert not np.array_equal(plain, scheduled)


def test_fit_starts_the_schedule_anew(line):
    net = TorchRegressor(max_epochs=3, lr_scheduler="cosine", random_state=0).fit(*line)
    rates = net.history[:, "lr"]
    assert net.fit(*line).history[:, "lr"] == rates


def test_plateau(line):
    net = TorchRegressor(
        max_epochs=30,
        lr=3.0,
        validation_fraction=0.2,
        lr_scheduler="plateau",
        lr_scheduler__patience=1,
        random_state=0,
    ).fit(*line)
    assert net.history[-1]["lr"] < 3.0
    scored = clone(net).set_params(monitor="r2", max_epochs=1).fit(*line)
    assert scored.lr_schedule_.torch_schedule.mode == "max"


def test_multipliers_are_scheduled_too(line):
    net = TorchRegressor(
        max_epochs=2, lr=0.1, lr_scheduler="linear", lr_multipliers={"output.*": 10}
    ).fit(*line)
    assert sorted(group["lr"] for group in net.optimizer_.param_groups) == pytest.approx(
        [0.05, 0.5]
    )
    net.set_params(lr=5.0)
    assert max(group["lr"] for group in net.optimizer_.param_groups) == pytest.approx(0.5)


def test_arguments_are_parameters():
    net = TorchClassifier(lr_scheduler="step", lr_scheduler__step_size=3)
    assert net.get_params()["lr_scheduler__gamma"] == 0.1
    with pytest.raises(ValueError, match="nearest first: lr_scheduler__gamma"):
        net.set_params(lr_scheduler__gama=0.5)
    assert clone(net).lr_scheduler__step_size == 3


def test_rungs_and_the_refit_follow_one_schedule(blobs):
    search = HalvingHyperbandSearchCV(
        TorchClassifier(lr_scheduler="cosine", lr=0.1, batch_size=50),
        {"module__n_units": [4, 8, 12]},
        resource="max_epochs",
        max_resources=9,
        n_brackets=1,
        cv=[(np.arange(100), np.arange(100, 150))],
        scoring=rates_of,
        refit="first",
        random_state=0,
    ).fit(*blobs)
    cosine = 0.05 * (1 + np.cos(np.pi * np.arange(9) / 9))
    results = search.cv_results_
    for first, last, epochs in zip(
        results["mean_test_first"], results["mean_test_last"], results["n_resources"], strict=True
    ):
        assert first == pytest.approx(cosine[0])
        assert last == pytest.approx(cosine[epochs - 1])
    assert search.best_estimator_.schedule_epochs == 9
    assert search.best_estimator_.history[:, "lr"] == pytest.approx(cosine)
    whole = clone(search.best_estimator_).set_params(schedule_epochs=None, max_epochs=9)
    whole.fit(*blobs)
    np.testing.assert_array_equal(
        whole.predict_proba(blobs[0]), search.best_estimator_.predict_proba(blobs[0])
    )


def rates_of(net, X, y):
    rates = net.history[:, "lr"]
    return {"first": rates[0], "last": rates[-1]}


def test_a_length_of_ones_own_stays_in_a_search(blobs):
    search = HalvingHyperbandSearchCV(
        TorchClassifier(lr_scheduler="cosine", schedule_epochs=20),
        {"module__n_units": [4, 8]},
        max_resources=3,
        cv=2,
        random_state=0,
    ).fit(*blobs)
    assert search.best_estimator_.schedule_epochs == 20
