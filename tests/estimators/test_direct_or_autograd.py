"""Code that rules of layers do not know: direct steps find what autograd finds, or give up.

A module's graph does not say everything that autograd and the module do, and a net's parts may be
replaced or looked into while it trains.
"""

import contextlib
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from unusual_modules import MODULES, Base, Unregistered

from skhpo.estimators import TorchClassifier, TorchRegressor
from skhpo.training.runners import DirectSteps


class OfClass(Base):
    factors = [1.0]

    def forward(self, x):
        return self.output(F.relu(self.two(F.relu(self.one(x)))) * self.factors[0])


FACTOR = 1.0


class OfFile(Base):
    def forward(self, x):
        return self.output(F.relu(self.two(F.relu(self.one(x)))) * FACTOR)


class Changing(TorchClassifier):
    """Changes something before the third epoch."""

    def on_epoch_begin(self, net, **kwargs):
        super().on_epoch_begin(net, **kwargs)
        if self.n_iter_ == 2:
            self.change()

    def change(self):
        self.set_params(lr=0.2)


class NewOptimizer(Changing):
    def change(self):
        self.optimizer_ = torch.optim.SGD(self.module_.parameters(), lr=0.2)


class NewModule(Changing):
    def change(self):
        width = self.module_.output.out_features
        self.module_ = nn.Sequential(nn.Linear(6, width))
        nn.init.ones_(self.module_[0].weight)
        nn.init.zeros_(self.module_[0].bias)
        self.optimizer_ = torch.optim.SGD(self.module_.parameters(), lr=0.2)


class NewCriterion(Changing):
    def change(self):
        self.criterion_ = nn.CrossEntropyLoss(label_smoothing=0.5)


class NewHook(Changing):
    def change(self):
        self.module_.linear_0.weight.register_hook(lambda gradient: -5 * gradient)


class NewFactor(Changing):
    def change(self):
        self.module_.factors[0] = 0.1


class NewFactorOutside(Changing):
    def on_train_begin(self, net, **kwargs):
        super().on_train_begin(net, **kwargs)
        self.change(1.0)

    def change(self, factor=0.1):
        global FACTOR
        FACTOR = OfClass.factors[0] = factor


class HookOfOptimizer(Changing):
    def change(self):
        def reverse(optimizer, args, kwargs):
            for parameter in optimizer.param_groups[0]["params"]:
                parameter.grad.neg_()

        self.optimizer_.register_step_pre_hook(reverse)


class OwnGetLoss(Changing):
    def change(self):
        self.get_loss = lambda *args, **kwargs: 3 * TorchClassifier.get_loss(self, *args, **kwargs)


class Clipping(TorchClassifier):
    """Wraps the step of its optimizer."""

    def initialize_optimizer(self, *args, **kwargs):
        super().initialize_optimizer(*args, **kwargs)
        step = self.optimizer_.step

        def clipped_step(optimizer, closure=None):
            nn.utils.clip_grad_norm_(self.module_.parameters(), 1e-2)
            return step(closure)

        self.optimizer_.step = types.MethodType(clipped_step, self.optimizer_)
        return self


class ReadingGradients(TorchClassifier):
    def on_epoch_end(self, net, **kwargs):
        super().on_epoch_end(net, **kwargs)
        norm = nn.utils.get_total_norm([p.grad for p in self.module_.parameters()])
        self.history.record("norm", norm.item())


SETTINGS = {"max_epochs": 4, "batch_size": 16, "random_state": 0, "optimizer": "sgd", "lr": 0.1}
NETS = [
    *(Changing, NewOptimizer, NewModule, NewCriterion, NewHook, HookOfOptimizer, OwnGetLoss),
    *(Clipping, ReadingGradients),
]


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    X = generator.normal(size=(70, 6)).astype(np.float32)
    return X, (X[:, 0] + X[:, 1] ** 2 > 0.5).astype(int) + (X[:, 2] > 1)


@pytest.mark.parametrize(
    "make",
    [
        *(pytest.param(lambda m=m: TorchClassifier(m, **SETTINGS), id=m.__name__) for m in MODULES),
        *(pytest.param(lambda kind=kind: kind(**SETTINGS), id=kind.__name__) for kind in NETS),
        pytest.param(lambda: NewFactor(Unregistered, **SETTINGS), id="NewFactor"),
        pytest.param(lambda: NewFactorOutside(OfClass, **SETTINGS), id="NewFactor, of a class"),
        pytest.param(lambda: NewFactorOutside(OfFile, **SETTINGS), id="NewFactor, of a file"),
        pytest.param(
            lambda: Clipping(**SETTINGS, lr_scheduler="one_cycle"), id="Clipping, with a schedule"
        ),
        pytest.param(
            lambda: TorchClassifier(**SETTINGS, criterion__weight=np.array([1.0, 0.0, 1.0])),
            id="a class without weight",
        ),
        pytest.param(
            lambda: TorchClassifier(
                **SETTINGS, criterion__weight=np.array([0.0, 1.0, 1.0]), label_smoothing=0.1
            ),
            id="a class without weight, smoothed",
        ),
    ],
)
def test_the_default_trains_as_autograd_does(make, data):
    nets = []
    for patched in (False, True):
        with pytest.MonkeyPatch.context() if patched else contextlib.nullcontext() as patch:
            if patched:
                patch.setattr(DirectSteps, "can_train", lambda self: False)
            nets.append(make().fit(*data))
    found, wanted = (net.module_.state_dict() for net in nets)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)
    losses = [
        net.history[:, ("train_loss", "norm")]
        if isinstance(net, ReadingGradients)
        else net.history[:, "train_loss"]
        for net in nets
    ]
    np.testing.assert_allclose(*losses, rtol=1e-3)


def test_autocast_around_a_fit(data):
    nets = []
    for patched in (False, True):
        with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", torch.bfloat16):
            if patched:
                patch.setattr(DirectSteps, "can_train", lambda self: False)
            nets.append(TorchClassifier(**SETTINGS).fit(*data))
    found, wanted = (net.module_.state_dict() for net in nets)
    for name, value in wanted.items():
        assert torch.equal(found[name], value)


def test_a_search_for_anomalies_finds_them(data):
    X, y = data

    class Broken(TorchClassifier):
        def on_train_begin(self, net, **kwargs):
            super().on_train_begin(net, **kwargs)
            with torch.no_grad():
                self.module_.output.weight.fill_(torch.inf)

    with (
        torch.autograd.set_detect_anomaly(True),
        pytest.warns(UserWarning, match="Error detected"),
        pytest.raises(RuntimeError, match="returned nan values"),
    ):
        Broken(**SETTINGS).fit(X, y)


class InFloat64(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(6, 1), nn.Softsign())
        self.double()


class Untraceable(InFloat64):
    def forward(self, x):
        return super().forward(x) if x.isfinite().all() else x[:, :1]


@pytest.mark.parametrize("criterion", ["mse", "l1", "huber", "smooth_l1", "bce_with_logits"])
def test_targets_have_the_precision_of_the_output(criterion):
    kind = TorchClassifier if criterion == "bce_with_logits" else TorchRegressor
    X = np.random.default_rng(0).normal(size=(40, 6))
    y = (X[:, 0] > 0).astype(int) if kind is TorchClassifier else X[:, 0] * 2
    direct, by_autograd = (
        kind(module, criterion=criterion, max_epochs=3, random_state=0, device="cpu").fit(X, y)
        for module in (InFloat64, Untraceable)
    )
    np.testing.assert_allclose(
        by_autograd.history[:, "train_loss"], direct.history[:, "train_loss"], rtol=1e-7
    )
