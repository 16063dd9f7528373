"""Accumulated and clipped gradients, averaged weights: against plain loops of PyTorch."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import nn
from torch.nn import functional as F

from skhpo import SearchCV
from skhpo.estimators import TorchClassifier, TorchRegressor
from skhpo.lockstep import Member, train_together
from skhpo.samplers import GridSampler
from skhpo.schedulers import FullScheduler
from skhpo.training.averaging import WeightAverage


class Silent(Callback):
    """Makes training go through skorch's loop."""


def module(norm=True):
    torch.manual_seed(0)
    layers = [nn.Linear(8, 6), *([nn.BatchNorm1d(6)] if norm else []), nn.ReLU(), nn.Linear(6, 3)]
    return nn.Sequential(*layers)


def plain_loop(X, y, n_epochs, *, model=None, max_norm=None, after_step=lambda model: None):
    """Train with all rows as one batch, which needs no order."""
    model = model or module()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    for _ in range(n_epochs):
        optimizer.zero_grad()
        F.cross_entropy(model(X), y).backward()
        if max_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        after_step(model)
    return model.eval()


def net_of(**params):
    settings = {"optimizer": "sgd", "optimizer__momentum": 0.9, "lr": 0.5, "batch_size": -1}
    return TorchClassifier(module(), max_epochs=8, random_state=0, **{**settings, **params})


def assert_alike(net, model, X):
    with torch.no_grad():
        expected = F.softmax(model(torch.from_numpy(X)), dim=1).numpy()
    np.testing.assert_allclose(net.predict_proba(X), expected, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("callbacks", [None, [Silent]])
def test_clipped_gradients(blobs, callbacks, caplog):
    with caplog.at_level("DEBUG", logger="skhpo"):
        net = net_of(max_grad_norm=0.05, callbacks=callbacks).fit(*blobs)
    assert ("without autograd" in caplog.text) is (callbacks is None)
    assert_alike(net, plain_loop(*blobs, 8, max_norm=0.05), blobs[0])
    free = net_of().fit(*blobs)
    assert not np.allclose(net.predict_proba(blobs[0]), free.predict_proba(blobs[0]), atol=1e-2)


@pytest.mark.parametrize("callbacks", [None, [Silent]])
@pytest.mark.parametrize("schedule", [None, "one_cycle"])
def test_accumulated_batches_are_one_large_batch(blobs, callbacks, schedule, caplog):
    # 150 rows: batches of 16 in steps of 64, 64 and 22 rows.
    X, y = blobs
    weight = np.linspace(0.5, 2, 150)
    params = {"optimizer": "adamw", "lr": 0.02, "max_epochs": 3, "random_state": 0}
    params |= {"lr_scheduler": schedule, "module__n_units": 8}
    small = TorchClassifier(batch_size=16, accumulate=4, callbacks=callbacks, **params)
    large = TorchClassifier(batch_size=64, **params)
    with caplog.at_level("DEBUG", logger="skhpo"):
        small.fit(X, y, sample_weight=weight)
    assert ("without autograd" in caplog.text) is (callbacks is None)
    large.fit(X, y, sample_weight=weight)
    outputs = (net.predict_proba(X) for net in (small, large))
    np.testing.assert_allclose(*outputs, rtol=1e-3, atol=1e-5)
    if schedule is not None:
        np.testing.assert_allclose(small.history_[:, "lr"], large.history_[:, "lr"], rtol=1e-6)
    assert small.history_[-1]["train_batch_count"] == 10


class Ema:
    """What a user would write."""

    def __init__(self, decay):
        self.decay, self.n, self.mean = decay, 0, None

    def __call__(self, model):
        state = {k: v.clone() for k, v in model.state_dict().items()}
        decay = min(self.decay, (1 + self.n) / (10 + self.n)) if self.n else 0
        if self.mean is not None:
            for k, v in self.mean.items():
                if v.is_floating_point():
                    state[k] = decay * v + (1 - decay) * state[k]
        self.mean, self.n = state, self.n + 1


class Swa:
    def __init__(self, start):
        self.start, self.epoch, self.states = start, 0, []

    def __call__(self, model):
        self.epoch += 1
        if self.epoch >= self.start:
            self.states.append({k: v.clone() for k, v in model.state_dict().items()})

    @property
    def mean(self):
        last = self.states[-1]
        real = {k: v for k, v in last.items() if v.is_floating_point()}
        return last | {k: torch.stack([s[k] for s in self.states]).mean(0) for k in real}


@pytest.mark.parametrize("callbacks", [None, [Silent]])
@pytest.mark.parametrize(
    ("params", "average"),
    [
        ({"average": "ema", "average_decay": 0.3}, Ema(0.3)),
        ({"average": "ema"}, Ema(0.999)),
        ({"average": "swa"}, Swa(7)),
        ({"average": "swa", "average_from": 3}, Swa(3)),
    ],
    ids=["decay", "warm-up", "swa", "from"],
)
def test_averages(blobs, callbacks, params, average):
    average = copy.deepcopy(average)
    net = net_of(callbacks=callbacks, **params).fit(*blobs)
    model = plain_loop(*blobs, 8, after_step=average)
    model.load_state_dict(average.mean)
    assert_alike(net, model, blobs[0])


class Counting(nn.Module):
    """Has other buffers after each step, and a state that is no tensor of its own."""

    def __init__(self):
        super().__init__()
        self.layers = module(norm=False)
        self.register_buffer("norm", torch.ones(1))
        self.n_calls = 0.0

    def forward(self, x):
        if self.training:
            self.norm = self.norm + self.layers[0].weight.detach().norm()
            self.n_calls += 1
        return self.layers(x) / self.norm

    def get_extra_state(self):
        return torch.tensor(self.n_calls)

    def set_extra_state(self, state):
        self.n_calls = float(state)


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_states_of_any_kind_are_averaged(blobs, kind):
    net = net_of(average=kind, average_from=2).set_params(module=Counting()).fit(*blobs)
    assert net.history_[-1]["train_loss"] < net.history_[0]["train_loss"]
    average = Ema(0.999) if kind == "ema" else Swa(1)

    def after_step(model):
        if model.n_calls > 1:
            average(model)

    model = plain_loop(*blobs, 8, model=Counting(), after_step=after_step)
    n_calls = model.n_calls
    model.load_state_dict(average.mean)
    assert_alike(net, model, blobs[0])
    assert net.module_.n_calls == pytest.approx(model.n_calls) != n_calls


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_checks_use_the_average_and_the_best_predicts(blobs, kind):
    X, y = blobs
    net = TorchClassifier(
        lr=0.05, max_epochs=8, average=kind, average_from=2, random_state=0, batch_size=16
    )
    net.fit(X[50:], y[50:], validation_data=(X[:50], y[:50]))
    losses = net.history_[:, "valid_loss"]
    p = net.predict_proba(X[:50])[np.arange(50), y[:50]]
    assert -np.log(p).mean() == pytest.approx(min(losses), rel=1e-4)
    # The last check is of the average, not of the weights with which training goes on.
    last = TorchClassifier(**{**net.get_params(), "max_epochs": 8}).fit(X[50:], y[50:])
    p = last.predict_proba(X[:50])[np.arange(50), y[:50]]
    assert -np.log(p).mean() == pytest.approx(losses[-1], rel=1e-3)


@pytest.mark.parametrize("callbacks", [None, [Silent]])
def test_callbacks_see_the_average(blobs, callbacks):
    seen = []

    class Predicting(TorchClassifier):
        def on_epoch_end(self, net, **kwargs):
            super().on_epoch_end(net, **kwargs)
            seen.append(net.module_[0].weight.detach().clone())

    net = Predicting(module(), max_epochs=3, average="ema", callbacks=callbacks, random_state=0)
    net.fit(*blobs)
    assert torch.equal(seen[-1], net.module_[0].weight)
    assert not torch.equal(seen[-1], net._state.running_weights["module"]["0.weight"])


def test_statistics_of_all_rows_are_those_of_the_average(blobs):
    X, y = blobs
    net = net_of(average="swa", recalibrate=True).fit(X, y)
    layer = copy.deepcopy(net.module_[1])
    net.partial_fit(X, y)  # goes on from the weights and the statistics before
    with torch.no_grad():
        net = net_of(average="swa", recalibrate=True).fit(X, y)
        inputs = net.module_[0](torch.from_numpy(X))
    np.testing.assert_allclose(layer.running_mean, inputs.mean(0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("way", ["nothing", "pickle", "checkpoint"])
@pytest.mark.parametrize(
    "params",
    [
        {"average": "ema"},
        {"average": "swa", "schedule_epochs": 4},
        {"average": "ema", "check_every": 2, "max_grad_norm": 0.1, "validation_fraction": 0.2},
        {"accumulate": 3, "lr_scheduler": "one_cycle", "schedule_epochs": 4},
    ],
    ids=["ema", "swa", "checked", "accumulated"],
)
def test_training_goes_on_exactly(blobs, way, params):
    X, y = blobs
    net = TorchClassifier(lr=0.05, max_epochs=4, batch_size=16, random_state=0, **params)
    whole = clone(net).fit(X, y)
    half = clone(net).set_params(max_epochs=2).fit(X, y)
    if way == "pickle":
        half = pickle.loads(pickle.dumps(half))
    if way == "checkpoint":
        buffer = io.BytesIO()
        half.save_checkpoint(buffer)
        buffer.seek(0)
        half = clone(net).set_params(max_epochs=2).load_checkpoint(buffer)
    half.partial_fit(X, y)
    np.testing.assert_array_equal(half.predict_proba(X), whole.predict_proba(X))
    assert half.history_[:, "train_loss"] == whole.history_[:, "train_loss"]


def test_older_checkpoints_have_no_average(blobs):
    net, buffer = TorchClassifier(max_epochs=1).fit(*blobs), io.BytesIO()
    net.save_checkpoint(buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    del saved["average"]
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    buffer.seek(0)
    again = TorchClassifier(max_epochs=1).load_checkpoint(buffer)
    np.testing.assert_array_equal(again.predict(blobs[0]), net.predict(blobs[0]))


@pytest.mark.parametrize(
    "params",
    [
        {"average": "ema"},
        {"average": "swa", "average_from": 2},
        {"max_grad_norm": 0.05},
        {"accumulate": 2, "max_grad_norm": 0.5, "average": "ema"},
    ],
    ids=["ema", "swa", "clipped", "accumulated"],
)
def test_in_lockstep_as_alone(line, params, caplog, monkeypatch):
    X, y = line
    params = {"max_epochs": 3, "lr": 0.02, "validation_fraction": 0.2, **params}
    nets = [TorchRegressor(random_state=seed, **params) for seed in range(3)]
    alone = [clone(net).fit(X, y) for net in nets]
    with caplog.at_level("DEBUG", logger="skhpo"), monkeypatch.context() as patched:
        patched.setattr(WeightAverage, "after_step", None)  # nothing network by network
        patched.setattr(WeightAverage, "after_epoch", None)
        assert train_together([Member(net, X, y) for net in nets]) == [None] * 3
    assert "3 nets in lockstep" in caplog.text
    for net, other in zip(nets, alone, strict=True):
        np.testing.assert_allclose(net.predict(X), other.predict(X), rtol=1e-3, atol=1e-4)
        assert net.history_[:, "valid_loss"] == pytest.approx(other.history_[:, "valid_loss"], 1e-3)
    nets[0].set_params(max_epochs=1).partial_fit(X, y)
    alone[0].set_params(max_epochs=1).partial_fit(X, y)
    np.testing.assert_allclose(nets[0].predict(X), alone[0].predict(X), rtol=1e-3, atol=1e-4)


def test_steps_of_a_refit_count_accumulated_batches(blobs):
    net = TorchClassifier(batch_size=16, accumulate=2, max_epochs=4, validation_fraction=0.2)
    search = SearchCV(
        net,
        {"lr": [0.05]},
        scheduler=lambda space, random_state: FullScheduler(GridSampler(space), 1),
        refit_epochs="scaled",
        random_state=0,
        cv=3,
    ).fit(*blobs)
    table = search.cv_results_
    # 80 rows in 5 batches are 3 steps.
    assert table["split0_best_step"] == 3 * table["split0_best_epoch"]
    steps = np.median([table[f"split{i}_best_step"][0] for i in range(3)])
    assert search.refit_epochs_ == max(1, np.floor(steps / 5 + 0.5))


class Own(TorchClassifier):
    def train_step(self, batch, **fit_params):
        return NeuralNet.train_step(self, batch, **fit_params)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (TorchClassifier(average_from=2), "average=None; set it to 'ema' or 'swa'"),
        (TorchClassifier(accumulate=2, optimizer="lbfgs"), "accumulate=2 needs an optimizer"),
        (TorchClassifier(max_grad_norm=0), "max_grad_norm"),
        (TorchClassifier(accumulate=0), "accumulate"),
        (TorchClassifier(average="mean"), "average"),
        (TorchClassifier(average="ema", average_decay=1.0), "average_decay"),
        (Own(accumulate=2), "Own overrides train_step"),
    ],
    ids=["from", "lbfgs", "norm", "accumulate", "average", "decay", "own"],
)
def test_errors_before_training(net, message, blobs):
    with pytest.raises(ValueError, match=message):
        net.fit(*blobs)


class Masked(nn.Module):
    """Has a mask, as attention has."""

    def __init__(self, masked=1):
        super().__init__()
        self.hidden, self.out = nn.Linear(8, 6), nn.Linear(6, 3)
        mask = torch.zeros(6)
        mask[:masked] = -torch.inf
        self.register_buffer("mask", mask)

    def forward(self, x):
        return self.out(torch.softmax(self.hidden(x) + self.mask, 1))


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_infinite_numbers_of_a_mask_stay(blobs, kind):
    def nets():
        made = (0, 1), (1, 1), (1, 2)
        settings = {"average": kind, "average_from": 2, "lr": 0.1, "max_epochs": 4}
        return [
            TorchClassifier(Masked, module__masked=masked, random_state=seed, **settings)
            for seed, masked in made
        ]

    alone, together = [net.fit(*blobs) for net in nets()], nets()
    assert train_together([Member(net, *blobs) for net in together]) == [None] * 3
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.module_.mask, Masked(one.module__masked).mask)
        assert torch.equal(other.module_.mask, one.module_.mask)
        expected = one.predict_proba(blobs[0])
        assert np.isfinite(expected).all()
        np.testing.assert_allclose(other.predict_proba(blobs[0]), expected, atol=1e-5)


class Growing(nn.Module):
    """Keeps a tensor that it makes in its first pass, and another one that grows."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(8, 3)
        self.register_buffer("first", None)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        if self.training:
            self.first = torch.ones(3) if self.first is None else self.first
            self.seen = torch.cat([self.seen, torch.ones(1)])
        return self.out(x) + (0 if self.first is None else self.first * self.seen.sum())


class Replacing(TorchClassifier):
    """Replaces parts of its module between two epochs."""

    def on_epoch_begin(self, net, **kwargs):
        super().on_epoch_begin(net, **kwargs)
        if self.n_iter_ == 2:
            torch.manual_seed(1)
            self.replace()
            self.optimizer_ = torch.optim.SGD(self.module_.parameters(), lr=0.1)

    def replace(self):
        self.module_[2] = nn.Linear(6, 3)


class ReplacingParameter(Replacing):
    def replace(self):
        self.module_[2].weight = nn.Parameter(torch.ones(3, 6))


class ReplacingAll(Replacing):
    def replace(self):
        self.module_ = nn.Sequential(nn.Linear(8, 3))


@pytest.mark.parametrize("cls", [Replacing, ReplacingParameter, ReplacingAll, TorchClassifier])
def test_the_average_is_of_the_tensors_that_modules_have(blobs, cls):
    made = Growing() if cls is TorchClassifier else module(norm=False)
    settings = {"random_state": 0, "max_epochs": 4, "lr": 0.1, "optimizer": "sgd"}
    # Without a memory the mean is the last weights.
    plain, averaged = (
        cls(copy.deepcopy(made), **settings, **params).fit(*blobs)
        for params in ({}, {"average": "ema", "average_decay": 1e-9})
    )
    np.testing.assert_allclose(
        averaged.predict_proba(blobs[0]), plain.predict_proba(blobs[0]), atol=1e-6
    )
