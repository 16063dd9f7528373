"""What cannot be trained in lockstep is trained alone, and what fails fails alone."""

import logging

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import EpochTimer
from torch import nn

import skhpo.lockstep._prediction
import skhpo.lockstep._runner
from skhpo import TorchClassifier, TorchRegressor
from skhpo.estimators import MLP, ConvNet
from skhpo.exceptions import NonFiniteLossError
from skhpo.limits import FitTimeoutError
from skhpo.lockstep import (
    Member,
    built_for,
    group_key,
    obstacle,
    pays,
    predict_together,
    train_together,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = np.arange(60) % 3


def net_of(k, module=MLP, **params):
    settings = {"batch_size": 16, "max_epochs": 2, "random_state": k, "device": "cpu"}
    return TorchClassifier(module, **{**settings, **params})


def members_of(n=3, **params):
    return [Member(net_of(k, **params), X[k:], Y[k:]) for k in range(n)]


def assert_as_alone(members, **params):
    for k, member in enumerate(members):
        expected = net_of(k, **params).fit(X[k:], Y[k:]).predict_proba(X)
        np.testing.assert_allclose(member.net.predict_proba(X), expected, atol=1e-5)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 5, batch_first=True)
        self.out = nn.Linear(5, 3)

    def forward(self, x):
        return self.out(self.rnn(x[:, None])[0][:, -1])


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(x if x.sum() > 0 else -x)


class Counting(Branching):
    n_calls = 0

    def forward(self, x):
        self.n_calls += 1
        return self.out(x) * (1 + (self.n_calls % 3))


class Wandering(Branching):
    def forward(self, x):
        return self.out(x) * np.random.uniform()  # noqa: NPY002


class Tied(Branching):
    def __init__(self):
        super().__init__()
        self.again = self.out

    def forward(self, x):
        return self.again(x)


class Idle(Branching):
    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(1, 1)

    def forward(self, x):
        return self.out(x)


class Hooked(Branching):
    def __init__(self):
        super().__init__()
        self.out.register_forward_hook(lambda layer, args, output: output * 2)

    def forward(self, x):
        return self.out(x)


class Drawing(Branching):
    def forward(self, x):
        return self.out(x + 0.1 * torch.randn_like(x)) if self.training else self.out(x)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"module": Recurrent}, "no other net"),
        ({"module": Branching}, "vmap"),
        ({"module": Counting}, "changes itself"),
        ({"module": Tied}, "share"),
        ({"module": Idle}, "no part"),
        ({"module": Hooked}, "hooks"),
        ({"module": Drawing}, "random"),
        ({"callbacks": [EpochTimer()]}, "callbacks"),
        ({"optimizer": "lbfgs", "max_epochs": 1}, "lbfgs"),
        ({"train_split": lambda dataset, y: (dataset, None)}, "train_split"),
        ({"verbose": 1}, "verbose"),
        ({"criterion__weight": torch.tensor([1.0, 2.0, 3.0])}, "weights of its own"),
    ],
    ids=lambda value: str(value).partition(" at 0x")[0][:40],
)
def test_what_cannot_be_trained_in_lockstep_is_trained_alone_and_says_why(params, reason, caplog):
    caplog.set_level(logging.DEBUG, "skhpo")
    members = members_of(**params)
    assert train_together(members) == [None] * 3
    assert any(reason in record.getMessage() for record in caplog.records)
    assert_as_alone(members, **params)


def test_under_autocast_each_is_trained_and_predicts_alone(caplog):
    caplog.set_level(logging.DEBUG, "skhpo")
    members = members_of()
    with torch.autocast("cpu", torch.bfloat16):
        assert train_together(members) == [None] * 3
        alone = [net_of(k).fit(X[k:], Y[k:]) for k in range(3)]
        found = predict_together([member.net for member in members], [X] * 3)
        wanted = [net.predict_proba(X) for net in alone]
    assert any("autocast" in message for message in caplog.messages)
    assert all(map(np.array_equal, found, wanted))
    precise = predict_together(alone, [X] * 3)
    assert not any(map(np.array_equal, precise, wanted))


def test_a_module_that_draws_from_a_global_generator_is_trained_alone(caplog):
    caplog.set_level(logging.DEBUG, "skhpo")
    assert train_together(members_of(module=Wandering)) == [None] * 3
    assert any("global generator" in record.getMessage() for record in caplog.records)


def test_a_loss_without_a_rule_is_trained_alone(caplog):
    caplog.set_level(logging.DEBUG, "skhpo")
    params = {"criterion": nn.SmoothL1Loss, "criterion__beta": 0.0, "max_epochs": 2}

    def fresh(k):
        return TorchRegressor(MLP, batch_size=16, random_state=k, device="cpu", **params)

    members = [Member(fresh(k), X[k:], X[k:, 0]) for k in range(3)]
    assert train_together(members) == [None] * 3
    assert any("SmoothL1Loss(beta=0)" in message for message in caplog.messages)
    for k, member in enumerate(members):
        expected = fresh(k).fit(X[k:], X[k:, 0]).predict(X)
        np.testing.assert_allclose(member.net.predict(X), expected, atol=1e-5)


class Overriding(TorchClassifier):
    def get_loss(self, y_pred, y_true, X=None, training=False):
        return 2 * super().get_loss(y_pred, y_true, X=X, training=training)


def test_a_subclass_that_changes_training_is_trained_alone():
    assert "get_loss" in obstacle(Overriding(MLP))
    members = [
        Member(Overriding(MLP, max_epochs=2, random_state=k, device="cpu"), X, Y) for k in range(2)
    ]
    train_together(members)
    for k, member in enumerate(members):
        alone = Overriding(MLP, max_epochs=2, random_state=k, device="cpu").fit(X, Y)
        assert np.array_equal(member.net.predict_proba(X), alone.predict_proba(X))


def test_each_net_has_its_weights_of_positive_labels():
    weights = [
        {"criterion": "bce_with_logits", "criterion__pos_weight": torch.tensor([0.5 + 4 * k])}
        for k in range(3)
    ]
    members = [Member(net_of(k, **weights[k]), X, Y > 0) for k in range(3)]
    assert train_together(members) == [None] * 3
    for k, member in enumerate(members):
        expected = net_of(k, **weights[k]).fit(X, Y > 0).predict_proba(X)
        np.testing.assert_allclose(member.net.predict_proba(X), expected, atol=1e-5)


class KeepsOfItsFirstBatch(nn.Module):
    """Has something of the first batch that it sees, in evaluation or not: in `kind`."""

    def __init__(self, in_features, out_features, kind):
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.register_buffer("center", torch.zeros(in_features))
        self.scale = self.table = None
        self.kind = kind

    def forward(self, x):
        if self.scale is None:
            self.scale = float(x.detach().std()) if self.kind == "attribute" else 1.0
            if self.kind == "buffer":
                self.center.copy_(x.detach().mean(0))
        if self.table is None and self.kind == "tensor":
            self.table = x.detach().std(0) + 0.5
        return self.linear(
            (x - self.center) / self.scale * (1 if self.table is None else self.table)
        )


class Shifted(nn.Module):
    """A transform that begins with the first batch it sees."""

    def __init__(self):
        super().__init__()
        self.first = None

    def forward(self, x):
        self.first = x.mean(0) if self.first is None else self.first
        return x - self.first


class ReadsItsRate(TorchClassifier):
    def initialize_criterion(self):
        super().initialize_criterion()
        self.criterion_.label_smoothing = 10 * self.lr
        return self


@pytest.mark.parametrize(
    ("net", "params"),
    [
        *(
            (TorchClassifier, {"module": KeepsOfItsFirstBatch, "module__kind": kind})
            for kind in ("buffer", "attribute", "tensor")
        ),
        (TorchClassifier, {"module": MLP, "train_transform": Shifted}),
        (ReadsItsRate, {"module": MLP}),
    ],
    ids=str,
)
def test_networks_learn_from_their_own_first_batches(net, params):
    rates = 0.01, 0.02, 0.05
    nets = [
        net(**params, lr=lr, max_epochs=2, batch_size=16, random_state=0, device="cpu")
        for lr in rates
    ]
    members = [Member(clone(one), X, Y) for one in nets]
    assert train_together(members) == [None] * 3
    for one, member in zip(nets, members, strict=True):
        expected = one.fit(X, Y).predict_proba(X)
        np.testing.assert_allclose(member.net.predict_proba(X), expected, atol=1e-5)


def test_a_net_that_diverges_leaves_the_others_alone():
    members = members_of(4, optimizer="sgd")
    members[1].net.set_params(lr=1e30)
    errors = train_together(members)
    assert isinstance(errors.pop(1), NonFiniteLossError)
    assert errors == [None] * 3
    members[1].net = net_of(1, optimizer="sgd").fit(X[1:], Y[1:])
    assert_as_alone(members, optimizer="sgd")


def test_bad_data_is_the_error_of_its_net():
    members = members_of(4)
    members[0].X = np.full_like(X, np.nan)
    members[2].y = Y[:5]
    errors = train_together(members)
    assert isinstance(errors[0], ValueError)
    assert "NaN" in str(errors[0])
    assert isinstance(errors[2], ValueError)
    assert errors[1] is None
    assert errors[3] is None


class Words(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Embedding(5, 2), nn.Flatten(), nn.Linear(4, 3))


def test_an_error_within_a_group_is_found_out_net_by_net():
    words = RNG.integers(0, 5, size=(60, 2))
    members = [Member(net_of(k, Words), words, Y) for k in range(3)]
    wrong = words.copy()
    wrong[40] = 9
    members[1].X = wrong
    errors = train_together(members)
    assert isinstance(errors[1], IndexError)
    assert errors[0] is None
    assert errors[2] is None
    for k in (0, 2):
        expected = net_of(k, Words).fit(words, Y).predict_proba(words)
        np.testing.assert_allclose(members[k].net.predict_proba(words), expected, atol=1e-5)


@pytest.mark.parametrize("continuing", [False, True])
def test_a_group_too_large_for_the_memory_is_halved(monkeypatch, continuing):
    members = members_of(5)
    if continuing:
        for member in members:
            member.net.fit(member.X, member.y)
            member.continuing = True
    sizes, step = [], skhpo.lockstep._runner.LockstepRunner.run

    def epoch(self, networks):
        reports = step(self, networks)
        sizes.append(len(networks))
        if len(networks) > 2:
            raise torch.OutOfMemoryError("too much")
        return reports

    monkeypatch.setattr(skhpo.lockstep._runner.LockstepRunner, "run", epoch)
    assert train_together(members) == [None] * 5
    assert sizes[0] == 5
    assert sizes[-2:] == [2, 2]
    if continuing:
        assert {member.net.n_iter_ for member in members} == {4}
        assert {len(member.net.history) for member in members} == {4}
        for k, member in enumerate(members):
            alone = net_of(k, max_epochs=4).fit(X[k:], Y[k:]).predict_proba(X)
            np.testing.assert_allclose(member.net.predict_proba(X), alone, atol=1e-5)
    else:
        assert_as_alone(members)


def test_a_group_that_is_too_large_to_be_made_is_halved(monkeypatch):
    make = skhpo.lockstep._runner.LockstepRunner.__init__
    sizes = []

    def made(self, runs):
        sizes.append(len(runs))
        if len(runs) > 2:
            raise torch.OutOfMemoryError("too much")
        make(self, runs)

    monkeypatch.setattr(skhpo.lockstep._runner.LockstepRunner, "__init__", made)
    members = members_of(4)
    assert train_together(members) == [None] * 4
    assert sizes == [4, 2, 2]
    assert_as_alone(members)


@pytest.mark.parametrize("error", [KeyboardInterrupt, FitTimeoutError])
def test_a_group_that_is_broken_off_keeps_finished_epochs(monkeypatch, error):
    members = members_of(3, max_epochs=9)
    step, steps = skhpo.lockstep._runner.LockstepRunner._step, []

    def interrupted(self, *args):
        steps.append(args)
        if len(steps) == 10:  # of four steps an epoch
            raise error("now")
        return step(self, *args)

    monkeypatch.setattr(skhpo.lockstep._runner.LockstepRunner, "_step", interrupted)
    if error is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            train_together(members)
    else:
        assert {type(error) for error in train_together(members)} == {FitTimeoutError}
    for member in members:
        assert member.net.n_iter_ == len(member.net.history) == 2
        assert "train_loss" in member.net.history[-1]
        # It is a network that can be continued.
        member.net.set_params(max_epochs=1).partial_fit(member.X, member.y)


def test_a_random_seed_that_is_drawn_is_drawn_once():
    members = [Member(net_of(np.random.RandomState(0)), X, Y) for _ in range(2)]
    train_together(members)
    first, second = (member.net.predict_proba(X) for member in members)
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_predictions_of_different_nets_and_data():
    nets = [member.net.fit(member.X, member.y) for member in members_of(4)]
    nets[3] = net_of(3, module__n_units=7).fit(X, Y)
    Xs = [X, X[:9], X, X]
    for net, own, output in zip(nets, Xs, predict_together(nets, Xs), strict=True):
        np.testing.assert_allclose(output, net.predict_proba(own), atol=1e-6)


def test_inputs_that_are_refused_do_not_keep_others_from_a_joint_pass(monkeypatch):
    nets = [member.net.fit(member.X, member.y) for member in members_of(4)]
    groups = []
    together = skhpo.lockstep._prediction._together

    def watched(members, ready):
        groups.append(len(members))
        return together(members, ready)

    monkeypatch.setattr(skhpo.lockstep._prediction, "_together", watched)
    bad = np.where(np.arange(len(X))[:, None] == 3, np.nan, X)
    Xs = [X, X.copy(), bad, X]
    outputs = predict_together(nets, Xs, return_exceptions=True)
    assert groups == [3]
    assert "NaN" in str(outputs.pop(2))
    good = [nets[i].predict_proba(X) for i in (0, 1, 3)]
    np.testing.assert_allclose(outputs, good, atol=1e-6)
    with pytest.raises(ValueError, match="NaN") as caught:
        predict_together(nets, Xs)
    assert "Xs[2]" in caught.value.__notes__[0]


def test_few_different_inputs_are_converted_at_once(monkeypatch):
    nets = [member.net.fit(member.X, member.y) for member in members_of(4)]
    groups = []
    together = skhpo.lockstep._prediction._together

    def watched(members, ready):
        groups.append(len({id(one) for one in ready}))
        return together(members, ready)

    monkeypatch.setattr(skhpo.lockstep._prediction, "_together", watched)
    monkeypatch.setattr(skhpo.lockstep._prediction, "_MOST_VALUES", 2 * X.size)
    Xs = [X, X + 1, X + 2, X + 3]
    outputs = predict_together([*nets, *nets], [*Xs, *Xs])
    assert groups == [2, 2]
    expected = [net.predict_proba(own) for net, own in zip(nets, Xs, strict=True)]
    np.testing.assert_allclose(outputs, [*expected, *expected], atol=1e-6)


def test_keys_tell_structures_apart_and_rates_not():
    key = group_key(net_of(0))
    assert key == group_key(net_of(1, lr=0.1, max_epochs=9, optimizer__weight_decay=1.0))
    for other in (
        net_of(0, module__n_units=3),
        net_of(0, batch_size=3),
        net_of(0, optimizer="sgd"),
        net_of(0, nn.Sequential),
    ):
        assert group_key(other) != key
    rates = [group_key(net_of(0, module__dropout=rate)) for rate in (0.1, 0.2)]
    assert rates[0] == rates[1]
    assert obstacle(net_of(0)) is None
    assert "optimizer" in obstacle(net_of(0, optimizer="madam"))
    assert "mask" in obstacle(net_of(0), {"mask": X})


def test_as_many_go_together_as_there_are_and_as_fit():
    assert pays(net_of(0), 7) == 7
    assert pays(net_of(0), 500) == pays(built_for(net_of(0), X, Y), 500) == 30
    assert pays(net_of(0, verbose=1), 7) == 1
    assert pays(net_of(0, device="nowhere"), 7) == 1
    images = np.zeros((60, 1, 8, 8))
    assert pays(built_for(net_of(0, ConvNet), images, Y), 3) == 3


def test_arithmetic_is_not_trained_in_lockstep_on_a_cpu():
    wide = net_of(0, module__n_units=600, module__n_layers=2)
    assert pays(built_for(wide, X, Y), 7) == 1
    for n_units, n in ((300, 7), (350, 1)):  # 94,000 and 126,000 parameters
        net = net_of(0, module__n_units=n_units, module__n_layers=2)
        assert pays(built_for(net, X, Y), 7) == n
    images = np.zeros((60, 1, 28, 28))
    assert pays(built_for(net_of(0, ConvNet), images, Y), 7) == 1
    assert pays(built_for(net_of(0, ConvNet, batch_size=4), images, Y), 7) == 7
