"""Parameters that have given values in each epoch, `hyperparameter_schedule`."""

import io

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skhpo import BayesSearchCV, HalvingHyperbandSearchCV, TorchClassifier, TorchRegressor
from skhpo.training.runners import DirectSteps

PARAMS = {"max_epochs": 4, "random_state": 0, "module__n_units": 8, "lr": 0.01}
SCHEDULE = {
    "module__dropout": [0.1, 0.0, 0.3, 0.5],
    "lr": lambda epoch: 0.01 * 0.5**epoch,
    "optimizer__weight_decay": np.array([0.1, 0.2, 0.0, 0.0]),
    "label_smoothing": [0.1, 0.2, 0.0, 0.1],
}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X[:160] / 16).astype(np.float32), y[:160]


@pytest.fixture(scope="module")
def whole(digits):
    return TorchClassifier(**PARAMS, hyperparameter_schedule=SCHEDULE).fit(*digits)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("module__dropout", 0.2),
        ("lr", 0.02),
        ("optimizer__weight_decay", 0.3),
        ("optimizer__eps", 1e-3),
        ("label_smoothing", 0.3),
    ],
)
def test_a_value_that_stays_is_that_of_the_parameter(digits, name, value):
    net = TorchClassifier(**PARAMS, hyperparameter_schedule={name: [value] * 4}).fit(*digits)
    plain = TorchClassifier(**{**PARAMS, name: value}).fit(*digits)
    np.testing.assert_array_equal(net.predict_proba(digits[0]), plain.predict_proba(digits[0]))


def test_values_change_from_epoch_to_epoch(digits, whole):
    parts = TorchClassifier(**{**PARAMS, "max_epochs": 1}, module__dropout=0.1)
    parts.set_params(label_smoothing=0.1, optimizer__weight_decay=0.1).fit(*digits)
    for epoch in range(1, 4):
        row = {k: v(epoch) if callable(v) else v[epoch] for k, v in SCHEDULE.items()}
        assert whole.history[epoch, "hyperparameters"] == row
        parts.module_.dropout_0.p = row.pop("module__dropout")
        parts.criterion_.label_smoothing = row.pop("label_smoothing")
        parts.set_params(**row).partial_fit(*digits)
    np.testing.assert_array_equal(parts.history[:, "train_loss"], whole.history[:, "train_loss"])


def test_steps_by_autograd_are_the_same(digits, whole, monkeypatch):
    monkeypatch.setattr(DirectSteps, "can_train", lambda steps: False)
    net = clone(whole).fit(*digits)
    np.testing.assert_allclose(
        net.predict_proba(digits[0]), whole.predict_proba(digits[0]), atol=1e-6
    )


def test_continuing_is_exact(digits, whole):
    parts = clone(whole).set_params(max_epochs=2).fit(*digits)
    file = io.BytesIO()
    parts.save_checkpoint(file)
    file.seek(0)
    loaded = clone(parts).load_checkpoint(file).partial_fit(*digits)
    for net in (parts.partial_fit(*digits), loaded):
        np.testing.assert_array_equal(net.predict_proba(digits[0]), whole.predict_proba(digits[0]))
    with pytest.raises(ValueError, match="one for each of 6 epochs"):
        parts.partial_fit(*digits)


def test_a_layer_that_is_left_out_at_zero(digits):
    schedule = {"module__dropout": lambda epoch: 0.2 * (epoch > 1)}
    net = TorchClassifier(**PARAMS, hyperparameter_schedule=schedule).set_params(max_epochs=2)
    late = clone(net).set_params(schedule_epochs=3).fit(*digits).partial_fit(*digits)
    assert late.module_.dropout_0.p == 0.2
    with pytest.raises(ValueError, match=r"'dropout_0'.*schedule_epochs"):
        net.fit(*digits).partial_fit(*digits)


@pytest.mark.parametrize("criterion", ["bce_with_logits", "cross_entropy"])
def test_smoothing_of_two_classes(digits, criterion):
    X, y = digits[0], digits[1] % 2
    common = {**PARAMS, "max_epochs": 2, "criterion": criterion}
    schedule = {"label_smoothing": [0.0, 0.3]}
    net = TorchClassifier(**common, hyperparameter_schedule=schedule).fit(X, y)
    parts = TorchClassifier(**{**common, "max_epochs": 1}).fit(X, y)
    if criterion == "cross_entropy":
        parts.criterion_.label_smoothing = 0.3
    parts.set_params(label_smoothing=0.3).partial_fit(X, y)
    np.testing.assert_array_equal(net.history[:, "train_loss"], parts.history[:, "train_loss"])


class Own(nn.Module):
    def __init__(self, in_features, out_features, noise=0.0, keep=1.0, gain=1.0):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.noise, self.dropped = noise, 1 - keep
        with torch.no_grad():
            self.linear.weight.mul_(gain)

    def forward(self, x):
        return self.linear(x + self.noise * torch.randn_like(x) if self.training else x)


def test_an_attribute_of_ones_own(digits):
    common = {"module": Own, "max_epochs": 2, "random_state": 0}
    schedule = {"module__noise": [0.0, 5.0]}
    noisy = TorchRegressor(**common, hyperparameter_schedule=schedule).fit(*digits)
    plain = TorchRegressor(**common).fit(*digits)
    losses = zip(noisy.history[:, "train_loss"], plain.history[:, "train_loss"], strict=True)
    assert [one == other for one, other in losses] == [True, False]
    assert noisy.module_.noise == 5.0


class Scaled(nn.Linear):
    def __init__(self, in_features, out_features, scale=1.0):
        super().__init__(in_features, out_features)
        self.scale = scale

    def forward(self, x):
        return self.scale * super().forward(x)


def test_the_best_weights_predict_with_the_values_of_their_epoch(digits):
    schedule = {"module__scale": [1.0, 1000.0, 2.0]}
    net = TorchRegressor(Scaled, max_epochs=2, random_state=0, hyperparameter_schedule=schedule)
    net.fit(*digits, validation_data=digits)
    assert net.best_epoch_ == 1
    loss = np.mean((net.predict(digits[0]) - digits[1]) ** 2)
    assert loss == pytest.approx(net.history_[0, "valid_loss"], rel=1e-4)
    net.set_params(max_epochs=1).partial_fit(*digits)
    assert net.module_.scale == 2.0


@pytest.mark.parametrize("params", [{}, {"callbacks": []}])
def test_checks_of_all_epochs_are_compared_under_one_criterion(digits, params):
    X, y = digits
    settings = {**PARAMS, "lr": 0.0, "validation_fraction": 0.3, **params}
    plain = TorchClassifier(**settings, criterion__label_smoothing=0.1).fit(X, y)
    schedule = {"criterion__label_smoothing": [0.5, 0.4, 0.3, 0.0]}
    net = TorchClassifier(
        **settings, criterion__label_smoothing=0.1, hyperparameter_schedule=schedule
    ).fit(X, y)
    assert net.history_[:, "valid_loss"] == pytest.approx(plain.history_[:, "valid_loss"])
    assert net.criterion_.label_smoothing == 0.5  # of the first epoch, the best one
    two = TorchClassifier(**settings, criterion="bce_with_logits", label_smoothing=0.1)
    losses = two.fit(X, y % 2).history_[:, "valid_loss"]
    two.set_params(hyperparameter_schedule={"label_smoothing": [0.5, 0.4, 0.3, 0.2]})
    assert two.fit(X, y % 2).history_[:, "valid_loss"] == pytest.approx(losses)


def test_a_checkpoint_has_the_values_of_its_last_epoch(digits):
    X, y = digits[0], digits[1] % 2
    net = TorchClassifier(**PARAMS, criterion="bce_with_logits")
    net.set_params(hyperparameter_schedule={"label_smoothing": [0.4, 0.3, 0.2, 0.1]}).fit(X, y)
    file = io.BytesIO()
    net.save_checkpoint(file)
    file.seek(0)
    other = clone(net).load_checkpoint(file)
    output, target = torch.randn(5, 1), torch.ones(5, 1)
    assert other.get_loss(output, target) == net.get_loss(output, target)


@pytest.mark.parametrize(
    ("space", "schedule"),
    [
        ({"lr": [0.1, 0.2]}, {"module__dropout": [0.1] * 8}),
        ({"hyperparameter_schedule": [None, {"lr": [0.1] * 8}]}, None),
    ],
)
def test_lists_must_be_as_long_as_the_longest_fit_of_a_search(digits, space, schedule, monkeypatch):
    monkeypatch.setattr(TorchClassifier, "fit", lambda *args, **kwargs: pytest.fail("trained"))
    net = TorchClassifier(module__n_units=8, hyperparameter_schedule=schedule)
    with pytest.raises(ValueError, match="one for each of 9 epochs"):
        HalvingHyperbandSearchCV(net, space, max_resources=9).fit(*digits)
    net.set_params(max_epochs=1)
    with pytest.raises(ValueError, match="one for each of 9 epochs"):
        BayesSearchCV(net, {**space, "max_epochs": [1, 9]}, n_iter=2).fit(*digits)


def test_the_criterion_and_the_momentum(digits):
    schedule = {"criterion__delta": [1, 4], "optimizer__momentum": [0.0, 0.9]}
    net = TorchRegressor(
        criterion="huber", optimizer="sgd", max_epochs=2, hyperparameter_schedule=schedule
    ).fit(*digits)
    assert net.criterion_.delta == 4
    buffers = [state["momentum_buffer"] for state in net.optimizer_.state.values()]
    assert len(buffers) == 4
    assert all(buffer.any() for buffer in buffers)


def test_rungs_continue_the_schedule(digits):
    X, y = digits
    pipeline = make_pipeline(StandardScaler(), TorchClassifier(**PARAMS))
    name, rates = "torchclassifier__hyperparameter_schedule", [0.1, 0.1, 0.4]
    pipeline.set_params(**{name: {"module__dropout": rates}})
    search = HalvingHyperbandSearchCV(
        pipeline,
        {"torchclassifier__lr": [0.003, 0.01, 0.03]},
        resource="torchclassifier__max_epochs",
        min_resources=1,
        max_resources=3,
        cv=2,
        random_state=0,
    ).fit(X, y)
    net = search.best_estimator_[-1]
    used = [row["module__dropout"] for row in net.history[:, "hyperparameters"]]
    assert used == rates[: len(used)]
    search.set_params(param_distributions={"torchclassifier__module__dropout": [0.1, 0.2]})
    with pytest.raises(ValueError, match="'module__dropout' cannot be searched"):
        search.fit(X, y)


@pytest.mark.parametrize(
    ("schedule", "is_followed"), [({"lr": [0.1, 0.01, 0.0, 0.0]}, True), (SCHEDULE, False)]
)
def test_lockstep_follows_the_optimizer(digits, schedule, is_followed):
    net = TorchClassifier(**PARAMS, hyperparameter_schedule=schedule)
    gains = {"init_gain": [0.5, 1.0]}
    together = BayesSearchCV(
        net, gains, n_iter=2, n_initial_points=2, cv=2, lockstep=True, random_state=0
    )
    if is_followed:
        alone = clone(together).set_params(lockstep=False).fit(*digits)
        scores = together.fit(*digits).cv_results_["mean_test_score"]
        np.testing.assert_allclose(scores, alone.cv_results_["mean_test_score"])
        assert together.best_estimator_.history[1, "hyperparameters"] == {"lr": 0.01}
    else:
        with pytest.raises(ValueError, match="hyperparameter_schedule changes"):
            together.fit(*digits)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({}, "must be None or a dict"),
        ({"max_epochs": [1] * 4}, "'max_epochs' cannot change while the network trains"),
        ({"module__droput": [0.1] * 4}, "nearest first: module__dropout"),
        ({"module__n_units": [8, 9, 8, 8]}, "'linear_0.*depends on it"),
        ({"module__activation": ["relu"] * 4}, "can have numbers"),
        ({"module__dropout": [0.1] * 3}, "one for each of 4 epochs"),
        ({"module__dropout": [0.1, 0.2, 1.2, 0.1]}, r"range \[0.0, 1.0\).*1.2"),
        ({"optimizer__weight_decay": [0.0, 0.1, -0.1, 0.0]}, "'optimizer__weight_decay' becomes"),
        ({"optimizer__betas": [0.1] * 4}, "can have numbers"),
        ({"lr": lambda epoch: 0.1 - 0.05 * epoch}, "lr.*Got -0.05"),
        ({"lr": lambda epoch: None}, "must be a finite number"),
        ({"lr": ["0.1"] * 4}, "must be a finite number"),
        ({"lr": [[0.1]] * 4}, r"'lr' must have a number in each epoch, but has \[0.1\] in epoch 1"),
        ({"lr": lambda epoch: [0.1] if epoch else 0.1}, r"'lr' .* but has \[0.1\] in epoch 2"),
        ({"module__dropout": [[0.1]] * 4}, "'module__dropout' must have a number in each epoch"),
        ({"optimizer__weight_decay": [(0.1, 0.2)] * 4}, "must have a number in each epoch"),
        ({"criterion__label_smoothing": [np.full(2, 0.1)] * 4}, "a number in each epoch"),
        ({"lr": 0.1}, "a value that stays is the parameter itself"),
        ({"label_smoothing": [1.0] * 4}, r"range \[0.0, 1.0\)"),
        ({"label_smoothing": [0.1] * 4, "criterion__label_smoothing": [0.1] * 4}, "are the same"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value) or "empty",
)
def test_bad_input(digits, schedule, message):
    net = TorchClassifier(**PARAMS, hyperparameter_schedule=schedule)
    with pytest.raises(ValueError, match=message):
        net.fit(*digits)


@pytest.mark.parametrize(
    ("params", "schedule", "message"),
    [
        ({"lr_scheduler": "cosine"}, {"lr": [0.1, 0.2]}, "lr_scheduler='cosine' sets it, too"),
        (
            {"optimizer": "sgd", "lr_scheduler": "one_cycle"},
            {"optimizer__momentum": [0.1, 0.2]},
            "sets it in each batch",
        ),
        ({"module": Own}, {"module__keep": [1.0, 0.5]}, "'dropped' depends on it"),
        ({"module": Own}, {"module__gain": [1.0, 0.5]}, "weights.*depends on it"),
        (
            {"optimizer__param_groups": [("*bias", {"lr": 0.1})]},
            {"lr": [0.1, 0.2]},
            "optimizer__param_groups has values of its own",
        ),
    ],
    ids=["two schedules", "cycle", "derived", "weights", "groups"],
)
def test_what_excludes_a_schedule(digits, params, schedule, message):
    net = TorchRegressor(max_epochs=2, hyperparameter_schedule=schedule, **params)
    with pytest.raises(ValueError, match=message):
        net.fit(*digits)
