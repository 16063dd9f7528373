"""Checks on held-out rows within a fit: what is held out, when it stops, what predicts."""

import pickle

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.metrics import log_loss
from skorch.callbacks import Callback
from torch.nn import functional as F
from torch.utils.data import default_collate

from skhpo.estimators import TorchClassifier, TorchRegressor
from skhpo.rows import RowSubset
from skhpo.training.holdout import holdout_rows

CHECKED = {"validation_fraction": 0.2, "lr": 0.02, "random_state": 0, "batch_size": 16}


class Silent(Callback):
    """Makes training go through skorch's loop."""


def assert_same(one, other):
    for part in ("module_", "optimizer_"):
        states = (getattr(net, part).state_dict() for net in (one, other))
        for a, b in zip(*(pickle_leaves(state) for state in states), strict=True):
            assert torch.equal(a, b)
    assert one._state.counters == other._state.counters
    for ours, theirs in zip(one.history, other.history, strict=True):
        ours, theirs = ({k: v for k, v in row.items() if k != "dur"} for row in (ours, theirs))
        assert ours == theirs


def pickle_leaves(value):
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in pickle_leaves(item)]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in pickle_leaves(item)]
    return [value] if isinstance(value, torch.Tensor) else []


def test_holdout_is_stratified_and_independent_of_order():
    rng = np.random.RandomState(0)
    X, y = rng.rand(200, 3), np.repeat([0, 1, 2], [140, 50, 10])
    train, valid = holdout_rows(X, y, 0.2, seed=0)
    assert len(valid) == 40
    assert np.bincount(y[valid]).tolist() == [28, 10, 2]
    assert sorted([*train, *valid]) == list(range(200))
    order = rng.permutation(200)
    _, again = holdout_rows(X[order], y[order], 0.2, seed=0)
    assert set(order[again]) == set(valid)
    _, other = holdout_rows(X, y, 0.2, seed=1)
    assert set(other) != set(valid)


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array, lambda X: {"x": X}])
def test_identical_rows_stay_on_one_side(form):
    X = np.random.RandomState(0).rand(40, 3).repeat(5, axis=0)
    train, valid = holdout_rows(form(X), np.arange(200) % 2, 0.3, seed=0)
    assert 0 < len(valid) <= 60
    assert not {*map(tuple, X[train])} & {*map(tuple, X[valid])}


def test_a_class_never_loses_its_last_row():
    X, y = np.arange(20.0)[:, None], np.array([0] * 18 + [1, 2])
    for seed in range(20):
        train, _ = holdout_rows(X, y, 0.5, seed)
        assert set(y[train]) == {0, 1, 2}


def test_nothing_to_hold_out():
    with pytest.raises(ValueError, match="at least two distinct rows of a class"):
        TorchRegressor(validation_fraction=0.5).fit(np.ones((6, 2)), np.arange(6))


@pytest.mark.parametrize("callbacks", [None, [Silent]])
def test_best_weights_predict(blobs, callbacks):
    X, y = blobs
    params = {**CHECKED, "lr": 0.3, "max_epochs": 12, "callbacks": callbacks}
    net = TorchClassifier(**params).fit(X, y)
    losses = net.history[:, "valid_loss"]
    assert min(losses) < losses[-1]
    _, valid = holdout_rows(X, y, 0.2, net.seed_)
    loss = F.cross_entropy(net.forward(X[valid]), torch.from_numpy(y[valid])).item()
    assert loss == pytest.approx(min(losses), rel=1e-4)
    best = [i for i, is_best in enumerate(net.history[:, "valid_loss_best"]) if is_best][-1]
    assert losses[best] == min(losses)


def test_loops_agree(blobs):
    nets = [TorchClassifier(**CHECKED, max_epochs=4, callbacks=c) for c in (None, [Silent])]
    plain, hooked = (net.fit(*blobs) for net in nets)
    # Two loops: float32 may round differently in each, here over 32 steps.
    outputs = (net.predict_proba(blobs[0]) for net in (plain, hooked))
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-6)
    assert plain.history[:, "valid_loss"] == pytest.approx(
        hooked.history[:, "valid_loss"], rel=1e-4
    )


@pytest.mark.parametrize("params", [{}, {"module__dropout": 0.3}])
def test_checks_do_not_disturb_training(blobs, params):
    X, y = blobs
    params = {**params, "random_state": 0, "max_epochs": 3}
    checked = TorchClassifier(**params, validation_fraction=0.2, check_every=2).fit(X, y)
    train, _ = holdout_rows(X, y, 0.2, 0)
    plain = TorchClassifier(**params).fit(X[train], y[train])
    # Rows that are held out lie in memory otherwise, and float32 may then round otherwise.
    assert checked.history[:, "train_loss"] == pytest.approx(
        plain.history[:, "train_loss"], rel=1e-5
    )


@pytest.mark.parametrize("way", ["nothing", "pickle", "checkpoint"])
@pytest.mark.parametrize(
    "params",
    [
        {"lr": 0.3},
        {"monitor": "accuracy", "check_every": 3, "module__dropout": 0.3, "patience": 50},
        {"lr_scheduler": "plateau", "lr_scheduler__patience": 0, "lr_scheduler__factor": 0.5},
    ],
)
def test_continuing_is_exact(blobs, params, way, tmp_path):
    params = {**CHECKED, **params}
    whole = TorchClassifier(max_epochs=8, **params).fit(*blobs)
    parts = TorchClassifier(max_epochs=4, **params).fit(*blobs)
    if way == "pickle":
        parts = pickle.loads(pickle.dumps(parts))
    elif way == "checkpoint":
        parts.save_checkpoint(tmp_path / "net.pt")
        before = parts.predict_proba(blobs[0])
        parts = clone(parts).load_checkpoint(tmp_path / "net.pt")
        np.testing.assert_array_equal(parts.predict_proba(blobs[0]), before)
    parts.partial_fit(*blobs)
    assert_same(parts, whole)


@pytest.mark.parametrize("way", ["nothing", "pickle", "checkpoint"])
def test_a_stopped_net_stays_stopped(line, way, tmp_path):
    net = TorchRegressor(**{**CHECKED, "lr": 1.0}, patience=2, max_epochs=60).fit(*line)
    n_epochs = net.n_iter_
    assert n_epochs < 60
    assert n_epochs == net._state.counters.best_check + 2
    if way == "pickle":
        net = pickle.loads(pickle.dumps(net))
    elif way == "checkpoint":
        net.save_checkpoint(tmp_path / "net.pt")
        net = clone(net).load_checkpoint(tmp_path / "net.pt")
    before = net.predict(line[0])
    net.partial_fit(*line)
    assert net.n_iter_ == len(net.history) == n_epochs
    np.testing.assert_array_equal(net.predict(line[0]), before)
    assert net.fit(*line).n_iter_ == n_epochs


def test_min_epochs_and_patience_in_checks(line):
    params = {**CHECKED, "lr": 1.0, "patience": 2, "max_epochs": 60}
    early = TorchRegressor(**params).fit(*line).n_iter_
    assert TorchRegressor(**params, min_epochs=early + 7).fit(*line).n_iter_ >= early + 7
    in_batches = TorchRegressor(**params, check_every=1).fit(*line)
    assert in_batches.n_iter_ <= early
    assert len(in_batches.history[-1]["checks"]) == in_batches.history[-1]["train_batch_count"]


def test_history_tells_trend_and_spread(line):
    net = TorchRegressor(**CHECKED, max_epochs=8, monitor="r2", patience=4).fit(*line)
    scores = net.history[:, "valid_r2"]
    last = net.history[-1]
    assert last["valid_r2_trend"] == pytest.approx(np.polyfit(range(4), scores[-4:], 1)[0])
    assert last["valid_r2_spread"] == pytest.approx(np.std(scores[-4:]))
    assert net.history[0]["valid_r2_trend"] == net.history[0]["valid_r2_spread"] == 0
    assert [row["checks"] for row in net.history] == [[score] for score in scores]


def test_the_weighted_loss_is_checked(blobs):
    X, y = blobs
    weight = np.where(y == 0, 10.0, 1.0)
    net = TorchClassifier(**CHECKED, max_epochs=1).fit(X, y, sample_weight=weight)
    _, valid = holdout_rows(X, y, 0.2, 0)
    proba = net.predict_proba(X[valid])
    expected = log_loss(y[valid], proba, sample_weight=weight[valid], labels=[0, 1, 2])
    assert net.history[-1]["valid_loss"] == pytest.approx(expected, rel=1e-4)


def test_scorers_see_the_labels_of_the_user(blobs):
    X, y = blobs[0], np.array(["ant", "bee", "cat"])[blobs[1]]
    for callbacks in (None, [Silent]):
        net = TorchClassifier(
            **CHECKED, max_epochs=15, monitor="f1_macro", callbacks=callbacks, check_every=4
        ).fit(X, y)
        assert max(net.history[:, "valid_f1_macro"]) > 0.5


def test_through_a_data_loader(blobs):
    net = TorchClassifier(**CHECKED, max_epochs=2, iterator_train__collate_fn=default_collate).fit(
        *blobs
    )
    assert len(net.history[:, "valid_loss"]) == 2


def test_verbose(line, capsys):
    TorchRegressor(**CHECKED, max_epochs=2, verbose=1, lr_scheduler="cosine").fit(*line)
    assert "valid_loss" in capsys.readouterr().out


def test_an_interrupted_fit_keeps_its_best(line):
    class Break(Callback):
        def on_epoch_begin(self, net, **kwargs):
            if len(net.history) == 4:
                raise KeyboardInterrupt

    net = TorchRegressor(**CHECKED, max_epochs=9, callbacks=[Break])
    with pytest.raises(KeyboardInterrupt):
        net.fit(*line)
    assert net.n_iter_ == 3
    assert net._state.running_weights is not None
    assert net.set_params(callbacks=None).partial_fit(*line).n_iter_ == 12


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.int64, bool])
def test_the_same_rows_are_held_out_however_they_are_stored(dtype):
    X = (np.random.RandomState(0).randn(300, 17) * 3).astype(dtype)
    X[:, 0], X[7] = np.arange(300) % 100, 0
    y = np.arange(300) % 3
    _, valid = holdout_rows(X, y, 0.2, seed=0)
    for same in (
        np.asfortranarray(X),
        scipy.sparse.csr_array(X),
        RowSubset(np.concatenate([X, X]), np.arange(300, 600)),
        {"a": X},
    ):
        assert holdout_rows(same, y, 0.2, seed=0)[1].tolist() == valid.tolist()


def test_rows_that_are_in_order_are_held_out_at_random():
    X = np.arange(20_000.0)[:, None]
    _, valid = holdout_rows(X, np.zeros(len(X)), 0.1, seed=0)
    counts, _ = np.histogram(valid, 20, (0, len(X)))
    assert 60 < counts.min() < 100 < counts.max() < 140  # evenly spaced ones would be 100 each
    gaps = np.diff(valid)
    assert (gaps == 1).any()
    assert gaps.max() > 40


def test_rows_are_read_many_at_a_time():
    class Counting(RowSubset):
        n_reads = 0

        def __getitem__(self, index):
            Counting.n_reads += 1
            return super().__getitem__(index)

    X = Counting(np.random.RandomState(0).rand(10_000, 20), np.arange(10_000))
    holdout_rows(X, np.zeros(10_000), 0.1, seed=0)
    assert Counting.n_reads <= 20
