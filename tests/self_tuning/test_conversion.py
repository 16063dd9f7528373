"""Modules as users write them: what is swapped, what is warned of, batch normalization."""

import numpy as np
import pytest
import torch
from scipy.stats import loguniform, randint, uniform
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from skhpo import SelfTuningClassifier
from skhpo.estimators import ConvNet
from skhpo.self_tuning import HyperLinear
from skhpo.self_tuning._context import Context
from skhpo.self_tuning._module_conversion import convert, functions_of

DECAY = {"weight_decay": loguniform(1e-6, 1e-2)}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X[:200] / 16).astype(np.float32), y[:200]


def fit(module, digits, ranges=DECAY, **params):
    params = {"max_epochs": 1, "warmup_epochs": 0, "lr": 0.01, "random_state": 0, **params}
    return SelfTuningClassifier(module, ranges, **params).fit(*digits)


class Functional(nn.Module):
    def __init__(self, branches=False):
        super().__init__()
        self.linear, self.branches = nn.Linear(64, 10), branches

    def forward(self, x):
        if self.branches and x.sum() > 1e9:
            return self.linear(x)
        return self.linear(F.dropout(x, 0.5, self.training))


@pytest.mark.parametrize("branches", [False, True])
def test_functional_dropout_is_warned_of(digits, branches):
    with pytest.warns(UserWarning, match="drops values by dropout"):
        net = fit(Functional, digits, module__branches=branches)
    assert net.tuning_.may_draw
    with pytest.warns(UserWarning, match="drops values"):
        again = fit(Functional, digits, module__branches=branches)
    assert net.history[:, "train_loss"] == again.history[:, "train_loss"]


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.output = nn.Linear(64, 10)

    def forward(self, x):
        x = x.view(-1, 8, 8)
        return self.output(self.attention(x, x, x)[0].flatten(1))


def test_attention_is_left_alone(digits):
    with pytest.warns(UserWarning, match="do not respond to hyperparameters: MultiheadAttention$"):
        net = fit(Attends, digits)
    assert [type(m) for m in net.tuning_.responding] == [HyperLinear]


def test_a_slow_lstm_is_warned_of(digits):
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.output = nn.LSTM(8, 4, batch_first=True), nn.Linear(4, 10)

        def forward(self, x):
            return self.output(self.lstm(x.view(-1, 8, 8))[0][:, -1])

    with pytest.warns(UserWarning, match="step by step"):
        fit(Reads, digits)


def test_shared_weights_are_left_alone(digits):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.c(self.b(self.a(x)))

    with pytest.warns(UserWarning, match="share parameters|do not respond"):
        net = fit(Tied, digits)
    assert len(net.tuning_.responding) == 1
    plain = net.collapse()
    assert plain.a.weight is plain.b.weight


def test_layers_of_ones_own_respond_without_conversion(digits):
    module = nn.Sequential(HyperLinear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    with pytest.warns(UserWarning, match="do not respond to hyperparameters: Linear$"):
        net = fit(module, digits, convert=False)
    assert len(net.tuning_.responding) == 1
    assert set(net.collapse().state_dict()) == set(module.state_dict())


@pytest.mark.filterwarnings("ignore:nothing was tuned")
# They are those of inputs with noise, which predictions have not.
@pytest.mark.filterwarnings("ignore:the moving averages")
@pytest.mark.parametrize("variant", ["stn", "delta"])
def test_statistics_of_batch_normalization_are_unperturbed(digits, variant):
    """With noise of such a scale perturbed passes would see a far larger variance."""
    ranges = {"input_noise": uniform(0, 100)}
    net = fit(
        nn.Sequential(nn.BatchNorm1d(64, affine=False), nn.Linear(64, 10)),
        digits,
        ranges,
        initial={"input_noise": 1},
        variant=variant,
        init_scale=4.0,
        warmup_epochs=9,
        max_epochs=9,
    )
    assert net.module_[0].running_var.median() < 3


def test_images_and_integers(digits):
    X, y = digits
    ranges = {
        **DECAY,
        "dropout.p": uniform(0, 0.9),
        "cutout_length": randint(0, 7),
        "cutout_holes": randint(1, 4),
        "brightness": uniform(0, 0.5),
        "rotation": uniform(0, 30),
    }
    net = fit(ConvNet, (X.reshape(-1, 8, 8), y), ranges, module__dropout=0.1)
    assert all(isinstance(v, int) for v in net.schedule_["cutout_length"])
    with pytest.raises(ValueError, match="images of three channels"):
        fit(ConvNet, (X.reshape(-1, 8, 8), y), {"hue": uniform(0, 0.5)})
    with pytest.raises(ValueError, match="needs images"):
        fit(nn.Linear(64, 10), digits, {"rotation": uniform(0, 10)})
    with pytest.raises(ValueError, match="needs an LSTM"):
        fit(nn.Linear(64, 10), digits, {"ar": uniform(0, 1)})


def test_tracing_sees_functions():
    plain = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert functions_of(convert(plain, Context(["a"]), 0)) == set()
    assert "dropout" in functions_of(Functional())
    assert functions_of(Functional(branches=True)) is None


@pytest.mark.parametrize("refit", ["schedule", "final"])
def test_retraining(digits, refit, tmp_path):
    ranges = {**DECAY, "input_noise": uniform(0, 1)}
    params = {"max_epochs": 4, "module__n_units": 16, "random_state": 0, "lr": 0.01}
    tuned = SelfTuningClassifier(hyperparameters=ranges, warmup_epochs=1, **params).fit(*digits)
    net = SelfTuningClassifier(hyperparameters=ranges, warmup_epochs=1, **params, refit=refit)
    net.fit(*digits)
    assert net.schedule_ == tuned.schedule_
    assert len(net.refit_history_) == 4
    first = net.refit_history_[:, "valid_loss"]
    assert first != tuned.history[:, "valid_loss"]
    proba = net.predict_proba(digits[0])
    assert not np.allclose(proba, tuned.predict_proba(digits[0]))
    net.save_checkpoint(tmp_path / "net.pt")
    loaded = SelfTuningClassifier(hyperparameters=ranges, warmup_epochs=1, **params, refit=refit)
    loaded.load_checkpoint(tmp_path / "net.pt")
    np.testing.assert_array_equal(loaded.predict_proba(digits[0]), proba)
    for one in (loaded.partial_fit(*digits), tuned.partial_fit(*digits)):
        assert one.n_iter_ == 8
    assert loaded.schedule_ == tuned.schedule_, "tuning goes on where it stood"


@pytest.mark.filterwarnings("ignore:nothing was tuned")
def test_weight_decay_in_retraining_is_that_of_the_optimizer(digits):
    """A schedule that stands still is plain training: Adam's own decay does the same."""
    params = {"module__n_units": 8, "random_state": 0, "lr": 0.01, "max_epochs": 3}
    ranges = {"weight_decay": uniform(0.0, 1.0)}
    net = SelfTuningClassifier(
        hyperparameters=ranges, initial={"weight_decay": 0.3}, warmup_epochs=9, refit="final",
        **params,
    ).fit(*digits)  # fmt: skip
    torch.manual_seed(0)
    strong = SelfTuningClassifier(
        hyperparameters=ranges, initial={"weight_decay": 0.01}, warmup_epochs=9, refit="final",
        **params,
    ).fit(*digits)  # fmt: skip
    norms = [one.collapse().linear_0.weight.norm() for one in (net, strong)]
    assert norms[0] < 0.9 * norms[1]


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(32, 10), nn.Linear(32, 10)

    def forward(self, left, right):
        return self.a(left) + self.b(right)


def test_several_inputs(digits):
    X = {"left": digits[0][:, :32], "right": digits[0][:, 32:]}
    net = fit(Two, (X, digits[1]), {"b.weight_decay": loguniform(1e-6, 1e-2)})
    assert net.predict(X).shape == (200,)
    with pytest.raises(ValueError, match="X as one array of real numbers"):
        fit(Two, (X, digits[1]), {"input_noise": uniform(0, 1)})


def test_what_is_not_tuned_keeps_its_value(digits):
    module = nn.Sequential(nn.Dropout(1.0), nn.Dropout(0.0), nn.Linear(64, 10))
    net = fit(module, digits)
    assert net.collapse()[0].p == 1.0
    assert np.isfinite(net.history[-1]["valid_loss"])


def test_sample_weights(digits):
    X, y = digits
    module = nn.Linear(64, 10)
    doubled = fit(module, digits, random_state=0)
    weighted = SelfTuningClassifier(
        module, DECAY, max_epochs=1, warmup_epochs=0, lr=0.01, random_state=0
    ).fit(X, y, sample_weight=np.full(200, 3.0))
    np.testing.assert_allclose(
        weighted.predict_proba(X), doubled.predict_proba(X), rtol=1e-4, atol=1e-6
    )
