"""CSR matrices, images, low precision, pinned streams."""

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from skorch.callbacks import Callback
from torch.utils.data import default_collate

from skhpo.estimators import ConvNet, TorchClassifier, TorchRegressor
from skhpo.lockstep import predict_together
from skhpo.training.sparse import SparseRows


@pytest.mark.parametrize(
    "form", [scipy.sparse.csr_array, scipy.sparse.csr_matrix, scipy.sparse.coo_array]
)
@pytest.mark.parametrize("params", [{}, {"validation_fraction": 0.2}, {"callbacks": [Callback()]}])
def test_sparse_is_dense(blobs, form, params):
    X, y = np.where(blobs[0] > 0.5, blobs[0], 0), blobs[1]
    nets = [TorchClassifier(max_epochs=3, random_state=0, **params) for _ in range(2)]
    dense, sparse = nets[0].fit(X, y), nets[1].fit(form(X), y)
    if "validation_fraction" not in params:
        # The dense batches of sparse rows lie elsewhere in memory: float32 may round otherwise.
        outputs = dense.predict_proba(X), sparse.predict_proba(form(X))
        np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-6)
    weight = (y > 0).astype(float)
    assert clone(sparse).fit(form(X), y, sample_weight=weight).n_iter_ == 3
    assert cross_val_score(clone(sparse), form(X), y, cv=2).shape == (2,)


def test_sparse_rows_become_dense_a_few_at_a_time(monkeypatch):
    sizes = []
    select = SparseRows.index_select

    def watched(self, dim, index):
        sizes.append(len(index))
        return select(self, dim, index)

    monkeypatch.setattr(SparseRows, "index_select", watched)
    X = scipy.sparse.random_array((300, 20_000), density=0.05, format="csr", rng=0)
    net = TorchClassifier(module__n_units=2, max_epochs=1).fit(X, np.arange(300) % 2)
    net.predict(X)
    assert max(sizes) <= 128


def test_sparse_rows_through_a_loader(blobs):
    collate = {f"iterator_{part}__collate_fn": default_collate for part in ("train", "valid")}
    nets = [TorchClassifier(max_epochs=2, random_state=0, **collate) for _ in range(2)]
    dense, sparse = nets[0].fit(*blobs), nets[1].fit(scipy.sparse.csr_array(blobs[0]), blobs[1])
    outputs = (
        dense.predict_proba(blobs[0]),
        sparse.predict_proba(scipy.sparse.csr_array(blobs[0])),
    )
    np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (3, 9, 10)])
def test_convnet(shape):
    X = np.random.RandomState(0).rand(20, *shape)
    y = np.arange(20) % 4
    net = TorchClassifier(ConvNet, module__normalization="batch", module__dropout=0.1, max_epochs=2)
    assert net.fit(X, y).predict_proba(X).shape == (20, 4)
    names = [name for name, _ in net.module_.named_children()]
    assert names[:4] == ["conv_0", "norm_0", "activation_0", "pool_0"]
    assert names[-1] == "output"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_layers": 4}, "n_layers=4 halves images 4 times, .* only 8 x 8"),
        ({"kernel_size": 2}, "kernel_size must be odd"),
        ({"n_channels": 0}, r"'n_channels' .* an int in the range \[1, inf\)"),
        ({"dropout": 1}, "'dropout' parameter of ConvNet must be"),
        ({"normalization": "layer"}, "normalization must be None or 'batch'"),
    ],
)
def test_convnet_errors(params, message):
    with pytest.raises(ValueError, match=message):
        ConvNet((8, 8), 3, **params)


@pytest.mark.parametrize("n_channels", [1, 3])
def test_images_whose_channels_come_last_are_told_what_to_do(n_channels):
    with pytest.raises(ValueError, match=rf"32 x {n_channels} pixels; channels come first, so"):
        ConvNet((32, 32, n_channels), 3)
    with pytest.raises(ValueError, match="lower n_layers"):
        ConvNet((3, 32, 3), 3)


def test_amp_computes_in_bfloat16(blobs):
    X, y = blobs
    params = {"max_epochs": 3, "lr": 0.01, "random_state": 0, "device": "cpu"}
    plain, low, auto = (TorchClassifier(**params, amp=a).fit(X, y) for a in (False, True, "auto"))
    assert low.predict_proba(X).dtype == np.float32
    assert all(p.dtype == torch.float32 for p in low.module_.parameters())
    assert not np.array_equal(low.predict_proba(X), plain.predict_proba(X))
    np.testing.assert_allclose(low.predict_proba(X), plain.predict_proba(X), atol=0.05)
    np.testing.assert_array_equal(auto.predict_proba(X), plain.predict_proba(X))
    parts = clone(low).set_params(max_epochs=1).fit(X, y).set_params(max_epochs=2)
    np.testing.assert_array_equal(parts.partial_fit(X, y).predict(X), low.predict(X))


class Bfloat16(torch.nn.Linear):
    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features, dtype=torch.bfloat16)


@pytest.mark.parametrize("within", [False, True], ids=["of the module", "around the calls"])
def test_outputs_in_bfloat16_make_predictions_in_float32(blobs, line, within):
    X, y = blobs
    params = {"max_epochs": 2, "random_state": 0, "validation_fraction": 0.2}
    if not within:
        params["module"] = Bfloat16
    with torch.autocast("cpu", torch.bfloat16, enabled=within):
        nets = [TorchClassifier(**params, monitor="neg_log_loss").fit(X, y) for _ in range(2)]
        probabilities = nets[0].predict_proba(X)
        regressor = TorchRegressor(**params).fit(*line)
        assert regressor.predict(line[0]).dtype == np.float32
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    if not within:
        for found in predict_together(nets, [X, X]):
            np.testing.assert_allclose(found, probabilities, atol=0.01)


def test_amp_needs_a_device_that_has_it(line):
    with pytest.raises(ValueError, match=r"amp=True needs a device .* meta"):
        TorchRegressor(amp=True, device="meta").fit(*line)


def initial(net):
    return net.set_params(module__in_features=3, module__out_features=2).initialize().module_


def test_a_pinned_stream():
    one = initial(TorchClassifier(random_state=0, seeds={"init": 7}))
    two = initial(TorchClassifier(random_state=1, seeds__init=7))
    other = initial(TorchClassifier(random_state=7))
    for a, b, c in zip(one.parameters(), two.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_pinning_one_stream_leaves_the_others(blobs):
    nets = [
        TorchClassifier(random_state=0, seeds=seeds, init="zeros", max_epochs=1).fit(*blobs)
        for seeds in (None, {"init": 5}, {"shuffle": 5}, {"forward": 5})
    ]
    losses = [net.history[0]["train_loss"] for net in nets]
    assert losses[0] == losses[1] == losses[3] != losses[2]


@pytest.mark.parametrize("name", ["seeds__init", "random_state"])
def test_seeds_are_searched(blobs, name):
    net = TorchClassifier(random_state=0, max_epochs=2)
    search = GridSearchCV(net, {name: [0, 1, 2]}, cv=2, scoring="neg_log_loss").fit(*blobs)
    scores = search.cv_results_["mean_test_score"]
    assert len(set(scores)) == 3
    assert search.best_estimator_.get_params()[name] == search.best_params_[name]


def test_a_pinned_stream_survives_a_checkpoint(blobs, tmp_path):
    net = TorchClassifier(seeds={"init": 3, "shuffle": 4}, max_epochs=1).fit(*blobs)
    net.save_checkpoint(tmp_path / "net.pt")
    loaded = clone(net).load_checkpoint(tmp_path / "net.pt").partial_fit(*blobs)
    np.testing.assert_array_equal(
        loaded.predict(blobs[0]), net.partial_fit(*blobs).predict(blobs[0])
    )
