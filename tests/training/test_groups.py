"""Initial weights by name, groups of parameters, frozen parameters, constraints."""

import math
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from skhpo.estimators import MLP, TorchClassifier, TorchRegressor
from skhpo.training.initialization import INITIALIZATIONS


def initial(**params):
    net = TorchClassifier(
        module__in_features=200, module__out_features=150, module__n_units=100, random_state=0
    )
    return net.set_params(**params).initialize().module_.state_dict()


@pytest.mark.parametrize(
    ("init", "deviation"),
    [
        ("lecun_normal", math.sqrt(1 / 200)),
        ("lecun_uniform", math.sqrt(1 / 200)),
        ("xavier_normal", math.sqrt(2 / 300)),
        ("xavier_uniform", math.sqrt(2 / 300)),
        ("kaiming_normal", math.sqrt(2 / 200)),
        ("kaiming_uniform", math.sqrt(2 / 200)),
        ("normal", 0.05),
        ("uniform", 0.05 / math.sqrt(3)),
        ("zeros", 0.0),
    ],
)
@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_distributions(init, deviation, gain):
    weights = initial(init=init, init_gain=gain)
    assert weights["linear_0.weight"].std().item() == pytest.approx(gain * deviation, rel=0.03)
    if init.endswith("uniform") and deviation:
        bound = weights["linear_0.weight"].abs().max().item()
        assert bound == pytest.approx(gain * deviation * math.sqrt(3), rel=0.01)
    assert not weights["linear_0.bias"].any()


def test_orthogonal():
    weight = initial(init="orthogonal", init_gain=2.0)["linear_0.weight"]
    torch.testing.assert_close(weight @ weight.T, 4 * torch.eye(100), rtol=1e-4, atol=1e-4)


def test_default_times_gain():
    one, two = initial(), initial(init_gain=2.0)
    assert torch.equal(2 * one["output.weight"], two["output.weight"])
    assert torch.equal(one["output.bias"], two["output.bias"])


@pytest.mark.parametrize("init", INITIALIZATIONS)
def test_each_weight_has_a_stream_of_its_own(init):
    one, wide = initial(init=init), initial(init=init, module__in_features=70)
    assert torch.equal(one["output.weight"], wide["output.weight"])
    assert init == "zeros" or one["output.weight"].unique().numel() > 1000


def test_convolutions_and_normalizations():
    def make():
        return nn.Sequential(nn.Conv2d(4, 50, 5), nn.BatchNorm2d(50), nn.Flatten())

    net = TorchClassifier(make, init="kaiming_normal", random_state=0).initialize()
    state = net.module_.state_dict()
    assert state["0.weight"].std().item() == pytest.approx(math.sqrt(2 / 100), rel=0.05)
    assert torch.equal(state["1.weight"], torch.ones(50))


def test_multipliers(line):
    params = {"max_epochs": 3, "random_state": 0, "optimizer": "sgd", "lr": 0.01}
    plain = TorchRegressor(**params).fit(*line)
    still = TorchRegressor(**params, lr_multipliers={"linear_*": 0, "*": 1}).fit(*line)
    start = clone(still).set_params(module__in_features=5, module__out_features=1).initialize()
    states = (net.module_.state_dict() for net in (plain, still, start))
    for name, (a, b, c) in (
        (k, v)
        for k, v in zip(
            start.module_.state_dict(), zip(*(s.values() for s in states), strict=True), strict=True
        )
    ):
        assert torch.equal(b, c) is name.startswith("linear")
        assert not torch.equal(a, c)


def test_the_running_learning_rate_keeps_its_factors(line):
    net = TorchRegressor(max_epochs=1, lr_multipliers={"output.*": 10}).fit(*line)
    net.set_params(lr=0.5)
    assert sorted(group["lr"] for group in net.optimizer_.param_groups) == [0.5, 5.0]


@pytest.mark.parametrize("way", ["whole", "nothing", "pickle", "checkpoint"])
def test_freeze_thaws(line, way, tmp_path):
    params = {"random_state": 0, "freeze": {"linear_*": 2}, "optimizer__weight_decay": 0.1}
    net = TorchRegressor(max_epochs=2, **params).fit(*line)
    start = clone(net).set_params(module__in_features=5, module__out_features=1).initialize()
    ours, first = net.module_.state_dict(), start.module_.state_dict()
    assert torch.equal(ours["linear_0.weight"], first["linear_0.weight"])
    assert not torch.equal(ours["output.weight"], first["output.weight"])
    if way == "pickle":
        net = pickle.loads(pickle.dumps(net))
    elif way == "checkpoint":
        net.save_checkpoint(tmp_path / "net.pt")
        net = clone(net).load_checkpoint(tmp_path / "net.pt")
    net.partial_fit(*line)
    assert not torch.equal(net.module_.state_dict()["linear_0.weight"], first["linear_0.weight"])
    whole = TorchRegressor(max_epochs=4, **params).fit(*line)
    np.testing.assert_array_equal(net.predict(line[0]), whole.predict(line[0]))


def test_frozen_for_good_and_what_the_module_froze_itself(line):
    class Own(MLP):
        def __init__(self, in_features, out_features):
            super().__init__(in_features, out_features, n_layers=2)
            self.linear_1.requires_grad_(False)

    net = TorchRegressor(Own, max_epochs=3, freeze={"linear_0.*": True, "linear_1.*": 1}).fit(*line)
    trained = [name for name, p in net.module_.named_parameters() if p.requires_grad]
    assert trained == ["output.weight", "output.bias"]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("freeze", [None, {"output.*": True}])
def test_freeze_that_is_set_later(line, optimizer, freeze):
    params = {"optimizer": optimizer, "random_state": 0, "max_epochs": 2}
    params |= {"optimizer__momentum": 0.9} if optimizer == "sgd" else {}
    net = TorchRegressor(freeze={"linear_0.*": True}, **params).fit(*line)
    before = {name: p.clone() for name, p in net.module_.named_parameters()}
    net.set_params(freeze=freeze).partial_fit(*line)
    for name, p in net.module_.named_parameters():
        assert torch.equal(p, before[name]) is bool(freeze and name.startswith("output"))
    net.set_params(freeze={"*": True})
    for _ in range(2):
        with pytest.raises(ValueError, match="must leave parameters to train"):
            net.partial_fit(*line)
    net.set_params(freeze={"linear_0.*": True}).fit(*line)
    again = TorchRegressor(freeze={"linear_0.*": True}, **params).fit(*line)
    np.testing.assert_array_equal(net.predict(line[0]), again.predict(line[0]))


def test_a_pretrained_instance_is_not_changed(line):
    pretrained = MLP(5, 1)
    before = {k: v.clone() for k, v in pretrained.state_dict().items()}
    net = TorchRegressor(pretrained, max_epochs=2, freeze={"linear_0.*": True}).fit(*line)
    assert all(torch.equal(before[k], v) for k, v in pretrained.state_dict().items())
    assert torch.equal(net.module_.linear_0.weight, before["linear_0.weight"])
    assert all(p.requires_grad for p in pretrained.parameters())


@pytest.mark.parametrize("callbacks", [None, []])
def test_max_norm(line, callbacks):
    net = TorchRegressor(max_epochs=5, lr=0.1, max_norm=0.3, callbacks=callbacks, random_state=0)
    net.fit(*line)
    for name, weight in net.module_.named_parameters():
        if name.endswith("weight"):
            assert weight.norm(dim=1).max() <= 0.3 + 1e-5
    free = clone(net).set_params(max_norm=None).fit(*line)
    assert free.module_.linear_0.weight.norm(dim=1).max() > 0.3


@pytest.mark.parametrize("name", ["lr_multipliers", "freeze"])
def test_a_pattern_that_matches_nothing(line, name):
    with pytest.raises(
        ValueError, match=f"patterns of {name} .* 'outptu.*' matches none; there are"
    ):
        TorchRegressor(**{name: {"outptu.*": 2}}).fit(*line)


def test_freezing_everything(line):
    with pytest.raises(ValueError, match="leave parameters to train in the first epoch"):
        TorchRegressor(freeze={"*": 2}).fit(*line)
