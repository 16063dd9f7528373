"""Nets trained together are what they would be alone."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_classification
from torch import nn

from skhpo import TorchClassifier
from skhpo.estimators import MLP
from skhpo.lockstep import Member, predict_together, train_together

X, Y = make_classification(200, 8, n_informative=5, n_classes=3, random_state=0)
pytestmark = pytest.mark.usefixtures("nothing_falls_back")


class Wide(nn.Sequential):
    """In float64, in which rounding is small."""

    def __init__(self, in_features, out_features, dropout=0.2):
        super().__init__(
            nn.Linear(in_features, 6),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.Linear(6, out_features),
        )
        self.double()


def folds(n):
    """Training rows of unequal number."""
    return [np.flatnonzero(np.arange(len(X)) % 7 != k % 7)[: 150 + 3 * (k % 4)] for k in range(n)]


def net_of(k, **params):
    settings = {"module": Wide, "batch_size": 32, "max_epochs": 5, "device": "cpu", "lr": 0.01}
    return TorchClassifier(**{**settings, "random_state": k, **params})


def alone(member):
    fit = member.net.partial_fit if member.continuing else member.net.fit
    fit(member.X, member.y, **member.fit_params)
    return member.net


def assert_same(one, other, tolerance=1e-8):
    for a, b in zip(
        one.module_.state_dict().values(), other.module_.state_dict().values(), strict=True
    ):
        assert torch.linalg.vector_norm((a - b).double()) <= tolerance
    a, b = one.optimizer_.state_dict(), other.optimizer_.state_dict()
    assert a["param_groups"] == b["param_groups"]
    assert a["state"].keys() == b["state"].keys()
    for key, state in a["state"].items():
        assert list(state) == list(b["state"][key])
        for name, value in state.items():
            theirs = b["state"][key][name]
            assert value.dtype == theirs.dtype
            assert value.shape == theirs.shape
            torch.testing.assert_close(value, theirs, rtol=1e-5, atol=1e-7)
    assert [list(row) for row in one.history] == [list(row) for row in other.history]
    assert one.n_iter_ == other.n_iter_
    for row, theirs in zip(one.history, other.history, strict=True):
        for name in set(row) - {"dur"}:
            assert row[name] == pytest.approx(theirs[name], rel=1e-4, abs=1e-7), name
    for name, stream in one._state.streams.items():
        theirs = other._state.streams[name]
        assert torch.equal(stream.generator().get_state(), theirs.generator().get_state())
    assert one.module_.training == other.module_.training


def assert_trained_alike(make, n=4, **further):
    members = [Member(make(k), X[rows], Y[rows], **further) for k, rows in enumerate(folds(n))]
    assert train_together(members) == [None] * n
    for k, member in enumerate(members):
        expected = alone(Member(make(k), member.X, member.y, **further))
        assert_same(member.net, expected)


class Traced(nn.Module):
    """Of which steps are joint only for batches of the same number of rows."""

    def __init__(self, in_features, out_features, dropout):
        super().__init__()
        self.layers = Wide(in_features, out_features, dropout)

    def forward(self, x):
        return self.layers(x)


class WithoutRule(nn.Module):
    """By autograd, as a whole; then by the part that draws and those before and after it."""

    def __init__(self, in_features, out_features, dropout):
        super().__init__()
        self.first, self.last = nn.Linear(in_features, 6), nn.Linear(6, out_features)
        self.dropout = nn.Dropout1d(dropout)
        self.double()

    def forward(self, x):
        x = torch.sin(self.first(x)).unsqueeze(-1)
        return self.last(self.dropout(x).amax(-1))


SGD = {"optimizer": "sgd", "optimizer__momentum": 0.9}


@pytest.mark.parametrize(
    "params",
    [
        {"optimizer": "adam"},
        {"optimizer": "adam", "optimizer__amsgrad": True},
        {"optimizer": "adamw", "optimizer__weight_decay": 0.1},
        {"optimizer": "sgd"},
        SGD,
        {**SGD, "optimizer__nesterov": True},
        {**SGD, "optimizer__dampening": 0.5},
    ],
)
def test_every_optimizer_makes_the_same_numbers(params):
    assert_trained_alike(lambda k: net_of(k, **params))


def test_settings_may_differ_from_net_to_net():
    def make(k):
        return net_of(
            k,
            optimizer="adam",
            lr=0.01 / (k + 1),
            optimizer__betas=(0.9 - k / 10, 0.99),
            optimizer__weight_decay=k / 100,
            max_epochs=2 + k,
            label_smoothing=k / 10,
            class_weight=["balanced", None][k % 2],
            module__dropout=[0.0, 0.2, 0.5, 0.8][k],
        )

    assert_trained_alike(make)


@pytest.mark.parametrize("module", [Wide, Traced, WithoutRule])
def test_rates_and_numbers_of_rows_in_any_order(module):
    """With rates of 0 and 1, at which nothing is drawn, and last batches of different sizes."""
    settings = {"module": module, "batch_size": 16, "max_epochs": 2}
    for rates in itertools.permutations((0.0, 0.5, 1.0)):
        for n_rows in ((40, 38, 35), (35, 38, 40), (38, 40, 32)):
            nets = [net_of(k, module__dropout=p, **settings) for k, p in enumerate(rates)]
            data = [(X[:n], Y[:n]) for n in n_rows]
            members = [Member(clone(net), *of_net) for net, of_net in zip(nets, data, strict=True)]
            assert train_together(members) == [None] * 3
            for net, member, of_net in zip(nets, members, data, strict=True):
                assert_same(member.net, net.fit(*of_net))


@pytest.mark.parametrize(
    "params",
    [
        {"class_weight": {0: 3, 1: 1, 2: 0}},
        {"classes": [0, 1, 2, 3]},
        {"module__dropout": 0.4},
        {"optimizer__weight_decay": 0.1, "lr": 0.02, "max_epochs": 2},
        {"criterion": nn.MultiMarginLoss, "predict_nonlinearity": None},
    ],
    ids=str,
)
def test_what_is_found_for_one_network_is_not_taken_for_another(params):
    """Networks with the same arrays, some of which differ in a setting."""
    two = np.minimum(Y, 1)
    several = [({}, Y), (params, Y), ({}, two), ({}, Y[::-1])] * 2
    members = [Member(net_of(k, **own), X, y) for k, (own, y) in enumerate(several)]
    assert train_together(members) == [None] * 8
    for k, (member, (own, y)) in enumerate(zip(members, several, strict=True)):
        expected = alone(Member(net_of(k, **own), X, y))
        assert_same(member.net, expected)
        np.testing.assert_array_equal(member.net.classes_, expected.classes_)
        assert member.net.predict_proba(X).shape == expected.predict_proba(X).shape
        assert member.net.n_features_in_ == 8


def test_each_network_has_its_own_error():
    wrong = {"class_weight": {"none": 2}}
    nets = [net_of(0), net_of(1, **wrong), net_of(2), net_of(3, **wrong), net_of(4, lr=-1)]
    errors = train_together([Member(net, X, Y) for net in nets])
    assert [isinstance(error, ValueError) for error in errors] == [False, True] * 2 + [True]
    assert "class_weight" in str(errors[3])
    assert "lr" in str(errors[4])


def test_nets_are_continued():
    def make(k):
        rows = folds(4)[k]
        return net_of(k, **SGD).fit(X[rows], Y[rows]).set_params(max_epochs=1 + k)

    assert_trained_alike(make, continuing=True)


def test_mixed_precision():
    def make(k):
        return net_of(k, module=MLP, amp=True, module__dropout=0.1)

    members = [Member(make(k), X[rows], Y[rows]) for k, rows in enumerate(folds(3))]
    assert train_together(members) == [None] * 3
    for k, member in enumerate(members):
        expected = alone(Member(make(k), member.X, member.y))
        np.testing.assert_allclose(
            member.net.predict_proba(X), expected.predict_proba(X), atol=0.02
        )
        exact = alone(Member(make(k).set_params(amp=False), member.X, member.y))
        assert np.abs(member.net.predict_proba(X) - exact.predict_proba(X)).max() > 1e-4


def test_predictions_in_float32_agree():
    def make(k):
        return net_of(k, module=MLP, module__dropout=0.2)

    members = [Member(make(k), X[rows], Y[rows]) for k, rows in enumerate(folds(5))]
    assert train_together(members) == [None] * 5
    outputs = predict_together([member.net for member in members], [X] * 5)
    for k, member in enumerate(members):
        expected = alone(Member(make(k), member.X, member.y))
        np.testing.assert_allclose(outputs[k], member.net.predict_proba(X), atol=1e-6)
        np.testing.assert_allclose(outputs[k], expected.predict_proba(X), atol=1e-3)
