"""A network that was initialized without data learns of them when it first sees some."""

import copy
import io

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.exceptions import NotInitializedError
from torch import nn
from torch.utils.data import TensorDataset

from skhpo.estimators import TorchClassifier, TorchRegressor

KINDS = [TorchClassifier, TorchRegressor]


def data_of(cls, blobs):
    X, y = blobs
    return (X, np.array(["a", "b", "c"])[y]) if cls is TorchClassifier else (X, X[:, :1])


def initialized(cls, **params):
    outputs = 3 if cls is TorchClassifier else 1
    sizes = {"module__in_features": 8, "module__out_features": outputs}
    if cls is TorchClassifier:
        params = {"classes": ["b", "a", "c"], **params}
    return cls(random_state=0, max_epochs=2, **sizes, **params).initialize()


@pytest.mark.parametrize("cls", KINDS)
def test_loaded_params_predict(cls, blobs, tmp_path):
    X, y = data_of(cls, blobs)
    old = cls(max_epochs=2, random_state=1).fit(X, y)
    old.save_params(f_params=tmp_path / "params.pt")
    net = initialized(cls)
    net.load_params(f_params=tmp_path / "params.pt")
    before = set(vars(net))
    expected = old.predict(X) if cls is TorchClassifier else old.predict(X)[:, 0]
    dataset = TensorDataset(torch.from_numpy(X), torch.zeros(len(X)))
    # Batches of a net that saw no data have another size: float32 may round otherwise.
    close = {"rtol": 1e-4, "atol": 1e-6}
    for given in (X, dataset):
        if cls is TorchClassifier:
            np.testing.assert_array_equal(net.predict(given), expected)
        else:
            np.testing.assert_allclose(net.predict(given), expected, **close)
    assert net.score(X, y) == pytest.approx(old.score(X, y), rel=1e-5)
    torch.testing.assert_close(net.forward(X), old.forward(X), **close)
    # Prediction learns nothing.
    assert set(vars(net)) == before
    if cls is TorchClassifier:
        np.testing.assert_allclose(net.predict_proba(X), old.predict_proba(X), **close)
        assert net.classes_.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("cls", KINDS)
@pytest.mark.parametrize("way", ["partial_fit", "warm_start", "dataset"])
def test_training_goes_on_from_the_weights_there_are(cls, way, blobs):
    X, y = data_of(cls, blobs)
    expected = initialized(cls).set_params(module__in_features=None).fit(X, y)
    net = initialized(cls, warm_start=way == "warm_start")
    net.predict(X)
    if way == "dataset":
        labels = blobs[1] if cls is TorchClassifier else y
        if cls is TorchClassifier:
            net.set_params(classes=[0, 1, 2])
        net.partial_fit(TensorDataset(torch.from_numpy(X), torch.tensor(labels)))
        assert net.predict(X).shape == (150,) if cls is TorchClassifier else (150, 1)
        return
    getattr(net, "fit" if way == "warm_start" else "partial_fit")(X, y)
    np.testing.assert_array_equal(net.predict(X), expected.predict(X))
    assert net.n_features_in_ == 8
    assert net.input_shape_ == (8,)
    with pytest.raises(ValueError, match="expecting 8 features"):
        net.partial_fit(X[:, :5], y)


@pytest.mark.parametrize("cls", KINDS)
def test_frozen_weights_stay(cls, blobs):
    X, y = data_of(cls, blobs)
    net = initialized(cls)
    first, *others = net.module_.parameters()
    first.requires_grad_(False)
    before = copy.deepcopy([first, *others])
    net.partial_fit(X, y)
    assert torch.equal(before[0], first)
    assert not torch.equal(before[1], others[0])


@pytest.mark.parametrize("cls", KINDS)
def test_a_checkpoint_without_data(cls, blobs, tmp_path):
    X, _ = data_of(cls, blobs)
    net = initialized(cls).save_checkpoint(tmp_path / "net.pt")
    loaded = clone(net).load_checkpoint(tmp_path / "net.pt")
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))


def test_lazy_layers(blobs, tmp_path):
    def make(out_features):
        return torch.nn.LazyLinear(out_features)

    X, y = (10 * blobs[0]).astype(int), blobs[1]
    net = TorchClassifier(make, max_epochs=1).fit(X, y).save_checkpoint(tmp_path / "net.pt")
    loaded = clone(net).load_checkpoint(tmp_path / "net.pt")
    np.testing.assert_array_equal(loaded.predict_proba(X), net.predict_proba(X))
    with pytest.raises(ValueError, match="cannot give lazy layers their shapes"):
        TorchClassifier(make, module__out_features=3).initialize()


def test_labels_must_be_known(blobs):
    net = initialized(TorchClassifier, classes=None)
    assert net.forward(blobs[0]).shape == (150, 3)
    assert not hasattr(net, "classes_")
    for method in (net.predict, net.predict_proba):
        with pytest.raises(ValueError, match=r"must know the labels .* set classes"):
            method(blobs[0])
    net.partial_fit(*blobs)
    assert net.classes_.tolist() == [0, 1, 2]


def test_a_wrong_first_batch_is_forgotten(blobs):
    net = initialized(TorchClassifier, classes=None)
    with pytest.raises(ValueError, match="accept a batch"):
        net.partial_fit(blobs[0][:, :5], blobs[1])
    assert net.partial_fit(*blobs).n_iter_ == 2


@pytest.mark.parametrize("start", ["initialize_module", "_initialize_module"])
def test_a_module_made_alone_is_saved_alone(start):
    net = TorchRegressor(nn.Linear, module__in_features=2, module__out_features=1)
    getattr(net, start)()
    buffer = io.BytesIO()
    net.save_params(f_params=buffer)
    buffer.seek(0)
    assert torch.equal(torch.load(buffer)["weight"], net.module_.weight)
    with pytest.raises(NotInitializedError, match="un-initialized model"):
        net.save_params(f_optimizer=io.BytesIO())


class OtherModule(TorchRegressor):
    def initialize_module(self):
        self.net_ = nn.Linear(8, 1)
        return self

    def infer(self, x, **fit_params):
        return self.net_(x)


class OtherCriterion(TorchRegressor):
    def initialize_criterion(self):
        self.loss_ = nn.MSELoss()
        return self

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return self.loss_(y_pred, y_true)


@pytest.mark.parametrize(
    ("cls", "part", "other"),
    [(OtherModule, "module", "net_"), (OtherCriterion, "criterion", "loss_")],
)
def test_names_of_the_main_parts_are_fixed(cls, part, other, blobs):
    message = rf"initialize_{part}\(\) must set {part}_, .* sets {other}; rename"
    for start in (lambda net: net.initialize(), lambda net: net.fit(*data_of(cls, blobs))):
        with pytest.raises(ValueError, match=message):
            start(cls(nn.Linear, module__in_features=8, module__out_features=1))
