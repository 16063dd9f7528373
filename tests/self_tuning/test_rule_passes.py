"""Self-tuning networks by rules: the same passes, epochs and checkpoints as by autograd."""

import logging
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import loguniform, randint, uniform
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from skhpo import SelfTuningClassifier, SelfTuningRegressor
from skhpo.estimators import MLP, ConvNet
from skhpo.estimators.feeding import net_rows
from skhpo.estimators.fitting import describe_training
from skhpo.self_tuning import HyperLockedDropout, HyperValue
from skhpo.self_tuning._direct import RulePasses
from skhpo.self_tuning._passes import AutogradPasses
from skhpo.self_tuning._steps import steps_of
from skhpo.training.batches import RowBatches
from skhpo.training.randomness import Masks
from skhpo.training.runners import DirectSteps

# torch's own forward-mode differentiation compiles by it.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")
VARIANTS = st.sampled_from(["stn", "delta"])
few = settings(max_examples=8, deadline=None)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X[:230] / 16).astype(np.float32), y[:230]


class Traced(nn.Module):
    """A graph of functions and layers, some of which see one dimension."""

    def __init__(self, norm=True):
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 3, 3), nn.Conv1d(3, 4, 2, stride=2)
        self.norm = nn.BatchNorm2d(3) if norm else nn.Identity()
        self.drop, self.locked = nn.Dropout2d(0.2), HyperLockedDropout(0.1)
        self.out = nn.Linear(16, 10)

    def forward(self, x):
        x = self.drop(torch.tanh(self.norm(self.one(x))))
        x = self.locked(self.two(F.max_pool2d(x, 2).flatten(2)))
        return self.out(F.gelu(x).flatten(1))


RANGES = {
    "weight_decay": loguniform(1e-3, 1e-1),
    "input_noise": uniform(0, 2),
    "label_smoothing": uniform(0, 0.4),
}


def built(module, X, y, variant="stn", ranges=RANGES, regressor=False, **params):
    """Return a net in double precision that has trained for an epoch, and its runner's parts."""
    kind = SelfTuningRegressor if regressor else SelfTuningClassifier
    net = kind(
        *(module, ranges),
        variant=variant,
        warmup_epochs=0,
        max_epochs=1,
        batch_size=64,
        random_state=0,
        **params,
    ).fit(X, y)
    tuning = net.tuning_
    tuning.module.double()
    tuning.position.data = tuning.position.data.double()
    tuning.ranges.to("cpu", torch.float64)
    net.criterion_.double()
    return net


def passes_of(net, X, y, weight=None):
    rows = net_rows(net, X, net._shape_targets(y), weight)
    batches = RowBatches(rows, len(X))
    steps = steps_of(net)
    masks = Masks(lambda: net._state.streams["forward"].generator())
    found = describe_training(net, batches, masks)
    found |= {"module": net.tuning_.module, "inputs": (X.shape[1:], torch.float64)}
    rules = RulePasses(net, tuning_sizes=batches.sizes(), **found)
    X, y, weight = next(iter(batches.triples()))
    weight = None if weight is None else weight.double()
    y = y.double() if y.is_floating_point() else y
    return steps, rules, AutogradPasses(net), (X.double(), y, weight)


def close(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-10)


def check(net, X, y, weight=None):
    """Compare passes, and what they leave, on a batch and the next one."""
    steps, rules, autograd, (X, y, weight) = passes_of(net, X, y, weight)
    streams, module = net._state.streams, net.tuning_.module
    for _ in range(2):
        draws = torch.randn(len(y), len(steps.u), dtype=torch.float64)
        steps.scales = net.tuning_.scales()
        u, response = steps._response(draws)
        before = {name: stream.state() for name, stream in streams.items()}
        weights = {k: v.clone() for k, v in module.state_dict().items()}
        found = []
        for passes in (autograd, rules):
            for name, stream in streams.items():
                stream.set_state(before[name])
            module.load_state_dict(weights)
            passes.begin()
            with torch.inference_mode() if passes is rules else torch.enable_grad():
                found.append(list(outcomes(net, steps, passes, X, y, weight, u, response)))
            passes.finish()
        for wanted, own in zip(*found, strict=True):
            close(own, wanted)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))


def outcomes(net, steps, passes, X, y, weight, u, response):
    """Yield all that passes return and leave."""
    tuning = net.tuning_
    values, own = steps._values(u), steps._values(steps.center)
    yield passes.perturbed(X, y, weight, response.clone(), values)
    if tuning.centred:
        yield {p: g.grad.clone() for p, g in enumerate(tuning.response_parameters())}
        tuning.context.rest()
        yield passes.own(X, y, weight, own)
        parameters = [p for _, p in tuning.own_parameters()]
    else:
        parameters = list(tuning.module.parameters())
    yield {i: p.grad.clone() for i, p in enumerate(parameters) if p.grad is not None}
    if tuning.norms and not tuning.centred:
        passes.unperturbed(X, steps.center, own)
    tuning.context.rest()
    yield passes.tuned(X, y, weight, response.detach().clone(), values)
    tuning.context.rest()
    yield {name: buffer.clone() for name, buffer in tuning.module.named_buffers()}


@given(
    variant=VARIANTS,
    n_units=st.integers(1, 9),
    n_layers=st.integers(0, 2),
    activation=st.sampled_from(["relu", "tanh", "gelu", "leaky_relu"]),
    dropout=st.sampled_from([0.0, 0.3]),
    norm=st.sampled_from([None, "batch"]),
    n=st.integers(20, 40),
    weighted=st.booleans(),
)
@few
def test_multilayer_perceptrons(digits, variant, n_units, n_layers, norm, n, weighted, **settings):
    X, y = digits
    params = {f"module__{name}": value for name, value in settings.items()}
    if settings["dropout"]:
        params["module__input_dropout"] = 0.2
    net = built(
        *(MLP, X, y, variant),
        module__n_units=n_units,
        module__n_layers=n_layers,
        module__normalization=norm,
        **params,
    )
    check(net, X[:n], y[:n], np.linspace(0.1, 2, n) if weighted else None)


@given(
    variant=VARIANTS,
    n_channels=st.integers(1, 5),
    norm=st.sampled_from([None, "batch"]),
    gray=st.booleans(),
    n=st.integers(20, 40),
)
@few
def test_convolutions(digits, variant, n_channels, norm, gray, n):
    X, y = digits
    X = X.reshape(-1, 8, 8) if gray else X.reshape(-1, 1, 8, 8)
    net = built(
        *(ConvNet, X, y, variant, RANGES | {"brightness": uniform(0, 1)}),
        module__n_channels=n_channels,
        module__dropout=0.2,
        module__normalization=norm,
    )
    check(net, X[:n], y[:n])


@pytest.mark.parametrize("variant", ["stn", "delta"])
@pytest.mark.parametrize("norm", [False, True])
def test_graphs(digits, variant, norm):
    X, y = digits
    X = X.reshape(-1, 1, 8, 8)
    ranges = RANGES | {"drop.p": uniform(0, 0.9), "cutout_length": randint(0, 4)}
    net = built(Traced, X, y, variant, ranges, module__norm=norm)
    check(net, X[:30], y[:30])


@pytest.mark.parametrize("variant", ["stn", "delta"])
@pytest.mark.parametrize(
    "criterion", [nn.BCEWithLogitsLoss, nn.CrossEntropyLoss, nn.MSELoss, nn.L1Loss]
)
def test_losses(digits, variant, criterion):
    X, y = digits
    regressor = criterion in (nn.MSELoss, nn.L1Loss)
    ranges = {k: v for k, v in RANGES.items() if k != "label_smoothing" or not regressor}
    y = y.astype(np.float32) if regressor else y % (2 if criterion is nn.BCEWithLogitsLoss else 10)
    net = built(MLP, X, y, variant, ranges, regressor, criterion=criterion)
    check(net, X[:20], y[:20])


def by_autograd(monkeypatch):
    monkeypatch.setattr(DirectSteps, "can_train", lambda steps: False)


def states(net):
    state = net.tuning_.state_dict()
    return {**state["module"], "position": state["position"], **net.module_.state_dict()}


PARAMS = {
    "module__dropout": 0.1,
    "module__n_units": 16,
    "hyperparameters": RANGES | {"dropout_0.p": uniform(0, 0.9)},
    "warmup_epochs": 1,
    "max_epochs": 3,
    "batch_size": 32,
    "random_state": 0,
}
SETTINGS = {
    "stn": {},
    "delta": {"variant": "delta", "train_steps": 3},
    "schedule": {"refit": "schedule"},
    # A bias before the normalization has no gradient but rounding, which Adam would scale up.
    "sgd": {
        "module__normalization": "batch",
        "optimizer": "sgd",
        "optimizer__momentum": 0.9,
        "hyper_optimizer": "adam",
    },
    "weights": {"class_weight": "balanced", "lr_scheduler": "cosine"},
    "fixed": {"hyperparameters": {"dropout_0.p": 0.3, "weight_decay": 0.01, "input_noise": 0.2}},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_epochs_are_those_of_autograd(digits, settings, monkeypatch):
    params = {**PARAMS, **settings}
    found = SelfTuningClassifier(**params).fit(*digits)
    by_autograd(monkeypatch)
    wanted = SelfTuningClassifier(**params).fit(*digits)
    torch.testing.assert_close(states(found), states(wanted), rtol=1e-3, atol=1e-4)
    for name in ("train_loss", "valid_loss"):
        np.testing.assert_allclose(found.history[:, name], wanted.history[:, name], rtol=1e-4)
    assert found.history[-1].keys() == wanted.history[-1].keys()


@pytest.mark.parametrize("variant", ["stn", "delta"])
def test_either_goes_on_from_the_others_checkpoint(digits, variant, monkeypatch):
    net = SelfTuningClassifier(**PARAMS, variant=variant).fit(*digits)
    with monkeypatch.context() as patch:
        by_autograd(patch)
        other = SelfTuningClassifier(**PARAMS, variant=variant).fit(*digits)
        wanted = pickle.loads(pickle.dumps(other)).partial_fit(*digits)
        mixed = [pickle.loads(pickle.dumps(net)).partial_fit(*digits)]
    mixed.append(pickle.loads(pickle.dumps(other)).partial_fit(*digits))
    for found in mixed:
        torch.testing.assert_close(states(found), states(wanted), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("variant", ["stn", "delta"])
def test_frozen_layers_stay(digits, variant, caplog):
    params = {**PARAMS, "max_epochs": 1, "warmup_epochs": 0, "variant": variant}
    net = SelfTuningClassifier(**params, freeze={"linear_0.*": 1})
    start = {k: v.clone() for k, v in net.fit(*digits).module_.state_dict().items()}
    with caplog.at_level(logging.DEBUG, "skhpo.training"):
        net.partial_fit(*digits)
    first = SelfTuningClassifier(**params, freeze={"linear_0.*": True}).fit(*digits)
    torch.testing.assert_close(first.module_.linear_0.weight, start["linear_0.weight"])
    assert not torch.equal(net.module_.linear_0.weight, start["linear_0.weight"])
    assert "all layers have rules" in caplog.text


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.out, self.factor = nn.Linear(64, 10), HyperValue("factor", 1.0)

    def forward(self, x):
        return self.out(x * self.factor(x))


REASONS = [
    ({}, "all layers have rules"),
    ({"module__normalization": "layer"}, "all layers have rules"),
    ({"module__normalization": "layer", "variant": "delta"}, "LayerNorm"),
    ({"module": Own, "hyperparameters": {"factor": uniform(0, 1)}}, "steps by autograd: Own"),
]


@pytest.mark.parametrize(("settings", "reason"), REASONS, ids=[str(i) for i in range(4)])
def test_why_there_are_rules_or_none_is_logged(digits, settings, reason, caplog):
    with caplog.at_level(logging.DEBUG, "skhpo.training"):
        SelfTuningClassifier(max_epochs=1, warmup_epochs=0, random_state=0, **settings).fit(*digits)
    assert reason in caplog.text
