"""What goes on beside the steps is the same in lockstep: checks, schedules, constraints, data."""

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.datasets import make_classification, make_regression
from torch import nn

from skhpo import TorchClassifier, TorchRegressor
from skhpo.lockstep import Member, predict_together, train_together
from skhpo.rows import RowSubset

X, Y = make_classification(120, 6, n_informative=5, n_redundant=1, n_classes=3, random_state=0)
XR, YR = make_regression(120, 6, n_targets=2, random_state=0)
YR /= YR.std()
N = 3
pytestmark = pytest.mark.usefixtures("nothing_falls_back")


class Net(nn.Sequential):
    def __init__(self, in_features, out_features, probabilities=False, norm=False):
        norms = [nn.BatchNorm1d(5)] if norm else []
        layers = [nn.Linear(in_features, 5), *norms, nn.Tanh(), nn.Linear(5, out_features)]
        super().__init__(*layers, *([nn.Softmax(1)] if probabilities else []))
        self.double()


def classifier(k, **params):
    settings = {"batch_size": 16, "max_epochs": 6, "lr": 0.02, "random_state": k, "device": "cpu"}
    return TorchClassifier(Net, **{**settings, **params})


def assert_alike(nets, expected, X):
    for net, other in zip(nets, expected, strict=True):
        for a, b in zip(net.module_.parameters(), other.module_.parameters(), strict=True):
            assert torch.linalg.vector_norm(a - b) <= 1e-8
        assert len(net.history) == len(other.history)
        for row, theirs in zip(net.history, other.history, strict=True):
            assert list(row) == list(theirs)
            for name in set(row) - {"dur", "batches"}:
                assert row[name] == pytest.approx(theirs[name], rel=1e-6, abs=1e-9), name
        ours, theirs = net.optimizer_.state_dict(), other.optimizer_.state_dict()
        assert ours["param_groups"] == theirs["param_groups"]
        assert ours["state"].keys() == theirs["state"].keys()
        for key, state in ours["state"].items():
            for name, value in state.items():
                torch.testing.assert_close(value, theirs["state"][key][name], rtol=1e-6, atol=1e-9)
        one, two = net._state, other._state
        assert one.counters.n_epochs == two.counters.n_epochs
        assert one.counters.n_batches == two.counters.n_batches
        assert one.counters.n_checks == two.counters.n_checks
        assert_same_tensors(one.running_weights, two.running_weights)
        assert (one.average is None) == (two.average is None)
        if one.average is not None:
            assert one.average.n == two.average.n
            assert_same_tensors(one.average.weights, two.average.weights)
        assert one.frozen_until == two.frozen_until
    for output, other in zip(predict_together(nets, [X] * len(nets)), expected, strict=True):
        np.testing.assert_allclose(output, other.predict_outputs(X), atol=1e-8)


def assert_same_tensors(weights, others):
    assert (weights is None) == (others is None)
    for name, tensors in (weights or {}).items():
        assert tensors.keys() == others[name].keys()
        for key, value in tensors.items():
            torch.testing.assert_close(value, others[name][key], rtol=0, atol=1e-8)
            # What is saved is no part of the group's tensors.
            assert value.untyped_storage().nbytes() == value.nbytes


def assert_trains_alike(make, X, y, rows=None, further=0, **fit_params):
    """Compare with training alone, then continue both."""
    rows = rows or [np.arange(X.shape[0]) % 5 != k for k in range(N)]

    def members():
        parts = ({name: value[part] for name, value in fit_params.items()} for part in rows)
        return [
            Member(make(k), X[part], y[part], own)
            for k, (part, own) in enumerate(zip(rows, parts, strict=True))
        ]

    joint, alone = members(), members()
    assert train_together(joint) == [None] * N
    for member in alone:
        member.net.fit(member.X, member.y, **member.fit_params)
    assert_alike([m.net for m in joint], [m.net for m in alone], X)
    if not further:
        return
    for member in (*joint, *alone):
        member.net.set_params(max_epochs=further)
        member.continuing = True
    assert train_together(joint) == [None] * N
    for member in alone:
        member.net.partial_fit(member.X, member.y, **member.fit_params)
    assert_alike([m.net for m in joint], [m.net for m in alone], X)


SGD = {"optimizer": "sgd", "optimizer__momentum": 0.9}


@pytest.mark.parametrize(
    "params",
    [
        {"validation_fraction": 0.2, "patience": 1, "max_epochs": 12, "lr": 0.2},
        {"validation_fraction": 0.2, "monitor": "accuracy", "check_every": 3},
        {"lr_scheduler": "cosine"},
        {"lr_scheduler": "one_cycle", **SGD},
        {"lr_scheduler": "plateau", "validation_fraction": 0.2, "lr_scheduler__patience": 0},
        {"max_norm": 0.5},
        {"freeze": {"0.*": 2}, "optimizer__weight_decay": 0.1},
        {"freeze": {"0.weight": True}, **SGD},
        {"lr_multipliers": {"2.*": 3}},
        {"batch_sampler": "balanced"},
        {"class_weight": "balanced"},
        {"label_smoothing": 0.1},
        {"criterion": "nll", "module__probabilities": True},
        {"criterion": "multi_margin"},
        {"iterator_train__drop_last": True},
        {"iterator_train__shuffle": False},
        {"batch_size": -1},
        {"batch_size": 95},
    ],
    ids=str,
)
def test_everything_beside_the_steps(params):
    assert_trains_alike(lambda k: classifier(k, **params), X, Y, further=3)


@pytest.mark.parametrize(
    "optimizer",
    ["rmsprop", "adagrad", "adadelta", "adamax", "nadam", "radam", "asgd", "rprop"],
)
def test_optimizers_without_kernels_of_their_own(optimizer):
    def make(k):
        return classifier(k, optimizer=optimizer, lr=0.01 * (k + 1), max_epochs=2 + k)

    assert_trains_alike(make, X, Y, further=2)


def test_a_few_rows_join_the_last_batch_of_some_networks():
    rows = [np.arange(n) for n in (99, 95, 100)]  # one batch, one, and 80 and 20
    assert_trains_alike(lambda k: classifier(k, batch_size=80), X, Y, rows=rows, further=2)


@pytest.mark.parametrize("seed", range(5))
def test_averages_may_differ(seed):
    rng = np.random.default_rng(seed)

    def draw(**choices):
        drawn = {name: of_name[rng.integers(len(of_name))] for name, of_name in choices.items()}
        return {name: value for name, value in drawn.items() if value is not None}

    checked, norm = rng.random(2) < 0.5
    common = draw(accumulate=[1, 1, 3], freeze=[None, None, {"0.*": 2}], max_grad_norm=[None, 0.5])
    common |= {"module__norm": bool(norm), "validation_fraction": 0.2 if checked else None}
    own, may_end = [], "freeze" not in common  # or epochs would be another reason to fall back
    for _ in range(N):
        one = draw(average=[None, "ema", "ema", "swa"], max_norm=[None, 0.4])
        if may_end:
            one |= draw(max_epochs=[2, 3, 5])
        if "average" in one:
            one |= draw(average_decay=[0.3, 0.999], average_from=[None, 1, 2, 3])
            one |= draw(recalibrate=[False, True])
        if checked:
            one |= draw(check_every=[None, 2], patience=[None, 2 if may_end else None])
        own.append(common | one)
    assert_trains_alike(lambda k: classifier(k, **own[k]), X, Y, further=2)


def test_limits_of_norms_may_differ():
    assert_trains_alike(lambda k: classifier(k, max_norm=[None, 0.3, 0.6][k]), X, Y)


class Half(nn.Module):
    """Has weights whose squares are too large for half precision."""

    def __init__(self):
        super().__init__()
        self.large, self.out = nn.Linear(6, 8).half(), nn.Linear(8, 3)
        with torch.no_grad():
            self.large.weight.mul_(1000)

    def forward(self, x):
        return self.out(torch.tanh(self.large(x.half()).float()))


def test_limits_of_norms_in_half_precision():
    settings = {"max_epochs": 1, "max_norm": 0.5, "optimizer": "sgd", "lr": 1e-4, "device": "cpu"}
    nets = [TorchClassifier(Half, random_state=seed, **settings) for seed in range(2)]
    assert train_together([Member(net, X, Y) for net in nets]) == [None] * 2
    for net in nets:
        norms = net.module_.large.weight.float().norm(dim=1)
        torch.testing.assert_close(norms, torch.full((8,), 0.5), rtol=0, atol=5e-3)


def test_two_classes_and_several_labels():
    def binary(k):
        return classifier(k, criterion="bce_with_logits", label_smoothing=k / 10)

    assert_trains_alike(binary, X, Y > 0)
    labels = np.stack([Y > 0, Y > 1], 1).astype(int)
    assert_trains_alike(lambda k: classifier(k, label_smoothing=k / 10), X, labels)


@pytest.mark.parametrize("criterion", ["mse", "l1"])
def test_regressors(criterion):
    def make(k):
        settings = {"batch_size": 16, "max_epochs": 5, "random_state": k, "device": "cpu"}
        return TorchRegressor(Net, criterion=criterion, **settings)

    assert_trains_alike(make, XR, YR, further=2)


def test_weights_of_samples():
    weights = np.random.default_rng(0).integers(0, 3, len(X))
    assert_trains_alike(classifier, X, Y, sample_weight=weights)


def test_rows_of_one_array_are_read_where_they_are():
    rows = [np.flatnonzero(np.arange(len(X)) % 5 != k) for k in range(N)]
    members = [Member(classifier(k), RowSubset(X, rows[k]), Y[rows[k]]) for k in range(N)]
    assert train_together(members) == [None] * N
    assert_alike(
        [m.net for m in members], [classifier(k).fit(X[rows[k]], Y[rows[k]]) for k in range(N)], X
    )


def test_sparse_rows():
    sparse = scipy.sparse.csr_matrix(np.where(X > 0.5, X, 0))
    assert_trains_alike(classifier, sparse, Y)


def test_numbers_do_not_depend_on_the_neighbours():
    def train(seeds):
        members = [Member(classifier(k, max_epochs=2 + k), X[k:], Y[k:]) for k in seeds]
        train_together(members)
        return {m.net.random_state: m.net.predict_proba(X) for m in members}

    few, many = train([1, 3]), train([0, 1, 2, 3, 4])
    for k, output in few.items():
        np.testing.assert_allclose(output, many[k], atol=1e-10)


def test_half_way_through_a_checkpoint(tmp_path):
    members = [Member(classifier(k, max_epochs=2), X[k:], Y[k:]) for k in range(N)]
    train_together(members)
    again = []
    for k, member in enumerate(members):
        member.net.save_checkpoint(tmp_path / str(k))
        net = classifier(k, max_epochs=3).load_checkpoint(tmp_path / str(k))
        again.append(Member(net, X[k:], Y[k:], continuing=True))
    # Survivors are in a group with others than before.
    again = [again[0], Member(classifier(7, max_epochs=5), X, Y), again[2]]
    assert train_together(again) == [None] * 3
    for k in (0, 2):
        whole = classifier(k, max_epochs=5).fit(X[k:], Y[k:])
        np.testing.assert_allclose(again[k].net.predict_proba(X), whole.predict_proba(X), atol=1e-9)
