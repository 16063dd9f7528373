"""k epochs and k more are 2k, whatever happens in between."""

import json
import pickle
import re
import signal

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback
from torch import nn
from torch.utils.data import default_collate

from skhpo import SelfTuningClassifier
from skhpo.estimators import TorchClassifier, TorchRegressor
from skhpo.lockstep import Member, train_together
from skhpo.space import as_written

SETTINGS = [
    {},
    {"module__dropout": 0.4, "module__input_dropout": 0.1},
    {"module__normalization": "batch", "optimizer": "sgd", "optimizer__momentum": 0.9},
    {"optimizer": "rmsprop", "class_weight": "balanced"},
    {"optimizer": "adam", "optimizer__amsgrad": True, "optimizer__weight_decay": 0.01},
    {"module__dropout": 0.4, "iterator_train__collate_fn": default_collate},  # through a DataLoader
]


def weights(net):
    return list(net.module_.state_dict().values())


def assert_same(one, other):
    for a, b in zip(weights(one), weights(other), strict=True):
        assert torch.equal(a, b)
    ours, theirs = ([row["train_loss"] for row in net.history] for net in (one, other))
    assert ours == theirs
    assert one.n_iter_ == other.n_iter_ == len(one.history) == len(other.history)


def in_between(way, net, tmp_path):
    if way == "pickle":
        return pickle.loads(pickle.dumps(net))
    if way == "checkpoint":
        net.save_checkpoint(tmp_path / "net.pt")
        return clone(net).load_checkpoint(tmp_path / "net.pt")
    return net


@pytest.mark.parametrize("way", ["nothing", "pickle", "checkpoint"])
@pytest.mark.parametrize("params", SETTINGS, ids=range(len(SETTINGS)))
def test_continuing_is_exact(blobs, params, way, tmp_path):
    X, y = blobs
    whole = TorchClassifier(max_epochs=4, random_state=0, **params).fit(X, y)
    parts = TorchClassifier(max_epochs=2, random_state=0, **params).fit(X, y)
    parts = in_between(way, parts, tmp_path)
    parts.partial_fit(X, y)
    assert_same(parts, whole)
    np.testing.assert_array_equal(parts.predict_proba(X), whole.predict_proba(X))


class Counts(nn.Linear):
    """Changes with each call."""

    def __init__(self, in_features):
        super().__init__(in_features, 1)
        self.register_buffer("n", torch.zeros(()))

    def forward(self, x):
        self.n += 1
        return super().forward(x) * self.n


class Raises:
    """Adds more in each call."""

    n = 0.0

    def __call__(self, x):
        self.n += 0.1
        return x + self.n


@pytest.mark.filterwarnings("ignore:.*must make the same of the same rows")
@pytest.mark.parametrize("criterion", ["mse", "poisson_nll"])
@pytest.mark.parametrize("params", [{"module": Counts}, {"transform": Raises()}])
def test_continuing_calls_nothing_once_more(blobs, params, criterion):
    settings = {**params, "criterion": criterion, "lr": 1e-3, "random_state": 0}
    whole = TorchRegressor(max_epochs=4, **settings).fit(*blobs)
    parts = TorchRegressor(max_epochs=2, **settings).fit(*blobs).partial_fit(*blobs)
    assert_same(parts, whole)


def test_epochs_may_be_changed_on_the_way(line):
    whole = TorchRegressor(max_epochs=7, random_state=0, module__dropout=0.2).fit(*line)
    parts = clone(whole).set_params(max_epochs=3).partial_fit(*line)
    parts.set_params(max_epochs=4).partial_fit(*line)
    parts.set_params(max_epochs=7)
    assert_same(parts, whole)


def test_without_a_seed_too(line, tmp_path):
    net = TorchRegressor(max_epochs=2, module__dropout=0.2).fit(*line)
    twin = in_between("checkpoint", net, tmp_path)
    assert_same(net.partial_fit(*line), twin.partial_fit(*line))


def test_fit_starts_anew_and_warm_start_goes_on(line):
    net = TorchRegressor(max_epochs=2, random_state=0)
    assert net.fit(*line).fit(*line).n_iter_ == 2
    net.set_params(warm_start=True)
    assert net.fit(*line).n_iter_ == 4
    assert_same(net, TorchRegressor(max_epochs=4, random_state=0).fit(*line))


CHANGES = [
    {"module__n_units": 16},
    {"module": nn.Linear},
    {"criterion": "huber"},
    {"criterion__reduction": "sum"},
    {"optimizer": "sgd"},
    {"lr_scheduler": "cosine"},
    {"init": "zeros"},
    {"device": "cpu"},
]


@pytest.mark.parametrize("changed", CHANGES, ids=[next(iter(one)) for one in CHANGES])
def test_warm_start_refuses_what_the_network_cannot_take(line, changed):
    net = TorchRegressor(max_epochs=1, random_state=0, warm_start=True).fit(*line)
    (name,) = changed
    before = net.get_params().get(name)
    shown = re.escape(repr(as_written(before)))
    refusal = rf"warm_start=True .* cannot take {name}=.* made with {name}={shown}; .*=False"
    nets = [pickle.loads(pickle.dumps(net.set_params(**changed))) for _ in range(2)]
    for error in train_together([Member(one, *line) for one in nets]):
        assert re.search(refusal, str(error))
    with pytest.raises(ValueError, match=refusal):
        nets[0].fit(*line)
    assert nets[0].partial_fit(*line).n_iter_ == 2
    net.set_params(**{name: before})
    assert net.fit(*line).n_iter_ == 2


def test_warm_start_takes_the_rest(line):
    net = TorchRegressor(max_epochs=1, module__n_units=8, warm_start=True).fit(*line)
    changes = {"lr": 0.1, "optimizer__weight_decay": 0.5, "batch_size": 7, "max_norm": 2.0}
    net.set_params(**changes, module__n_units=8, module__n_layers=1, freeze={"linear_0*": True})
    assert net.fit(*line).n_iter_ == 2
    net.set_params(module__n_units=4, warm_start=False)
    assert net.fit(*line).module_.linear_0.out_features == 4
    assert net.set_params(warm_start=True).fit(*line).n_iter_ == 2
    net.set_params(lr_scheduler="cosine", warm_start=False).fit(*line)
    with pytest.raises(ValueError, match=r"cannot take lr=0\.5"):
        net.set_params(lr=0.5, warm_start=True).fit(*line)


@pytest.mark.parametrize(
    "net",
    [
        TorchClassifier(module__dropout=0.2, optimizer="sgd", lr_scheduler="cosine"),
        TorchClassifier(validation_fraction=0.2, average="ema"),
        TorchClassifier(module__normalization="batch"),
        SelfTuningClassifier(warmup_epochs=1),
    ],
    ids=["schedule", "checks", "buffers", "self-tuning"],
)
def test_joblib_hashes_what_was_learned(blobs, net):
    net = clone(net).set_params(max_epochs=2, random_state=0).fit(*blobs)
    known = joblib.hash(net)
    assert joblib.hash(pickle.loads(pickle.dumps(net))) == known
    assert joblib.hash(clone(net).fit(*blobs)) == known
    with torch.no_grad():
        next(net.module_.parameters()).view(-1)[0] += 1
    assert joblib.hash(net) != known
    assert joblib.hash(clone(net)) == joblib.hash(clone(net))


def test_partial_fit_knows_all_classes(blobs):
    X, y = blobs
    net = TorchClassifier(max_epochs=1, random_state=0)
    net.partial_fit(X[y < 2], y[y < 2], classes=[0, 1, 2])
    net.partial_fit(X, y)
    assert net.classes_.tolist() == [0, 1, 2]
    assert net.predict_proba(X).shape == (150, 3)


def test_partial_fit_refuses_unseen_labels(blobs):
    X, y = blobs
    net = TorchClassifier(max_epochs=1).partial_fit(X[y < 2], y[y < 2])
    with pytest.raises(ValueError, match=r"only the labels .* has \[2\]; .*classes="):
        net.partial_fit(X, y)
    with pytest.raises(ValueError, match="classes must be those of the first call"):
        net.partial_fit(X[y < 2], y[y < 2], classes=[0, 1, 2])


def test_checkpoint_is_plain_data(blobs, tmp_path):
    X, y = blobs
    names = np.array(["ant", "bee", "cat"])
    net = TorchClassifier(max_epochs=2, module__dropout=0.1).fit(X, names[y])
    net.save_checkpoint(tmp_path / "net.pt")
    content = torch.load(tmp_path / "net.pt", weights_only=True)

    def numbers_and_strings(value):
        if isinstance(value, torch.Tensor):
            return "tensor"
        if isinstance(value, dict):
            return {str(key): numbers_and_strings(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [numbers_and_strings(item) for item in value]
        return value

    json.dumps(numbers_and_strings(content))
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt"]
    loaded = clone(net).load_checkpoint(tmp_path / "net.pt")
    assert loaded.classes_.tolist() == ["ant", "bee", "cat"]
    assert loaded.n_features_in_ == 8
    assert loaded.n_parameters_ == net.n_parameters_
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))


def test_checkpoint_keeps_feature_names(tmp_path):
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(np.random.RandomState(0).rand(20, 2), columns=["a", "b"])
    net = TorchRegressor(max_epochs=1).fit(X, X["a"]).save_checkpoint(tmp_path / "net.pt")
    loaded = clone(net).load_checkpoint(tmp_path / "net.pt")
    assert loaded.feature_names_in_.tolist() == ["a", "b"]
    assert loaded.predict(X).shape == (20,)


def test_checkpoint_that_cannot_be_written_leaves_the_old_one(line, tmp_path, monkeypatch):
    net = TorchRegressor(max_epochs=1).fit(*line).save_checkpoint(tmp_path / "net.pt")
    before = (tmp_path / "net.pt").read_bytes()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        net.partial_fit(*line).save_checkpoint(tmp_path / "net.pt")
    assert (tmp_path / "net.pt").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_checkpoint_errors(line, tmp_path):
    with pytest.raises(NotFittedError):
        TorchRegressor().save_checkpoint(tmp_path / "net.pt")
    TorchRegressor(max_epochs=1).fit(*line).save_checkpoint(tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"one of TorchClassifier .* is one of TorchRegressor"):
        TorchClassifier().load_checkpoint(tmp_path / "net.pt")


class Interrupt(Callback):
    """Does what Ctrl-C does, in the middle of the third epoch."""

    def on_batch_end(self, net, **kwargs):
        if len(net.history) == 3 and len(net.history[-1]["batches"]) == 2:
            signal.raise_signal(signal.SIGINT)


class Interrupted(nn.Linear):
    """Does what Ctrl-C does, in some forward pass."""

    n_calls = 0

    def forward(self, x):
        if self.training:
            Interrupted.n_calls += 1
            if Interrupted.n_calls == 10:
                signal.raise_signal(signal.SIGINT)
        return super().forward(x)


@pytest.fixture
def _heeding_sigint():
    """A shell starts what it runs in the background with the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_heeding_sigint")
@pytest.mark.parametrize("params", [{"callbacks": [Interrupt()]}, {"module": Interrupted}])
def test_interrupt_propagates_and_leaves_a_usable_estimator(blobs, params):
    X, y = blobs
    Interrupted.n_calls = 0
    net = TorchClassifier(max_epochs=4, random_state=0, batch_size=32, **params)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, y)
    assert net.n_iter_ == len(net.history) > 0
    assert net.predict(X).shape == y.shape
    n_before = net.n_iter_
    net.set_params(callbacks=None).partial_fit(X, y)
    assert net.n_iter_ == len(net.history) == n_before + 4


def test_failed_first_fit_is_not_fitted(blobs):
    net = TorchClassifier(module=nn.Linear, module__out_features=7)
    with pytest.raises(ValueError, match="3 classes"):
        net.fit(*blobs)
    with pytest.raises(NotFittedError):
        net.predict(blobs[0])
