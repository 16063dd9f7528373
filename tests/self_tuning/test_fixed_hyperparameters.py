"""Hyperparameters that are numbers: a plain network under given values."""

import numpy as np
import pytest
from scipy.stats import uniform
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch import nn

from skhpo import BayesSearchCV, SelfTuningClassifier, TorchClassifier
from skhpo.self_tuning import HyperValue

PARAMS = {"lr": 0.01, "max_epochs": 4, "module__n_units": 16, "random_state": 0}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X[:200] / 16).astype(np.float32), y[:200]


@pytest.mark.parametrize("variant", ["stn", "delta"])
def test_it_is_the_plain_estimator(digits, variant):
    net = SelfTuningClassifier(
        hyperparameters={"label_smoothing": 0.2, "weight_decay": 0.0, "input_noise": 0.0},
        validation_fraction=None,
        variant=variant,
        **PARAMS,
    ).fit(*digits)
    plain = TorchClassifier(optimizer="adam", label_smoothing=0.2, **PARAMS).fit(*digits)
    np.testing.assert_allclose(net.predict_proba(digits[0]), plain.predict_proba(digits[0]), 1e-4)
    assert net.schedule_["label_smoothing"] == [0.2] * 4
    assert net.best_hyperparameters_["label_smoothing"] == 0.2
    assert net.best_epoch_ == 4


def test_weight_decay_is_that_of_the_optimizer_but_for_biases(digits):
    net = SelfTuningClassifier(
        hyperparameters={"weight_decay": 0.3}, validation_fraction=None, **PARAMS
    ).fit(*digits)
    groups = [("*bias", {"weight_decay": 0.0})]
    plain = TorchClassifier(
        optimizer="adam", optimizer__weight_decay=0.3, optimizer__param_groups=groups, **PARAMS
    ).fit(*digits)
    np.testing.assert_allclose(net.predict_proba(digits[0]), plain.predict_proba(digits[0]), 1e-4)


def test_rows_held_out_choose_the_epoch(digits):
    net = SelfTuningClassifier(hyperparameters={"input_noise": 0.5}, **PARAMS).fit(*digits)
    losses = net.history[:, "valid_loss"]
    assert losses[net.best_epoch_ - 1] == min(losses)


def test_continuing_is_exact(digits):
    whole = SelfTuningClassifier(hyperparameters={"dropout_0.p": 0.5}, module__dropout=0.1)
    whole.set_params(validation_fraction=None, **PARAMS)
    parts = clone(whole).set_params(max_epochs=2).fit(*digits).partial_fit(*digits)
    whole.fit(*digits)
    np.testing.assert_array_equal(parts.predict_proba(digits[0]), whole.predict_proba(digits[0]))
    assert whole.collapse().dropout_0.p == 0.5


class Warm(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.temperature = HyperValue("temperature", 2.0)

    def forward(self, x):
        return self.linear(x) / self.temperature(x)


def test_a_value_of_ones_own_is_what_predicts(digits):
    net = SelfTuningClassifier(Warm, {"temperature": 4.0}, max_epochs=1).fit(*digits)
    assert net.module_.temperature.value == 4.0
    tuned = SelfTuningClassifier(
        Warm, {"temperature": uniform(1, 4)}, max_epochs=8, warmup_epochs=1, refit="final"
    ).fit(*digits)
    last = tuned.schedule_["temperature"][-1]
    assert tuned.module_.temperature.value == tuned.collapse().temperature.value == last


def test_each_is_a_parameter():
    net = SelfTuningClassifier(hyperparameters={"input_noise": 0.5})
    again = clone(net).set_params(hyperparameters__input_noise=0.1, hyperparameters__ar=1.0)
    assert again.get_params()["hyperparameters__input_noise"] == 0.1
    assert again.hyperparameters == {"input_noise": 0.1, "ar": 1.0}
    assert net.hyperparameters == {"input_noise": 0.5}
    assert SelfTuningClassifier().set_params(hyperparameters__ar=0.0).hyperparameters == {"ar": 0.0}


def test_another_search_can_look_for_them(digits):
    net = SelfTuningClassifier(hyperparameters={"input_noise": 0.0}, **PARAMS)
    space = {"hyperparameters__input_noise": uniform(0, 1)}
    search = BayesSearchCV(net, space, n_iter=2, n_initial_points=2, cv=2).fit(*digits)
    found = search.best_params_["hyperparameters__input_noise"]
    assert search.best_estimator_.best_hyperparameters_ == {"input_noise": found}


def test_tuning_inside_bayes_outside(digits):
    ranges = {"input_noise": uniform(0, 1)}
    net = SelfTuningClassifier(hyperparameters=ranges, warmup_epochs=1, **PARAMS)
    search = BayesSearchCV(net, {"lr": [0.001, 0.01, 0.1]}, n_iter=2, n_initial_points=2, cv=2)
    search.fit(*digits)
    assert len(search.best_estimator_.schedule_["input_noise"]) == 4


def test_they_are_not_trained_in_lockstep(digits):
    net = SelfTuningClassifier(hyperparameters={"input_noise": 0.5}, **PARAMS)
    search = BayesSearchCV(
        net, {"lr": [0.01, 0.1]}, n_iter=2, n_initial_points=2, cv=2, lockstep=True
    )
    with pytest.raises(ValueError, match="SelfTuningClassifier has training steps of its own"):
        search.fit(*digits)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"input_noise": 0.5, "weight_decay": uniform(0, 1)}, "all distributions.*or all numbers"),
        ({"input_noise": np.nan}, "finite"),
        ({"dropout_1.p": 0.5}, "matches nothing"),
        ({"dropout_0.p": 1.0}, r"must lie in \[0, 1\), but is 1"),
        ({"input_noise": -0.5}, r"must lie in \[0, inf\), but is -0.5"),
        ({"lr": 0.1}, "cannot be tuned while training"),
    ],
)
def test_bad_input(digits, values, message):
    net = SelfTuningClassifier(hyperparameters=values, module__dropout=0.1, **PARAMS)
    with pytest.raises(ValueError, match=message):
        net.fit(*digits)


def test_a_schedule_is_that_of_a_refit(digits):
    ranges = {"input_noise": uniform(0, 2), "dropout_0.p": uniform(0, 0.5)}
    common = {**PARAMS, "module__dropout": 0.1, "warmup_epochs": 1}
    tuned = SelfTuningClassifier(hyperparameters=ranges, refit="schedule", **common).fit(*digits)
    again = SelfTuningClassifier(hyperparameters=tuned.schedule_, **common).fit(*digits)
    np.testing.assert_array_equal(
        again.history[:, "train_loss"], tuned.refit_history_[:, "train_loss"]
    )
    assert again.schedule_ == tuned.schedule_


def test_schedules_by_lists_and_functions(digits):
    rates = [0.01, 0.005, 0.0, 0.0]
    one, other = (
        SelfTuningClassifier(hyperparameters={"lr": lr}, variant="unrolled", **PARAMS)
        for lr in (rates, lambda epoch: rates[epoch])
    )
    for net in (one, other):
        net.set_params(validation_fraction=None).fit(*digits)
        assert net.schedule_["lr"] == rates
    np.testing.assert_array_equal(one.predict_proba(digits[0]), other.predict_proba(digits[0]))
    stopped = clone(one).set_params(max_epochs=2).fit(*digits)
    np.testing.assert_array_equal(one.predict_proba(digits[0]), stopped.predict_proba(digits[0]))
    with pytest.raises(ValueError, match="one for each of 6 epochs"):
        stopped.set_params(max_epochs=4).partial_fit(*digits)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.1, 0.2], "must have one for each of 4 epochs"),
        ([0.1, np.nan, 0.1, 0.1], "must be a finite number, or have one in each epoch"),
        (lambda epoch: 0.5 * epoch, r"'dropout_0.p' must lie in \[0, 1"),
        (["a"] * 4, "must be a finite number, or have one in each epoch"),
        ([[0.1]] * 4, r"must have a number in each epoch, but has \[0.1\] in epoch 1"),
        (np.full(2, 0.1), "must have a number in each epoch"),
    ],
    ids=["short", "nan", "large", "text", "lists", "array"],
)
@pytest.mark.parametrize("variant", ["stn", "implicit"])
def test_schedules_that_are_refused(digits, variant, values, message):
    net = SelfTuningClassifier(
        hyperparameters={"dropout_0.p": values}, module__dropout=0.1, variant=variant, **PARAMS
    )
    with pytest.raises(ValueError, match=message):
        net.fit(*digits)
