"""Whichever runner trained, another one goes on from its state."""

import io
import itertools
import logging

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback
from torch import nn

from skhpo import BayesSearchCV, TorchClassifier
from skhpo.lockstep import Member, train_together

SETTINGS = {
    "module__n_units": 8,
    "module__dropout": 0.2,
    "optimizer": "adam",
    "lr": 0.01,
    "batch_size": 16,
    "lr_scheduler": "one_cycle",
    "schedule_epochs": 6,
    "validation_fraction": 0.3,
    "check_every": 3,
    "max_norm": 1.0,
    "freeze": {"linear_0.*": 2},
    "random_state": 0,
}


class ByAutograd(TorchClassifier):
    def get_loss(self, *args, **kwargs):
        return super().get_loss(*args, **kwargs)


ByAutograd.__name__ = "TorchClassifier"  # as which it is saved


def net_for(runner, **params):
    cls = ByAutograd if runner == "plain" else TorchClassifier
    return cls(callbacks=[Callback()] if runner == "hooked" else None, **SETTINGS, **params)


def train(runner, net, X, y):
    if runner == "lockstep":
        other = clone(net).set_params(random_state=1, lr=0.02)
        if net.initialized_:
            other.fit(X, y)
        members = [Member(one, X, y, continuing=one.initialized_) for one in (net, other)]
        assert train_together(members) == [None, None]
        return net
    return net.partial_fit(X, y)


def moved(net, to):
    """Return a net that another runner trains, with the state of one."""
    file = io.BytesIO()
    net.save_checkpoint(file)
    file.seek(0)
    return net_for(to, max_epochs=net.max_epochs).load_checkpoint(file)


@pytest.mark.parametrize(
    ("first", "second"),
    list(itertools.product(("direct", "plain", "hooked", "lockstep"), repeat=2)),
)
def test_a_runner_goes_on_where_another_one_stopped(blobs, first, second, caplog):
    X, y = blobs
    caplog.set_level(logging.DEBUG, "skhpo.training")
    alone = net_for("plain", max_epochs=4).fit(X, y)
    net = train(first, net_for(first, max_epochs=2), X, y)
    net = train(second, moved(net, second), X, y)
    assert net.n_iter_ == len(net.history) == 4
    for column in ("train_loss", "valid_loss", "lr"):
        np.testing.assert_allclose(net.history[:, column], alone.history[:, column], rtol=1e-4)
    assert net._state.counters.n_batches == alone._state.counters.n_batches
    assert net._state.counters.best_epoch == alone._state.counters.best_epoch
    np.testing.assert_allclose(net.predict_proba(X), alone.predict_proba(X), atol=1e-5)
    said = [r.getMessage() for r in caplog.records]
    known = {"direct": "steps without autograd", "plain": "get_loss", "hooked": "HookedRunner"}
    for runner in (first, second):
        assert any(known.get(runner, "") in message for message in said)


MOMENTUM = {"optimizer": "sgd", "optimizer__momentum": 0.9, "lr": 0.05, "random_state": 0}


class Late(nn.Module):
    """Uses its first layer from the third batch on."""

    def __init__(self):
        super().__init__()
        self.linear_0, self.output = nn.Linear(8, 8), nn.Linear(8, 3)
        self.n_calls = 0

    def forward(self, X):
        self.n_calls += self.training
        return self.output(X + self.linear_0(X) if self.n_calls > 2 else X)


def by_torch(net, X, y):
    """Return the module of a net, trained by five steps on all rows, its first layer by three."""
    module = net.initialize().module_
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    for step in range(5):
        module.linear_0.requires_grad_(step >= 2)
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(torch.tensor(X)), torch.tensor(y)).backward()
        optimizer.step()
    return module.state_dict()


@pytest.mark.parametrize("runner", ["direct", "plain", "hooked", "lockstep", "search", "late"])
def test_momentum_of_what_is_trained_later(blobs, runner):
    X, y = blobs
    cls = ByAutograd if runner == "plain" else TorchClassifier
    params = {"freeze": {"linear_0.*": 2}, "module__n_units": 8, **MOMENTUM}
    shapes = {"module__in_features": 8, "module__out_features": 3}
    if runner == "late":
        params, shapes = {"module": Late, **MOMENTUM}, {}
    net = cls(callbacks=[Callback()] if runner == "hooked" else None, **params)
    net.set_params(max_epochs=5, batch_size=-1, device="cpu")
    start = cls(**params, **shapes, device="cpu")
    if runner == "search":
        search = BayesSearchCV(net, {"lr": [0.05, 1e-9]}, n_iter=2, cv=3, lockstep=True)
        net = search.set_params(random_state=0).fit(X, y).best_estimator_
        assert search.best_params_ == {"lr": 0.05}
    else:
        train(runner, net, X, y)
    for name, value in by_torch(start, X, y).items():
        torch.testing.assert_close(net.module_.state_dict()[name], value, rtol=1e-4, atol=1e-6)
