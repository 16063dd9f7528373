"""Layers of the user's own train in lockstep by rules that are registered for them."""

import logging
import os

import numpy as np
import pytest
import torch
from torch import nn

from skhpo import SearchCV, TorchClassifier
from skhpo.lockstep import LAYER_RULES, LockstepError, Member, register_layer, train_together
from skhpo.samplers import RandomSampler
from skhpo.schedulers import FullScheduler

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 8)).astype(np.float32)
Y = np.arange(90) % 3


class Scale(nn.Module):
    """Neither its graph nor vmap can follow the condition."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * self.weight if bool(x.abs().sum() >= 0) else x


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 6)
        self.scale = Scale(6)
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.scale(self.first(x))))


def scale(forms, layers, name):
    return lambda x, part, lengths: x * part.values[name + "weight"].unsqueeze(1)


@pytest.fixture(autouse=True)
def restored():
    before = dict(LAYER_RULES)
    yield
    LAYER_RULES.clear()
    LAYER_RULES.update(before)


def net_of(seed, module=Net):
    settings = {"batch_size": 16, "max_epochs": 3, "lr": 0.1, "device": "cpu"}
    return TorchClassifier(module, random_state=seed, **settings)


def trained(caplog, module=Net):
    """Return why nets train alone; each is what its own fit would have made of it."""
    caplog.set_level(logging.DEBUG, "skhpo")
    # Their last batches differ in length.
    members = [Member(net_of(seed, module), X[seed:], Y[seed:]) for seed in range(3)]
    assert train_together(members) == [None] * 3
    for seed, member in enumerate(members):
        alone = net_of(seed, module).fit(X[seed:], Y[seed:])
        np.testing.assert_allclose(member.net.predict_proba(X), alone.predict_proba(X), atol=1e-5)
    return " ".join(message for message in caplog.messages if "trained alone" in message)


def test_with_a_rule_nets_train_in_lockstep(caplog):
    assert "Net under vmap" in trained(caplog)
    caplog.clear()
    register_layer(Scale, scale)
    assert trained(caplog) == ""


def test_layers_of_torch(caplog):
    calls = []

    def rms_norm(forms, layers, name):
        def form(x, part, lengths):
            calls.append(lengths)
            x = nn.functional.rms_norm(x, layers[0].normalized_shape, eps=layers[0].eps)
            return x * part.values[name + "weight"].unsqueeze(1)

        return form

    register_layer(nn.RMSNorm, rms_norm)
    assert trained(caplog, lambda: nn.Sequential(nn.RMSNorm(8), nn.Linear(8, 3))) == ""
    assert set(calls) == {None}


def test_a_rule_that_is_wrong_or_refuses_costs_speed_only(caplog):
    register_layer(Scale, lambda *args: lambda x, part, lengths: 2 * scale(*args)(x, part, lengths))
    assert "Net computes something else in lockstep" in trained(caplog)

    def refuses(forms, layers, name):
        raise LockstepError("not this width")

    register_layer(Scale, refuses)
    caplog.clear()
    assert "not this width" in trained(caplog, lambda: nn.Sequential(Scale(8), nn.Linear(8, 3)))


def test_workers_of_a_search_know_the_rules(tmp_path):
    def noted(forms, layers, name):
        (tmp_path / str(os.getpid())).touch()
        return scale(forms, layers, name)

    def search(**kwargs):
        def scheduler(space, random_state):
            return FullScheduler(RandomSampler(space, random_state), 2)

        space = {"lr": [0.05, 0.1]}
        search = SearchCV(net_of(0), space, scheduler=scheduler, cv=2, refit=False, **kwargs)
        search.set_params(random_state=0)
        return search.fit(X, Y).cv_results_["mean_test_score"]

    register_layer(Scale, noted)
    joint = search(lockstep=True, n_jobs=2)
    assert {path.name for path in tmp_path.iterdir()} - {str(os.getpid())}
    np.testing.assert_allclose(joint, search(lockstep=False))


def test_what_cannot_be_registered_is_refused():
    with pytest.raises(TypeError, match="layer_type must be a class of torch modules"):
        register_layer(Scale(3), scale)
    with pytest.raises(TypeError, match="rule must be callable"):
        register_layer(Scale, None)
    for known in (nn.Linear, nn.Sequential):
        with pytest.raises(ValueError, match=f"skhpo has a rule for {known.__name__}"):
            register_layer(known, scale)
