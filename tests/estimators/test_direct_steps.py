"""Epochs without autograd, as part of an estimator: nobody can tell them from those with it."""

import contextlib
import logging

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import nn
from torch.nn import functional as F

from skhpo.estimators import ConvNet, TorchClassifier, TorchRegressor
from skhpo.training.runners import DirectSteps

LOG = "skhpo.training.runners"


@contextlib.contextmanager
def by_autograd():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DirectSteps, "can_train", lambda self: False)
        yield


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    X = generator.normal(size=(70, 6)).astype(np.float32)
    return X, (X[:, 0] + X[:, 1] ** 2 > 0.5).astype(int) + (X[:, 2] > 1)


def taken(caplog):
    """Return what the log says of the steps."""
    return [record.getMessage() for record in caplog.records if record.name == LOG]


def same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-4)


def weights_of(net):
    return [value.detach() for value in net.module_.state_dict().values()]


SETTINGS = [
    {"module__dropout": 0.3, "module__input_dropout": 0.1},
    {"module__normalization": "batch", "optimizer": "sgd", "lr": 0.05},
    {"module__normalization": "layer", "module__activation": "gelu"},
    {"class_weight": "balanced"},
    {"label_smoothing": 0.2},
    {"class_weight": "balanced", "label_smoothing": 0.1},
    {"max_norm": 0.5},
    {"lr_multipliers": {"output.*": 3.0}, "optimizer__weight_decay": 0.1},
    {"freeze": {"linear_0.*": 2}},
    {"freeze": {"output.*": True}, "module__normalization": "batch", "optimizer": "sgd"},
    {"lr_scheduler": "one_cycle"},
    {"lr_scheduler": "cosine", "optimizer": "sgd", "optimizer__momentum": 0.9},
    {"validation_fraction": 0.2, "check_every": 2, "patience": 3, "module__dropout": 0.2},
    {"validation_fraction": 0.2, "lr_scheduler": "plateau"},
    {"batch_sampler": "balanced"},
    {"iterator_train__drop_last": True},
    {"batch_size": -1},
    {"batch_size": 23},  # a last batch of one row joins the one before
    {"optimizer": "rmsprop", "lr": 1e-3},
    {"optimizer": "nadam"},
    {"optimizer": "adagrad"},
    {"optimizer": "adam", "optimizer__amsgrad": True},
    {"criterion": "multi_margin"},
    {"criterion__weight": np.array([1.0, 2.0, 0.5])},
    {"module__activation": torch.sin},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: ", ".join(map(str, s)))
def test_classifiers(settings, data):
    nets = []
    for context in (contextlib.nullcontext(), by_autograd()):
        net = TorchClassifier(max_epochs=4, lr=0.01, batch_size=16, random_state=0)
        with context:
            nets.append(net.set_params(**settings).fit(*data))
    same(*map(weights_of, nets))
    own, theirs = (net.history for net in nets)
    assert [row.keys() for row in own] == [row.keys() for row in theirs]
    for name in ("train_loss", *(["valid_loss"] if "validation_fraction" in settings else [])):
        np.testing.assert_allclose(own[:, name], theirs[:, name], rtol=1e-3)
    states = [net.optimizer_.state_dict() for net in nets]
    assert states[0]["param_groups"] == states[1]["param_groups"]
    for one, other in zip(*(state["state"].values() for state in states), strict=True):
        assert one.keys() == other.keys()
        same(
            [v for v in one.values() if isinstance(v, torch.Tensor)],
            [v for v in other.values() if isinstance(v, torch.Tensor)],
        )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"criterion": "l1"},
        {"criterion": "huber", "criterion__delta": 0.3},
        {"criterion": "smooth_l1"},
        {"criterion": "poisson_nll"},
        {"criterion": "bce_with_logits"},
    ],
    ids=str,
)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_regressors(settings, weighted, n_outputs, data):
    X, _ = data
    y = (np.abs(X[:, :n_outputs]) > 0.7).astype(np.float32).squeeze()
    weight = np.linspace(0.5, 2, len(X)) if weighted else None
    nets = []
    for context in (contextlib.nullcontext(), by_autograd()):
        net = TorchRegressor(max_epochs=3, lr=0.01, random_state=0).set_params(**settings)
        with context:
            nets.append(net.fit(X, y, sample_weight=weight))
    same(*map(weights_of, nets))


class Residual(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.one, self.two = nn.Linear(in_features, 8), nn.Linear(8, 8)
        self.output = nn.Linear(8, out_features)

    def forward(self, x):
        x = F.relu(self.one(x))
        return self.output(F.dropout(x + torch.tanh(self.two(x)), 0.2, self.training))


def test_a_module_of_ones_own(data, caplog):
    caplog.set_level(logging.DEBUG, LOG)
    nets = []
    for context in (contextlib.nullcontext(), by_autograd()):
        net = TorchClassifier(Residual, max_epochs=3, random_state=0)
        with context:
            nets.append(net.fit(*data))
    assert taken(caplog) == ["steps without autograd: all layers have rules"]
    same(*map(weights_of, nets))


@pytest.mark.parametrize("shape", [(8, 8), (2, 8, 8)])
def test_images(shape):
    X = np.random.default_rng(0).normal(size=(40, *shape)).astype(np.float32)
    y = (X.reshape(40, -1)[:, :9].mean(1) > 0).astype(int)
    for module in (ConvNet, None):
        nets = []
        for context in (contextlib.nullcontext(), by_autograd()):
            settings = {} if module is None else {"module": module, "module__dropout": 0.2}
            with context:
                net = TorchClassifier(**settings, max_epochs=2, random_state=0)
                nets.append(net.fit(X, y))
        same(*map(weights_of, nets))


@pytest.mark.parametrize("kind", ["sparse", "float64", "mapped"])
def test_inputs(kind, data, tmp_path):
    X, y = data
    if kind == "sparse":
        X = scipy.sparse.csr_matrix(np.where(X > 0.3, X, 0))
    elif kind == "float64":
        X = X.astype(np.float64)
    else:
        np.save(tmp_path / "X.npy", X)
        X = np.load(tmp_path / "X.npy", mmap_mode="r")
    nets = []
    for context in (contextlib.nullcontext(), by_autograd()):
        with context:
            nets.append(TorchClassifier(max_epochs=2, random_state=0).fit(X, y))
    same(*map(weights_of, nets))


@pytest.mark.parametrize("first", ["direct", "autograd"])
def test_a_checkpoint_is_continued_by_the_other(first, data, tmp_path):
    settings = {"module__dropout": 0.2, "lr": 0.01, "max_epochs": 2, "random_state": 0}
    wanted = TorchClassifier(**settings).fit(*data).partial_fit(*data)
    contexts = {"direct": contextlib.nullcontext, "autograd": by_autograd}
    with contexts.pop(first)():
        net = TorchClassifier(**settings).fit(*data)
    net.save_checkpoint(tmp_path / "net.pt")
    (other,) = contexts.values()
    with other():
        net = TorchClassifier(**settings).load_checkpoint(tmp_path / "net.pt").partial_fit(*data)
    same(weights_of(net), weights_of(wanted))


def test_training_in_parts_is_the_same_bit_by_bit(data):
    settings = {"module__dropout": 0.2, "random_state": 0}
    whole = TorchClassifier(max_epochs=4, **settings).fit(*data)
    parts = TorchClassifier(max_epochs=2, **settings).fit(*data).partial_fit(*data)
    for one, other in zip(weights_of(whole), weights_of(parts), strict=True):
        assert torch.equal(one, other)


class OwnLoss(TorchClassifier):
    def get_loss(self, y_pred, y_true, X=None, training=False):
        return super().get_loss(y_pred, y_true, X=X, training=training)


class OwnCriterion(nn.CrossEntropyLoss):
    pass


class Recurrent(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.cell, self.output = nn.GRU(1, 4, batch_first=True), nn.Linear(4, out_features)

    def forward(self, x):
        return self.output(self.cell(x.unsqueeze(-1))[0][:, -1])


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (TorchClassifier(), None),
        (TorchClassifier(amp=True), "it computes in low precision"),
        (TorchClassifier(collate="pad", module__in_features=6), "rows that collate makes"),
        (OwnLoss(), "get_loss is overridden"),
        (TorchClassifier(Recurrent), "GRU has no rule"),
        (TorchClassifier(criterion=OwnCriterion), "OwnCriterion has no rule"),
        (TorchClassifier(module__activation=torch.sin), "has no rule"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_the_log_says_which_steps_are_taken_and_why(net, reason, data, caplog):
    caplog.set_level(logging.DEBUG, LOG)
    net.set_params(max_epochs=3, random_state=0).fit(*data)
    (message,) = taken(caplog)
    if reason is None:
        assert message == "steps without autograd: all layers have rules"
    else:
        assert message.startswith("steps by autograd: ")
        assert reason in message


class Annealing(TorchClassifier):
    """Changes the module between two epochs."""

    def on_epoch_begin(self, net, **kwargs):
        super().on_epoch_begin(net, **kwargs)
        self.module_.dropout_0.p = 0.5 if self.n_iter_ < 2 else 0.1


def test_settings_of_layers_may_change_between_two_epochs(data):
    nets = []
    for context in (contextlib.nullcontext(), by_autograd()):
        with context:
            nets.append(Annealing(module__dropout=0.5, max_epochs=4, random_state=0).fit(*data))
    same(*map(weights_of, nets))


def test_what_is_interrupted_has_counted_its_steps(data):
    class Interrupted(TorchClassifier):
        def on_epoch_end(self, net, **kwargs):
            if net.n_iter_ == 1:
                raise KeyboardInterrupt

    net = Interrupted(max_epochs=5, batch_size=10, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        net.fit(*data)
    steps = {state["step"].item() for state in net.optimizer_.state.values()}
    assert steps == {14}
