"""variant="implicit": a plain network whose hyperparameters follow a gradient."""

import io
import pickle

import numpy as np
import pytest
import torch
from scipy.stats import loguniform, randint, uniform
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch import nn

from skhpo import SelfTuningClassifier, SelfTuningRegressor, SelfTuningSearchCV, TorchRegressor
from skhpo.inspection import SelfTuningScheduleDisplay
from skhpo.self_tuning import hypergradient
from skhpo.self_tuning.gradients._objective import Objective
from skhpo.self_tuning.gradients._places import Places
from skhpo.training.direct import Program
from skhpo.training.runners import DirectSteps

RANGES = {
    "linear_0.weight_decay": loguniform(1e-5, 1),
    "output.weight_decay[:]": loguniform(1e-5, 1),
    "label_smoothing": uniform(0, 0.4),
    "input_noise": uniform(0, 1),
    "class_weight": uniform(0.2, 2),
}
PARAMS = {
    "variant": "implicit",
    "module__n_units": 12,
    "module__n_layers": 1,
    "train_steps": 2,
    "n_terms": 3,
    "warmup_epochs": 1,
    "max_epochs": 3,
    "lr": 0.01,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X[:300] / 16).astype(np.float32), y[:300]


@pytest.fixture(scope="module")
def fitted(digits):
    return SelfTuningClassifier(hyperparameters=RANGES, **PARAMS).fit(*digits)


def weights_of(net):
    return [p.detach().numpy() for p in net.module_.parameters()]


def test_schedule(fitted):
    assert list(fitted.schedule_) == list(RANGES)
    for name, values in fitted.schedule_.items():
        low, high = RANGES[name].support()
        assert len(values) == 3
        assert np.min(values) >= low * (1 - 1e-5)
        assert np.max(values) <= high
        assert np.all(values[0] == fitted.schedule_[name][0])
        assert np.any(values[0] != values[-1]), "warm-up, then moving"
    assert fitted.best_hyperparameters_["output.weight_decay[:]"].shape == (12 * 10,)
    assert fitted.best_hyperparameters_["class_weight"].shape == (10,)
    losses = fitted.history[:, "valid_loss"]
    assert losses[fitted.best_epoch_ - 1] == min(losses)


@pytest.mark.parametrize("way", ["pickle", "checkpoint"])
def test_it_continues_exactly(fitted, digits, way):
    half = SelfTuningClassifier(hyperparameters=RANGES, **{**PARAMS, "max_epochs": 2}).fit(*digits)
    if way == "pickle":
        half = pickle.loads(pickle.dumps(half))
    else:
        file = io.BytesIO()
        half.save_checkpoint(file)
        file.seek(0)
        half = SelfTuningClassifier(hyperparameters=RANGES, **PARAMS).load_checkpoint(file)
    half.set_params(max_epochs=1).partial_fit(*digits)
    for one, other in zip(weights_of(half), weights_of(fitted), strict=True):
        np.testing.assert_array_equal(one, other)
    for name, values in fitted.schedule_.items():
        np.testing.assert_array_equal(np.float32(half.schedule_[name]), np.float32(values))


@pytest.mark.parametrize("refit", ["schedule", "final"])
def test_refit(digits, refit):
    net = SelfTuningClassifier(hyperparameters=RANGES, refit=refit, **PARAMS).fit(*digits)
    assert len(net.refit_history_) == 3
    assert net.score(*digits) > 0.5


def test_fixed_values_train_as_those_of_the_other_variants(digits):
    fixed = {"weight_decay": 0.01, "label_smoothing": 0.1}
    common = {"max_epochs": 2, "validation_fraction": None, "random_state": 0, "lr": 0.01}
    one, other = (
        SelfTuningClassifier(hyperparameters=fixed, variant=variant, **common).fit(*digits)
        for variant in ("implicit", "stn")
    )
    for mine, theirs in zip(weights_of(one), weights_of(other), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)
    assert one.best_hyperparameters_ == fixed


class Recorder(torch.optim.SGD):
    """Keeps the gradients that it gets, and moves nothing."""

    def step(self):
        self.found = self.param_groups[0]["params"][0].grad.clone()


@pytest.mark.parametrize(
    ("settings", "accuracy"),
    [({}, 5e-2), ({"solver": "cg"}, 1e-4)],
    ids=["series", "cg"],
)
def test_a_series_goes_on_to_the_gradient_of_a_minimum(line, settings, accuracy):
    X, y = line
    changed = {"train_steps": 1, "warmup_epochs": 0, "max_epochs": 120, "batch_size": -1}
    net = SelfTuningRegressor(
        hyperparameters={"weight_decay": uniform(0, 1)},
        initial={"weight_decay": 0.1},
        **{**PARAMS, "n_terms": None, **changed, **settings},
        module__activation="identity",
        optimizer="sgd",
        hyper_optimizer=Recorder,
    ).set_params(module__n_layers=0, lr=0.3)
    held_out = X[60:120], y[60:120]
    net.fit(X[:60], y[:60], validation_data=held_out)
    exact = hypergradient(net, X[:60], y[:60], held_out, ["weight_decay"], solver="cg")
    (found,) = net.tuning_.hyper_optimizer.found.tolist()
    value = net.schedule_["weight_decay"][-1]
    expected = exact.gradient["weight_decay"] * value * (1 - value)
    assert found == pytest.approx(expected, rel=accuracy)


@pytest.mark.parametrize(
    "name", ["weight_decay", "sample_weight", "input_noise", "label_smoothing", "dropout_*.p"]
)
def test_steps_by_rules_are_those_by_autograd(digits, name, monkeypatch):
    X, y = digits
    ranges = {name: uniform(0, 0.5)}
    net = SelfTuningClassifier(hyperparameters=ranges, **PARAMS).set_params(module__dropout=0.2)
    made = []
    monkeypatch.setattr(Program, "__init__", _noted(Program.__init__, made))
    held_out = X[200:], y[200:]
    by_rules = clone(net).fit(X[:200], y[:200], validation_data=held_out)
    assert len(made) == 1, "one program for all values"
    monkeypatch.setattr(DirectSteps, "can_train", lambda steps: False)
    net.fit(X[:200], y[:200], validation_data=held_out)
    for one, other in zip(weights_of(net), weights_of(by_rules), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(net.schedule_[name], by_rules.schedule_[name], rtol=1e-4)


def _noted(function, calls):
    def noting(*args, **kwargs):
        calls.append(args)
        return function(*args, **kwargs)

    return noting


@pytest.mark.parametrize("layer", [nn.Dropout(), nn.Dropout1d()], ids=["values", "channels"])
def test_the_derivative_of_a_rate_is_that_of_the_expected_loss(layer):
    n, p, w = 100_000, 0.3, torch.tensor([0.5, -1.0])
    X = torch.tensor([[2.0, 1.0]]).expand(n, 2)

    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.weight = layer, nn.Parameter(w)

        def forward(self, x):
            shape = (n, 2, 1) if isinstance(layer, nn.Dropout1d) else (n, 2)
            return self.drop(x.view(shape)).view(n, 2) @ self.weight[:, None]

    net = TorchRegressor(Noisy, random_state=0, optimizer="sgd").initialize()
    places = Places(dropout={"drop.p": ["drop"]})
    objective = Objective(net, Noisy().train(), places, None)
    rate = torch.tensor(p, requires_grad=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loss = objective.loss_without_penalty({"drop.p": rate}, X, torch.zeros(n, 1), None)
    (found,) = torch.autograd.grad(loss, rate)
    # The squared loss is that without dropout, and p / (1 - p) times the sum of (w x)^2.
    assert float(found) == pytest.approx(2.0 / (1 - p) ** 2, rel=0.05)


def test_a_rate_that_overfitting_asks_for_grows(digits):
    X, y = digits
    noisy = y[:100].copy()
    noisy[::3] = (noisy[::3] + 5) % 10
    net = SelfTuningClassifier(hyperparameters={"dropout_0.p": uniform(0, 0.8)}, **PARAMS)
    net.set_params(module__n_units=64, module__dropout=0.05, max_epochs=80)
    net.fit(X[:100], noisy, validation_data=(X[100:], y[100:]))
    assert net.schedule_["dropout_0.p"][-1] > 0.2
    assert net.collapse().dropout_0.p == net.best_hyperparameters_["dropout_0.p"]


def test_data_cleaning(digits):
    X, y = digits
    noisy, flipped = y[:200].copy(), np.arange(200) % 4 == 0
    noisy[flipped] = (noisy[flipped] + 5) % 10
    ranges = {"sample_weight": uniform(0, 1)}
    net = SelfTuningClassifier(hyperparameters=ranges, initial={"sample_weight": 0.5}, **PARAMS)
    net.set_params(train_steps=1, max_epochs=12, batch_size=50)
    with pytest.raises(ValueError, match="pass validation_data to fit"):
        net.fit(X[:200], noisy)
    with pytest.raises(ValueError, match="zero for 1 rows"):
        net.fit(X[:3], y[:3], [0, 1, 1], validation_data=(X, y))
    net.fit(X[:200], noisy, validation_data=(X[200:], y[200:]))
    weights = net.schedule_["sample_weight"][-1]
    assert weights[flipped].mean() < weights[~flipped].mean() - 0.2
    with pytest.raises(ValueError, match="must have 200 rows"):
        net.partial_fit(X[:100], noisy[:100], validation_data=(X[200:], y[200:]))


def test_the_sign_of_a_step_is_that_of_the_gradient(digits):
    X, y = digits
    start = {"weight_decay": 0.9}
    net = SelfTuningClassifier(
        hyperparameters={"weight_decay": loguniform(1e-4, 1)}, initial=start, **PARAMS
    ).set_params(max_epochs=6, train_steps=4, hyper_lr=0.5)
    net.fit(X, y)
    assert net.schedule_["weight_decay"][-1] < 0.5, "far too strong at the start"
    found = hypergradient(net, X, y, (X, y), damping=1.0)
    assert found.gradient["weight_decay"] > 0


def test_a_hyperparameter_without_a_gradient_is_reported(line):
    X, y = line
    net = SelfTuningRegressor(hyperparameters={"output.weight_decay": uniform(0, 1)}, **PARAMS)
    net.set_params(freeze={"output.*": True})
    with pytest.warns(UserWarning, match=r"'output.weight_decay' was not tuned"):
        net.fit(X, y)


def test_cross_validated_and_drawn(digits):
    net = SelfTuningClassifier(hyperparameters={"weight_decay": loguniform(1e-5, 1)}, **PARAMS)
    search = SelfTuningSearchCV(net, cv=2, random_state=0).fit(*digits)
    assert 1e-5 < search.best_params_["hyperparameters__weight_decay"] < 1
    many = SelfTuningClassifier(hyperparameters=RANGES, **PARAMS)
    with pytest.raises(ValueError, match="a number for each row, class or weight"):
        SelfTuningSearchCV(many, cv=2).fit(*digits)


def test_many_numbers_are_drawn_by_quantiles(fitted):
    pytest.importorskip("matplotlib").use("Agg")
    display = SelfTuningScheduleDisplay.from_estimator(fitted)
    drawn = display.lines_["class_weight"].get_ydata()
    assert drawn[-1] == pytest.approx(np.median(fitted.schedule_["class_weight"][-1]))


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"dropout_1.p": uniform(0, 0.5)}, "matches none; there are: dropout_0.p"),
        ({"dropout_*.p": uniform(0, 0.5), "dropout_0.p": uniform(0, 0.5)}, "are both the rate"),
        ({"dropout_0.p": uniform(0, 2)}, "must lie in"),
        ({"dropout": uniform(0, 0.5)}, "there are: dropout_0.p; variant='stn' or 'delta' follows"),
        ({"cutout_holes": randint(1, 3)}, "variant='stn' or 'delta' follows it"),
        ({"weight_decay": randint(1, 3)}, "whole numbers"),
        ({"lr": loguniform(1e-4, 1)}, "variant='unrolled' follows it"),
        ({"n_units": uniform(1, 3)}, "BayesSearchCV"),
        ({"label_smoothing": uniform(0, 2)}, "must lie in"),
        ({"criterion.weight": uniform(0, 1)}, "tune 'class_weight' in place of it"),
    ],
)
def test_hyperparameters_that_are_refused(digits, ranges, message):
    net = SelfTuningClassifier(hyperparameters=ranges, module__dropout=0.1, **PARAMS)
    net.set_params(criterion__weight=torch.ones(10))
    with pytest.raises(ValueError, match=message):
        net.fit(*digits)


@pytest.mark.parametrize(
    "changed",
    [
        {"solver": "cg", "variant": "stn"},
        {"n_terms": 3, "variant": "delta"},
        {"init_scale": 2.0, "variant": "implicit"},
        {"response_lr": 0.1, "variant": "stn"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_arguments_of_other_variants_are_refused(digits, changed):
    with pytest.raises(ValueError, match=f"{next(iter(changed))} is read by variant="):
        SelfTuningClassifier(**changed).fit(*digits)
