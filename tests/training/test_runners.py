"""Whichever runner trained, another one goes on from its state."""

import io
import itertools
import logging

import numpy as np
import pytest
from skorch.callbacks import Callback

from skhpo import TorchClassifier
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
        other = net_for(runner, max_epochs=net.max_epochs).set_params(random_state=1, lr=0.02)
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
