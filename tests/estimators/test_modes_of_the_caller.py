"""Fits in a caller's ``no_grad``, ``inference_mode`` or default device are those outside of it."""

import functools

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_classification
from skorch.callbacks import EpochTimer
from torch import nn

from skhpo import SelfTuningClassifier, TorchClassifier, TorchRegressor
from skhpo.lockstep import Member, predict_together, train_together
from skhpo.self_tuning import hypergradient

TUNING = {"warmup_epochs": 0, "batch_size": 24}
SETTINGS = {"max_epochs": 2, "random_state": 0, "device": "cpu"}


class Sine(nn.Module):
    """A module that autograd must train."""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.hidden, self.norm = nn.Linear(in_features, 6), nn.BatchNorm1d(6)
        self.dropout, self.out = nn.Dropout(0.2), nn.Linear(6, out_features)

    def forward(self, x):
        return self.out(self.dropout(self.norm(torch.sin(self.hidden(x)))))


class Lazy(nn.Sequential):
    def __init__(self, out_features):
        super().__init__(nn.LazyLinear(6), nn.ReLU(), nn.LazyLinear(out_features))


ESTIMATORS = {
    "direct": TorchClassifier(module__dropout=0.2, optimizer="adam", **SETTINGS),
    "checked": TorchClassifier(validation_fraction=0.2, average="ema", max_norm=1.0, **SETTINGS),
    "recalibrated": TorchClassifier(Sine, average="swa", recalibrate=True, **SETTINGS),
    "checked by autograd": TorchClassifier(Sine, validation_fraction=0.2, **SETTINGS),
    "hooked": TorchClassifier(Sine, callbacks=[EpochTimer()], **SETTINGS),
    "scheduled": TorchClassifier(Sine, lr_scheduler="one_cycle", init="orthogonal", **SETTINGS),
    "lazy": TorchClassifier(Lazy, accumulate=2, max_grad_norm=1.0, **SETTINGS),
    "instance": TorchClassifier(nn.Sequential(nn.Linear(8, 3), nn.Softsign()), **SETTINGS),
    "scaled": TorchRegressor(scale_target="standard", **SETTINGS),
    "tuning": SelfTuningClassifier(warmup_epochs=0, refit="schedule", **SETTINGS),
    "implicit": SelfTuningClassifier(variant="implicit", train_steps=2, **TUNING, **SETTINGS),
    "unrolled": SelfTuningClassifier(variant="unrolled", n_steps=2, **TUNING, **SETTINGS),
}


X, Y = make_classification(90, 8, n_informative=5, n_classes=3, random_state=0)
X = X.astype(np.float32)


def outputs_of(net):
    """Return what a net predicts that is fitted and continued."""
    net.fit(X, Y).partial_fit(X, Y)
    return net.predict_outputs(X)


@functools.cache
def wanted_of(name):
    return outputs_of(clone(ESTIMATORS[name]))


MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "default device": lambda: torch.device("meta"),  # shows each tensor made on it
}
modes = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


@modes
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_fit_is_the_same_in_each(name, mode):
    net, wanted = clone(ESTIMATORS[name]), wanted_of(name)
    with mode():
        found = outputs_of(net)
    assert np.array_equal(found, wanted)
    tensors = [*net.module_.parameters(), *net.module_.buffers()]
    assert not any(tensor.is_inference() or tensor.is_meta for tensor in tensors)
    assert np.array_equal(net.predict_outputs(X), wanted)


@modes
def test_gradients_of_trained_networks_are_the_same_in_each(mode):
    net = TorchClassifier(optimizer="adam", optimizer__weight_decay=0.1, **SETTINGS).fit(X, Y)

    def gradient():
        data = X, Y, (X[:30], Y[:30])
        return hypergradient(net, *data, ["weight_decay"], damping=1).gradient["weight_decay"]

    wanted = gradient()
    with mode():
        assert gradient() == wanted


@modes
def test_networks_together_are_the_same_in_each(mode):
    def outputs():
        settings = {**SETTINGS, "module__dropout": 0.2, "validation_fraction": 0.2}
        nets = [TorchClassifier(lr=lr, **settings) for lr in (0.001, 0.01)]
        assert train_together([Member(net, X, Y) for net in nets]) == [None] * 2
        assert not any(p.is_inference() for net in nets for p in net.module_.parameters())
        return predict_together(nets, [X, X])

    wanted = outputs()
    with mode():
        found = outputs()
    assert np.array_equal(found, wanted)
