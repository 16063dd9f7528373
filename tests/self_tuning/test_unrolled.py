"""variant="unrolled": gradients through the steps of the optimizer."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import loguniform, uniform
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch import nn

from skhpo import SelfTuningClassifier, SelfTuningRegressor, TorchClassifier
from skhpo.self_tuning.gradients import _unrolled
from skhpo.self_tuning.gradients._first_rates import best_power
from skhpo.self_tuning.gradients._rule_steps import RuleSteps

PARAMS = {
    "variant": "unrolled",
    "module__n_units": 12,
    "module__n_layers": 1,
    "warmup_epochs": 1,
    "max_epochs": 3,
    "n_steps": 4,
    "lr": 0.01,
    "random_state": 0,
}
RANGES = {
    "lr": loguniform(1e-4, 1),
    "beta1": uniform(0.5, 0.49),
    "weight_decay": loguniform(1e-6, 1),
}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X[:300] / 16).astype(np.float32), y[:300]


@pytest.fixture(scope="module")
def fitted(digits):
    return SelfTuningClassifier(hyperparameters=RANGES, **PARAMS).fit(*digits)


def weights_of(net):
    return torch.cat([p.detach().flatten() for p in net.module_.parameters()]).numpy()


@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        ("sgd", {}),
        ("sgd", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        ("adam", {"betas": (0.8, 0.9)}),
        ("adamw", {"weight_decay": 0.1}),
        ("rmsprop", {"alpha": 0.9}),
    ],
    ids=["sgd", "momentum", "adam", "adamw", "rmsprop"],
)
def test_steps_are_those_of_torch(digits, optimizer, settings):
    settings = {f"optimizer__{name}": value for name, value in settings.items()}
    common = {"optimizer": optimizer, "max_epochs": 2, "random_state": 0, **settings}
    rate = 0.05 if optimizer == "sgd" else 0.003
    plain = TorchClassifier(lr=rate, **common).fit(*digits)
    ours = SelfTuningClassifier(
        hyperparameters={"lr": rate}, variant="unrolled", validation_fraction=None, **common
    ).fit(*digits)
    np.testing.assert_allclose(weights_of(ours), weights_of(plain), atol=2e-4)
    assert (
        ours.optimizer_.state_dict()["state"].keys()
        == plain.optimizer_.state_dict()["state"].keys()
    )


class Line(nn.Module):
    def __init__(self, in_features, out_features=1):
        super().__init__()
        self.layer = nn.Linear(in_features, out_features, dtype=torch.float64)

    def forward(self, x):
        return torch.tanh(self.layer(x))


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize(
    ("optimizer", "second"),
    [("sgd", "momentum"), ("adam", "beta1"), ("adam", "beta2"), ("rmsprop", "layer.bias.lr")],
)
def test_the_gradient_is_that_of_the_whole_run(line, optimizer, second, mode, monkeypatch):
    """One window over all steps, against differences of validation losses of whole runs."""
    monkeypatch.setattr(_unrolled, "_AVERAGED", ())
    X, y = line
    start = {"layer.weight.lr": 0.1, second: 0.4, "weight_decay": 0.2}
    if second != "layer.bias.lr":
        start["layer.bias.lr"] = 0.1
    common = {"variant": "unrolled", "optimizer": optimizer, "batch_size": 20, "max_epochs": 1}

    def run(hyperparameters, **more):
        net = SelfTuningRegressor(Line, hyperparameters, random_state=0, **common, **more)
        return net.fit(X[:100], y[:100], validation_data=(X[100:], y[100:]))

    def loss(**changed):
        return run({**start, **changed}).history[-1]["valid_loss"]

    ranges = dict.fromkeys(start, uniform(0, 1))
    tuned = run(
        ranges,
        initial=start,
        mode=mode,
        warmup_epochs=0,
        hyper_optimizer="sgd",
        hyper_lr=1.0,
        n_steps=5,
    )
    for name, value in start.items():
        moved = tuned.schedule_[name][-1]
        # Values are sigmoids of what moves, which starts in float32.
        gradient = float(np.float32(np.log(value / (1 - value)))) - np.log(moved / (1 - moved))
        step = 3e-6
        difference = (loss(**{name: value + step}) - loss(**{name: value - step})) / (2 * step)
        assert gradient == pytest.approx(difference * value * (1 - value), rel=1e-5, abs=1e-9)


class Recorder(torch.optim.SGD):
    """Keeps the gradients that it gets, and moves nothing."""

    def step(self):
        self.found = self.param_groups[0]["params"][0].grad.clone()


def sgd_by_hand(w, g, h, state, t):
    buffer = [h["momentum"] * b + one for b, one in zip(state or [0] * len(g), g, strict=True)]
    return [one - h["lr"] * b for one, b in zip(w, buffer, strict=True)], buffer


def adam_by_hand(w, g, h, state, t):
    means, squares = state or ([0] * len(g), [0] * len(g))
    b1, b2 = h["beta1"], h["beta2"]
    means = [b1 * m + (1 - b1) * one for m, one in zip(means, g, strict=True)]
    squares = [b2 * s + (1 - b2) * one**2 for s, one in zip(squares, g, strict=True)]
    moved = [
        one - h["lr"] * (m / (1 - b1**t)) / ((s / (1 - b2**t)).sqrt() + 1e-8)
        for one, m, s in zip(w, means, squares, strict=True)
    ]
    return moved, (means, squares)


def gradient_by_hand(step, module, batches, valid, h, average):
    """Differentiate the validation loss through a loop that torch's autograd sees."""

    def loss_at(w, X, y):
        return (torch.tanh(X @ w[0].T + w[1])[:, 0] - y).square().mean()

    w, state, passed = [p.detach().requires_grad_() for p in module.parameters()], None, []
    h = {name: torch.tensor(value, dtype=w[0].dtype, requires_grad=True) for name, value in h}
    for t, (X, y) in enumerate(batches, start=1):
        loss = loss_at(w, X, y) + 0.5 * h["weight_decay"] * w[0].square().sum()
        g = torch.autograd.grad(loss, w, create_graph=True)
        w, state = step(w, g, h, state, t)
        passed.append(w)
    if average:
        w = [sum(parts) / len(passed) for parts in zip(*passed, strict=True)]
    loss_at(w, *valid).backward()
    return {name: value.grad.item() for name, value in h.items()}


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize(
    ("optimizer", "step", "start"),
    [
        ("sgd", sgd_by_hand, {"lr": 0.3, "momentum": 0.8, "weight_decay": 0.2}),
        ("adam", adam_by_hand, {"lr": 0.2, "beta1": 0.7, "beta2": 0.9, "weight_decay": 0.2}),
    ],
)
def test_the_gradient_is_that_of_autograd(line, optimizer, step, start, mode):
    X, y = line
    net = SelfTuningRegressor(
        Line,
        dict.fromkeys(start, uniform(0, 1)),
        initial=start,
        variant="unrolled",
        mode=mode,
        n_steps=5,
        warmup_epochs=0,
        max_epochs=1,
        batch_size=20,
        optimizer=optimizer,
        hyper_optimizer=Recorder,
        iterator_train__shuffle=False,
        module__in_features=X.shape[1],
        random_state=0,
    )
    module = net.initialize().module_
    X_of_torch, y_of_torch = (torch.tensor(part.astype(np.float32)).double() for part in (X, y))
    pairs = [part.split(20) for part in (X_of_torch, y_of_torch)]
    *batches, valid = list(zip(*pairs, strict=True))[:6]
    h = [(name, net.tuning_.values()[name]) for name in start]
    expected = gradient_by_hand(
        step, module, batches, valid, h, average=optimizer == "sgd" and mode == "reverse"
    )
    net.fit(X[:100], y[:100], validation_data=(X[100:120], y[100:120]))
    gradient = dict(zip(net.tuning_.names, net.tuning_.hyper_optimizer.found, strict=True))
    for name, value in h:
        slope = value * (1 - value)  # values are sigmoids
        assert gradient[name].item() / slope == pytest.approx(expected[name], rel=1e-6)


def test_schedule(fitted):
    for name, values in fitted.schedule_.items():
        low, high = RANGES[name].support()
        assert all(low <= value <= high for value in values)
        assert values[0] != values[-1], "warm-up, then moving"
    power = 2 * np.log(fitted.schedule_["lr"][0] / 0.01) / np.log(3)
    assert power == pytest.approx(round(power), abs=1e-3), "a multiple that trains faster"
    assert fitted.schedule_["lr"][0] > 0.01
    assert fitted.schedule_["beta1"][0] == pytest.approx(0.9, rel=1e-3)


def test_a_checkpoint_continues_exactly(fitted, digits):
    half = SelfTuningClassifier(hyperparameters=RANGES, **{**PARAMS, "max_epochs": 2}).fit(*digits)
    file = io.BytesIO()
    half.save_checkpoint(file)
    file.seek(0)
    half = SelfTuningClassifier(hyperparameters=RANGES, **PARAMS).load_checkpoint(file)
    half.set_params(max_epochs=1).partial_fit(*digits)
    np.testing.assert_array_equal(weights_of(half), weights_of(fitted))
    assert half.schedule_ == fitted.schedule_


def test_forward_mode_continues_exactly(digits):
    params = {**PARAMS, "mode": "forward", "n_steps": 2, "hyperparameters": RANGES}
    whole = SelfTuningClassifier(**params).fit(*digits)
    file = io.BytesIO()
    SelfTuningClassifier(**{**params, "max_epochs": 2}).fit(*digits).save_checkpoint(file)
    file.seek(0)
    half = SelfTuningClassifier(**params).load_checkpoint(file)
    half.set_params(max_epochs=1).partial_fit(*digits)
    np.testing.assert_array_equal(weights_of(half), weights_of(whole))
    assert half.schedule_ == whole.schedule_
    with pytest.raises(ValueError, match="for at most 20 numbers"):
        SelfTuningClassifier(
            **{**params, "hyperparameters": {"weight_decay[:]": uniform(0, 1)}}
        ).fit(*digits)


def test_rates_of_layers_and_refit(digits):
    ranges = {"linear_*.lr": loguniform(1e-4, 1), "output.lr": loguniform(1e-4, 1)}
    net = SelfTuningClassifier(
        hyperparameters=ranges, refit="schedule", train_steps=4, **PARAMS
    ).fit(*digits)
    assert net.schedule_["linear_*.lr"][-1] != net.schedule_["output.lr"][-1]
    assert len(net.refit_history_) == 3
    frozen = SelfTuningClassifier(
        hyperparameters={"linear_*.lr": 0.0, "output.lr": 0.1}, **PARAMS
    ).fit(*digits)
    first = SelfTuningClassifier(hyperparameters={"lr": 0.0}, **PARAMS).fit(*digits)
    for name, weight in frozen.module_.named_parameters():
        same = torch.equal(weight, first.module_.get_parameter(name))
        assert same == name.startswith("linear_")


@given(
    st.integers(-8, 8),
    st.lists(st.floats(0, 1e6) | st.just(np.nan), min_size=65, max_size=65),
    st.floats(0, 1e6),
    st.floats(1, 2),
)
def test_the_search_for_first_rates(low, losses, first, nearly):
    """No other that it tried is much better than what it returns, and it tries nothing twice."""
    asked = {}

    def loss_at(power):
        assert power not in asked
        assert power == 0 or low <= power <= low + 8
        asked[power] = losses[round(4 * power) + 32]
        return asked[power]

    found = best_power(loss_at, lambda power: low <= power <= low + 8, first, nearly)
    smallest = np.nanmin([np.inf, *asked.values()])
    if not smallest < first:
        assert found == 0
        return
    assert not asked[found] > nearly * smallest
    assert not asked[found] > max(smallest, first - 0.89 * (first - smallest))


@pytest.mark.parametrize("start", [-3, 0, 2])
@pytest.mark.parametrize("smallest", [1, -5])  # some losses are negative
@pytest.mark.parametrize("first", [np.inf, np.nan])
def test_the_search_finds_a_valley(start, smallest, first):
    found = best_power(lambda power: (power + start) ** 2 + smallest, lambda power: True, first)
    assert abs(found + start) <= 0.5  # a smaller one may be nearly as good


def test_the_search_goes_down_from_rates_that_destroy_the_network():
    """Their losses are about the first one, by chance smaller at larger rates."""

    def loss_at(power):
        return 2.4 - 0.02 * power if power > -3 else 1 + abs(power + 4)

    assert abs(best_power(loss_at, lambda power: power < 3, first=2.3) + 4) <= 0.25


@pytest.mark.parametrize(("first", "loss"), [(2.3, 2.4), (np.nan, np.nan)])
def test_the_search_ends_where_no_rate_lowers_the_loss(first, loss):
    tried = []
    assert best_power(lambda power: tried.append(power) or loss, lambda power: True, first) == 0
    assert 8 <= len(tried) < 16


def test_rates_that_are_asked_for_are_where_it_starts(digits):
    changed = {
        **PARAMS,
        "max_epochs": 2,
        "warmup_epochs": 1,
        "hyperparameters": {"lr": loguniform(1e-4, 1)},
    }
    asked = SelfTuningClassifier(**changed, initial={"lr": 0.002}).fit(*digits)
    assert asked.schedule_["lr"][0] == pytest.approx(0.002)
    searched = SelfTuningClassifier(**changed).set_params(lr=0.002).fit(*digits)
    assert searched.schedule_["lr"][0] > 0.01
    # Nothing but the rate is left of the tries.
    again = clone(asked).set_params(initial={"lr": searched.schedule_["lr"][0]}).fit(*digits)
    np.testing.assert_allclose(weights_of(again), weights_of(searched), atol=1e-5)


@pytest.mark.parametrize("start", [3e-5, 1.0])
def test_a_bad_learning_rate_is_mended(digits, start):
    ranges = {"lr": loguniform(1e-5, 3)}
    net = SelfTuningClassifier(hyperparameters=ranges, **{**PARAMS, "lr": start})
    net.set_params(warmup_epochs=0, max_epochs=8, hyper_lr=0.3).fit(*digits)
    assert 3e-4 < net.schedule_["lr"][-1] < 0.3


def test_steps_between_two_windows_are_those_by_autograd(digits, monkeypatch):
    ranges = {"lr": loguniform(1e-4, 1), "beta1": uniform(0.5, 0.49)}
    ranges |= {"dropout_*.p": uniform(0, 0.5), "label_smoothing": uniform(0, 0.5)}
    settings = {"train_steps": 8, "module__dropout": 0.1}
    net = SelfTuningClassifier(hyperparameters=ranges, **{**PARAMS, **settings})
    by_rules = net.fit(*digits)
    n_updates = by_rules.tuning_.counts["updates"]
    monkeypatch.setattr(RuleSteps, "can_train", lambda steps, h: False)
    by_autograd = clone(net).fit(*digits)
    assert n_updates == by_autograd.tuning_.counts["updates"] == 2
    for name, values in by_rules.schedule_.items():
        np.testing.assert_allclose(values, by_autograd.schedule_[name], rtol=1e-4)
    np.testing.assert_allclose(weights_of(by_rules), weights_of(by_autograd), atol=1e-4)
    assert by_rules.optimizer_.param_groups[0]["lr"] == PARAMS["lr"]


@pytest.mark.parametrize("train_steps", [4, 8], ids=["unrolled", "plain"])
def test_a_window_that_destroys_the_network_is_trained_again(digits, train_steps):
    ranges = {"lr": loguniform(1e-3, 1e3)}
    net = SelfTuningClassifier(hyperparameters=ranges, initial={"lr": 6.0}, **PARAMS)
    net.set_params(optimizer="sgd", warmup_epochs=0, train_steps=train_steps, max_epochs=6)
    net.set_params(batch_size=20).fit(*digits)
    assert net.history[-1, "valid_loss"] < 1.5  # 2.3 is that of dead units
    assert net.schedule_["lr"][-1] < 3


def test_a_run_that_is_too_short_for_an_update_warns(digits):
    net = SelfTuningClassifier(hyperparameters={"lr": loguniform(1e-4, 1)}, **PARAMS)
    with pytest.warns(
        UserWarning, match=r"nothing was tuned in \d+ training steps.*train_steps=99"
    ):
        net.set_params(train_steps=99, max_epochs=2).fit(*digits)
    assert len(set(net.schedule_["lr"])) == 1


def test_averages_keep_the_learning_rate_of_sgd_from_shrinking(digits, monkeypatch):
    net = SelfTuningClassifier(hyperparameters={"lr": loguniform(1e-3, 10)}, **PARAMS)
    net.set_params(optimizer="sgd", lr=0.3, max_epochs=12, batch_size=10)
    net.set_params(train_steps=4, hyper_lr=0.2)
    of_average = net.fit(*digits).schedule_["lr"][-1]
    monkeypatch.setattr(_unrolled, "_AVERAGED", ())
    assert of_average > 1.5 * net.fit(*digits).schedule_["lr"][-1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"hyperparameters": {"momentum": uniform(0, 0.9)}},
            "Adam that can be tuned; tune 'beta1'",
        ),
        ({"optimizer": "adagrad"}, "needs the optimizer"),
        ({"optimizer__amsgrad": True}, "needs amsgrad of the optimizer at its default"),
        ({"hyperparameters": {"lr": uniform(0, 1), "output.lr": uniform(0, 1)}}, "are both lr of"),
        ({"hyperparameters": {"no_layer.lr": uniform(0, 1)}}, "must name layers"),
        ({"hyperparameters": {"lstm.dropout": uniform(0, 0.5)}}, "those within other layers"),
        ({"lr_scheduler": "cosine"}, "lr_scheduler"),
        ({"train_steps": 3}, "train_steps must be at least n_steps"),
        ({"train_steps": 8, "mode": "forward"}, "the steps between two updates are n_steps"),
    ],
)
def test_what_is_refused(digits, changed, message):
    arguments = {"hyperparameters": {"lr": loguniform(1e-4, 1)}, **PARAMS, **changed}
    with pytest.raises(ValueError, match=message):
        SelfTuningClassifier(**arguments).fit(*digits)


def test_the_memory_is_estimated_before_training(digits, monkeypatch):
    monkeypatch.setattr(_unrolled, "total_memory", lambda: 2.0**20)
    with pytest.raises(
        ValueError, match=r"n_steps=1000 training steps needs about .* lower n_steps"
    ):
        SelfTuningClassifier(hyperparameters=RANGES, **{**PARAMS, "n_steps": 1000}).fit(*digits)


def test_a_batch_with_joined_rows_counts_in_the_memory(digits, monkeypatch):
    rows, seen = [], []
    monkeypatch.setattr(_unrolled, "unrolled_bytes", lambda net, n, size: rows.append(size) or 0)
    train = _unrolled.UnrolledRunner.train

    def watched(self, network, n_epochs, *, tunes):
        losses, sizes = train(self, network, n_epochs, tunes=tunes)
        seen.extend(sizes)
        return losses, sizes

    monkeypatch.setattr(_unrolled.UnrolledRunner, "train", watched)
    X, y = digits[0][:170], digits[1][:170]  # 136 without those to tune on
    settings = {**PARAMS, "max_epochs": 2, "batch_size": 33}
    SelfTuningClassifier(hyperparameters=RANGES, **settings).fit(X, y)
    assert set(rows) == {max(seen)}
    assert rows[0] > 33
