"""Steps without autograd of many nets leave the losses and gradients of autograd."""

import copy
import logging
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from skhpo import TorchClassifier, TorchRegressor
from skhpo.lockstep import Member, train_together
from skhpo.lockstep._runner import LockstepRunner
from skhpo.lockstep._together import _build
from skhpo.training.randomness import OwnGenerators

RNG = np.random.default_rng(0)
FLAT = RNG.normal(size=(90, 8))
IMAGES = RNG.normal(size=(90, 2, 6, 6))
WORDS = RNG.integers(0, 7, size=(90, 5))
CLASSES = np.arange(90) % 3
N = 4


class Double(nn.Sequential):
    def __init__(self, *layers):
        super().__init__(*layers)
        self.double()


class Residual(nn.Module):
    """Traced."""

    def __init__(self, rate):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 3)
        self.dropout = nn.Dropout(rate)
        self.double()

    def forward(self, x):
        return self.second(torch.relu(self.dropout(self.first(x))) + x)


def flat(*layers, rate=0.0, width=6):
    """With 16 units and more weights are stored in another order."""
    return Double(nn.Linear(8, width), *layers, nn.Dropout(rate), nn.Linear(width, 3))


def images(rate):
    return Double(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(rate)),
        *(nn.MaxPool2d(2), nn.Conv2d(4, 4, 2, groups=2), nn.Flatten(), nn.Linear(16, 3)),
    )


def words(rate):
    return Double(nn.Embedding(7, 4, padding_idx=0), nn.Flatten(), nn.Linear(20, 3))


CASES = {
    "one layer": (lambda rate: Double(nn.Linear(8, 3, bias=False)), FLAT),
    "tanh": (lambda rate: flat(nn.Tanh(), width=18), FLAT),
    "dropout": (lambda rate: flat(nn.ReLU(), rate=rate), FLAT),
    "batch norm": (lambda rate: flat(nn.BatchNorm1d(18), nn.GELU(), rate=rate, width=18), FLAT),
    "layer norm": (lambda rate: flat(nn.LayerNorm(6), nn.SiLU(), rate=rate), FLAT),
    "group norm": (lambda rate: flat(nn.GroupNorm(2, 6), nn.ELU(), rate=rate), FLAT),
    "traced": (Residual, FLAT),
    "images": (images, IMAGES),
    "words": (words, WORDS),
}
CLASSIFIERS = [
    {},
    {"label_smoothing": 0.1},
    {"criterion": "multi_margin"},
    {"class_weight": "balanced"},
    {"freeze": {"0.*": True}},
    {"batch_size": -1},
]


def runner_of(make, X, y, kind=TorchClassifier, smoothings=None, **params):
    """Return a runner of nets with different rates, and different numbers of rows."""
    nets = [
        kind(
            make(0.1 + 0.2 * k),
            **{"batch_size": 32, "random_state": k, "device": "cpu", **params},
        )
        for k in range(N)
    ]
    for net, smoothing in zip(nets, smoothings or (), strict=False):
        net.set_params(label_smoothing=smoothing)
    parts = [np.arange(len(X)) % 7 != k for k in range(N)]
    parts[1][:40] = False
    built = [
        _build(k, Member(net, X[part], y[part]))
        for k, (net, part) in enumerate(zip(nets, parts, strict=True))
    ]
    return LockstepRunner(built)


def losses_by_autograd(runner, step, x, y, weight):
    """Leave gradients as the criteria and modules of the nets make them, one by one."""
    losses = torch.zeros_like(weight)
    for i, run in enumerate(runner.runs[step.start : step.stop]):
        n = step.lengths[i] if step.lengths else len(x[i])
        criterion = copy.copy(run.net.criterion_)
        criterion.reduction = "none"
        with OwnGenerators(run.network.state.streams["forward"]):
            output, target = run.net.module_(x[i, :n]), y[i, :n]
            of_rows = criterion(output, target.to(output) if target.is_floating_point() else target)
        of_rows = of_rows.flatten(1).mean(1) if of_rows.ndim > 1 else of_rows
        trained = {b.name: b for b in runner.parameters.blocks if b.gradients is not None}
        own = [run.net.module_.get_parameter(name) for name in trained]
        found = torch.autograd.grad(of_rows, own, grad_outputs=weight[i, :n])
        for block, gradient in zip(trained.values(), found, strict=True):
            block.natural(block.gradients)[step.start + i] = gradient
        losses[i, :n] = of_rows.detach()
    return losses


def assert_as_by_autograd(runner):
    """Compare losses, gradients and buffers in all steps of an epoch."""
    assert not runner.passes.by_autograd
    streams = [run.network.state.streams["forward"] for run in runner.runs]
    buffers = runner.parameters.buffers
    runner._freeze_and_thaw()
    for step, *batch in runner.feed.epoch():
        states = [stream.generator() and stream.state() for stream in streams]
        before = {name: buffer.clone() for name, buffer in buffers.items()}
        gradients = [b.gradients for b in runner.parameters.blocks if b.gradients is not None]
        found = []
        for compute in (partial(losses_by_autograd, runner), runner.passes.gradients):
            for stream, state in zip(streams, states, strict=True):
                stream.set_state(state)
            for name, buffer in buffers.items():
                buffer.copy_(before[name])
            for gradient in gradients:
                gradient[step.start : step.stop].fill_(torch.nan)
            losses = compute(step, *batch) * batch[-1]
            grads = [gradient[step.start : step.stop] for gradient in gradients]
            found.append([t.clone() for t in (losses, *grads, *buffers.values())])
        for expected, other in zip(*found, strict=True):
            torch.testing.assert_close(other, expected, rtol=1e-6, atol=1e-12)
        runner.optimizer.step(step.start, step.stop)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("params", CLASSIFIERS, ids=str)
def test_classifiers(case, params):
    make, X = CASES[case]
    if case in ("one layer", "traced") and "freeze" in params:
        pytest.skip("no first layer among several")
    assert_as_by_autograd(runner_of(make, X, CLASSES, **params))


def test_each_net_has_its_label_smoothing():
    make, X = CASES["tanh"]
    assert_as_by_autograd(runner_of(make, X, CLASSES, smoothings=[0.0, 0.1, 0.2, 0.0]))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_several_labels(smoothing):
    make, X = CASES["dropout"]
    y = (RNG.random((len(X), 3)) < 0.5).astype(int)
    assert_as_by_autograd(runner_of(make, X, y, label_smoothing=smoothing))


@pytest.mark.parametrize("criterion", ["mse", "l1"])
def test_regressors(criterion):
    make, X = CASES["dropout"]
    y = RNG.normal(size=(len(X), 3))
    assert_as_by_autograd(runner_of(make, X, y, TorchRegressor, criterion=criterion))


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.ReLU(), "without autograd"),
        (nn.Hardshrink(), "by autograd where there is no rule: Hardshrink"),
    ],
    ids=["known", "unknown"],
)
def test_a_line_says_how_and_why(layer, said, caplog):
    caplog.set_level(logging.DEBUG, "skhpo")
    nets = [TorchClassifier(flat(layer), max_epochs=1, device="cpu") for _ in range(2)]
    assert train_together([Member(net, FLAT, CLASSES) for net in nets]) == [None, None]
    (line,) = [line for line in caplog.messages if "in lockstep" in line]
    assert line == f"2 nets in lockstep: steps {said}"


def test_nets_that_leave_early_do_not_change_how_the_others_train():
    def make(k):
        module = flat(nn.BatchNorm1d(6), nn.Tanh(), rate=0.3)
        settings = {"validation_fraction": 0.3, "patience": 1, "max_epochs": 30, "lr": 0.1}
        return TorchClassifier(module, random_state=k, device="cpu", batch_size=32, **settings)

    torch.manual_seed(0)
    nets = [make(k) for k in range(N)]
    alone = [copy.deepcopy(net).fit(FLAT, CLASSES) for net in nets]
    assert train_together([Member(net, FLAT, CLASSES) for net in nets]) == [None] * N
    assert len({len(net.history) for net in nets}) > 1
    for net, other in zip(nets, alone, strict=True):
        losses = [[row["train_loss"] for row in one.history] for one in (net, other)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-6)


class WithoutGradient(Residual):
    def forward(self, x):
        with torch.no_grad():
            x = self.first(x) + x
        return self.second(torch.relu(self.first(x)) + x)


def test_what_a_graph_does_not_say_is_seen(caplog):
    caplog.set_level(logging.DEBUG, "skhpo")
    nets = [TorchClassifier(WithoutGradient(0.0), max_epochs=1, device="cpu") for _ in range(2)]
    assert train_together([Member(net, FLAT, CLASSES) for net in nets]) == [None, None]
    assert not any("without autograd" in line for line in caplog.messages)


def test_dropout_that_only_some_have():
    rates = iter([0.0, 0.2, 0.0, 0.4])
    assert_as_by_autograd(runner_of(lambda _: flat(nn.ReLU(), rate=next(rates)), FLAT, CLASSES))
